//! The self-check: is the registration socket still there, and do we still answer behind it?

use std::{io, os::unix::fs::FileTypeExt as _, path::Path, time::Duration};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::{Request, Status, metadata::MetadataValue, transport::Endpoint};

use super::proto::{InfoRequest, registration_client::RegistrationClient};

/// The metadata key by which the server knows that not the kubelet calls.
pub(super) const SELF_CHECK: &str = "volwright-self-check";

/// What is wrong with the registration socket.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "path is the socket's path; the rest is in each text")]
pub enum HealthError {
    #[error(
        "the registration socket {path} does not exist: something has removed it, and a restart makes it anew"
    )]
    Missing { path: String },
    #[error("{path} is not a socket: something has replaced the registration socket")]
    NotASocket { path: String },
    #[error("cannot look at the registration socket {path}: {source}")]
    Unknown { path: String, source: io::Error },
    #[error("cannot connect to the registration socket {path}: {reason}")]
    NotListening { path: String, reason: String },
    #[error("the registration socket {path} answers GetInfo with an error: {reason}")]
    Failed { path: String, reason: String },
    #[error(
        "the registration socket {path} gives the driver's name as {found:?}, and {wanted:?} is expected"
    )]
    OtherName {
        path: String,
        wanted: String,
        found: String,
    },
    #[error("the registration socket {path} does not answer GetInfo within {timeout:?}")]
    TimedOut { path: String, timeout: Duration },
}

/// Asks the server behind the registration socket at `path` who it is; it should be `name`. Takes no longer than `limit` in
/// all. The answer to `/healthz`: 404 for [`HealthError::Missing`], 500 for the rest.
///
/// # Errors
/// What is wrong.
pub async fn check(path: &Path, name: &str, limit: Duration) -> Result<(), HealthError> {
    let shown = || path.display().to_string();
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(HealthError::NotASocket { path: shown() }),
        Err(error) if is_absent(&error) => return Err(HealthError::Missing { path: shown() }),
        Err(source) => {
            return Err(HealthError::Unknown {
                path: shown(),
                source,
            });
        }
    }
    match timeout(limit, ask(path)).await {
        Err(_) => Err(HealthError::TimedOut {
            path: shown(),
            timeout: limit,
        }),
        Ok(Err(Unanswered::Connect(error))) => Err(HealthError::NotListening {
            path: shown(),
            reason: error.to_string(),
        }),
        Ok(Err(Unanswered::Call(status))) => Err(HealthError::Failed {
            path: shown(),
            reason: format!("{:?}: {}", status.code(), status.message()),
        }),
        Ok(Ok(found)) if found == name => Ok(()),
        Ok(Ok(found)) => Err(HealthError::OtherName {
            path: shown(),
            wanted: name.to_owned(),
            found,
        }),
    }
}

/// There is nothing at the path, or not even its directory.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

enum Unanswered {
    Connect(io::Error),
    Call(Status),
}

async fn ask(path: &Path) -> Result<String, Unanswered> {
    let stream = UnixStream::connect(path).await.map_err(Unanswered::Connect)?;
    let mut stream = Some(TokioIo::new(stream));
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            // One call is made, so no second connection is needed.
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected);
            async move { stream.map_err(io::Error::from) }
        }))
        .await
        .map_err(|error| Unanswered::Call(Status::unavailable(error.to_string())))?;
    let mut request = Request::new(InfoRequest {});
    request
        .metadata_mut()
        .insert(SELF_CHECK, MetadataValue::from_static("true"));
    let answer = RegistrationClient::new(channel).get_info(request).await;
    Ok(answer.map_err(Unanswered::Call)?.into_inner().name)
}
