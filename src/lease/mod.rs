//! FOUNDATION: one leader among the replicas.
//!
//! [`elect`] decides, [`Election`] reads and writes one Lease object accordingly, and everybody else watches
//! [`Leadership`]. Losing the lease is a state with a way back, not an end of the process.

mod chain;
mod elect;
mod lease_watch;
mod names;
mod record;
mod release;
mod renew;
mod term;
#[cfg(test)]
mod tests;
mod timing;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    elect::{Elector, Move},
    lease_watch::LeaseWatch,
    record::LeaderElectionRecord,
};
// The model of the ledger (ledger/tests/model) goes over these, too.
#[cfg(test)]
pub(crate) use self::chain::{carry_on, first_leader};
pub use self::{
    names::{identity, lease_name},
    term::{Health, Leadership, LeaseRef, Over, Term},
    timing::{Timing, TimingError},
};
use crate::{
    base::{
        api_error::{ApiError, Reason},
        reminder::Reminder,
    },
    cluster::{active::Active, client::Client, leases::Leases},
};

/// How often a leader that could not renew tries again within a retry period.
const RETRIES_PER_PERIOD: u32 = 5;

/// Who runs for which lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The lease's namespace.
    pub namespace: String,
    /// The lease's name, see [`lease_name`].
    pub name: String,
    /// Our identity in the election, see [`identity`].
    pub identity: String,
    /// `--leader-election-labels`: merged into the lease whenever we write it.
    pub labels: BTreeMap<String, String>,
    /// The three durations.
    pub timing: Timing,
}

impl Candidate {
    /// Namespace and name of the lease, as people write it.
    fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// One replica's part in the election of a leader.
pub struct Election {
    candidate: Candidate,
    leases: Leases,
    elector: Elector,
    /// Hears until when the lease is certainly ours.
    active: Active,
    keeps_ledger: Arc<AtomicBool>,
    /// The object as we read or wrote it last; `None` when it must be read before a write.
    lease: Option<Value>,
    /// A write was sent and its answer has not arrived: the lease may be ours without our knowing.
    unconfirmed_write: bool,
    origin: Instant,
    /// The lease's UID and `leaseTransitions` at the beginning of our last term.
    last_term: Option<(String, i64)>,
    reminder: Reminder<ApiError>,
    /// The resourceVersion at which it was last seen.
    version: Option<String>,
    leadership: watch::Sender<Leadership>,
    health: Health,
    slow_path: Box<dyn Fn() + Send + Sync>,
}

impl Election {
    /// Nothing is sent before [`run`](Self::run). `client` must not retry by itself (`Config::default_retry` off): a
    /// renewal that comes late is worse than one that fails. `active` hears until when the lease is certainly ours, and
    /// says when somebody else was seen to lead. `keeps_ledger` is looked at in each write: who keeps none leaves no
    /// trace of a chain of leaders that do. `slow_path` is called for each renewal that has to read the lease first.
    pub fn new(
        client: Client,
        candidate: Candidate,
        active: Active,
        keeps_ledger: Arc<AtomicBool>,
        slow_path: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        active.lead_until(None);
        Self {
            leases: Leases::new(client, &candidate.namespace),
            elector: Elector::new(candidate.identity.clone(), candidate.timing),
            active,
            keeps_ledger,
            lease: None,
            unconfirmed_write: false,
            origin: Instant::now(),
            last_term: None,
            reminder: Reminder::default(),
            version: None,
            leadership: watch::Sender::new(Leadership::Standby { holder: None }),
            health: Health::new(candidate.timing.lease()),
            slow_path: Box::new(slow_path),
            candidate,
        }
    }

    /// Where we stand, kept up to date by [`run`](Self::run).
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// The lease's name.
    pub fn name(&self) -> &str {
        &self.candidate.name
    }

    /// Our identity in the election.
    pub fn identity(&self) -> &str {
        &self.candidate.identity
    }

    /// For `/healthz/leader-election`.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Competes while `compete` is true, until `stop`. Then it waits for the last clone of a running [`Term`], releases
    /// the lease, and returns; drop the future to leave without that.
    pub async fn run(mut self, mut compete: watch::Receiver<bool>, stop: CancellationToken) {
        while self.acquire(&mut compete, &stop).await {
            self.renew(&mut compete, &stop).await;
        }
        // A write whose answer was lost, or a term that ran out while nobody took the lease.
        if self.unconfirmed_write || self.elector.holder() == Some(self.candidate.identity.as_str()) {
            self.release().await;
        }
        self.leadership.send_replace(Leadership::Ended);
    }

