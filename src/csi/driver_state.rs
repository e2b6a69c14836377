//! Whether the driver is there: the first contact at start, and the watch afterwards. A driver that is away is a
//! state with a way back, never an exit (upstream gives up after 30 s at start, and exits on a lost connection).

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    connect::PAUSE,
    driver::{Driver, IdentifyError},
    driver_info::DriverInfo,
    rpc_error::{Code, RpcError},
};

/// Between two log lines about the same absence.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Whether the driver can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverState {
    /// It is ready, and this is what it is now; a restarted driver may have learnt or forgotten something.
    Ready(Arc<DriverInfo>),
    /// It cannot be used.
    Lost {
        /// Since when, on tokio's clock.
        since: Instant,
        /// As last seen.
        why: NotReadyReason,
    },
}

/// Why a driver cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReadyReason {
    /// It has not been asked yet.
    #[error("the CSI driver has not introduced itself yet")]
    NotYet,
    /// The socket, the connection or the answer failed.
    #[error("the CSI driver cannot be reached: {0}")]
    Unreachable(String),
    /// Probe ran into the deadline.
    #[error(
        "something accepts connections on the CSI socket but does not answer Probe: the driver hangs, or it is no gRPC server"
    )]
    Silent,
    /// Probe answered `ready: false`.
    #[error("the CSI driver says that it is not ready yet")]
    NotReady,
    /// Probe answered with a code.
    #[error("the CSI driver answers Probe with an error: {0}")]
    Unwell(RpcError),
    /// It is ready, and its introduction failed or was refused.
    #[error(transparent)]
    UnsupportedDriver(IdentifyError),
}

/// Why waiting for the first contact ended without one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADriver {
    /// Waiting longer does not help.
    #[error("what listens on the CSI socket is a gRPC server but no CSI driver: {0}; check --csi-address")]
    NoCsi(RpcError),
    /// The limit has passed.
    #[error("gave up waiting for the CSI driver after {}s: {why}", after.as_secs())]
    TooLong {
        /// The limit that was given.
        after: Duration,
        /// As last seen.
        why: NotReadyReason,
    },
}

impl DriverState {
    pub(super) fn never() -> Self {
        Self::Lost {
            since: Instant::now(),
            why: NotReadyReason::NotYet,
        }
    }
}

impl Driver {
    /// Waits until the driver answers Probe and is ready: asks each second, and says in the log what is missing,
    /// at once when that changes and otherwise every 10 s. Without `limit` it waits for ever.
    pub async fn wait_until_ready(&self, limit: Option<Duration>) -> Result<(), NotADriver> {
        let mut last = NotReadyReason::NotYet;
        let waiting = async {
            let mut reminder = Reminder::default();
            loop {
                match self.ready().await {
                    Ok(()) => return Ok(()),
                    Err(NotReadyReason::Unwell(rpc_error)) if rpc_error.code == Code::Unimplemented => {
                        return Err(NotADriver::NoCsi(rpc_error));
                    }
                    Err(why) => {
                        if reminder.is_due(&why) {
                            tracing::warn!("waiting for the CSI driver: {why}");
                        }
                        self.lost(why.clone());
                        last = why;
                    }
                }
                sleep(PAUSE).await;
            }
        };
        let after = limit.unwrap_or(Duration::MAX);
        let ended = timeout(after, waiting).await;
        ended.unwrap_or(Err(NotADriver::TooLong { after, why: last }))
    }

    /// Keeps [`Driver::driver_state`] true for ever; run it as a task after [`Driver::identify`]. It asks Probe every
    /// `every` while all is well, each second while the driver is away, and at once when a call met a broken
    /// connection. A driver that comes back has to introduce itself again, so that a changed one is noticed; a
    /// restart between two looks is seen by its new connection.
    pub async fn watch_state(self, every: Duration) {
        let mut reminder = Reminder::default();
        loop {
            let away = matches!(*self.driver_state.borrow(), DriverState::Lost { .. });
            let stirred = if away {
                sleep(PAUSE).await;
                true
            } else {
                timeout(every, self.rpc.stir.notified()).await.is_ok()
            };
            match self.look(stirred).await {
                Ok(()) if away => tracing::info!("the CSI driver is back"),
                Ok(()) => {}
                Err(why) => {
                    if reminder.is_due(&why) {
                        tracing::warn!("the CSI driver is away: {why}");
                    }
                    self.lost(why);
                }
            }
        }
    }

    /// Probe, and if `again` the introduction, which must be by the driver that we know.
    async fn look(&self, again: bool) -> Result<(), NotReadyReason> {
        self.ready().await?;
        if again {
            self.identify().await.map_err(NotReadyReason::UnsupportedDriver)?;
        }
        Ok(())
    }

    async fn ready(&self) -> Result<(), NotReadyReason> {
        match self.probe().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(NotReadyReason::NotReady),
            Err(rpc_error) => Err(match rpc_error.code {
                Code::DeadlineExceeded => NotReadyReason::Silent,
                Code::Unavailable => NotReadyReason::Unreachable(rpc_error.message),
                _ => NotReadyReason::Unwell(rpc_error),
            }),
        }
    }

    pub(super) fn found(&self, driver_info: &DriverInfo) {
        let ready = DriverState::Ready(Arc::new(driver_info.clone()));
        self.driver_state.send_if_modified(|driver_state| {
            let news = *driver_state != ready;
            *driver_state = ready;
            news
        });
    }

    /// `since` stays while the driver is away, whatever the reason becomes.
    fn lost(&self, why: NotReadyReason) {
        self.driver_state
            .send_if_modified(|driver_state| match driver_state {
                DriverState::Lost { why: known, .. } if *known == why => false,
                DriverState::Lost { why: known, .. } => {
                    *known = why;
                    true
                }
                DriverState::Ready(_) => {
                    *driver_state = DriverState::Lost {
                        since: Instant::now(),
                        why,
                    };
                    true
                }
            });
    }
}

/// Lets one and the same line into the log every 10 s, and a new one at once.
#[derive(Default)]
struct Reminder(Option<(Instant, NotReadyReason)>);

impl Reminder {
    fn is_due(&mut self, why: &NotReadyReason) -> bool {
        let due = self
            .0
            .as_ref()
            .is_none_or(|(said, what)| what != why || said.elapsed() >= SAY_EVERY);
        if due {
            self.0 = Some((Instant::now(), why.clone()));
        }
        due
    }
}
