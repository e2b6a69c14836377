//! FOUNDATION: what may exist at the driver although no PersistentVolume says so.
//!
//! No CreateVolume without a record: it is opened before the first call of a claim and erased when the volume's object
//! stands, or when a clean final answer shows that there is no volume. What is recorded is the controller's affair; it
//! must be enough to finish the creation when the claim is gone. The ledger never calls DeleteVolume: a volume whose
//! claim is gone gets its object like any other volume, and the ordinary reclaim takes it from there.
//!
//! The records are kept in memory, as upstream keeps what it has in progress: they outlive the claim and the lease, not
//! the process.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::base::api_error::ApiError;

/// Hears how many records are open, and how many of them are doubtful, whenever that changes.
pub type OnCount = Box<dyn Fn(Count) + Send + Sync>;

/// Records by the UID of the claim they were opened for.
pub struct Ledger<R> {
    records: Mutex<Records<R>>,
    on_count: OnCount,
}

struct Records<R> {
    by_claim: HashMap<String, Entry<R>>,
    doubtful: usize,
}

/// An open record.
#[derive(Debug)]
pub struct Entry<R> {
    /// What the controller recorded last.
    pub record: Arc<R>,
    /// Another replica has led since it was opened: that one may have finished it, and even deleted the volume again.
    pub doubtful: bool,
}

/// How many records there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub open: usize,
    /// Those that are doubtful.
    pub doubtful: usize,
}

impl<R> Clone for Entry<R> {
    fn clone(&self) -> Self {
        Self {
            record: self.record.clone(),
            doubtful: self.doubtful,
        }
    }
}

impl<R> Ledger<R> {
    /// An empty ledger.
    pub fn new(on_count: OnCount) -> Self {
        on_count(Count::default());
        let records = Records {
            by_claim: HashMap::new(),
            doubtful: 0,
        };
        Self {
            records: Mutex::new(records),
            on_count,
        }
    }

    /// Opens the record of a claim, or replaces it; one that is replaced is as doubtful as before. When this returns,
    /// the record is stored.
    ///
    /// # Errors
    /// [`ApiError`]: it could not be stored, so the driver must not be called. In memory that does not happen.
    pub async fn record(&self, uid: &str, record: Arc<R>) -> Result<(), ApiError> {
        self.change(|records| match records.by_claim.get_mut(uid) {
            Some(entry) => entry.record = record,
            None => {
                let doubtful = false;
                records
                    .by_claim
                    .insert(uid.to_owned(), Entry { record, doubtful });
            }
        });
        Ok(())
    }

    /// Replaces the record of a claim if it is open still, and returns whether it is. One that was erased meanwhile
    /// stays erased: it would come back without the doubt that it may have deserved.
    ///
    /// # Errors
    /// As [`Ledger::record`]; the record is the one before.
    pub async fn update(&self, uid: &str, record: Arc<R>) -> Result<bool, ApiError> {
        Ok(self.change(|records| match records.by_claim.get_mut(uid) {
            Some(entry) => {
                entry.record = record;
                true
            }
            None => false,
        }))
    }

    /// The open record of a claim.
    pub fn get(&self, uid: &str) -> Option<Entry<R>> {
        self.records.lock().by_claim.get(uid).cloned()
    }

    /// The open records.
    pub fn entries(&self) -> Vec<Entry<R>> {
        self.records.lock().by_claim.values().cloned().collect()
    }

    /// UIDs of the claims that have an open record.
    pub fn claim_uids(&self) -> Vec<String> {
        self.records.lock().by_claim.keys().cloned().collect()
    }

    /// Erases a record, and says whether it was open: of two who close it only one hears true.
    pub fn erase(&self, uid: &str) -> bool {
        self.change(|records| match records.by_claim.remove(uid) {
            Some(entry) => {
                records.doubtful -= usize::from(entry.doubtful);
                true
            }
            None => false,
        })
    }

