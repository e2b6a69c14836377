//! What the room remembers of claims: creations under way, and which claims to leave alone for a while.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::PersistentVolume;
use tokio::time::Instant;

use super::decide::Plan;
use crate::base::api_error::ApiError;

/// After InvalidArgument the same request is not sent again for this long, however often the claim changes.
pub(super) const INFEASIBLE: Duration = Duration::from_secs(300);
/// A volume object that we wrote shows in the watch well within this time.
const WATCH_LAG: Duration = Duration::from_secs(60);

/// What is remembered of a creation under way: enough to finish it when the claim is gone.
#[derive(Clone, Debug)]
pub struct Record {
    /// UID of the claim.
    pub uid: String,
    /// `namespace/name` of the claim, for people.
    pub key: String,
    /// What was decided, as it stays until the driver has given a final answer.
    pub plan: Arc<Plan>,
    /// The secrets as last read.
    pub secrets: SecretData,
    /// The object to be written, once the driver has made the volume.
    pub made: Option<Arc<PersistentVolume>>,
    /// Somebody else has led since it was opened: they may have finished it, and even deleted the volume again.
    pub doubtful: bool,
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

/// Claims that wait out a refusal as infeasible, with the class they were refused for.
#[derive(Default)]
pub struct InfeasibleClaims(Mutex<HashMap<String, (Instant, String)>>);

impl InfeasibleClaims {
    pub(super) fn hold(&self, claim: &str, class: &str) {
        let now = Instant::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, (until, _)| *until > now);
        held.insert(claim.to_owned(), (now + INFEASIBLE, class.to_owned()));
    }

    /// How long the claim is to be left alone still. A class that was made anew is another one.
    pub(super) fn left(&self, claim: &str, class: Option<&str>) -> Option<Duration> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, of) = held.get(claim)?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero() && class.is_none_or(|class| class == of)).then_some(left)
    }
}

/// Claims whose volume object we wrote and may not have seen yet: until the watch tells of it, only this keeps a claim
/// that changes meanwhile from being given another volume.
#[derive(Default)]
pub struct RecentlySaved(Mutex<HashMap<String, Instant>>);

impl RecentlySaved {
    pub(super) fn note(&self, claim: &str) {
        let now = Instant::now();
        let mut saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        saved.retain(|_, until| *until > now);
        saved.insert(claim.to_owned(), now + WATCH_LAG);
    }

    /// How long to wait for the object still.
    pub(super) fn left(&self, claim: &str) -> Option<Duration> {
        let saved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = saved.get(claim)?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Why the secret of a request is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretTrouble {
    #[error("provisioner secret {0} not found: create it, or correct the storage class")]
    Missing(String),
    #[error("provisioner secret: {0}")]
    ApiError(ApiError),
}
