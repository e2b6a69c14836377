//! Pure. One shard of the ledger: a Lease object, and the records in its annotations.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    annotation::{HELD, OPEN, SETTLE},
    settings::LedgerSettings,
};
use crate::cluster::lease_object::{edit, label, micro_time, new_lease};

/// How many shards there are.
pub(super) const SHARDS: usize = 64;
/// To this many bytes of records a shard is filled.
pub(super) const FILLED: usize = 32 << 10;
/// A record that is larger than that takes a shard without any other for itself, up to here.
pub(super) const LARGEST: usize = 200 << 10;
/// What a shard may grow to when records are replaced in it. The API server ends at 256 KiB.
pub(super) const GROWN: usize = 240 << 10;

/// What we know of one shard.
#[derive(Clone, Debug, Default)]
pub(super) enum Shard {
    /// Nothing: it was not read.
    #[default]
    Unread,
    /// There is none.
    Absent,
    /// As it was last read or written.
    Present {
        /// The whole object.
        object: Value,
        /// Bytes of all annotations, keys and values.
        size: usize,
        /// Bytes of those that are somebody else's.
        foreign: usize,
        /// How many records are held there.
        held: usize,
    },
}

/// What a write changes of the annotations: `None` takes one out.
pub(super) type Changes = BTreeMap<String, Option<String>>;

/// The shard's name.
pub(super) fn shard_name(lock: &str, number: usize) -> String {
    format!("{lock}-ledger-{number}")
}

/// Bytes that an annotation takes.
pub(super) const fn bytes(key: &str, value: &str) -> usize {
    key.len() + value.len()
}

impl Shard {
    /// As the API server has just shown it.
    pub(super) fn new(object: Option<Value>) -> Self {
        let Some(object) = object else {
            return Self::Absent;
        };
        let (mut size, mut foreign, mut held) = (0, 0, 0);
        for (key, value) in annotations(&object) {
            size += bytes(key, value);
            held += usize::from(key.starts_with(HELD));
            if ![OPEN, HELD, SETTLE].iter().any(|prefix| key.starts_with(prefix)) {
                foreign += bytes(key, value);
            }
        }
        Self::Present {
            object,
            size,
            foreign,
            held,
        }
    }

    pub(super) fn is_present(&self) -> bool {
        matches!(self, Self::Present { .. })
    }

    pub(super) fn is_unread(&self) -> bool {
        matches!(self, Self::Unread)
    }

    fn text(&self, path: &str) -> Option<&str> {
        match self {
            Self::Present { object, .. } => object.pointer(path)?.as_str(),
            _ => None,
        }
    }

    /// UID of the Lease.
    pub(super) fn uid(&self) -> Option<&str> {
        self.text("/metadata/uid")
    }

    /// Who wrote it last.
    pub(super) fn holder(&self) -> Option<&str> {
        self.text("/spec/holderIdentity")
    }

    /// When somebody wrote it last, by whose clock it is.
    pub(super) fn renewed(&self) -> Option<&str> {
        self.text("/spec/renewTime")
    }

    /// The resourceVersion.
    pub(super) fn version(&self) -> Option<&str> {
        self.text("/metadata/resourceVersion")
    }

    /// The bytes of all annotations.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Present { size, .. } => *size,
            _ => 0,
        }
    }

    /// The value of an annotation: of the key that a prefix and a claim's UID make.
    pub(super) fn value(&self, prefix: &str, uid: &str) -> Option<&str> {
        match self {
            Self::Present { object, .. } => object
                .pointer("/metadata/annotations")?
                .get(format!("{prefix}{uid}"))?
                .as_str(),
            _ => None,
        }
    }

    /// The annotations with this prefix: UID of the claim and value.
    pub(super) fn records<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let object = match self {
            Self::Present { object, .. } => Some(object),
            _ => None,
        };
        object
            .into_iter()
            .flat_map(annotations)
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value)))
    }

    /// How many records are held there.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Present { held, .. } => *held,
            _ => 0,
        }
    }

    /// Whether anything of ours stands there.
    pub(super) fn has_records(&self) -> bool {
        self.size() > self.foreign()
    }

    /// The bytes of annotations that are somebody else's.
    pub(super) fn foreign(&self) -> usize {
        match self {
            Self::Present { foreign, .. } => *foreign,
            _ => 0,
        }
    }

    /// The size after these changes.
    pub(super) fn size_with(&self, changes: &Changes) -> usize {
        let mut size = self.size();
        for (key, value) in changes {
            if let Some(old) = self.value(key, "") {
                size -= bytes(key, old);
            }
            size += value.as_ref().map_or(0, |value| bytes(key, value));
        }
        size
    }

    /// The object to be written: with these changes, our identity and the time.
    pub(super) fn written(
        &self,
        changes: Changes,
        settings: &LedgerSettings,
        number: usize,
        wall: Timestamp,
    ) -> Value {
        let mut object = match self {
            Self::Present { object, .. } => object.clone(),
            _ => new_lease(&settings.namespace, &shard_name(&settings.name, number)),
        };
        if let Some(metadata) = object.get_mut("metadata") {
            edit(metadata, "annotations", |annotations| {
                for (key, value) in changes {
                    match value {
                        Some(value) => annotations.insert(key, value.into()),
                        None => annotations.remove(&key),
                    };
                }
            });
        }
        label(&mut object, &settings.labels);
        edit(&mut object, "spec", |spec| {
            spec.insert("holderIdentity".to_owned(), json!(settings.identity));
            spec.insert("renewTime".to_owned(), json!(micro_time(wall)));
        });
        object
    }
}

fn annotations(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    let map = object.pointer("/metadata/annotations").and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}
