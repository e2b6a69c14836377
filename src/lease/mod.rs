//! One leader among the replicas.
//!
//! [`elect`] decides, [`Election`] reads and writes one Lease object as it says, and everybody else
//! watches [`Leadership`]. Losing the lease is a state with a way back, not an end of the process.

mod api;
mod elect;
mod freed;
#[cfg(test)]
mod model;
mod names;
mod record;
mod release;
mod term;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use api::LeaseApi;
pub use api::LeaseError;
use elect::{Elector, Move};
use freed::Freed;
pub use names::{identity, lease_name};
use record::LeaderElectionRecord;
pub use term::{Health, Leadership, LeaseRef, Over, Term};
pub use timing::{Timing, TimingError};

/// Between two log lines about the same trouble.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How often a leader that could not renew tries again within a retry period.
const RETRIES_PER_PERIOD: u32 = 5;

/// Who runs for which lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name, see [`lease_name`].
    pub name: String,
    /// Who we say we are, see [`identity`].
    pub identity: String,
    /// `--leader-election-labels`: merged into the lease whenever we write it.
    pub labels: BTreeMap<String, String>,
    /// The three durations.
    pub timing: Timing,
}

/// One replica's part in the election of a leader.
pub struct Election {
    candidate: Candidate,
    api: LeaseApi,
    elector: Elector,
    /// The object as we read or wrote it last; `None` when it must be read before a write.
    lease: Option<Value>,
    /// A write was sent and its answer not seen: the lease may be ours without our knowing.
    unsure: bool,
    origin: Instant,
    terms: u64,
    /// `leaseTransitions` at the beginning of our last term.
    last_transitions: Option<i64>,
    error_text: Option<String>,
    /// When it was last said.
    said: Option<Instant>,
    /// The resourceVersion at which it was last read.
    version: Option<String>,
    shown: watch::Sender<Leadership>,
    health: Health,
    slow_path: Box<dyn Fn() + Send + Sync>,
}

