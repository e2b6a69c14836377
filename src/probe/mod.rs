//! Whether the driver is ready, asked once for all who want to know at the same time.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    base::reminder::Reminder,
    csi::{Driver, NotReadyReason},
    telemetry::SharedCheck,
};

type Answer = Result<(), NotReadyReason>;

/// A way to ask whether a driver is ready. Clones ask together: a driver that hangs has one call to answer however many
/// ask, and a node whose kubelet and people all ask makes no load.
#[derive(Clone)]
pub struct Probe(SharedCheck<Answer>);

impl Probe {
    /// A way to ask, and the work behind it, which is to run until all ways are gone.
    ///
    /// The driver is probed over a connection of its own each time, as upstream does: a driver whose socket has gone is
    /// not alive, however well its old connections work. Its deadline holds for connection and call together.
    pub fn new(driver: Driver) -> (Self, impl Future<Output = ()> + Send + 'static) {
        // And no longer over the one that it was identified over: nothing holds one between two Probes.
        let driver = driver.reconnected();
        let outage = Arc::new(Outage::default());
        let (check, work) = SharedCheck::new(move || {
            let (driver, outage) = (driver.reconnected(), outage.clone());
            async move {
                let answer = driver.check_ready().await;
                outage.log(&answer);
                answer
            }
        });
        (Self(check), work)
    }

    /// Whether the driver is ready.
    ///
    /// # Errors
    /// The driver is not ready, or cannot be asked.
    pub async fn check(&self) -> Result<(), NotReadyReason> {
        // Without the work the process is about to end.
        self.0.ask().await.unwrap_or(Err(NotReadyReason::NotChecked))
    }
}

/// Says that the driver fails, every ten seconds that it still does, and when it passes again.
#[derive(Default)]
struct Outage(Mutex<Option<(Instant, Reminder<NotReadyReason>)>>);

impl Outage {
    fn log(&self, answer: &Answer) {
        let mut outage = self.0.lock();
        match answer {
            Err(reason) => {
                let (since, reminder) = outage.get_or_insert_with(|| (Instant::now(), Reminder::default()));
                if reminder.is_due(reason, since.elapsed()) {
                    tracing::warn!("the driver fails its health check: {reason}");
                }
            }
            Ok(()) if outage.take().is_some() => {
                tracing::info!("the driver passes its health check again");
            }
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use parking_lot::Mutex;
    use sandbox::{Driver as Double, driver::Trouble};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::csi::{Call, Code, ConnectError, Dialer, Needs};

    /// A way to ask `double`, in virtual time, and what was called.
    fn probe(double: &Double) -> (Probe, Arc<Mutex<Vec<Call>>>) {
        let (to, calls) = (double.clone(), Arc::new(Mutex::new(Vec::new())));
        let dialer = Dialer::over(move || {
            let pipe = to.connect().map_err(|error| ConnectError::Other {
                path: "/csi.sock".into(),
                reason: error.to_string(),
            });
            std::future::ready(pipe)
        });
        let seen = calls.clone();
        let on_call = Arc::new(move |call: &Call| seen.lock().push(call.clone()));
        let driver = Driver::new(&dialer, Duration::from_secs(3), Needs::default(), on_call);
        let (probe, work) = Probe::new(driver);
        tokio::spawn(work);
        (probe, calls)
    }

    fn codes(calls: &Mutex<Vec<Call>>) -> Vec<Code> {
        calls.lock().iter().map(|call| call.code).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_during_a_probe_get_its_answer_and_who_comes_after_gets_a_new_one() {
        let double = Double::new("d.io");
        double.upset("Probe", 1, Trouble::Delay(Duration::from_secs(1)));
        let (probe, _) = probe(&double);
        let early = futures::future::join_all((0..5000).map(|_| probe.check()));
        let late = async {
            sleep(Duration::from_millis(900)).await;
            probe.check().await
        };
        let (early, late) = tokio::join!(early, late);
        assert!(early.iter().all(Result::is_ok) && late.is_ok());
        assert_eq!(double.count("Probe"), 1);
        double.configure(|driver| driver.ready = Some(false));
        assert_eq!(probe.check().await, Err(NotReadyReason::NotReady));
        assert_eq!(double.count("Probe"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_nobody_waits_for_ends_by_its_own_timeout_and_is_counted() {
        let double = Double::new("d.io");
        double.upset("Probe", 1, Trouble::Hang);
        let (probe, calls) = probe(&double);
        // As a kubelet with its default timeout of a second.
        let patience = Duration::from_secs(1);
        assert!(timeout(patience, probe.check()).await.is_err());
        assert_eq!(codes(&calls), []);
        // The next one asks during the same Probe.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(probe.check().await, Err(NotReadyReason::ProbeTimeout));
        assert_eq!(codes(&calls), [Code::DeadlineExceeded]);
        assert_eq!(probe.check().await, Ok(()));
        assert_eq!(double.peak("Probe"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn each_probe_has_a_connection_of_its_own() {
        let double = Double::new("d.io");
        let (probe, calls) = probe(&double);
        assert_eq!(probe.check().await, Ok(()));
        double.stop();
        let gone = probe.check().await.unwrap_err();
        assert!(
            gone.is_absence() && gone.to_string().contains("/csi.sock"),
            "{gone}"
        );
        double.start();
        assert_eq!(probe.check().await, Ok(()));
        assert_eq!(codes(&calls), [Code::Ok, Code::Unavailable, Code::Ok]);
    }
}
