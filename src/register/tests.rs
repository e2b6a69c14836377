//! What is said of a kubelet that says nothing, and what counts as a socket that is gone.

use std::{fmt, fs, os::unix::net::UnixListener};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;
use tokio::{sync::mpsc::UnboundedSender, time::timeout};
use tracing::{Level, Metadata, Subscriber, field::Field, span};

use super::*;

/// The texts of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            if field.name() == "message" {
                self.0.lock().push(format!("{value:?}"));
            }
        });
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Stage {
    directory: TempDir,
    socket: RegistrationSocket,
    kubelet: UnboundedSender<KubeletCall>,
    heard: UnboundedReceiver<KubeletCall>,
    warnings: Warnings,
}

/// From here on time passes when all wait for it.
async fn stage() -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let socket = RegistrationSocket::bind(directory.path(), "csi.example")
        .await
        .unwrap();
    tokio::time::pause();
    let (kubelet, heard) = unbounded_channel();
    Stage {
        directory,
        socket,
        kubelet,
        heard,
        warnings: Warnings::default(),
    }
}

#[tokio::test]
async fn a_kubelet_that_does_not_call_within_30_s_is_warned_of_once_and_with_the_causes() {
    let Stage {
        directory,
        socket,
        kubelet,
        heard,
        warnings,
    } = stage().await;
    let _log = tracing::subscriber::set_default(warnings.clone());
    let mut refused = std::pin::pin!(refused("csi.example", &socket, heard));
    let short = Duration::from_millis(29_900);
    assert!(timeout(short, &mut refused).await.is_err());
    assert_eq!(*warnings.0.lock(), [""; 0]);
    assert!(timeout(Duration::from_secs(1), &mut refused).await.is_err());
    let said = warnings.0.lock().clone();
    let [said] = &said[..] else { panic!("{said:?}") };
    let directory = directory.path().display().to_string();
    for cause in [
        &*directory,
        "plugins_registry",
        "/var/lib/kubelet",
        "SELinux",
        "does it run",
    ] {
        assert!(said.contains(cause), "{cause}: {said}");
    }
    // It may come yet.
    assert!(timeout(Duration::from_secs(3600), &mut refused).await.is_err());
    kubelet.send(KubeletCall::GetInfo).unwrap();
    assert!(timeout(Duration::from_secs(3600), &mut refused).await.is_err());
    let error = "no".to_owned();
    kubelet.send(KubeletCall::NotRegistered { error }).unwrap();
    assert_eq!(refused.await, "no");
    assert_eq!(warnings.0.lock().len(), 1);
}

#[tokio::test]
async fn a_kubelet_that_has_called_within_30_s_may_be_silent_for_ever() {
    for call in [KubeletCall::GetInfo, KubeletCall::Registered] {
        let Stage {
            directory: _directory,
            socket,
            kubelet,
            heard,
            warnings,
        } = stage().await;
        let _log = tracing::subscriber::set_default(warnings.clone());
        let mut refused = std::pin::pin!(refused("csi.example", &socket, heard));
        assert!(timeout(Duration::from_secs(29), &mut refused).await.is_err());
        kubelet.send(call.clone()).unwrap();
        assert!(timeout(Duration::from_secs(3600), &mut refused).await.is_err());
        assert_eq!(*warnings.0.lock(), [""; 0], "{call:?}");
        tokio::time::resume();
    }
}

/// The look comes at the worst moment: while another registrar, which holds the folder's lock, has removed our file and
/// not yet made its own.
#[tokio::test]
async fn a_socket_that_another_registrar_replaces_just_now_is_not_gone() {
    let Stage {
        directory, socket, ..
    } = stage().await;
    let mut vanished = std::pin::pin!(vanished(&socket));
    let lock = fs::File::open(directory.path()).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    fs::remove_file(socket.path()).unwrap();
    assert!(timeout(Duration::from_millis(1500), &mut vanished).await.is_err());
    let theirs = UnixListener::bind(socket.path()).unwrap();
    drop(lock);
    let hour = Duration::from_secs(3600);
    assert!(timeout(hour, &mut vanished).await.is_err());

    fs::remove_file(socket.path()).unwrap();
    drop(theirs);
    timeout(SOCKET_INTERVAL * 2, &mut vanished).await.unwrap();
}
