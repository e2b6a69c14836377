//! FOUNDATION: what may exist at the driver although no PersistentVolume says so.
//!
//! No CreateVolume without a record: it is opened before the first call of a claim and erased when the volume's object
//! stands, or when a clean final answer shows that there is no volume. What is recorded is the controller's affair; it
//! must be enough to finish the creation when the claim is gone. The ledger never calls DeleteVolume: a volume whose
//! claim is gone gets its object like any other volume, and the ordinary reclaim takes it from there.

mod annotation;
mod answers;
mod judge;
mod next;
mod placing;
mod record;
mod settings;
mod shard;
mod slot;
mod state;
mod status;
mod take_over;
#[cfg(test)]
mod tests;
mod trust;
mod writer;

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

pub use self::{
    record::{Distrust, Entry, OpenError, Opening, Origin, RecordHead, Storable},
    settings::{CrashSafe, LedgerSettings, NoCrashSafe},
    status::{LedgerEvent, LedgerStatus, RecordLease, TermFacts},
};
use self::{
    slot::{Slot, Ticket, value_of},
    state::LedgerState,
    writer::Waiting,
};
use crate::cluster::{active::Active, leases::Leases};

/// Hears what becomes of the ledger.
pub type OnLedgerEvent = Box<dyn Fn(LedgerEvent<'_>) + Send + Sync>;

/// A record as it stands in an annotation of its shard.
pub fn annotation_value<R: Storable>(record: &R, opening: &Opening) -> String {
    value_of(record, opening, false)
}

/// The record of this claim that such a value holds.
///
/// # Errors
/// What is wrong with it.
pub fn read_annotation<R: Storable>(claim_uid: &str, value: &str) -> Result<R, String> {
    let stored = annotation::decode(value).map_err(|why| why.to_string())?;
    R::decode(claim_uid, &stored.head, &stored.record)
}

/// Records by the UID of the claim they were opened for. They stand in Leases beside the leader's.
pub struct Ledger<R> {
    settings: LedgerSettings,
    leases: Leases,
    active: Active,
    on_event: OnLedgerEvent,
    origin: Instant,
    locked: Mutex<Locked<R>>,
    /// There may be something to write.
    wake: Notify,
    /// Something has changed.
    changed: Notify,
}

struct Locked<R> {
    state: LedgerState<R>,
    /// As it was told last.
    status: LedgerStatus,
    waiting: HashMap<Ticket, oneshot::Sender<Result<(), OpenError>>>,
    /// Somebody polls [`Ledger::run`].
    running: bool,
}

impl<R: Storable> Ledger<R> {
    /// An empty ledger. Nothing is sent before [`Ledger::take_over`]; `leases` are those of the ledger's namespace.
    pub fn new(settings: LedgerSettings, leases: Leases, active: Active, on_event: OnLedgerEvent) -> Self {
        let state = LedgerState::new(settings.clone());
        let status = state.status();
        on_event(LedgerEvent::Status(&status));
        Self {
            settings,
            leases,
            active,
            on_event,
            origin: Instant::now(),
            locked: Mutex::new(Locked {
                state,
                status,
                waiting: HashMap::new(),
                running: false,
            }),
            wake: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// What is to be known of it from outside.
    pub fn status(&self) -> LedgerStatus {
        self.locked.lock().state.status()
    }

    /// Opens the record of a claim, or replaces it; one that is replaced keeps its origin. When this returns, the
    /// record is stored, as far as this ledger stores any. To open what is open already costs nothing.
    /// [`Ledger::run`] must be polled meanwhile.
    ///
    /// # Errors
    /// [`OpenError`]: it is not stored, so the driver must not be called.
    pub async fn open(&self, uid: &str, record: Arc<R>) -> Result<(), OpenError> {
        if !self.active.leads() {
            return Err(OpenError::NotLeading);
        }
        if self.change(|state| state.repeats(uid, &record)) {
            return Ok(());
        }
        // Compressed without the lock.
        let opening = self.locked.lock().state.opening(uid, Timestamp::now());
        let value = match self.settings.mode {
            CrashSafe::Off => String::new(),
            CrashSafe::Auto | CrashSafe::Required => value_of(&*record, &opening, false),
        };
        let now = self.origin.elapsed();
        let (sender, answer) = oneshot::channel();
        let ticket = self.change_locked(|locked| {
            let ticket = locked.state.begin_open(uid, record, opening, value, now)?;
            locked.waiting.extend(ticket.map(|ticket| (ticket, sender)));
            Ok(ticket)
        })?;
        let Some(ticket) = ticket else { return Ok(()) };
        self.wake.notify_one();
        let mut waiting = Waiting {
            ledger: self,
            ticket,
            answer,
        };
        (&mut waiting.answer).await.unwrap_or(Err(OpenError::NotLeading))
    }

    /// Replaces what this process remembers of a record, which is not written, if `before` is open still. Returns whether
    /// it is: one that was erased, replaced or taken over meanwhile stays as it is.
    pub fn update(&self, uid: &str, before: &Arc<R>, record: Arc<R>) -> bool {
        let mut locked = self.locked.lock();
        let known = locked.state.open.get_mut(uid);
        let known = known.filter(|known| Arc::ptr_eq(&known.entry.record, before));
        known.map(|known| known.entry.record = record).is_some()
    }

    /// The open record of a claim.
    pub fn get(&self, uid: &str) -> Option<Entry<R>> {
        let locked = self.locked.lock();
        Some(locked.state.open.get(uid)?.entry.clone())
    }

    /// Whether a person wanted this open record settled after it had been held.
    pub fn is_approved(&self, uid: &str) -> bool {
        let locked = self.locked.lock();
        locked.state.open.get(uid).is_some_and(|known| known.approved)
    }

    /// The open records.
    pub fn entries(&self) -> Vec<Entry<R>> {
        let locked = self.locked.lock();
        let records = locked.state.open.values();
        records.map(|known| known.entry.clone()).collect()
    }

    /// Whether there is an open record like this.
    pub fn has(&self, is_it: impl Fn(&R) -> bool) -> bool {
        let locked = self.locked.lock();
        let mut records = locked.state.open.values();
        records.any(|known| is_it(&known.entry.record))
    }

    /// Whether all shards and their records are read, where records are stored: in another one there may be open records
    /// that nobody knows of.
    pub fn has_read_all(&self) -> bool {
        let state = &self.locked.lock().state;
        let is_read = |slot: &Slot<R>| !slot.shard.is_unread() && slot.unreadable.is_empty();
        !state.keeps() || state.slots.iter().all(is_read)
    }

    /// UIDs of the claims that have an open record.
    pub fn claim_uids(&self) -> Vec<String> {
        self.locked.lock().state.open.keys().cloned().collect()
    }

    /// Erases a record, and says whether it was open: of two who close it only one hears true. It is taken off its
    /// shard within a second.
    pub fn erase(&self, uid: &str) -> bool {
        let now = self.origin.elapsed();
        let erased = self.change(|state| state.erase(uid, now));
        self.wake.notify_one();
        erased
    }

    /// Forgets a record that is stored, and does not erase it: whoever leads next reads it. One that is in memory only
    /// stays open. Returns whether it was stored.
    pub fn forget(&self, uid: &str) -> bool {
        self.change(|state| state.forget(uid))
    }

    /// Sets a record aside: it is not acted upon until a person decides.
    pub fn hold(&self, uid: &str, why: &str) {
        self.change(|state| state.hold(uid, why));
        self.wake.notify_one();
    }
}
