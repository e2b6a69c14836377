//! Whether the driver is ready, asked once for all who want to know at the same time.

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    base::reminder::Reminder,
    csi::{Driver, NotReadyReason},
};

type Answer = Result<(), NotReadyReason>;

/// How many may wait for one answer, those included who have gone meanwhile; who comes later waits to be let in.
const WAITING: usize = 16 << 10;

/// A way to ask whether a driver is ready. Clones ask together.
#[derive(Clone)]
pub struct Probe(mpsc::Sender<oneshot::Sender<Answer>>);

impl Probe {
    /// A way to ask, and the work behind it, which is to run until all ways are gone.
    ///
    /// The driver is probed over a connection of its own each time, as upstream does: a driver whose socket has gone is
    /// not alive, however well its old connections work. Its deadline holds for connection and call together. A Probe
    /// goes to its end even if nobody waits for it any more: kubelet's own timeout is often the shorter one, and what it
    /// did not wait for must be counted and logged all the same.
    pub fn new(driver: &Driver) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (ways, asked) = mpsc::channel(WAITING);
        // Not the connection that it was identified over: nothing holds one between two Probes.
        (Self(ways), work(driver.reconnected(), asked))
    }

    /// Whether the driver is ready. Who asks while a Probe is under way gets its answer, so a driver that hangs has one
    /// call to answer however many ask, and a node whose kubelet and people all ask makes no load.
    ///
    /// # Errors
    /// The driver is not ready, or cannot be asked.
    pub async fn check(&self) -> Result<(), NotReadyReason> {
        let (tell, told) = oneshot::channel();
        // Without the work nobody is told anything; then the process is about to end.
        let _ = self.0.send(tell).await;
        told.await.unwrap_or(Err(NotReadyReason::NotChecked))
    }
}

async fn work(driver: Driver, mut asked: mpsc::Receiver<oneshot::Sender<Answer>>) {
    // Since the first failure, until a success.
    let mut outage: Option<Reminder<NotReadyReason>> = None;
    let origin = Instant::now();
    while let Some(first) = asked.recv().await {
        let answer = driver.reconnected().check_ready().await;
        match &answer {
            Err(reason) => {
                if outage.get_or_insert_default().is_due(reason, origin.elapsed()) {
                    tracing::warn!("the driver fails its health check: {reason}");
                }
            }
            Ok(()) if outage.take().is_some() => {
                tracing::info!("the driver passes its health check again");
            }
            Ok(()) => {}
        }
        let mut next = Some(first);
        while let Some(waiting) = next {
            // It may have gone meanwhile.
            let _ = waiting.send(answer.clone());
            next = asked.try_recv().ok();
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
        let (probe, work) = Probe::new(&driver);
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
