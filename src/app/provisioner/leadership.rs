//! When the rooms work: always, or while we lead. And when we compete: while the driver is there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::controllers::Controllers;
use crate::{
    cluster::events::{Event, ObjectReference},
    csi::{Call, Code, Driver, DriverInfo, DriverState},
    lease::{Election, Leadership, LeaseRef},
    telemetry::Readiness,
};

/// Without an election there is one term, from start to end.
pub(super) async fn alone(controllers: &Controllers, stop: &CancellationToken) {
    tokio::select! {
        () = controllers.run() => {}
        () = stop.cancelled() => {}
    }
    controllers.drain().await;
    controllers.flush().await;
}

/// Works while we lead. Losing the lease stops the work, not the process: the watches stay warm, and we compete again.
pub(super) async fn elected(
    controllers: &Controllers,
    election: Election,
    eligibility: Eligibility,
    release: bool,
    stop: &CancellationToken,
) {
    let (identity, mut leadership) = (election.identity().to_owned(), election.leadership());
    // Without release the lease is renewed until the work has stopped, and then left to run out.
    let ask = if release {
        stop.clone()
    } else {
        CancellationToken::new()
    };
    let terms = async {
        loop {
            let now = leadership.borrow_and_update().clone();
            if let Leadership::Leading(term) = now {
                controllers.publish(subject(&term.lease), event(&identity, "became leader"));
                controllers.metrics.sidecar.leading(&term.lease.name, true);
                if !term.undisturbed {
                    controllers.distrust();
                }
                tokio::select! {
                    () = controllers.run() => {}
                    _ = leadership.wait_for(|now| !matches!(now, Leadership::Leading(_))) => {}
                    () = stop.cancelled() => {}
                }
                controllers.metrics.sidecar.leading(&term.lease.name, false);
                controllers.drain().await;
                if stop.is_cancelled() {
                    controllers.flush().await;
                }
                controllers.publish(subject(&term.lease), event(&identity, "stopped leading"));
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
    // The election ends when it was asked to and the last term is over; the terms end when the election is not asked.
    tokio::select! {
        () = election.run(eligibility.0, ask) => {}
        () = terms => {}
    }
}

fn subject(lease: &LeaseRef) -> ObjectReference {
    ObjectReference::lease(&lease.namespace, &lease.name, &lease.uid)
}

fn event(identity: &str, what: &str) -> Event {
    Event::normal("LeaderElection", format!("{identity} {what}"))
}

/// When the driver last answered anything. A driver that is busy with what we asked may be late with Probe alone.
#[derive(Clone)]
pub(super) struct LastResponse(Arc<Mutex<Instant>>);

impl LastResponse {
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn note(&self, call: &Call) {
        if !matches!(call.code, Code::Unavailable | Code::DeadlineExceeded) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether we should lead: true unless the driver has been away for long.
pub(super) struct Eligibility(watch::Receiver<bool>);

impl Eligibility {
    /// Follows the driver. A leader whose driver is away helps nobody, while another replica's driver may be well:
    /// after three times `--timeout`, at least 30 s, it gives the lease up until its driver is back.
    ///
    /// A driver that comes back with other capabilities is another driver to the rooms: `halt` is cancelled.
    pub(super) fn watch(
        driver: &Driver,
        first: DriverInfo,
        halt: CancellationToken,
        last_response: LastResponse,
        limit: Duration,
        ready: &Readiness,
        beside: &mut JoinSet<()>,
    ) -> Self {
        let patience = (limit * 3).max(Duration::from_secs(30));
        let (present, eligibility) = watch::channel(true);
        let (mut driver_state, ready) = (driver.driver_state(), ready.clone());
        beside.spawn(async move {
            let mut missing = None;
            loop {
                let since = match &*driver_state.borrow_and_update() {
                    DriverState::Ready(now) => {
                        let version = first.vendor_version.clone();
                        if (DriverInfo {
                            vendor_version: version,
                            ..DriverInfo::clone(now)
                        }) != first
                        {
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
                match since {
                    None => missing = None,
                    Some(_) if missing.is_none() => missing = Some(ready.until("CSI driver")),
                    Some(_) => {}
                }
                let end = since.map(|since| since.max(last_response.last()) + patience);
                let late = end.is_some_and(|end| end <= Instant::now());
                present.send_if_modified(|present| std::mem::replace(present, !late) == late);
                let changed = tokio::select! {
                    changed = driver_state.changed() => changed,
                    () = until(end), if !late => Ok(()),
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        Self(eligibility)
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
