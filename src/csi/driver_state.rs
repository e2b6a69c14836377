//! Whether the driver is there: waiting for it at start, and watching it afterwards. A driver that is away is a state
//! with a way back, never an exit (upstream gives up after 30 s at start, and exits on a lost connection).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    connect::RETRY_INTERVAL,
    driver::{Driver, IdentifyError},
    driver_info::DriverInfo,
    rpc_error::{Code, RpcError},
};
use crate::base::reminder::Reminder;

/// Whether the driver can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverState {
    /// It is ready, and this is what it is now; a restarted driver may have gained or lost capabilities.
    Ready(Arc<DriverInfo>),
    /// It cannot be used.
    Lost {
        /// Since when it has been away, or been there without being ready; on tokio's clock.
        since: Instant,
        /// As last seen.
        reason: NotReadyReason,
    },
}

/// Why a driver cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReadyReason {
    /// It has not been asked yet.
    #[error("the CSI driver has not introduced itself yet")]
    NotChecked,
    /// Nobody listens, or the connection broke before an answer.
    #[error("the CSI driver cannot be reached: {0}")]
    Unreachable(String),
    /// Probe ran into the deadline.
    #[error(
        "something accepts connections on the CSI socket but does not answer Probe: the driver hangs, or it is no gRPC server"
    )]
    ProbeTimeout,
    /// Probe answered `ready: false`.
    #[error("the CSI driver says that it is not ready yet")]
    NotReady,
    /// Probe answered with a code.
    #[error("the CSI driver answers Probe with an error: {0}")]
    ProbeError(RpcError),
    /// It is ready, and could not be identified or was refused.
    #[error(transparent)]
    NotIdentified(IdentifyError),
}

impl NotReadyReason {
    /// Whether our driver is not there at all. One that is silent, or says anything, is there: its answer to Probe
    /// tells little about its answer to the next call.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Unreachable(_)) || self.is_another_driver()
    }

    /// Whether the socket belongs to something that is not our driver.
    pub(super) fn is_another_driver(&self) -> bool {
        use IdentifyError::{OtherDriver, UnsupportedDriver};
        matches!(
            self,
            Self::NotIdentified(OtherDriver { .. } | UnsupportedDriver(_))
        )
    }
}

/// Probe is not implemented, so waiting longer does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what listens on the CSI socket is a gRPC server but no CSI driver: {0}; check --csi-address")]
pub struct NotADriver(pub RpcError);

impl DriverState {
    pub(super) fn not_checked() -> Self {
        Self::Lost {
            since: Instant::now(),
            reason: NotReadyReason::NotChecked,
        }
    }
}

impl Driver {
    /// Waits for ever until the driver answers Probe and is ready: asks each second, and logs what is missing, at once
    /// when that changes and otherwise every 10 s.
    ///
    /// # Errors
    /// [`NotADriver`] when a gRPC server listens there that does not know Probe.
    pub async fn wait_until_ready(&self) -> Result<(), NotADriver> {
        let (mut reminder, origin) = (Reminder::default(), Instant::now());
        loop {
            match self.check_ready().await {
                Ok(()) => return Ok(()),
                Err(NotReadyReason::ProbeError(rpc_error)) if rpc_error.code == Code::Unimplemented => {
                    return Err(NotADriver(rpc_error));
                }
                Err(reason) => {
                    if reminder.is_due(&reason, origin.elapsed()) {
                        tracing::warn!("waiting for the CSI driver: {reason}");
                    }
                    self.set_lost(reason);
                }
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Keeps [`Driver::driver_state`] true for ever; run it as a task after [`Driver::identify`]. It asks Probe every
    /// `every` while all is well, each second while the driver is away, and at once when a call met a broken
    /// connection. A driver that comes back is identified again, so that a changed one is noticed; a restart between
    /// two checks is seen by its new connection.
    pub async fn watch_state(self, every: Duration) {
        let (mut reminder, origin) = (Reminder::default(), Instant::now());
        let mut known_connections = self.connections.load(Ordering::Relaxed);
        loop {
            let away = matches!(*self.driver_state.borrow(), DriverState::Lost { .. });
            let identify = if away {
                sleep(RETRY_INTERVAL).await;
                true
            } else {
                timeout(every, self.rpc.recheck.notified()).await.is_ok()
            };
            match self.check(identify).await {
                Ok(()) => {
                    if away {
                        tracing::info!("the CSI driver is back");
                    }
                    let connections = self.connections.load(Ordering::Relaxed);
                    if identify && (away || connections != known_connections) {
                        known_connections = connections;
                        self.returns.send_modify(|returns| *returns += 1);
                    }
                }
                Err(reason) => {
                    if reminder.is_due(&reason, origin.elapsed()) {
                        match reason.is_absence() {
                            true => tracing::warn!("the CSI driver is away: {reason}"),
                            false => tracing::warn!("the CSI driver is there, but not ready: {reason}"),
                        }
                    }
                    self.set_lost(reason);
                }
            }
        }
    }

    /// Probe, and if `identify` the driver's identity, which must be that of the driver that we know.
    async fn check(&self, identify: bool) -> Result<(), NotReadyReason> {
        self.check_ready().await?;
        if identify {
            self.identify().await.map_err(NotReadyReason::NotIdentified)?;
        }
        Ok(())
    }

    /// Whether the driver can be reached and says that it is ready: one Probe.
    ///
    /// # Errors
    /// [`NotReadyReason`]
    pub async fn check_ready(&self) -> Result<(), NotReadyReason> {
        let answers = || self.rpc.answers.load(Ordering::Relaxed);
        let before = answers();
        match self.probe().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotReadyReason::NotReady),
            Err(rpc_error) => Err(match rpc_error.code {
                Code::DeadlineExceeded => NotReadyReason::ProbeTimeout,
                // Whoever answers anything meanwhile, if only this code, can be reached.
                Code::Unavailable if answers() == before => NotReadyReason::Unreachable(rpc_error.message),
                _ => NotReadyReason::ProbeError(rpc_error),
            }),
        }
    }

    pub(super) fn set_ready(&self, driver_info: &DriverInfo) {
        let ready = DriverState::Ready(Arc::new(driver_info.clone()));
        self.driver_state.send_if_modified(|driver_state| {
            let changed = *driver_state != ready;
            *driver_state = ready;
            changed
        });
    }

    /// `since` stays while the driver is away, or is there without being ready, whatever the reason becomes. Another
    /// driver on the socket stays one until ours is identified: a failing Probe is no proof that it has gone.
    fn set_lost(&self, reason: NotReadyReason) {
        self.driver_state
            .send_if_modified(|driver_state| match driver_state {
                DriverState::Lost { reason: known, .. } if *known == reason => false,
                DriverState::Lost { reason: known, .. }
                    if known.is_another_driver() && !reason.is_another_driver() =>
                {
                    false
                }
                DriverState::Lost { reason: known, since } => {
                    if known.is_absence() != reason.is_absence() {
                        *since = Instant::now();
                    }
                    *known = reason;
                    true
                }
                DriverState::Ready(_) => {
                    *driver_state = DriverState::Lost {
                        since: Instant::now(),
                        reason,
                    };
                    true
                }
            });
    }
}
