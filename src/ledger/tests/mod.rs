//! Tables over the pure parts, a property over any interleaving, and the writer against an API server with faults.

mod annotation;
mod bad_shard;
mod burst;
mod conflicts;
mod faults;
mod gather;
mod judge;
mod left_shard;
mod model;
mod property;
mod refusals;
mod server;
mod shown;
mod trust;

use std::{sync::Arc, time::Duration};

use super::{
    LedgerSettings, TermFacts,
    record::{Opening, RecordHead, Storable},
    settings::CrashSafe,
};

const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const DRIVER: &str = "lab.csi.example.com";

fn opening() -> Opening {
    Opening {
        at: "2026-11-21T04:36:01Z".parse().unwrap(),
        driver: DRIVER.to_owned(),
        lease_uid: "lease-1".to_owned(),
        transitions: 7,
        was_stale: false,
    }
}

fn head() -> RecordHead {
    RecordHead {
        claim: "shop/data".to_owned(),
        volume: format!("pvc-{UID}"),
    }
}

/// What a controller could record.
#[derive(Clone, Debug, PartialEq)]
struct Note {
    head: RecordHead,
    deletes: bool,
    content: Vec<u8>,
}

impl Storable for Note {
    fn head(&self) -> RecordHead {
        self.head.clone()
    }

    fn encode(&self) -> Vec<u8> {
        let mut stored = vec![u8::from(self.deletes)];
        stored.extend(&self.content);
        stored
    }

    fn decode(_: &str, head: &RecordHead, stored: &[u8]) -> Result<Self, String> {
        let (deletes, content) = stored.split_first().ok_or("it is empty")?;
        Ok(Self {
            head: head.clone(),
            deletes: *deletes == 1,
            content: content.to_vec(),
        })
    }

    fn deletes(&self) -> bool {
        self.deletes
    }
}

/// A record for this claim, of about so many bytes even when it is compressed.
fn note(uid: &str, bytes: usize) -> Arc<Note> {
    let mut random = fastrand::Rng::with_seed(bytes as u64);
    Arc::new(Note {
        head: RecordHead {
            claim: format!("shop/{uid}"),
            volume: format!("pvc-{uid}"),
        },
        deletes: true,
        content: (0..bytes * 3 / 4).map(|_| random.u8(..)).collect(),
    })
}

fn settings() -> LedgerSettings {
    LedgerSettings {
        name: "lab".to_owned(),
        namespace: "default".to_owned(),
        identity: "we".to_owned(),
        labels: [("team".to_owned(), "storage".to_owned())].into(),
        mode: CrashSafe::Auto,
        elected: true,
        driver: DRIVER.to_owned(),
    }
}

fn term() -> TermFacts {
    TermFacts {
        lease_uid: "lease-1".to_owned(),
        transitions: 7,
        first_transitions: 5,
        undisturbed: true,
    }
}

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;
