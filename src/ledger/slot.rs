//! Pure. One shard and what is to be done there, and how records are remembered.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    annotation::{StoredRecord, Unreadable, decode, encode},
    record::{Entry, OpenError, Opening, Origin, RecordHead, Storable},
    shard::Shard,
    status::RecordLease,
};
use crate::base::{
    api_error::{ApiError, Reason},
    backoff::Backoff,
};

/// How long a shard is not used that has failed.
const PAUSE: Backoff = Backoff {
    start: Duration::from_secs(1),
    max: Duration::from_secs(60),
};
/// So many failures of its own give a shard the longest pause.
const LONGEST: u32 = 7;
/// After so many failures of its own nobody waits for a shard any more, and that is told.
pub(super) const LEFT_ALONE: u32 = 3;

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
    /// Bytes of its annotation's value: to find room for it nothing has to be compressed.
    pub(super) length: usize,
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
    pub(super) length: usize,
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
    /// It was read in this term, and the term did not begin without a write of it that was wanted.
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
    /// Records that cannot be read, which was told.
    pub(super) unreadable: BTreeSet<String>,
    /// When it was last written, and last read or written.
    pub(super) written: Duration,
    pub(super) looked: Duration,
    pub(super) pause: ShardPause,
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
            pause: ShardPause::default(),
        }
    }
}

impl<R> Slot<R> {
    /// Why the shard is left alone, if it is. One that does not exist has nothing that waits for it.
    pub(super) fn left_alone(&self) -> Option<String> {
        let is_left = self.pause.is_left_alone() && !matches!(self.shard, Shard::Absent);
        self.pause.error().filter(|_| is_left).map(ToString::to_string)
    }
}

/// How long a shard is not used whose requests fail. While the whole API server is down it does not grow, so that nothing
/// waits for it afterwards.
#[derive(Debug, Default)]
pub(super) struct ShardPause {
    /// So often it failed although another request had succeeded since.
    failures: u32,
    /// How many requests for any shard had succeeded then.
    seen: u64,
    until: Duration,
    /// What it failed with last, if that has not ended.
    last: Option<ShardFailure>,
}

/// What a request for a shard has failed with.
#[derive(Clone, Debug)]
pub(super) struct ShardFailure {
    pub(super) error: ApiError,
    pub(super) writing: bool,
}

impl ShardPause {
    /// A request for the shard has failed, after so many for any shard that succeeded. It counts as if it had failed so
    /// often at least. Returns whether it is left alone from now on.
    pub(super) fn failed(
        &mut self,
        failure: ShardFailure,
        at_least: u32,
        successes: u64,
        now: Duration,
    ) -> bool {
        let before = self.is_left_alone();
        if self.last.is_none() || self.seen != successes {
            self.failures = self.failures.saturating_add(1);
        }
        self.failures = self.failures.max(match failure.error.reason {
            // What stands there is not accepted, whatever we change: a person has to see to it.
            Reason::Invalid => LONGEST,
            _ => at_least,
        });
        self.seen = successes;
        self.until = now + PAUSE.delay(self.failures.saturating_sub(1));
        self.last = Some(failure);
        !before && self.is_left_alone()
    }

    /// The shard was read. That says nothing of writes.
    pub(super) fn was_read(&mut self) {
        if self.last.as_ref().is_some_and(|failure| !failure.writing) {
            *self = Self::default();
        }
    }

    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.until <= now
    }

    pub(super) fn until(&self) -> Duration {
        self.until
    }

    pub(super) fn error(&self) -> Option<&ApiError> {
        self.last.as_ref().map(|failure| &failure.error)
    }

    /// It fails again and again, and others do not.
    pub(super) fn is_left_alone(&self) -> bool {
        self.failures >= LEFT_ALONE
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
        lease: RecordLease,
        why: String,
    },
    /// The record of this claim cannot be read.
    Unreadable {
        uid: String,
        lease: RecordLease,
        why: String,
    },
    /// A person wants it settled.
    Settling(String),
    /// A shard is left alone, since it fails again and again.
    LeftAlone(ApiError),
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
        length: value.len(),
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
