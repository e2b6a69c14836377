//! Pure. What is remembered of a creation under way.

use std::{collections::BTreeMap, fmt, iter, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{plan::Plan, settle::Doubt};

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
    /// What was sent before `plan` took its place: each of these may have made the volume. The first is the next to be
    /// repeated.
    pub earlier: Vec<Arc<Plan>>,
    /// The secrets as last read. `None`: this process has not read them.
    pub secrets: Option<SecretData>,
    /// The object to be written, once the driver has created the volume; with its CSI source, whatever its class names.
    pub created: Option<Arc<PersistentVolume>>,
    /// This process has called the driver, and was not told since which volume there is. Not stored.
    pub asked: bool,
    /// Whether a volume may exist that a final answer says nothing about. Not stored.
    pub doubt: Doubt,
    /// The driver has refused so often that the claim may get another request in place of this one. Not stored.
    pub renewable: bool,
}

impl Record {
    /// What another process has left: it may have called the driver or not.
    pub(super) fn inherited(uid: &str, key: &str, plan: Plan) -> Self {
        Self {
            uid: uid.to_owned(),
            key: key.to_owned(),
            begun: Duration::ZERO,
            plan: Arc::new(plan),
            earlier: Vec::new(),
            secrets: None,
            created: None,
            // If the object of its name stands, the volume is either in use, and nothing is to be done, or may be deleted
            // by now, and would be made again.
            asked: false,
            doubt: Doubt::FRESH,
            renewable: false,
        }
    }

    /// Every request that may have made the volume, the one that is sent first.
    pub fn plans(&self) -> impl Iterator<Item = &Arc<Plan>> {
        iter::once(&self.plan).chain(&self.earlier)
    }

    /// The requests that `plan` does not repeat, and that may have made the volume when it is sent.
    pub(super) fn earlier_than(&self, plan: &Plan) -> Vec<Arc<Plan>> {
        let others = self.plans().filter(|known| !known.is_same_request(plan));
        others.cloned().collect()
    }

    /// The record with the next earlier request in place of the one that was refused; `keeps`: that one may have made the
    /// volume all the same, and its turn comes again. `None`: there is no earlier one.
    pub(super) fn fallen_back(&self, keeps: bool, doubt: Doubt) -> Option<Self> {
        let (next, others) = self.earlier.split_first()?;
        let refused = keeps.then(|| self.plan.clone());
        Some(Self {
            plan: next.clone(),
            earlier: others.iter().cloned().chain(refused).collect(),
            // Those of another request are none of its own.
            secrets: self.secrets.clone().filter(|_| next.secret == self.plan.secret),
            created: None,
            asked: true,
            doubt,
            renewable: false,
            ..self.clone()
        })
    }

    /// How the driver calls the volume, once it has created it.
    pub(super) fn handle(&self) -> Option<&str> {
        let created = self.created.as_ref()?.spec.as_ref()?;
        created.csi.as_ref().map(|csi| csi.volume_handle.as_str())
    }
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
