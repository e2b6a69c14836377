//! A term: renewing the lease until it is lost, or given up as asked.

use std::{convert::Infallible, sync::Arc};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Election, LeaseRef, Over, RETRIES_PER_PERIOD};
use crate::base::reminder::LOG_INTERVAL;

impl Election {
    /// Renews until the lease is lost, or given up as asked. Returns when the work of this term has stopped.
    pub(super) async fn renew(&mut self, compete: &mut watch::Receiver<bool>, stop: &CancellationToken) {
        let (retry, mut work) = (self.candidate.timing.retry(), self.begin());
        let (lease, active) = (self.reference(), self.active.clone());
        let mut leaving = false;
        let mut next = self.next_renewal();
        loop {
            let why = tokio::select! {
                () = active.resigned() => return self.resign(&lease, leaving, work).await,
                _ = work.recv(), if leaving => return self.release().await,
                () = stop.cancelled(), if !leaving => Some(Over::Stopped),
                true = unwanted(compete), if !leaving => Some(Over::Yielded),
                () = sleep_until(next) => None,
            };
            if let Some(why) = why {
                self.over(&lease, why);
                leaving = true;
                continue;
            }
            let renewed = !self.certain_for().is_zero()
                && tokio::select! {
                    biased;
                    done = self.try_acquire_or_renew() => done,
                    () = active.resigned() => false,
                    // Work is to stop now, not when a slow API server has answered.
                    () = stop.cancelled(), if !leaving => false,
                };
            let now = self.certain_for();
            if now.is_zero() {
                let by = self
                    .elector
                    .holder()
                    .filter(|holder| *holder != self.candidate.identity);
                let why = match (by, self.elector.is_held()) {
                    (_, true) => Over::Deadline,
                    (by, false) => Over::Taken {
                        by: by.map(str::to_owned),
                    },
                };
                return self.lose(&lease, why, leaving, work).await;
            }
            // Without a renewal the lease runs out soon, so try again sooner.
            next = if renewed {
                self.next_renewal()
            } else {
                Instant::now() + (retry / RETRIES_PER_PERIOD).min(now)
            };
        }
    }

    /// The work of this term has met somebody else's. The lease is read before we compete again, and if it is ours all
    /// the same, the term that begins then is not undisturbed.
    async fn resign(&mut self, lease: &Arc<LeaseRef>, leaving: bool, work: mpsc::Receiver<Infallible>) {
        self.last_term = Some(Default::default());
        self.lose(lease, Over::Taken { by: None }, leaving, work).await;
    }

    async fn lose(
        &mut self,
        lease: &Arc<LeaseRef>,
        why: Over,
        leaving: bool,
        work: mpsc::Receiver<Infallible>,
    ) {
        self.elector.step_down();
        self.publish_certainty();
        self.health.set(None);
        if !leaving {
            self.over(lease, why);
        }
        self.stopped(work).await;
    }

    /// Waits until nobody works any more because of the term that is over.
    async fn stopped(&self, mut work: mpsc::Receiver<Infallible>) {
        while timeout(LOG_INTERVAL, work.recv()).await.is_err() {
            tracing::warn!(lease = %self.candidate.path(), "Waiting for work to stop before competing again");
        }
    }

    /// When the next renewal is sent: counted from when the last one was, so that a slow answer leaves as much time.
    fn next_renewal(&self) -> Instant {
        Instant::now() + self.elector.renew_in(self.now())
    }
}

/// Ends with true when we shall not compete any more, and with false when the sender is gone.
async fn unwanted(compete: &mut watch::Receiver<bool>) -> bool {
    compete.wait_for(|compete| !compete).await.is_ok()
}