    /// Returns true when we lead, false when we are to stop.
    async fn acquire(&mut self, compete: &mut watch::Receiver<bool>, stop: &CancellationToken) -> bool {
        let mut watch = LeaseWatch::default();
        loop {
            self.publish_standby();
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
            tokio::select! {
                biased;
                _ = self.try_acquire_or_renew() => {}
                () = stop.cancelled() => return false,
            }
            if !self.certain_for().is_zero() {
                return true;
            }
            tokio::select! {
                () = self.pause(&mut watch) => {}
                Ok(()) = compete.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Tells who leads, by the last record that we saw.
    fn publish_standby(&self) {
        self.leadership.send_if_modified(|leadership| {
            let holder = self.elector.holder();
            let same =
                matches!(leadership, Leadership::Standby { holder: known } if known.as_deref() == holder);
            if !same {
                *leadership = Leadership::Standby {
                    holder: holder.map(str::to_owned),
                };
            }
            !same
        });
    }

    /// Tries once to get or keep the lease, and logs what went wrong. Returns whether nothing did.
    async fn try_acquire_or_renew(&mut self) -> bool {
        match self.attempt().await {
            Err(error) if !is_conflict(&error) => {
                if self.reminder.is_due(&error, self.now()) {
                    tracing::warn!(err = %error, "Leader election: will try again");
                } else {
                    tracing::debug!(err = %error, "Leader election: will try again");
                }
                false
            }
            done => {
                self.reminder = Reminder::default();
                // A conflict is how a race for the lease ends, not a fault.
                if let Err(error) = &done {
                    tracing::debug!(err = %error, "Leader election: somebody else wrote the lease meanwhile");
                }
                done.is_ok()
            }
        }
    }

    async fn attempt(&mut self) -> Result<(), ApiError> {
        // A leader writes over what it wrote last, without reading it again.
        let led = !self.certain_for().is_zero();
        let mut known = self.lease.take().filter(|_| led);
        if known.is_none() {
            if led {
                (self.slow_path)();
            }
            known = self.read(self.deadline(led)).await?;
            if led && !self.elector.is_held() {
                // The term is over. Even where the lease is free, the next begins when its work has stopped.
                return Ok(());
            }
        }
        self.active.renewing();
        let (sent, wall, deadline) = (self.now(), Timestamp::now(), self.deadline(led));
        match (self.elector.next(sent, wall), known) {
            (Move::Wait(_), _) => Ok(()),
            (Move::Acquire(record) | Move::Renew(record), Some(mut lease)) => {
                self.write(&record, &mut lease);
                self.update(record, &lease, sent, deadline).await
            }
            (Move::Create(record) | Move::Acquire(record) | Move::Renew(record), _) => {
                self.create(record, sent, deadline).await
            }
        }
    }

    /// How long the next request may take. A leader has what is left of its term; to acquire, each request has as long
    /// as its answer can still begin one, however slow the API server is.
    fn deadline(&self, led: bool) -> Instant {
        let limit = match led {
            true => self.certain_for(),
            false => self.candidate.timing.validity(),
        };
        Instant::now() + limit
    }

    async fn read(&mut self, deadline: Instant) -> Result<Option<Value>, ApiError> {
        let lease = self.leases.get(&self.candidate.name, deadline).await?;
        self.observe(lease.as_ref());
        self.unconfirmed_write = false;
        Ok(lease)
    }

    /// The API server has just shown us the lease.
    fn observe(&mut self, lease: Option<&Value>) {
        let version = lease.and_then(|lease| lease.pointer("/metadata/resourceVersion")?.as_str());
        self.version = version.map(str::to_owned);
        self.elector
            .observe(lease.map(LeaderElectionRecord::read), self.now());
        self.publish_certainty();
    }

    /// Puts what we have to say into the object.
    fn write(&self, record: &LeaderElectionRecord, lease: &mut Value) {
        let keeps_ledger = self.keeps_ledger.load(Ordering::SeqCst);
        chain::carry_on(lease, record.transitions, keeps_ledger);
        record.write(lease, &self.candidate.labels);
    }

    async fn create(
        &mut self,
        record: LeaderElectionRecord,
        sent: Duration,
        deadline: Instant,
    ) -> Result<(), ApiError> {
        let Candidate {
            namespace,
            name,
            identity: _,
            labels,
            timing: _,
        } = &self.candidate;
        let mut lease = record.lease(namespace, name, labels);
        self.write(&record, &mut lease);
        self.unconfirmed_write = true;
        let answer = self.leases.create(name, &lease, deadline).await;
        self.answered(record, sent, answer)
    }

    /// `lease` carries `record` and the resourceVersion that was read.
    async fn update(
        &mut self,
        record: LeaderElectionRecord,
        lease: &Value,
        sent: Duration,
        deadline: Instant,
    ) -> Result<(), ApiError> {
        self.unconfirmed_write = true;
        let answer = self.leases.update(&self.candidate.name, lease, deadline).await;
        self.answered(record, sent, answer)
    }

    fn answered(
        &mut self,
        record: LeaderElectionRecord,
        sent: Duration,
        answer: Result<Value, ApiError>,
    ) -> Result<(), ApiError> {
        // A conflict and a missing right are final; after any other error the write may have happened.
        self.unconfirmed_write = answer
            .as_ref()
            .is_err_and(|error| !is_conflict(error) && error.reason != Reason::Forbidden);
        self.lease = Some(answer?);
        self.elector.confirmed(record, sent, self.now());
        self.publish_certainty();
        self.health
            .set((!self.certain_for().is_zero()).then(Instant::now));
        Ok(())
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Everybody who acts compares this with the clock.
    fn publish_certainty(&self) {
        let end = self.elector.certain_until();
        self.active.lead_until(end.map(|end| self.origin + end));
    }

    fn certain_for(&self) -> Duration {
        self.elector.certain_for(self.now())
    }
}

/// Somebody else wrote the lease since we read it.
fn is_conflict(error: &ApiError) -> bool {
    matches!(error.reason, Reason::Conflict | Reason::AlreadyExists)
}
