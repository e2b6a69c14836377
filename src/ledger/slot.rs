//! Pure. One shard and what is to be done there, and how records are remembered.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    annotation::{StoredRecord, Unreadable, decode, encode},
    record::{Entry, OpenError, Opening, Origin, RecordHead, Storable},
    shard::Shard,
};
use crate::base::api_error::ApiError;

/// Tells who waits for a record to be stored.
pub(super) type Ticket = u64;

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this process only.
    Memory,
    Shard(usize),
}

/// An open record, and how it is stored.
#[derive(Debug)]
pub(super) struct OpenRecord<R> {
    pub(super) entry: Entry<R>,
    pub(super) opening: Opening,
    pub(super) approved: bool,
    pub(super) place: Place,
}

/// A record that waits to be stored.
#[derive(Debug)]
pub(super) struct PendingOpen<R> {
    pub(super) ticket: Ticket,
    pub(super) uid: String,
    pub(super) record: Arc<R>,
    pub(super) opening: Opening,
    /// The annotation's value; without election the UID of the shard's Lease is missing in it still.
    pub(super) value: String,
    pub(super) since: Duration,
    /// Nobody waits any more.
    pub(super) cancelled: bool,
}

/// A record that is to be held, or is, where nothing can be written.
#[derive(Debug)]
pub(super) struct PendingHold<R> {
    pub(super) record: Arc<R>,
    pub(super) opening: Opening,
    pub(super) place: Place,
}

/// A write that was sent, or is about to be.
#[derive(Debug)]
pub(super) struct SentWrite<R> {
    pub(super) create: bool,
    pub(super) opens: Vec<PendingOpen<R>>,
    pub(super) erased: BTreeSet<String>,
    pub(super) restored: Vec<String>,
    pub(super) held: Vec<String>,
    pub(super) settled: Vec<(String, OpenRecord<R>)>,
    /// Records that stood in memory only.
    pub(super) stored: Vec<(String, Opening)>,
}

/// One shard, and what is to be done there.
#[derive(Debug)]
pub(super) struct Slot<R> {
    pub(super) shard: Shard,
    /// It was written, or found absent, in this term.
    pub(super) ours: bool,
    /// What stands there may be something else than we know.
    pub(super) must_read: bool,
    /// It is to be written although nothing changes.
    pub(super) must_write: bool,
    pub(super) in_flight: Option<SentWrite<R>>,
    /// What must not stand there: erased, or never confirmed. An entry stays until a write is confirmed, since one
    /// whose answer was lost may come late.
    pub(super) erasing: BTreeSet<String>,
    pub(super) erasing_since: Option<Duration>,
    /// Records that a person took out or changed.
    pub(super) restore: BTreeSet<String>,
    /// Records that cannot be read.
    pub(super) unreadable: BTreeSet<String>,
    /// When it was last written, and last read or written.
    pub(super) written: Duration,
    pub(super) looked: Duration,
    /// The API server does not accept what stands there, whatever we change: nothing is written before.
    pub(super) invalid_until: Option<Duration>,
}

impl<R> Default for Slot<R> {
    fn default() -> Self {
        Self {
            shard: Shard::Unread,
            ours: false,
            must_read: false,
            must_write: false,
            in_flight: None,
            erasing: BTreeSet::new(),
            erasing_since: None,
            restore: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            written: Duration::ZERO,
            looked: Duration::ZERO,
            invalid_until: None,
        }
    }
}

/// Why nothing can be stored, and when it is tried again.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) error: ApiError,
    pub(super) until: Duration,
}

/// What is to be told when the state is no longer locked.
#[derive(Debug)]
pub(super) enum Notice {
    /// A shard has so many bytes of records.
    Written(usize),
    Held {
        head: RecordHead,
        place: Place,
        why: String,
    },
    /// A person wants it settled.
    Settling(String),
    /// A shard is left alone, since the API server does not accept it.
    Invalid(ApiError),
}

/// What follows from a change.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) answers: Vec<(Ticket, Result<(), OpenError>)>,
    pub(super) notices: Vec<Notice>,
    /// Somebody else leads.
    pub(super) resign: bool,
}

/// The term, as records carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TermMark {
    pub(super) lease_uid: String,
    pub(super) transitions: i64,
}

/// The record that an annotation of this shard has for a claim. Who opened it is not known, so it counts as inherited.
pub(super) fn read_value<R: Storable>(
    uid: &str,
    value: &str,
    number: usize,
) -> Result<OpenRecord<R>, Unreadable> {
    let stored = decode(value)?;
    let record = R::decode(uid, &stored.head, &stored.record).map_err(Unreadable::Record)?;
    Ok(OpenRecord {
        entry: Entry {
            record: Arc::new(record),
            origin: Origin::Inherited { distrust: None },
        },
        opening: stored.opening,
        approved: stored.approved,
        place: Place::Shard(number),
    })
}

/// The value of a record's annotation.
pub(super) fn value_of<R: Storable>(record: &R, opening: &Opening, approved: bool) -> String {
    encode(&StoredRecord {
        head: record.head(),
        opening: opening.clone(),
        approved,
        record: record.encode(),
    })
}
