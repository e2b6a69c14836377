//! FOUNDATION: what may exist at the driver although no PersistentVolume says so.
//!
//! No CreateVolume without a record: it is opened before the first call of a claim and erased when the volume's object
//! stands, or when a clean final answer shows that there is no volume. What is recorded is the room's affair; it must
//! be enough to finish the creation when the claim is gone. The ledger never calls DeleteVolume: an orphan gets its
//! object like any other volume, and the ordinary reclaim takes it from there.
//!
//! The records are kept in memory, as upstream keeps what it has in progress: they outlive the claim and the lease, not
//! the process.

use std::sync::Arc;

use crate::cluster::hot::{HotSet, OnLine};

/// Records by the UID of the claim they were opened for.
pub struct Ledger<E: Send + Sync + 'static> {
    open: Arc<HotSet<E>>,
    count: Box<dyn Fn(usize) + Send + Sync>,
}

impl<E: Send + Sync + 'static> Ledger<E> {
    /// An empty ledger. `count` hears how many records are open whenever that changes.
    pub fn new(tell: OnLine, count: Box<dyn Fn(usize) + Send + Sync>) -> Self {
        count(0);
        Self {
            open: HotSet::new(tell),
            count,
        }
    }

    /// Opens a record, or replaces the entry of an open one. Whoever records is at work on it, so nobody else is woken.
    pub fn record(&self, uid: &str, entry: E) {
        self.open.keep(uid, entry);
        (self.count)(self.open.len());
    }

    /// The open record of a claim.
    pub fn get(&self, uid: &str) -> Option<Arc<E>> {
        self.open.get(uid)
    }

    /// Erases a record.
    pub fn erase(&self, uid: &str) {
        self.open.remove(uid);
        (self.count)(self.open.len());
    }

    /// The claim of this record, if there is one, will not see to it any more: it has to be finished without.
    pub fn orphan(&self, uid: &str) {
        self.open.wake(uid);
    }

    /// The open records, to be worked through.
    pub fn records(&self) -> Arc<HotSet<E>> {
        self.open.clone()
    }
}
