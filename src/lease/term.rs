//! What the rest of the program sees of the election.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};

use super::{Election, chain::first_leader, record::transitions};

/// How much longer than the lease duration a leader may go without renewal until it counts as ill.
const GRACE: Duration = Duration::from_secs(20);

/// Where we stand.
#[derive(Clone, Debug)]
pub enum Leadership {
    /// We wait. `holder` is who leads, where somebody does and we know.
    Standby {
        /// The leader's identity.
        holder: Option<String>,
    },
    /// We lead. Whoever works because of it keeps a clone of the [`Term`] until that work has stopped.
    Leading(Term),
    /// We lead no more: stop working. Nothing happens until the last clone of the [`Term`] is dropped;
    /// who holds none may find that this state has passed already.
    Over {
        /// The lease, for the event.
        lease: Arc<LeaseRef>,
        /// Why.
        why: Over,
    },
    /// The election has ended because we were asked to stop; the lease is released if we had it.
    Ended,
}

/// Why a term is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// No renewal was confirmed in time.
    Deadline,
    /// The lease is somebody else's, was deleted, or was given away.
    Taken {
        /// Who has it now, where somebody does.
        by: Option<String>,
    },
    /// We were asked not to compete. The lease is renewed until work has stopped, then released.
    Yielded,
    /// We were asked to stop. The lease is renewed until work has stopped, then released.
    Stopped,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("it could not be renewed in time"),
            Self::Taken { by: Some(by) } => write!(f, "{by:?} took it"),
            Self::Taken { by: None } => f.write_str("it was deleted or given away from outside"),
            Self::Yielded => f.write_str("it is given up for another replica"),
            Self::Stopped => f.write_str("this replica stops"),
        }
    }
}

/// One time of leading. While a clone exists the election does not compete again.
#[derive(Clone)]
pub struct Term {
    /// Nobody else has led since our previous term, as far as the lease tells. True for the first one.
    pub undisturbed: bool,
    /// The lease, for the event.
    pub lease: Arc<LeaseRef>,
    /// How often the lease has changed hands, as it says.
    pub transitions: i64,
    /// The same for the first of the leaders in a row, this one included, that all keep a ledger.
    pub first_transitions: i64,
    /// Nothing is ever sent. When the last clone is dropped, the channel closes, and the election sees that the work
    /// of this term has stopped.
    pub(super) _alive: mpsc::Sender<Infallible>,
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            undisturbed,
            lease,
            transitions,
            first_transitions,
            _alive: _,
        } = self;
        f.debug_struct("Term")
            .field("undisturbed", undisturbed)
            .field("lease", lease)
            .field("transitions", transitions)
            .field("first_transitions", first_transitions)
            .finish()
    }
}

impl Election {
    /// Publishes a new term. The receiver that it returns ends when the last clone of the term is dropped.
    pub(super) fn begin(&mut self) -> mpsc::Receiver<Infallible> {
        let (alive, work) = mpsc::channel(1);
        let lease = self.reference();
        let transitions = self.lease.as_ref().map(transitions).unwrap_or_default();
        let first_transitions = self.lease.as_ref().and_then(first_leader).unwrap_or(transitions);
        let undisturbed = match self.last_term.replace((lease.uid.clone(), transitions)) {
            None => true,
            // A release and our own return count as one. A lease that was made anew counts from zero: who led before,
            // or in between, is not known.
            Some((uid, before)) => uid == lease.uid && (transitions == before || transitions == before + 1),
        };
        let term = Term {
            undisturbed,
            lease,
            transitions,
            first_transitions,
            _alive: alive,
        };
        tracing::info!(lease = %self.candidate.path(), identity = %self.candidate.identity, "Became leader");
        self.leadership.send_replace(Leadership::Leading(term));
        work
    }

    pub(super) fn over(&self, lease: &Arc<LeaseRef>, why: Over) {
        let (lease_path, identity) = (self.candidate.path(), &self.candidate.identity);
        match why {
            Over::Stopped | Over::Yielded => {
                tracing::info!(lease = %lease_path, %identity, %why, "Stopped leading")
            }
            _ => tracing::warn!(lease = %lease_path, %identity, %why, "Stopped leading"),
        }
        self.leadership.send_replace(Leadership::Over {
            lease: Arc::clone(lease),
            why,
        });
    }

    pub(super) fn reference(&self) -> Arc<LeaseRef> {
        let text = |path| {
            self.lease
                .as_ref()
                .and_then(|lease| lease.pointer(path)?.as_str())
                .unwrap_or_default()
                .into()
        };
        Arc::new(LeaseRef {
            namespace: self.candidate.namespace.clone(),
            name: self.candidate.name.clone(),
            uid: text("/metadata/uid"),
            resource_version: text("/metadata/resourceVersion"),
        })
    }
}

/// The Lease object that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its version when the term began.
    pub resource_version: String,
}

/// Whether the leader is well, for `/healthz/leader-election`. Clones look at the same lease.
#[derive(Clone, Debug)]
pub struct Health {
    renewed: Arc<Mutex<Option<Instant>>>,
    limit: Duration,
}

impl Health {
    pub(super) fn new(lease_duration: Duration) -> Self {
        Self {
            renewed: Arc::default(),
            limit: lease_duration + GRACE,
        }
    }

    /// `Some` while we lead, with the moment of the last renewal.
    pub(super) fn set(&self, renewed: Option<Instant>) {
        *self.renewed.lock() = renewed;
    }

    /// Whether the election works. A leader that cannot renew steps down long before; this finds an election that
    /// hangs.
    ///
    /// # Errors
    /// A text, when we hold the lease and have not renewed it for its duration and 20 s. Standbys are well.
    pub fn check(&self) -> Result<(), String> {
        match *self.renewed.lock() {
            Some(renewed) if renewed.elapsed() > self.limit => Err(format!(
                "the lease is held but was not renewed for {} s",
                renewed.elapsed().as_secs()
            )),
            _ => Ok(()),
        }
    }
}
