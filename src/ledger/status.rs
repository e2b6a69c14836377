//! Pure. What the ledger is told of a term, and what it tells.

use jiff::Timestamp;

use super::record::RecordHead;

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
