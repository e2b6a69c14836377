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
        "the registration socket {path} does not exist: something has removed it, and it is about to be made again"
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

/// Asks the server behind the registration socket at `path` who it is; it should be `name`. Takes no longer than
/// `limit` in all. The answer to `/healthz`: 404 for [`HealthError::Missing`], 500 for the rest.
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener as StdListener, time::Instant};

    use tokio::{net::UnixListener, sync::mpsc};

    use super::*;
    use crate::kubelet::{PluginInfo, RegistrationSocket, serve};

    const LIMIT: Duration = Duration::from_millis(300);

    /// What is wrong at a path of a directory of its own, which is shown as DIR.
    async fn wrong(make: impl FnOnce(&Path)) -> (HealthError, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x-reg.sock");
        make(&path);
        let begin = Instant::now();
        let error = check(&path, "csi.example", LIMIT).await.unwrap_err();
        assert!(begin.elapsed() < LIMIT * 10);
        let text = error
            .to_string()
            .replace(&directory.path().display().to_string(), "DIR");
        (error, text)
    }

    #[tokio::test]
    async fn a_server_under_our_name_is_healthy_and_the_self_check_is_no_call_of_the_kubelet() {
        let directory = tempfile::tempdir().unwrap();
        let socket = RegistrationSocket::bind(directory.path(), "csi.example")
            .await
            .unwrap();
        let plugin = PluginInfo {
            name: "csi.example".into(),
            endpoint: "/csi.sock".into(),
        };
        let (tell, mut calls) = mpsc::unbounded_channel();
        let (stop, mut stopped) = mpsc::channel::<()>(1);
        let path = socket.path().to_owned();
        let checked = async move {
            check(&path, "csi.example", Duration::from_secs(10))
                .await
                .unwrap();
            let error = check(&path, "csi.other", Duration::from_secs(10))
                .await
                .unwrap_err();
            drop(stop);
            (path, error)
        };
        let serving = serve(&socket, plugin, move |call| tell.send(call).unwrap(), async {
            stopped.recv().await;
        });
        let ((path, error), ()) = tokio::join!(checked, serving);
        assert!(matches!(error, HealthError::OtherName { .. }));
        assert_eq!(
            error.to_string(),
            format!(
                "the registration socket {} gives the driver's name as \"csi.example\", and \"csi.other\" is expected",
                path.display()
            )
        );
        assert_eq!(calls.recv().await, None);
    }

    #[tokio::test]
    async fn what_is_missing_is_told_from_what_is_wrong() {
        let (error, text) = wrong(|_| {}).await;
        assert!(matches!(error, HealthError::Missing { .. }));
        assert_eq!(
            text,
            "the registration socket DIR/x-reg.sock does not exist: something has removed it, and it is about to be made again"
        );
        let (error, _) = wrong(|path| fs::remove_dir(path.parent().unwrap()).unwrap()).await;
        assert!(matches!(error, HealthError::Missing { .. }));

        let (error, text) = wrong(|path| fs::write(path, "").unwrap()).await;
        assert!(matches!(error, HealthError::NotASocket { .. }));
        assert_eq!(
            text,
            "DIR/x-reg.sock is not a socket: something has replaced the registration socket"
        );

        let (error, text) = wrong(|path| std::os::unix::fs::symlink(path, path).unwrap()).await;
        assert!(matches!(error, HealthError::Unknown { .. }));
        assert!(
            text.starts_with("cannot look at the registration socket DIR/x-reg.sock: "),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_is_told_at_once() {
        let (error, text) = wrong(|path| drop(StdListener::bind(path).unwrap())).await;
        assert!(matches!(error, HealthError::NotListening { .. }));
        assert_eq!(
            text,
            "cannot connect to the registration socket DIR/x-reg.sock: Connection refused (os error 111)"
        );
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_is_waited_for_no_longer_than_allowed() {
        let mut listener = None;
        let (error, text) = wrong(|path| listener = Some(StdListener::bind(path).unwrap())).await;
        assert!(matches!(error, HealthError::TimedOut { .. }));
        assert_eq!(
            text,
            "the registration socket DIR/x-reg.sock does not answer GetInfo within 300ms"
        );
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x-reg.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let hanging_up = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let error = check(&path, "csi.example", Duration::from_secs(10))
            .await
            .unwrap_err();
        assert!(matches!(error, HealthError::Failed { .. }), "{error}");
        hanging_up.abort();
    }
}
