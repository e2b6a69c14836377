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
        /// Name of the Lease that it stands in.
        shard: &'a str,
        /// Why.
        why: &'a str,
    },
    /// A person wants a held record settled: it is open from now on, and somebody has to look at it.
    Settle {
        /// UID of its claim.
        uid: &'a str,
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
