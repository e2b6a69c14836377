//! Whether the driver is ready, asked once for all who want to know at the same time.

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    base::reminder::Reminder,
    csi::{Driver, NotReadyReason},
};

type Answer = Result<(), NotReadyReason>;
type InFlight = Shared<BoxFuture<'static, Answer>>;

/// Probes one driver.
pub struct Probe {
    driver: Driver,
    /// Nobody asks, or those who did have gone: then it is gone, too.
    in_flight: Mutex<Option<WeakShared<BoxFuture<'static, Answer>>>>,
    /// Since the first failure, until a success.
    away: Mutex<Option<Reminder<NotReadyReason>>>,
    origin: Instant,
}

impl Probe {
    /// Calls nobody yet. The driver's deadline holds for connection and call together.
    pub fn new(driver: Driver) -> Self {
        Self {
            driver,
            in_flight: Mutex::new(None),
            away: Mutex::default(),
            origin: Instant::now(),
        }
    }

    /// Probes the driver over a connection of its own, as upstream does: a driver whose socket has gone is not alive,
    /// however well its old connections work. Who asks while a Probe is under way gets its answer, so a driver that
    /// hangs has one call to answer however many ask, and a node whose kubelet and people all ask makes no load.
    ///
    /// # Errors
    /// The driver is not ready, or cannot be asked.
    pub async fn check(&self) -> Result<(), NotReadyReason> {
        let answer = self.in_flight().await;
        self.log(&answer);
        answer
    }

    fn in_flight(&self) -> InFlight {
        let mut in_flight = self.in_flight.lock();
        let running = in_flight.as_ref().and_then(WeakShared::upgrade);
        // One that is answered is the past, even if some have not read it yet.
        if let Some(running) = running.filter(|running| running.peek().is_none()) {
            return running;
        }
        let driver = self.driver.reconnected();
        let begun = async move { driver.check_ready().await }.boxed().shared();
        *in_flight = begun.downgrade();
        begun
    }

    /// Says that the driver is away, and every ten seconds that it still is, and when it is back.
    fn log(&self, answer: &Answer) {
        let mut away = self.away.lock();
        match answer {
            Err(reason) => {
                let reminder = away.get_or_insert_default();
                if reminder.is_due(reason, self.origin.elapsed()) {
                    tracing::warn!("the driver fails its health check: {reason}");
                }
            }
            Ok(()) if away.take().is_some() => tracing::info!("the driver passes its health check again"),
            Ok(()) => {}
        }
    }
}
