//! The way to the driver's socket: its address, a connection that comes back by itself, and what is wrong when
//! there is none.

use std::{
    fmt, io,
    os::unix::fs::FileTypeExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    sync::Notify,
};
use tonic::transport::{Channel, Endpoint};

/// Where the driver listens: `--csi-address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(PathBuf);

/// An address that is not one of a local socket. Upstream refuses the same ones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the CSI address {given:?} is not the path of a unix socket: give an absolute path, like /csi/csi.sock, or \
     unix:///csi/csi.sock"
)]
pub struct BadAddress {
    given: String,
}

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(given: &str) -> Result<Self, BadAddress> {
        let path = given.strip_prefix("unix://").unwrap_or(given);
        if path.len() > 1 && path.starts_with('/') && !path.contains('\0') {
            Ok(Self(path.into()))
        } else {
            Err(BadAddress {
                given: given.to_owned(),
            })
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Why the socket cannot be connected to, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "path is the socket's path; the rest is in each text")]
pub enum ConnectError {
    #[error("no socket at {path}: is the driver running, and do both containers mount the directory?")]
    NoSocket { path: String },
    #[error("{path} is not a socket: check --csi-address, and what the driver wrote there")]
    NotASocket { path: String },
    #[error("nobody listens on {path}: the driver has stopped or is about to start")]
    NotListening { path: String },
    #[error("no permission for {path}: the sidecar's user must be allowed to write to the driver's socket")]
    Forbidden { path: String },
    #[error("cannot connect to {path}: {reason}")]
    Other { path: String, reason: String },
}

/// A byte stream to a driver.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

type Dialling = BoxFuture<'static, Result<Box<dyn Pipe>, ConnectError>>;

/// How a connection to the driver is made, each time one is needed.
#[derive(Clone)]
pub struct Dialer {
    dial: Arc<dyn Fn() -> Dialling + Send + Sync>,
}

impl Dialer {
    /// Over the unix socket at `address`.
    pub fn to(address: Address) -> Self {
        Self::over(move || connect(address.0.clone()))
    }

    /// Over anything that carries bytes; tests in virtual time use a pipe in memory, as sockets do not wait there.
    pub fn over<F, D, P>(dial: F) -> Self
    where
        F: Fn() -> D + Send + Sync + 'static,
        D: Future<Output = Result<P, ConnectError>> + Send + 'static,
        P: Pipe + 'static,
    {
        let dial = move || -> Dialling {
            let dialling = dial();
            Box::pin(async move { Ok(Box::new(dialling.await?) as Box<dyn Pipe>) })
        };
        Self { dial: Arc::new(dial) }
    }

    /// A channel that dials when the first call needs it and again whenever the connection is gone: a call fails,
    /// the channel does not. `recheck` is notified of each new connection, and `connections` counts them.
    pub(super) fn channel(&self, recheck: Arc<Notify>, connections: Arc<AtomicU64>) -> Channel {
        let dialer = self.clone();
        // grpc-go sends "localhost" as authority on unix sockets, and some drivers' servers check it.
        let endpoint = Endpoint::from_static("http://localhost")
            .origin(Uri::from_static("http://localhost"))
            .http2_max_header_list_size(LONGEST_ERROR);
        endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (dialling, recheck) = ((dialer.dial)(), recheck.clone());
            let connections = connections.clone();
            async move {
                let pipe = dialling.await?;
                connections.fetch_add(1, Ordering::Relaxed);
                recheck.notify_one();
                Ok::<_, ConnectError>(TokioIo::new(pipe))
            }
        }))
    }
}

/// Bytes. An error's text travels in a header; hyper cuts the connection at 16 KiB, and the driver's code with it.
const LONGEST_ERROR: u32 = 1 << 20;

async fn connect(path: PathBuf) -> Result<UnixStream, ConnectError> {
    let error = match UnixStream::connect(&path).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    // connect(2) says "refused" both for a file that is no socket and for a socket without a listener.
    let socket = std::fs::metadata(&path).map(|found| found.file_type().is_socket());
    let path = path.display().to_string();
    Err(match (error.kind(), socket) {
        (io::ErrorKind::NotFound, _) => ConnectError::NoSocket { path },
        (io::ErrorKind::PermissionDenied, _) => ConnectError::Forbidden { path },
        (_, Ok(false)) => ConnectError::NotASocket { path },
        (io::ErrorKind::ConnectionRefused, _) => ConnectError::NotListening { path },
        _ => ConnectError::Other {
            path,
            reason: error.to_string(),
        },
    })
}

/// Between two attempts to reach a driver that is not there.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_path_of_a_unix_socket() {
        let rows = [
            ("/csi/csi.sock", Some("/csi/csi.sock")),
            ("unix:///csi/csi.sock", Some("/csi/csi.sock")),
            ("/with space/\u{fc}", Some("/with space/\u{fc}")),
            ("", None),
            ("/", None),
            ("csi.sock", None),
            ("./csi.sock", None),
            ("unix:/csi/csi.sock", None),
            ("unix://csi.sock", None),
            ("unix://", None),
            ("unix-abstract:csi", None),
            ("tcp://127.0.0.1:10000", None),
            ("dns:///localhost:10000", None),
            ("localhost:10000", None),
            ("/nul\0byte", None),
        ];
        for (given, path) in rows {
            let parsed = given.parse::<Address>().ok().map(|address| address.to_string());
            assert_eq!(parsed.as_deref(), path, "{given:?}");
        }
    }

    #[tokio::test]
    async fn each_kind_of_broken_socket_has_its_own_error() {
        let folder = std::env::temp_dir().join(format!("volwright-connect-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let at = |name: &str| folder.join(name);
        let shown = |name: &str| at(name).display().to_string();
        std::fs::write(at("file"), "not a socket").unwrap();
        std::fs::create_dir_all(at("folder")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(at("stale")).unwrap());
        let long = "x".repeat(200);

        let mut found = Vec::new();
        for name in ["absent", "file", "folder", "stale", "file/below", &long] {
            found.push(connect(at(name)).await.unwrap_err());
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            found[..4],
            [
                ConnectError::NoSocket {
                    path: shown("absent")
                },
                ConnectError::NotASocket { path: shown("file") },
                ConnectError::NotASocket {
                    path: shown("folder")
                },
                ConnectError::NotListening { path: shown("stale") },
            ]
        );
        assert!(
            matches!(
                found[4..],
                [ConnectError::Other { .. }, ConnectError::Other { .. }]
            ),
            "{found:?}"
        );
    }
}