impl Election {
    /// Nothing is sent before [`run`](Self::run). `client` must not retry by itself
    /// (`Config::default_retry` off): a renewal that comes late is worse than one that fails.
    /// `slow_path` is called for each renewal that has to read the lease first.
    pub fn new(client: Client, candidate: Candidate, slow_path: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            api: LeaseApi::new(client, &candidate.namespace, &candidate.name),
            elector: Elector::new(candidate.identity.clone(), candidate.timing),
            lease: None,
            unsure: false,
            origin: Instant::now(),
            terms: 0,
            last_transitions: None,
            error_text: None,
            said: None,
            version: None,
            shown: watch::Sender::new(Leadership::Standby { holder: None }),
            health: Health::new(candidate.timing.lease()),
            slow_path: Box::new(slow_path),
            candidate,
        }
    }

    /// Where we stand, kept up to date by [`run`](Self::run).
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shown.subscribe()
    }

    /// Who we say we are.
    pub fn identity(&self) -> &str {
        &self.candidate.identity
    }

    /// For `/healthz/leader-election`.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Competes while `compete` is true, until `stop`. Then it waits for the last clone of a running
    /// [`Term`], releases the lease, and returns; drop the future to leave without that.
    pub async fn run(mut self, mut compete: watch::Receiver<bool>, stop: CancellationToken) {
        while self.acquire(&mut compete, &stop).await {
            self.renew(&mut compete, &stop).await;
        }
        // A write whose answer was lost, or a term that ran out while nobody took the lease.
        if self.unsure || self.elector.holder() == Some(self.candidate.identity.as_str()) {
            self.release().await;
        }
        self.shown.send_replace(Leadership::Ended);
    }

    /// Returns true when we lead, false when we are to stop.
    async fn acquire(&mut self, compete: &mut watch::Receiver<bool>, stop: &CancellationToken) -> bool {
        let mut freed = Freed::default();
        loop {
            self.shown.send_if_modified(|shown| {
                let holder = self.elector.holder();
                let same =
                    matches!(shown, Leadership::Standby { holder: known } if known.as_deref() == holder);
                if !same {
                    *shown = Leadership::Standby {
                        holder: holder.map(str::to_owned),
                    };
                }
                !same
            });
            if stop.is_cancelled() {
                return false;
            }
            if !*compete.borrow_and_update() {
                tokio::select! {
                    Ok(()) = compete.changed() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let limit = self.candidate.timing.retry();
            tokio::select! {
                biased;
                () = self.try_acquire_or_renew(limit) => {}
                () = stop.cancelled() => return false,
            }
            if !self.certain_for().is_zero() {
                return true;
            }
            let pause = self.elector.pause(self.now(), fastrand::f64());
            tokio::select! {
                () = freed.pause(pause, &self.api, self.version.as_deref()) => {}
                Ok(()) = compete.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Renews until the lease is lost, or given up as asked. Returns when the work of this term has stopped.
    async fn renew(&mut self, compete: &mut watch::Receiver<bool>, stop: &CancellationToken) {
        let (retry, mut work) = (self.candidate.timing.retry(), self.begin());
        let lease = self.reference();
        let mut leaving = false;
        let mut next = Instant::now() + retry;
        loop {
            let why = tokio::select! {
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
            let (started, before) = (Instant::now(), self.certain_for());
            let renewed = !before.is_zero()
                && tokio::select! {
                    biased;
                    () = self.try_acquire_or_renew(retry.min(before)) => self.error_text.is_none(),
                    // Work shall begin to stop now, not when a slow API server has answered.
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
                self.elector.step_down();
                self.health.set(None);
                if !leaving {
                    self.over(&lease, why);
                }
                return self.stopped(work).await;
            }
            // A renewal that got through moved the end of our certainty; else hurry, there is little time.
            next = if renewed {
                started + retry
            } else {
                Instant::now() + (retry / RETRIES_PER_PERIOD).min(now)
            };
        }
    }

    /// Waits until nobody works any more because of the term that is over.
    async fn stopped(&self, mut work: mpsc::Receiver<Infallible>) {
        while timeout(Duration::from_secs(10), work.recv()).await.is_err() {
            tracing::warn!(lease = %self.api.path(), "Waiting for work to stop before competing again");
        }
    }

    /// One try to get or keep the lease, with what went wrong in the log: once, not every few seconds.
    async fn try_acquire_or_renew(&mut self, limit: Duration) {
        let done = match timeout(limit, self.attempt()).await {
            Ok(done) => done,
            Err(_) => Err(LeaseError::TimedOut {
                lease: self.api.path(),
            }),
        };
        let error_text = done
            .err()
            .map(|error| (matches!(error, LeaseError::Conflict { .. }), error.to_string()));
        let again = self.said.is_none_or(|said| said.elapsed() >= LOG_INTERVAL);
        match &error_text {
            Some((false, text)) if again || self.error_text.as_ref() != Some(text) => {
                self.said = Some(Instant::now());
                tracing::warn!(err = %text, "Leader election")
            }
            Some((_, text)) => tracing::debug!(err = %text, "Leader election"),
            None => {}
        }
        self.error_text = error_text.map(|(_, text)| text);
    }

    async fn attempt(&mut self) -> Result<(), LeaseError> {
        // A leader writes over what it wrote last, without reading it again.
        let led = !self.certain_for().is_zero();
        let mut at_hand = self.lease.take().filter(|_| led);
        if at_hand.is_none() {
            if led {
                (self.slow_path)();
            }
            at_hand = self.read().await?;
            if led && !self.elector.is_held() {
                // The term is over. Even where the lease is free, the next begins when its work has stopped.
                return Ok(());
            }
        }
        let (sent, wall) = (self.now(), Timestamp::now());
        match (self.elector.next(sent, wall), at_hand) {
            (Move::Wait(_), _) => Ok(()),
            (Move::Acquire(record) | Move::Renew(record), Some(mut lease)) => {
                record.write(&mut lease, &self.candidate.labels);
                self.write(record, lease, sent, true).await
            }
            (Move::Create(record) | Move::Acquire(record) | Move::Renew(record), _) => {
                let Candidate {
                    namespace,
                    name,
                    identity: _,
                    labels,
                    timing: _,
                } = &self.candidate;
                let lease = record.lease(namespace, name, labels);
                self.write(record, lease, sent, false).await
            }
        }
    }

    async fn read(&mut self) -> Result<Option<Value>, LeaseError> {
        let lease = self.api.get().await?;
        let version = lease
            .as_ref()
            .and_then(|lease| lease.pointer("/metadata/resourceVersion")?.as_str());
        self.version = version.map(str::to_owned);
        self.elector
            .observe(lease.as_ref().map(LeaderElectionRecord::read), self.now());
        self.unsure = false;
        Ok(lease)
    }

    async fn write(
        &mut self,
        record: LeaderElectionRecord,
        lease: Value,
        sent: Duration,
        exists: bool,
    ) -> Result<(), LeaseError> {
        self.unsure = true;
        let written = if exists {
            self.api.update(&lease).await
        } else {
            self.api.create(&lease).await
        };
        match written {
            Ok(written) => {
                self.elector.confirmed(record, sent, self.now());
                self.unsure = false;
                self.lease = Some(written);
                self.health
                    .set((!self.certain_for().is_zero()).then(Instant::now));
                Ok(())
            }
            Err(error) => {
                // These came from the API server and are final; after anything else it may have happened.
                self.unsure = !matches!(error, LeaseError::Conflict { .. } | LeaseError::Forbidden { .. });
                Err(error)
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn certain_for(&self) -> Duration {
        self.elector.certain_for(self.now())
    }
}

/// Ends when we shall not compete; never with true when nobody can say so any more.
async fn unwanted(compete: &mut watch::Receiver<bool>) -> bool {
    compete.wait_for(|compete| !compete).await.is_ok()
}
