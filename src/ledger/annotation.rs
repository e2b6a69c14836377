//! Pure. A record as the value of an annotation: a readable head, and the rest compressed.
//!
//! `<namespace>/<claim> <volume> <time> v1 <base64 of zlib>`. What cannot be read is never guessed at.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use miniz_oxide::{deflate::compress_to_vec_zlib, inflate::decompress_to_vec_zlib_with_limit};
use prost::Message;

use super::record::{Opening, RecordHead};

/// Before the claim's UID: a record that is open.
pub(super) const OPEN: &str = "ledger.volwright.dev/";
/// Before the claim's UID: a record that is held.
pub(super) const HELD: &str = "held.volwright.dev/";
/// Before the claim's UID: a person says that the held record is to be settled.
pub(super) const SETTLE: &str = "settle.volwright.dev/";

const VERSION: &str = "v1";
/// zlib's usual level: records are small, and a CreateVolume call costs a thousand times as much.
const LEVEL: u8 = 6;
/// What a record may have when it is unpacked. A value that was made to unpack to gigabytes must not kill the process.
const UNPACKED: usize = 4 << 20;

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredRecord {
    pub(super) head: RecordHead,
    pub(super) opening: Opening,
    /// A person has said that it is to be settled.
    pub(super) approved: bool,
    /// What the controller has encoded.
    pub(super) record: Vec<u8>,
}

/// What is compressed.
#[derive(Clone, PartialEq, Message)]
struct PackedRecord {
    #[prost(string, tag = "1")]
    driver: String,
    #[prost(string, tag = "2")]
    lease_uid: String,
    #[prost(int64, tag = "3")]
    transitions: i64,
    #[prost(bool, tag = "4")]
    approved: bool,
    #[prost(bytes = "vec", tag = "5")]
    record: Vec<u8>,
    #[prost(bool, tag = "6")]
    was_stale: bool,
}

/// Why a value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It has not the parts that it should have.
    Parts,
    /// Another version of this program has written it.
    Version,
    /// What is compressed is damaged, or too large.
    Packed,
    /// The controller cannot read its part.
    Record(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parts => f.write_str("it is no record"),
            Self::Version => f.write_str("it was written in another version"),
            Self::Packed => f.write_str("it is damaged"),
            Self::Record(what) => f.write_str(what),
        }
    }
}

/// A moment as it is stored, so that what was opened and what is read are the same.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

/// The annotation's value.
pub(super) fn encode(stored: &StoredRecord) -> String {
    let StoredRecord {
        head: RecordHead { claim, volume },
        opening:
            Opening {
                at,
                driver,
                lease_uid,
                transitions,
                was_stale,
            },
        approved,
        record,
    } = stored;
    let packed = PackedRecord {
        driver: driver.clone(),
        lease_uid: lease_uid.clone(),
        transitions: *transitions,
        approved: *approved,
        record: record.clone(),
        was_stale: *was_stale,
    };
    let packed = STANDARD.encode(compress_to_vec_zlib(&packed.encode_to_vec(), LEVEL));
    format!("{claim} {volume} {at:.0} {VERSION} {packed}")
}

/// What such a value says.
pub(super) fn decode(value: &str) -> Result<StoredRecord, Unreadable> {
    // From both ends: nothing but the volume's name could have a space in it.
    let (claim, rest) = value.split_once(' ').ok_or(Unreadable::Parts)?;
    let mut parts = rest.rsplitn(4, ' ');
    let (Some(packed), Some(version), Some(at), Some(volume)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Unreadable::Parts);
    };
    if version != VERSION {
        return Err(Unreadable::Version);
    }
    let at = at.parse().map_err(|_| Unreadable::Parts)?;
    let packed = STANDARD.decode(packed).map_err(|_| Unreadable::Packed)?;
    let packed = decompress_to_vec_zlib_with_limit(&packed, UNPACKED).map_err(|_| Unreadable::Packed)?;
    let packed = PackedRecord::decode(&*packed).map_err(|_| Unreadable::Packed)?;
    Ok(StoredRecord {
        head: RecordHead {
            claim: claim.to_owned(),
            volume: volume.to_owned(),
        },
        opening: Opening {
            at,
            driver: packed.driver,
            lease_uid: packed.lease_uid,
            transitions: packed.transitions,
            was_stale: packed.was_stale,
        },
        approved: packed.approved,
        record: packed.record,
    })
}

/// Whether annotations of ours can carry this UID. It comes from the API server and does; one that does not would make
/// the whole shard impossible to write.
pub(super) fn fits_key(uid: &str) -> bool {
    let end = |at: Option<u8>| at.is_some_and(|b| b.is_ascii_alphanumeric());
    let bytes = uid.as_bytes();
    bytes.len() <= 63
        && end(bytes.first().copied())
        && end(bytes.last().copied())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}
