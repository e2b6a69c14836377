//! When the rooms work: always, or while we lead. And when we compete: while the driver is there.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::rooms::Rooms;
use crate::{
    cluster::events::{Notice, Subject},
    csi::{Driver, Reach},
    lease::{Election, Leadership, LeaseRef},
    serve::Readiness,
};

/// Without an election there is one term, from start to end.
pub(super) async fn alone(rooms: &Rooms, stop: &CancellationToken) {
    tokio::select! {
        () = rooms.work() => {}
        () = stop.cancelled() => {}
    }
    rooms.drain().await;
}

/// Works while we lead. Losing the lease stops the work, not the process: the watches stay warm, and we compete again.
pub(super) async fn elected(
    rooms: &Rooms,
    election: Election,
    presence: Presence,
    release: bool,
    stop: &CancellationToken,
) {
    let (identity, mut leadership) = (election.identity().to_owned(), election.leadership());
    // Without release the election is simply dropped, and the others wait until the lease has run out.
    let ask = if release {
        stop.clone()
    } else {
        CancellationToken::new()
    };
    let run = election.run(presence.0, ask);
    let terms = async {
        loop {
            let now = leadership.borrow_and_update().clone();
            match now {
                Leadership::Leading(term) => {
                    rooms.say(subject(&term.lease), notice(&identity, "became leader"));
                    rooms.metrics.leading(&term.lease.name, true);
                    tokio::select! {
                        () = rooms.work() => {}
                        _ = leadership.wait_for(|now| !matches!(now, Leadership::Leading(_))) => {}
                        () = stop.cancelled() => {}
                    }
                    rooms.drain().await;
                    rooms.say(subject(&term.lease), notice(&identity, "stopped leading"));
                    rooms.metrics.leading(&term.lease.name, false);
                    drop(term);
                    if stop.is_cancelled() && !release {
                        return;
                    }
                }
                Leadership::Ended => return,
                Leadership::Standby { .. } | Leadership::Over { .. } => {
                    if stop.is_cancelled() && !release {
                        return;
                    }
                }
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return },
                () = stop.cancelled(), if !release => {}
            }
        }
    };
    tokio::join!(
        async {
            tokio::select! {
                () = run => {}
                () = stop.cancelled(), if !release => {}
            }
        },
        terms
    );
}

fn subject(lease: &LeaseRef) -> Subject {
    Subject::lease(&lease.namespace, &lease.name, &lease.uid)
}

fn notice(identity: &str, what: &str) -> Notice {
    Notice::normal("LeaderElection", format!("{identity} {what}"))
}

/// Whether we should lead: true unless the driver has been away for long.
pub(super) struct Presence(watch::Receiver<bool>);

impl Presence {
    /// Follows the driver. A leader whose driver is away helps nobody, while another replica's driver may be well:
    /// after three times `--timeout`, at least 30 s, it gives the lease up until its driver is back.
    pub(super) fn watch(
        driver: &Driver,
        limit: Duration,
        ready: &Readiness,
        beside: &mut JoinSet<()>,
    ) -> Self {
        let patience = (limit * 3).max(Duration::from_secs(30));
        let (present, presence) = watch::channel(true);
        let (mut reach, ready) = (driver.reach(), ready.clone());
        beside.spawn(async move {
            let mut missing = None;
            loop {
                let since = match &*reach.borrow_and_update() {
                    Reach::Ready(_) => None,
                    Reach::Lost { since, .. } => Some(since.to_owned()),
                };
                match since {
                    None => missing = None,
                    Some(_) if missing.is_none() => missing = Some(ready.until("CSI driver")),
                    Some(_) => {}
                }
                let end = since.map(|since| since + patience);
                let late = end.is_some_and(|end| end <= Instant::now());
                present.send_if_modified(|present| std::mem::replace(present, !late) == late);
                let changed = tokio::select! {
                    changed = reach.changed() => changed,
                    () = until(end), if !late => Ok(()),
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        Self(presence)
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}
