//! Pure. What the ledger knows of a record: what it is about, where it was opened, and how it came to this process.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use crate::base::api_error::ApiError;

/// What can be kept in the ledger. What it says is the controller's affair, but for how it is stored.
pub trait Storable: Send + Sync + Sized + 'static {
    /// What people are to read of it.
    fn head(&self) -> RecordHead;

    /// What is to be stored: enough to finish the creation when the claim is gone, and no secret.
    fn encode(&self) -> Vec<u8>;

    /// The record that [`Storable::encode`] has stored for the claim of this UID.
    ///
    /// # Errors
    /// What is wrong with it.
    fn decode(claim_uid: &str, head: &RecordHead, stored: &[u8]) -> Result<Self, String>;

    /// Whether the PersistentVolume that is to come of it has the policy Delete.
    fn deletes(&self) -> bool;

    /// What still counts of a record in memory when another leader may have worked on it since.
    fn taken_over(self: &Arc<Self>) -> Arc<Self> {
        self.clone()
    }
}

/// What people read of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// `namespace/name` of the claim.
    pub claim: String,
    /// Name of the volume.
    pub volume: String,
}

/// When a record was opened, for which driver, and under which lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// By the clock of who opened it.
    pub at: Timestamp,
    /// Name of the driver.
    pub driver: String,
    /// UID of the leader's Lease; without election, that of the record's own shard.
    pub lease_uid: String,
    /// `leaseTransitions` of the leader's Lease; without election 0.
    pub transitions: i64,
    /// At the beginning of some term nobody had kept it for an hour, and its claim waited still. The shard is kept since,
    /// and does not tell any more.
    pub was_stale: bool,
}

/// An open record.
#[derive(Debug)]
pub struct Entry<R> {
    /// What the controller recorded last.
    pub record: Arc<R>,
    /// How it came to this process.
    pub origin: Origin,
}

impl<R> Clone for Entry<R> {
    fn clone(&self) -> Self {
        Self {
            record: self.record.clone(),
            origin: self.origin,
        }
    }
}

/// How a record came to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process has opened it, and nobody else has led since.
    Own,
    /// It was found at the beginning of the term. Who opened it may have called the driver or not, and others may have
    /// finished it.
    Inherited {
        /// Why it is not acted upon when its claim is gone, if so.
        distrust: Option<Distrust>,
    },
}

/// Why an inherited record is not to be acted upon when nobody waits for its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// It was opened under another Lease, or for another driver: it was restored or copied.
    Foreign,
    /// Nobody has kept its shard for an hour.
    Stale,
    /// The volume's name does not have the whole UID of the claim: it may be another claim's volume.
    ShortName,
    /// The volume would stay, and somebody who keeps no ledger may have been at work since.
    UnknownLeader,
}

/// Why a creation could not be recorded, so that the driver must not be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The API server did not do it.
    Api(ApiError),
    /// It has waited for 30 seconds; why the last request failed, if it did.
    TimedOut(Option<ApiError>),
    /// There is no room in any shard.
    Full,
    /// It is too large for any shard.
    TooLarge {
        /// What it would take.
        bytes: usize,
    },
    /// No annotation can be named after the claim's UID.
    NoKey(String),
    /// Records cannot be stored, and `--crash-safe=required`.
    NotDurable(ApiError),
    /// We do not lead any more.
    NotLeading,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "it was opened under another Lease or for another driver, so it was restored or copied",
            Self::Stale => "nobody has kept it for an hour or longer",
            Self::ShortName => {
                "the volume's name has only a part of the claim's UID (--volume-name-uuid-length), so the volume may \
                 be another claim's"
            }
            Self::UnknownLeader => {
                "its volume is to be retained, and a provisioner that keeps no ledger may have been at work since it \
                 was opened"
            }
        })
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(error) => error.fmt(f),
            Self::TimedOut(error) => {
                f.write_str("it was not stored within 30 s, and is tried again: ")?;
                match error {
                    Some(error) => error.fmt(f),
                    None => f.write_str("the API server is slow, or the Leases of the ledger are still being read"),
                }
            }
            Self::Full => f.write_str(
                "all shards of the ledger are full: see which creations are open in the annotations of the Leases, and \
                 why they do not end",
            ),
            Self::TooLarge { bytes } => write!(f, "its record of {bytes} bytes is too large for an object's annotations"),
            Self::NoKey(uid) => write!(f, "no annotation can be named after the claim's UID {uid:?}"),
            Self::NotDurable(error) => write!(f, "--crash-safe=required: {error}"),
            Self::NotLeading => f.write_str("another replica leads"),
        }
    }
}

impl std::error::Error for OpenError {}