    /// Another replica has led: all records are doubtful from now on.
    pub fn distrust(&self) {
        self.change(|records| {
            records
                .by_claim
                .values_mut()
                .for_each(|entry| entry.doubtful = true);
            records.doubtful = records.by_claim.len();
        });
    }

    /// The doubt about a record has ended.
    pub fn trust(&self, uid: &str) {
        self.change(|records| {
            if let Some(entry) = records.by_claim.get_mut(uid) {
                records.doubtful -= usize::from(std::mem::take(&mut entry.doubtful));
            }
        });
    }

    /// The count is told with the records locked, so that of two changes the later one is heard last.
    fn change<T>(&self, change: impl FnOnce(&mut Records<R>) -> T) -> T {
        let mut records = self.records.lock();
        let changed = change(&mut records);
        if records.by_claim.is_empty() {
            // A map does not shrink by itself: without this, one burst would cost its memory for ever.
            records.by_claim = HashMap::new();
        }
        (self.on_count)(Count {
            open: records.by_claim.len(),
            doubtful: records.doubtful,
        });
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Ledger<u8>, Arc<Mutex<Count>>) {
        let count = Arc::new(Mutex::new(Count { open: 9, doubtful: 9 }));
        let heard = count.clone();
        let ledger = Ledger::new(Box::new(move |now| *heard.lock() = now));
        (ledger, count)
    }

    #[tokio::test]
    async fn a_record_stays_until_it_is_erased_and_doubt_stays_with_it() {
        let (ledger, count) = ledger();
        let counted = || {
            let count = *count.lock();
            (count.open, count.doubtful)
        };
        assert_eq!(counted(), (0, 0), "said at once");
        ledger.record("a", Arc::new(1)).await.unwrap();
        ledger.record("b", Arc::new(2)).await.unwrap();
        assert_eq!(counted(), (2, 0));
        ledger.distrust();
        assert_eq!(counted(), (2, 2));
        ledger.record("a", Arc::new(3)).await.unwrap();
        let entry = ledger.get("a").unwrap();
        assert!(entry.doubtful && *entry.record == 3, "{entry:?}");
        ledger.record("c", Arc::new(4)).await.unwrap();
        assert!(
            !ledger.get("c").unwrap().doubtful,
            "opened by us, after the other one led"
        );
        ledger.trust("a");
        assert_eq!(counted(), (3, 1));
        assert!(ledger.erase("b") && !ledger.erase("b"), "one of two erases it");
        assert_eq!(counted(), (2, 0));
        assert!(ledger.get("b").is_none());
        ledger.trust("b");
        assert_eq!(counted(), (2, 0), "what is gone stays gone");
    }

    #[tokio::test]
    async fn c11_what_is_recorded_by_who_knows_nothing_of_the_doubt_does_not_end_it() {
        let (ledger, count) = ledger();
        ledger.record("a", Arc::new(1)).await.unwrap();
        let before = ledger.get("a").unwrap();
        ledger.distrust();
        // A reconcile that began before the other replica led writes what it knows.
        assert!(!before.doubtful);
        ledger.record("a", Arc::new(*before.record + 1)).await.unwrap();
        assert_eq!(*count.lock(), Count { open: 1, doubtful: 1 });
        assert!(ledger.get("a").unwrap().doubtful);
        ledger.erase("a");
        assert_eq!(*count.lock(), Count::default());
    }

    #[tokio::test]
    async fn c11_a_record_that_was_erased_while_a_call_ran_does_not_come_back() {
        let (ledger, count) = ledger();
        ledger.record("a", Arc::new(1)).await.unwrap();
        ledger.distrust();
        assert!(ledger.update("a", Arc::new(2)).await.unwrap());
        let entry = ledger.get("a").unwrap();
        assert!(entry.doubtful && *entry.record == 2, "{entry:?}");
        ledger.erase("a");
        assert!(!ledger.update("a", Arc::new(3)).await.unwrap());
        assert_eq!(count.lock().open, 0);
    }
}
