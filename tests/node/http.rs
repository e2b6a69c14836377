//! A client of the pages, as plain as they are.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::timeout,
};

/// A connection that is used again and again.
pub(crate) struct Client(BufStream<TcpStream>);

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a TCP connection");
        Self(BufStream::new(stream))
    }

    /// One that has asked already.
    pub(crate) fn asking(address: SocketAddr, path: &str) -> Self {
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        let head = format!("GET {path} HTTP/1.1\r\nHost: probe\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).expect("it reads");
        stream.set_nonblocking(true).expect("a socket");
        Self(BufStream::new(TcpStream::from_std(stream).expect("a socket")))
    }

    /// What it was told then.
    pub(crate) async fn told(mut self) -> (u16, String) {
        let answer = timeout(Duration::from_secs(30), self.answer(true)).await;
        answer.expect("an answer")
    }

    /// Code and body.
    pub(crate) async fn ask(&mut self, method: &str, path: &str) -> (u16, String) {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: probe\r\n\r\n");
        self.0.write_all(head.as_bytes()).await.expect("it reads");
        self.0.flush().await.expect("it reads");
        let answer = timeout(Duration::from_secs(30), self.answer(method != "HEAD")).await;
        answer.unwrap_or_else(|_| panic!("no answer to {method} {path}"))
    }

    async fn answer(&mut self, with_body: bool) -> (u16, String) {
        let (mut code, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).await.expect("an answer");
            assert!(read > 0, "the connection ended before the answer did");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                code = rest[..3].parse().ok();
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().expect("a length");
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; if with_body { length } else { 0 }];
        self.0.read_exact(&mut body).await.expect("the body");
        let body = String::from_utf8(body).expect("text");
        (code.expect("a code"), body)
    }
}

/// Asks once, over a connection of its own.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    Client::connect(address).await.ask(method, path).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    ask(address, "GET", path).await
}

pub(crate) async fn healthz(address: SocketAddr) -> (u16, String) {
    get(address, "/healthz").await
}

/// Sends these bytes and reads to the end of the connection, however that comes.
pub(crate) async fn send(mut stream: TcpStream, bytes: &str) -> String {
    let mut answer = Vec::new();
    // It may hang up before it has read all of it.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}
