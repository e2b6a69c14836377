//! Ways to the driver: a pipe in memory, or a unix socket. Both are copied by
//! a task of ours into the server, so that stopping breaks them at once.

use std::{io, path::Path};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, copy_bidirectional, duplex};

use crate::Line;

use super::{
    Driver,
    proto::{controller_server::ControllerServer, identity_server::IdentityServer, node_server::NodeServer},
};

const PIPE: usize = 64 * 1024;

impl Driver {
    /// A new connection, in memory. Fails like a socket without a listener while the driver is stopped.
    ///
    /// # Errors
    /// `ConnectionRefused` while stopped.
    pub fn connect(&self) -> io::Result<DuplexStream> {
        self.connect_over(Line::new())
    }

    /// A new connection of one process. A call that has arrived goes on at the driver when the process is cut.
    ///
    /// # Errors
    /// `ConnectionRefused` while stopped, and when the process is cut.
    pub fn connect_over(&self, line: Line) -> io::Result<DuplexStream> {
        if line.is_cut() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (caller, ours) = duplex(PIPE);
        self.serve(ours, line)?;
        Ok(caller)
    }

    /// Listens on a unix socket until the handle is aborted. Connections are refused while the driver is stopped.
    ///
    /// # Errors
    /// When the socket can not be bound.
    pub fn listen(&self, path: &Path) -> io::Result<tokio::task::JoinHandle<()>> {
        let listener = tokio::net::UnixListener::bind(path)?;
        let driver = self.clone();
        Ok(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Refused: the stream is dropped and the caller sees it close.
                drop(driver.serve(stream, Line::new()));
            }
        }))
    }

    fn serve(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        line: Line,
    ) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.running {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (mut ours, server) = duplex(PIPE);
        let cut = line.token().clone();
        let served = Self { line, ..self.clone() };
        let routes = tonic::transport::Server::builder()
            .add_service(IdentityServer::new(served.clone()))
            .add_service(ControllerServer::new(served.clone()))
            .add_service(NodeServer::new(served));
        let once = futures::stream::iter([Ok::<_, io::Error>(server)]);
        tokio::spawn(async move { routes.serve_with_incoming(once).await });
        while state.connections.try_join_next().is_some() {}
        state.connections.spawn(async move {
            // Whichever side closes, the other one sees it.
            let copied = copy_bidirectional(&mut stream, &mut ours);
            let _ = cut.run_until_cancelled(copied).await;
        });
        Ok(())
    }
}
