//! FOUNDATION: what may exist at the driver although no PersistentVolume says so.
//!
//! No CreateVolume without a record: it is opened before the first call of a claim and erased when the volume's object
//! stands, or when a clean final answer shows that there is no volume. What is recorded is the controller's affair; it
//! must be enough to finish the creation when the claim is gone. The ledger never calls DeleteVolume: a volume whose
//! claim is gone gets its object like any other volume, and the ordinary reclaim takes it from there.

mod record;

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;

pub use self::record::{Distrust, Entry, OpenError, Opening, Origin, RecordHead, Storable};
use crate::base::api_error::ApiError;

/// Hears what becomes of the ledger.
pub type OnLedgerEvent = Box<dyn Fn(LedgerEvent<'_>) + Send + Sync>;

/// What becomes of the ledger.
#[derive(Clone, Copy, Debug)]
pub enum LedgerEvent<'a> {
    /// Something about it has changed.
    Status(&'a LedgerStatus),
    /// A shard was written, with so many bytes of records.
    Written(usize),
    /// A record is held from now on.
    Held {
        /// What it is about.
        head: &'a RecordHead,
        /// Name of the Lease that it stands in.
        shard: &'a str,
        /// Why.
        why: &'a str,
    },
}

/// What is to be known of the ledger from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Why records are in memory only, if they are.
    pub in_memory: Option<String>,
    /// How many records are open.
    pub records: usize,
    /// How many are held.
    pub held: usize,
    /// When the oldest open one was opened.
    pub oldest: Option<Timestamp>,
}

/// What the leader's Lease says about a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermFacts {
    /// Its UID.
    pub lease_uid: String,
    /// `leaseTransitions`.
    pub transitions: i64,
    /// `leaseTransitions` of the first of the leaders before, and with, this one that all keep a ledger.
    pub first_transitions: i64,
    /// Nobody else has led since this process did.
    pub undisturbed: bool,
}

/// Records by the UID of the claim they were opened for.
pub struct Ledger<R> {
    records: Mutex<HashMap<String, Entry<R>>>,
    on_event: OnLedgerEvent,
}

impl<R: Storable> Ledger<R> {
    /// An empty ledger.
    pub fn new(on_event: OnLedgerEvent) -> Self {
        on_event(LedgerEvent::Status(&LedgerStatus::default()));
        Self {
            records: Mutex::default(),
            on_event,
        }
    }

    /// Begins a term: from now on records are opened and erased under it. `is_waiting` reads live whether the claim of
    /// a record waits for a volume of ours still; a record that is not trusted is held unless it does.
    ///
    /// # Errors
    /// [`ApiError`]: nothing may be reconciled yet.
    pub async fn take_over<F>(
        &self,
        term: Option<&TermFacts>,
        is_waiting: impl Fn(Arc<R>) -> F,
    ) -> Result<(), ApiError>
    where
        F: Future<Output = Result<bool, ApiError>>,
    {
        let _ = is_waiting;
        if term.is_some_and(|term| !term.undisturbed) {
            self.change(|records| {
                for entry in records.values_mut() {
                    entry.origin = Origin::Inherited { distrust: None };
                }
            });
        }
        Ok(())
    }

    /// Opens the record of a claim, or replaces it; one that is replaced keeps its origin. When this returns, the
    /// record is stored.
    ///
    /// # Errors
    /// [`OpenError`]: it is not stored, so the driver must not be called.
    pub async fn open(&self, uid: &str, record: Arc<R>) -> Result<(), OpenError> {
        self.change(|records| match records.get_mut(uid) {
            Some(entry) => entry.record = record,
            None => {
                let origin = Origin::Own;
                records.insert(uid.to_owned(), Entry { record, origin });
            }
        });
        Ok(())
    }

    /// Replaces what this process remembers of a record, which is not written, if the record is open still. Returns
    /// whether it is: one that was erased meanwhile stays erased.
    pub fn update(&self, uid: &str, record: Arc<R>) -> bool {
        self.change(|records| match records.get_mut(uid) {
            Some(entry) => {
                entry.record = record;
                true
            }
            None => false,
        })
    }

    /// What is to be known of it from outside.
    pub fn status(&self) -> LedgerStatus {
        LedgerStatus {
            in_memory: Some("not durable yet".to_owned()),
            records: self.records.lock().len(),
            ..LedgerStatus::default()
        }
    }

    /// The open record of a claim.
    pub fn get(&self, uid: &str) -> Option<Entry<R>> {
        self.records.lock().get(uid).cloned()
    }

    /// The open records.
    pub fn entries(&self) -> Vec<Entry<R>> {
        self.records.lock().values().cloned().collect()
    }

    /// UIDs of the claims that have an open record.
    pub fn claim_uids(&self) -> Vec<String> {
        self.records.lock().keys().cloned().collect()
    }

    /// Erases a record, and says whether it was open: of two who close it only one hears true.
    pub fn erase(&self, uid: &str) -> bool {
        self.change(|records| records.remove(uid).is_some())
    }

    /// Sets a record aside: it is not acted upon until a person decides.
    pub fn hold(&self, uid: &str, why: &str) {
        let _ = why;
        self.erase(uid);
    }

    /// The status is told with the records locked, so that of two changes the later one is heard last.
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, Entry<R>>) -> T) -> T {
        let mut records = self.records.lock();
        let changed = change(&mut records);
        if records.is_empty() {
            // A map does not shrink by itself: without this, one burst would cost its memory for ever.
            *records = HashMap::new();
        }
        (self.on_event)(LedgerEvent::Status(&LedgerStatus {
            records: records.len(),
            ..LedgerStatus::default()
        }));
        changed
    }
}
