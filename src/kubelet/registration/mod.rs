//! The server behind the registration socket: who we are, and what the kubelet made of it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    net::UnixStream,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    authority::LocalAuthority,
    health::SELF_CHECK,
    hpack::MAX_LIST,
    proto::{
        self, InfoRequest, RegistrationStatus, RegistrationStatusResponse,
        registration_server::{Registration, RegistrationServer},
    },
    socket::RegistrationSocket,
};

/// Tells the kubelet's handler for CSI drivers from those for devices.
const TYPE: &str = "CSIPlugin";
/// The version of the kubelet's plugin API, not of CSI. Upstream says nothing else.
const SUPPORTED_VERSION: &str = "1.0.0";

/// Open connections; the kubelet has one. When one more comes, the oldest is closed, so that clients who keep theirs
/// cannot shut the kubelet out.
const CONNECTIONS: usize = 16;
/// Calls at once on a connection; the kubelet makes one.
const CALLS: u32 = 4;
/// Bytes of a message. The longest one carries the text of why a registration failed.
const MESSAGE: usize = 1024 * 1024;
/// Bytes that a client may send before the server has taken them.
const WINDOW: u32 = 64 * 1024;
/// How long answers may take to go out at the end.
const DRAIN: Duration = Duration::from_secs(1);
/// After a connection could not be accepted, which is for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What the kubelet is told of a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// The driver's name.
    pub name: String,
    /// The driver's socket as the kubelet sees it: `--kubelet-registration-path`, verbatim.
    pub endpoint: String,
}

/// What the kubelet did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KubeletCall {
    /// It asked who we are; the self-check does not count.
    GetInfo,
    /// It has registered the driver.
    Registered,
    /// It has not; before 1.36 it does not try again by itself. The answer has gone out, or a second has passed.
    NotRegistered {
        /// The kubelet's reason.
        error: String,
    },
}

/// Serves registration on `socket` until `stop` is done; answers then have a second to go out. `observe` hears of
/// each call and must not block. The socket's file stays; see [`RegistrationSocket::remove`].
pub async fn serve(
    socket: &RegistrationSocket,
    plugin: PluginInfo,
    observe: impl Fn(KubeletCall) + Send + Sync + 'static,
    stop: impl Future<Output = ()>,
) {
    let plugin = Arc::new(plugin);
    let observe: Observer = Arc::new(observe);
    let stopping = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut open = VecDeque::<AbortHandle>::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(_) = connections.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(stream) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() == CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let served = connection(stream, plugin.clone(), observe.clone(), stopping.clone());
                open.push_back(connections.spawn(served));
            }
            Err(error) => {
                tracing::warn!(
                    "Cannot accept a connection on {}: {error}",
                    socket.path().display()
                );
                tokio::select! {
                    () = &mut stop => break,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    stopping.cancel();
    // What is open after that ends with the set.
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

type Observer = Arc<dyn Fn(KubeletCall) + Send + Sync>;

/// Serves one connection to its end. A registration that failed is the end: `observe` hears of it when the answer is
/// out.
async fn connection(
    stream: UnixStream,
    plugin: Arc<PluginInfo>,
    observe: Observer,
    stopping: CancellationToken,
) {
    let (calls, mut called) = mpsc::unbounded_channel();
    let service = RegistrationServer::new(Answers { plugin, calls }).max_decoding_message_size(MESSAGE);
    let stream = TokioIo::new(LocalAuthority::new(stream));
    let served = http2::Builder::new(TokioExecutor::new())
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW)
        .max_concurrent_streams(CALLS)
        .max_header_list_size(MAX_LIST as u32)
        .max_send_buf_size(WINDOW as usize)
        .serve_connection(stream, TowerToHyperService::new(service));
    let mut served = Box::pin(served);
    let mut failed = None;
    let ended = loop {
        tokio::select! {
            ended = &mut served => break Some(ended),
            Some(call) = called.recv() => match call {
                KubeletCall::NotRegistered { .. } => {
                    failed = Some(call);
                    break None;
                }
                call => observe(call),
            },
            () = stopping.cancelled() => break None,
        }
    };
    let ended = match ended {
        Some(ended) => Ok(ended),
        None => {
            served.as_mut().graceful_shutdown();
            timeout(DRAIN, &mut served).await
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::debug!("A connection to the registration socket failed: {error}");
    }
    // A call may have been taken while the client went away; its task ends soon, and with the last one the channel.
    drop(served);
    let rest = async {
        while let Some(call) = called.recv().await {
            observe(call);
        }
    };
    if let Some(failed) = failed {
        observe(failed);
    }
    let _ = timeout(DRAIN, rest).await;
}

struct Answers {
    plugin: Arc<PluginInfo>,
    calls: mpsc::UnboundedSender<KubeletCall>,
}

impl Answers {
    fn tell(&self, call: KubeletCall) {
        // Nobody listens when the connection was closed for another one.
        let _ = self.calls.send(call);
    }
}

#[tonic::async_trait]
impl Registration for Answers {
    async fn get_info(&self, request: Request<InfoRequest>) -> Result<Response<proto::PluginInfo>, Status> {
        if request.metadata().get(SELF_CHECK).is_none() {
            self.tell(KubeletCall::GetInfo);
        }
        Ok(Response::new(proto::PluginInfo {
            r#type: TYPE.to_owned(),
            name: self.plugin.name.clone(),
            endpoint: self.plugin.endpoint.clone(),
            supported_versions: vec![SUPPORTED_VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus {
            plugin_registered,
            error,
        } = request.into_inner();
        self.tell(match plugin_registered {
            true => KubeletCall::Registered,
            false => KubeletCall::NotRegistered { error },
        });
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[cfg(test)]
mod tests;
