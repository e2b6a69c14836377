//! Pure. What the ledger is told of a term, and what it tells.

use jiff::Timestamp;

use super::{
    record::{RecordHead, Storable},
    settings::CrashSafe,
    shard::shard_name,
    slot::{Place, Refused, Slot},
    state::LedgerState,
};

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
        /// Where it stands.
        lease: &'a RecordLease,
        /// Why.
        why: &'a str,
    },
    /// A record was found when the term began that cannot be read, and is left as it is.
    Unreadable {
        /// UID of its claim.
        uid: &'a str,
        /// Where it stands.
        lease: &'a RecordLease,
        /// Why.
        why: &'a str,
    },
    /// A person wants a held record settled: it is open from now on, and somebody has to look at it.
    Settle {
        /// UID of its claim.
        uid: &'a str,
    },
}

/// The Lease that a record stands in; of one in memory only the leader's, or without election the first shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordLease {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
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
    /// There was no room for the last record that was to be opened.
    pub full: bool,
    /// Why shards are left alone that cannot be read or written.
    pub left_alone: Vec<String>,
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

impl<R: Storable> LedgerState<R> {
    pub(super) fn status(&self) -> LedgerStatus {
        let in_memory = match (&self.refused, self.settings.mode) {
            (_, CrashSafe::Off) => Some("--crash-safe=off".to_owned()),
            (Some(Refused { error, .. }), _) => Some(error.to_string()),
            (None, _) => self
                .no_new_shards
                .as_ref()
                .filter(|_| !self.in_memory.is_empty())
                .map(|it| it.error.to_string()),
        };
        let ours = || self.slots.iter().filter(|_| self.in_term);
        let there = ours().map(|slot| slot.shard.held() + slot.unreadable.len());
        let holds = self.pending_holds.values();
        let holds = holds.filter(|hold| self.in_term || hold.place == Place::Memory);
        LedgerStatus {
            in_memory,
            records: self.open.len(),
            held: there.sum::<usize>() + holds.count(),
            full: self.in_term && self.full,
            left_alone: ours().filter_map(Slot::left_alone).collect(),
            oldest: self.ages.keys().next().copied(),
        }
    }

    /// The Lease to look at for a record.
    pub(super) fn lease_of(&self, place: Place) -> RecordLease {
        let number = match place {
            Place::Shard(number) => number,
            Place::Memory if self.settings.elected => {
                return RecordLease {
                    name: self.settings.name.clone(),
                    uid: self.term.lease_uid.clone(),
                };
            }
            Place::Memory => 0,
        };
        RecordLease {
            name: shard_name(&self.settings.name, number),
            uid: self.slots[number].shard.uid().unwrap_or_default().to_owned(),
        }
    }
}
