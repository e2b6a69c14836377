//! When a sidecar works: always, or while it leads. And when it competes: while its driver is there.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::sidecar::metrics::SidecarMetrics,
    cluster::events::{Event, ObjectReference},
    csi::{Call, Code, Driver, DriverInfo, DriverState},
    lease::{Election, Leadership, LeaseRef},
    telemetry::Readiness,
};

/// The work of a sidecar, begun and ended by the terms of its leadership.
pub(crate) trait Runnable {
    /// Works until dropped. Calls to the driver that are running then go on by themselves.
    async fn run(&self);

    /// Waits for those calls, for a limited time.
    async fn drain(&self);

    /// Writes what can still be written at the end of a term.
    async fn flush(&self);

    /// Logs what the process leaves unfinished, whoever leads.
    fn report_unfinished(&self);

    /// Another process has led since the previous term.
    fn distrust(&self);

    /// Publishes an event.
    fn publish(&self, about: ObjectReference, event: Event);

    /// Where leadership is counted.
    fn metrics(&self) -> &SidecarMetrics;
}

/// Works from start to end, without an election.
pub(crate) async fn run_alone(work: &impl Runnable, stop: &CancellationToken) {
    stop.run_until_cancelled(work.run()).await;
    work.drain().await;
    work.flush().await;
    work.report_unfinished();
}

/// Works while this process leads. Losing the Lease stops the work, not the process: the caches stay filled, and the
/// process competes again.
pub(crate) async fn run_elected(
    work: &impl Runnable,
    election: Election,
    eligibility: Eligibility,
    release: bool,
    stop: &CancellationToken,
) {
    let (identity, mut leadership) = (election.identity().to_owned(), election.leadership());
    // Without release the Lease is renewed until the work has stopped, and then left to expire.
    let election_stop = if release {
        stop.clone()
    } else {
        CancellationToken::new()
    };
    let terms = async {
        loop {
            let now = leadership.borrow_and_update().clone();
            if let Leadership::Leading(term) = now {
                work.publish(reference(&term.lease), event(&identity, "became leader"));
                work.metrics().leading(&term.lease.name, true);
                if !term.undisturbed {
                    work.distrust();
                }
                tokio::select! {
                    () = work.run() => {}
                    _ = leadership.wait_for(|now| !matches!(now, Leadership::Leading(_))) => {}
                    () = stop.cancelled() => {}
                }
                work.metrics().leading(&term.lease.name, false);
                work.drain().await;
                work.flush().await;
                work.publish(reference(&term.lease), event(&identity, "stopped leading"));
            }
            if stop.is_cancelled() && !release {
                return;
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = stop.cancelled(), if !release => {}
            }
        }
    };
    // With release the election ends by itself once the last term is over. Without it the terms end first.
    tokio::select! {
        () = election.run(eligibility.0, election_stop) => {}
        () = terms => {}
    }
    work.report_unfinished();
}

fn reference(lease: &LeaseRef) -> ObjectReference {
    ObjectReference::lease(&lease.namespace, &lease.name, &lease.uid)
}

fn event(identity: &str, what: &str) -> Event {
    Event::normal("LeaderElection", format!("{identity} {what}"))
}

/// When the driver last answered any call. A driver that is busy with other calls may be late with Probe alone.
#[derive(Clone)]
pub(crate) struct LastResponse(Arc<Mutex<Instant>>);

impl LastResponse {
    pub(crate) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// To be told of every finished call.
    pub(crate) fn note(&self, call: &Call) {
        if !matches!(call.code, Code::Unavailable | Code::DeadlineExceeded) {
            *self.0.lock() = Instant::now();
        }
    }

    fn last(&self) -> Instant {
        *self.0.lock()
    }
}

/// Whether this process should compete for the Lease: true unless the driver has been away for long.
pub(crate) struct Eligibility(watch::Receiver<bool>);

impl Eligibility {
    /// Follows the driver. A leader without its driver can do nothing, while another replica's driver may be ready:
    /// after three times `timeout`, at least 30 s, the Lease is given up until the driver is back.
    ///
    /// The work was set up for the capabilities in `first`. When the driver comes back with other ones, `halt` is
    /// cancelled.
    pub(crate) fn watch(
        driver: &Driver,
        first: DriverInfo,
        halt: CancellationToken,
        last_response: LastResponse,
        timeout: Duration,
        ready: &Readiness,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let patience = (timeout * 3).max(Duration::from_secs(30));
        let (eligible, eligibility) = watch::channel(true);
        let (mut driver_state, ready) = (driver.driver_state(), ready.clone());
        tasks.spawn(async move {
            let mut pending = None;
            loop {
                let lost_since = match &*driver_state.borrow_and_update() {
                    DriverState::Ready(now) => {
                        let same_version = DriverInfo {
                            vendor_version: first.vendor_version.clone(),
                            ..DriverInfo::clone(now)
                        };
                        if same_version != first {
                            tracing::warn!(
                                ?first,
                                ?now,
                                "the CSI driver has come back with other capabilities"
                            );
                            halt.cancel();
                        }
                        None
                    }
                    DriverState::Lost { since, .. } => Some(since.to_owned()),
                };
                match lost_since {
                    None => pending = None,
                    Some(_) if pending.is_none() => pending = Some(ready.until("CSI driver")),
                    Some(_) => {}
                }
                let deadline = lost_since.map(|since| since.max(last_response.last()) + patience);
                let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
                eligible.send_if_modified(|eligible| std::mem::replace(eligible, !late) == late);
                let changed = tokio::select! {
                    changed = driver_state.changed() => changed,
                    () = sleep_until_some(deadline), if !late => Ok(()),
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        Self(eligibility)
    }
}

/// Sleeps for ever without a deadline.
async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
