//! Pure. What is remembered of a creation under way, and what it needs next.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PersistentVolume;

use super::plan::Plan;

/// What is remembered of a creation under way: enough to finish it when the claim is gone.
#[derive(Clone, Debug)]
pub struct Record {
    /// UID of the claim.
    pub uid: String,
    /// `namespace/name` of the claim, for people.
    pub key: String,
    /// When the latest attempt began, since the controller was made.
    pub begun: Duration,
    /// What was decided, as it stays until the driver has given a final answer.
    pub plan: Arc<Plan>,
    /// The secrets as last read.
    pub secrets: SecretData,
    /// The object to be written, once the driver has created the volume.
    pub created: Option<Arc<PersistentVolume>>,
}

/// The data of a secret. Never printed.
#[derive(Clone, Default)]
pub struct SecretData(BTreeMap<String, String>);

impl SecretData {
    pub(super) const fn new(data: BTreeMap<String, String>) -> Self {
        Self(data)
    }

    /// For a request to the driver.
    pub(super) fn reveal(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***stripped***")
    }
}

/// What is known about an open record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordFacts {
    /// Its claim stands and has no volume.
    pub(super) claim_waits: bool,
    /// Its PersistentVolume was seen.
    pub(super) saved: bool,
    /// Another replica has led since it was opened.
    pub(super) doubtful: bool,
    /// The driver has created the volume.
    pub(super) created: bool,
}

/// What an open record needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is to be erased.
    Close,
    /// Nothing that we could do.
    Hold,
    /// The PersistentVolume is to be written.
    Save,
    /// The driver is to be asked again.
    Create,
}

/// What an open record needs next.
pub(super) fn next_step(facts: RecordFacts) -> Step {
    match facts {
        // A request to write the object whose answer was lost, or another leader, has done it. Writing it again later,
        // when the volume has been deleted, would make an object for nothing.
        RecordFacts { saved: true, .. } => Step::Close,
        // The other leader may have finished the creation, and even deleted the volume again. Nobody waits for it.
        RecordFacts {
            doubtful: true,
            claim_waits: false,
            ..
        } => Step::Hold,
        // As before, but the claim stands and has no volume: asking again is what is wanted, whoever led in between.
        RecordFacts { doubtful: true, .. } => Step::Create,
        RecordFacts { created: true, .. } => Step::Save,
        RecordFacts { .. } => Step::Create,
    }
}
