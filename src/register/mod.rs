//! A driver becomes known to the kubelet of its node, and stays known while the registrar runs.

use std::{path::PathBuf, sync::Arc, time::Duration};

use futures::future::join;
use parking_lot::Mutex;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    base::reminder::Reminder,
    csi::{Driver, IdentifyError},
    kubelet::{self, HealthError, KubeletCall, PluginInfo, RegistrationSocket, SocketError, SocketFile},
};

/// How often the driver is asked for its name.
const DRIVER_INTERVAL: Duration = Duration::from_secs(10);
/// How often the socket's file is looked at: as often as the kubelet acts on what it finds.
const SOCKET_INTERVAL: Duration = Duration::from_secs(1);
/// A kubelet looks at its plugin directory each second; one that has not called for so long will not.
const SILENCE: Duration = Duration::from_secs(30);

/// Where driver and kubelet find each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletPaths {
    /// The kubelet's plugin directory, as this process sees it.
    pub directory: PathBuf,
    /// The driver's socket, as the kubelet sees it.
    pub endpoint: String,
}

/// Why a registration has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We were told to stop.
    Stopped,
    /// The driver has another name now.
    Renamed,
}

/// Why a driver is not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// There is no socket for the kubelet to call.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A kubelet before 1.36 does not try again before it finds a new socket, which the next start makes.
    #[error(
        "the kubelet has not registered the CSI driver {driver}: {error}; the process ends, and its next start is the \
         next try"
    )]
    Refused {
        /// Its name.
        driver: String,
        /// As the kubelet put it.
        error: String,
    },
}

/// What `/healthz` is about: the socket that stands now, and the name behind it. None while the driver is waited for.
#[derive(Clone, Debug, Default)]
pub struct RegistrationHealth(Arc<Mutex<Option<(PathBuf, String)>>>);

impl RegistrationHealth {
    /// Whether a kubelet that calls now gets the right answer; true while there is no driver yet. Takes `limit` at most.
    ///
    /// # Errors
    /// [`HealthError`]
    pub async fn check(&self, limit: Duration) -> Result<(), HealthError> {
        let current = self.0.lock().clone();
        match current {
            Some((path, name)) => kubelet::check(&path, &name, limit).await,
            None => Ok(()),
        }
    }
}

/// Offers the driver of this name to the kubelet until `stop`, until it has another name, or until the kubelet refuses it.
/// The socket is removed at the end, if it is still ours: that unregisters the driver.
///
/// # Errors
/// [`RegisterError`]
pub async fn register(
    paths: &KubeletPaths,
    driver: &Driver,
    name: &str,
    health: &RegistrationHealth,
    stop: &CancellationToken,
) -> Result<Ended, RegisterError> {
    loop {
        let socket = RegistrationSocket::bind(&paths.directory, name).await?;
        *health.0.lock() = Some((socket.path().to_owned(), name.to_owned()));
        tracing::info!(socket = %socket.path().display(), driver = name, "waiting for the kubelet to register the driver");
        let plugin = PluginInfo {
            name: name.to_owned(),
            endpoint: paths.endpoint.clone(),
        };
        let (calls, heard) = unbounded_channel();
        let done = CancellationToken::new();
        let observe = move |call| {
            // Nobody hears what comes after the end.
            let _ = calls.send(call);
        };
        let served = kubelet::serve(&socket, plugin, observe, done.cancelled());
        let watched = async {
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => End::Stopped,
                error = refused(name, &socket, heard) => End::Refused(error),
                () = renamed(driver) => End::Renamed,
                () = vanished(&socket) => End::Vanished,
            };
            *health.0.lock() = None;
            // Before the last answers go out: that is when the kubelet begins to unregister the driver.
            let removed = socket.remove().await;
            done.cancel();
            (end, removed)
        };
        let ((), (end, removed)) = join(served, watched).await;
        match end {
            End::Stopped => return Ok(removed.map(|_| Ended::Stopped)?),
            End::Renamed => return Ok(removed.map(|_| Ended::Renamed)?),
            End::Refused(error) => {
                let driver = name.to_owned();
                return Err(RegisterError::Refused { driver, error });
            }
            // The kubelet takes the new one for a new registration, which it is.
            End::Vanished => {}
        }
    }
}

enum End {
    Stopped,
    Refused(String),
    Renamed,
    Vanished,
}

/// Hears what the kubelet says until it refuses the driver, and speaks up when it says nothing.
async fn refused(
    name: &str,
    socket: &RegistrationSocket,
    mut heard: UnboundedReceiver<KubeletCall>,
) -> String {
    let mut silent_until = Some(Instant::now() + SILENCE);
    loop {
        let call = tokio::select! {
            call = heard.recv() => call,
            () = sleep_until(silent_until.unwrap_or_else(Instant::now)), if silent_until.is_some() => {
                silent_until = None;
                // Else the kubelet calls whoever has taken over.
                if !socket.is_ours() {
                    continue;
                }
                tracing::warn!(
                    "no kubelet has called on {} for {SILENCE:?}: is that directory the kubelet's plugins_registry (its root \
                     may be another one than /var/lib/kubelet), may the kubelet connect (SELinux), and does it run?",
                    socket.path().display()
                );
                continue;
            }
        };
        silent_until = None;
        match call {
            Some(KubeletCall::GetInfo) => tracing::debug!(driver = name, "the kubelet has asked who we are"),
            Some(KubeletCall::Registered) => {
                tracing::info!(driver = name, "the kubelet has registered the driver");
            }
            Some(KubeletCall::NotRegistered { error }) => return error,
            // The server has ended, which only we make it do.
            None => std::future::pending().await,
        }
    }
}

/// Looks until the driver has another name. One that is away keeps its registration, as with upstream: the kubelet's calls
/// fail until it is back.
async fn renamed(driver: &Driver) {
    let (mut reminder, origin) = (Reminder::default(), Instant::now());
    loop {
        sleep(DRIVER_INTERVAL).await;
        match driver.identify().await {
            Ok(_) => {}
            Err(IdentifyError::OtherDriver { expected, found }) => {
                tracing::warn!("the CSI driver {expected} calls itself {found} now: it is registered anew");
                return;
            }
            Err(error) => {
                if reminder.is_due(&error, origin.elapsed()) {
                    tracing::warn!("the CSI driver stays registered, though: {error}");
                }
            }
        }
    }
}

/// Looks until the socket's file is gone, or is one that nobody serves.
async fn vanished(socket: &RegistrationSocket) {
    let path = socket.path().display();
    let mut seen = SocketFile::Ours;
    loop {
        sleep(SOCKET_INTERVAL).await;
        let before = std::mem::replace(&mut seen, socket.file().await);
        match seen {
            SocketFile::Ours => {}
            SocketFile::Free => {
                tracing::warn!(
                    "{path} has been removed, or belongs to a registrar that has died: it is made again"
                );
                return;
            }
            _ if seen == before => {}
            SocketFile::Taken => {
                tracing::info!(
                    "another registrar has taken over {path}: this one waits until that one has gone"
                );
            }
            SocketFile::Unknown => {
                tracing::warn!(
                    "{path} is not our socket any more, and no other either: remove what is there"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
