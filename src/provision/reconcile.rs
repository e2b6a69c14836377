//! Carries a decision out: record, call, settle, erase.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    decide::{Decision, Facts, Plan, Refusal, decide},
    memory::{INFEASIBLE, InfeasibleClaims, RecentlySaved, Record, SecretData, SecretTrouble},
    metrics::ProvisionMetrics,
    outcome::{CreateOutcome, SizeMismatch, outcome_of},
    policy::Policy,
};
use crate::{
    base::{names, secrets::SecretRef},
    cluster::{
        api::ApiClient,
        cache::Cache,
        events::{Event, EventRecorder},
        objects::Claim,
        work::{Active, Requeue},
    },
    csi::{Driver, DriverInfo, proto},
    ledger::Ledger,
};

/// So often is an unusable volume asked to be deleted before the next try, within one `--timeout`.
const CLEANUPS: usize = 5;
const FAILED: &str = "ProvisioningFailed";

/// The room: what it takes to turn claims into volumes.
pub struct Provision {
    /// The driver.
    pub driver: Driver,
    /// Who the driver is.
    pub driver_info: DriverInfo,
    /// `--timeout`: the budget of one clean-up.
    pub timeout: Duration,
    /// The API server.
    pub api: ApiClient,
    /// What the watches told.
    pub cache: Arc<Cache>,
    /// What may exist at the driver.
    pub ledger: Arc<Ledger<Record>>,
    /// Who is told.
    pub events: EventRecorder,
    /// What is counted.
    pub metrics: ProvisionMetrics,
    /// How the operator wants it.
    pub policy: Policy,
    /// Claims whose request the driver called infeasible.
    pub held: InfeasibleClaims,
    /// Claims whose volume object we wrote a moment ago.
    pub saved: RecentlySaved,
    /// Whether the driver may be called.
    pub active: Active,
}

impl Provision {
    /// One turn of a claim that is asked of us and has no volume.
    pub async fn reconcile_claim(&self, claim: Arc<Claim>) -> Requeue {
        let begun = Instant::now();
        if let Some(record) = self.ledger.get(&claim.uid) {
            self.announce(&claim);
            let again = self.finish((*record).clone(), Some(&claim), begun).await;
            self.leave_behind(&claim.uid);
            return again;
        }
        let class = self.cache.class_named(claim.class());
        if let Some(left) = self
            .held
            .left(&claim.uid, class.as_ref().map(|class| class.uid.as_str()))
        {
            return Requeue::After(left);
        }
        let name = names::volume_name(&self.policy.name_prefix, &claim.uid, self.policy.uid_length);
        let standing = name.ok().and_then(|name| self.cache.claim_of_volume(&name));
        if standing.is_none()
            && let Some(left) = self.saved.left(&claim.uid)
        {
            return Requeue::After(left);
        }
        let decision = decide(Facts {
            claim: &claim,
            class: class.as_deref(),
            driver: &self.driver_info,
            standing: standing.as_deref(),
            policy: &self.policy,
        });
        match decision {
            Decision::Leave(why) => {
                tracing::debug!(claim = claim.key(), ?why, "claim left alone");
                Requeue::AwaitChange
            }
            Decision::Tell(refusal) => self.refuse(&claim, &refusal),
            Decision::Provision(plan) => {
                let again = self.begin(&claim, Arc::from(plan), begun).await;
                self.leave_behind(&claim.uid);
                again
            }
        }
    }

    /// One turn of a record. While its claim is there the claim's own turns see to it.
    pub async fn reconcile_record(&self, record: Arc<Record>) -> Requeue {
        if self.cache.claims.get(&record.uid).is_some() {
            return Requeue::AwaitChange;
        }
        let volume = &record.plan.request.name;
        if record.doubtful && !self.stands(&record) {
            tracing::warn!(
                claim = record.key,
                volume,
                "held: another replica has led since this creation began, and its claim is gone; if the driver has a \
                 volume of this name that no PersistentVolume names, delete it there"
            );
            return Requeue::AwaitChange;
        }
        tracing::info!(
            claim = record.key,
            volume,
            "finishing a creation whose claim is gone or has a volume"
        );
        self.finish((*record).clone(), None, Instant::now()).await
    }

    /// Somebody else has led since the records were opened. What they made may be gone again, so nothing that is
    /// remembered of it can be relied on.
    pub fn distrust(&self) {
        let records = self.ledger.records().rows();
        for record in &records {
            self.ledger.record(
                &record.uid,
                Record {
                    made: None,
                    doubtful: true,
                    ..(**record).clone()
                },
            );
        }
        self.count_doubtful();
    }

    fn count_doubtful(&self) {
        let doubtful = self
            .ledger
            .records()
            .rows()
            .iter()
            .filter(|record| record.doubtful)
            .count();
        self.metrics.records("held", doubtful);
    }

    fn announce(&self, claim: &Claim) {
        let text = format!(
            "External provisioner is provisioning volume for claim \"{}\"",
            claim.key()
        );
        self.events.say(claim, Event::normal("Provisioning", text));
    }

    fn refuse(&self, claim: &Claim, refusal: &Refusal) -> Requeue {
        let text = refusal.to_string();
        if !refusal.is_warning() {
            self.events.say(claim, Event::normal("Provisioning", text));
            return Requeue::AwaitChange;
        }
        self.metrics.provision_failed(
            claim.class_name.as_deref().unwrap_or_default(),
            claim.source_kind(),
        );
        self.events.say(claim, Event::warning(FAILED, text));
        Requeue::Backoff
    }

    pub(super) fn fail(&self, plan: &Plan, claim: Option<&Claim>, text: &str) -> Requeue {
        self.metrics
            .provision_failed(&plan.class_label, &plan.source_label);
        match claim {
            Some(claim) => self.events.say(claim, Event::warning(FAILED, text)),
            None => tracing::warn!(
                volume = plan.request.name,
                err = text,
                "cannot finish a creation yet"
            ),
        }
        Requeue::Backoff
    }

    /// Opens a record and makes the first call.
    async fn begin(&self, claim: &Claim, plan: Arc<Plan>, begun: Instant) -> Requeue {
        self.announce(claim);
        // Read before the record is opened: a secret that is missing is no reason to remember anything.
        let secrets = match self.secrets(plan.secret.as_ref()).await {
            Ok(secrets) => secrets,
            Err(error) => return self.fail(&plan, Some(claim), &error.to_string()),
        };
        if !self.active.is_set() {
            return Requeue::AwaitChange;
        }
        let record = Record {
            uid: claim.uid.clone(),
            key: claim.key(),
            plan,
            secrets,
            made: None,
            doubtful: false,
        };
        self.ledger.record(&claim.uid, record.clone());
        self.create(record, Some(claim), begun).await
    }

    /// Brings an open record as far as it goes now.
    async fn finish(&self, mut record: Record, claim: Option<&Claim>, begun: Instant) -> Requeue {
        // A request to write the object whose answer was lost, or another leader, has done it. Writing it again later,
        // when the volume has been deleted, would make an object for nothing.
        if self.stands(&record) {
            return self.done(&record, claim, begun);
        }
        if record.doubtful && claim.is_some() {
            // The claim stands and has no volume, whoever led in between: asking again is what is wanted.
            record.doubtful = false;
            self.ledger.record(&record.uid, record.clone());
            self.count_doubtful();
        }
        if let Some(volume) = record.made.clone() {
            return self.save(record, claim, &volume, begun).await;
        }
        match self.secrets(record.plan.secret.as_ref()).await {
            Ok(secrets) => record.secrets = secrets,
            // A claim often takes its secret along. What the driver was called with before is good enough to finish.
            Err(SecretTrouble::Missing(_)) if claim.is_none() => {}
            Err(error) => return self.fail(&record.plan, claim, &error.to_string()),
        }
        self.create(record, claim, begun).await
    }

    /// The object that this record is to lead to was seen.
    fn stands(&self, record: &Record) -> bool {
        self.cache.claim_of_volume(&record.plan.request.name).as_deref() == Some(record.uid.as_str())
    }

    /// At the end of a claim's turn: the claim may have gone meanwhile, and the record be younger than that news.
    fn leave_behind(&self, uid: &str) {
        if self.ledger.get(uid).is_some() && self.cache.claims.get(uid).is_none() {
            self.ledger.orphan(uid);
        }
    }

    async fn create(&self, record: Record, claim: Option<&Claim>, begun: Instant) -> Requeue {
        if !self.active.is_set() {
            return Requeue::AwaitChange;
        }
        let plan = &record.plan;
        let mut request = plan.request.clone();
        request.secrets = record.secrets.reveal();
        match outcome_of(plan, self.driver.create_volume(request).await) {
            CreateOutcome::Created(volume) => {
                let volume = Arc::from(volume);
                let record = Record {
                    made: Some(Arc::clone(&volume)),
                    ..record
                };
                self.ledger.record(&record.uid, record.clone());
                self.save(record, claim, &volume, begun).await
            }
            CreateOutcome::Failed(error) => {
                self.ledger.erase(&record.uid);
                self.fail(plan, claim, &error.to_string())
            }
            CreateOutcome::Infeasible(error) => {
                self.ledger.erase(&record.uid);
                self.held.hold(&record.uid, &plan.class_uid);
                let text = format!(
                    "Volume provisioning failed with infeasible error. Retries will be delayed. {error}"
                );
                self.fail(plan, claim, &text);
                Requeue::After(INFEASIBLE)
            }
            CreateOutcome::InBackground(error) => self.fail(plan, claim, &error.to_string()),
            CreateOutcome::MissingId(what) => {
                let text = format!("{what}; a volume named {} may exist there", plan.request.name);
                self.fail(plan, claim, &text)
            }
            CreateOutcome::Unusable(volume, mismatch) => {
                let text = self
                    .clean_up(volume.volume_id, mismatch, record.secrets.reveal())
                    .await;
                self.fail(plan, claim, &text)
            }
        }
    }

    /// Deletes a volume that is not the one that was asked for. The record stays open: only a final answer of the
    /// driver to another CreateVolume tells that none is left.
    async fn clean_up(
        &self,
        id: String,
        mismatch: SizeMismatch,
        secrets: BTreeMap<String, String>,
    ) -> String {
        let end = Instant::now() + self.timeout;
        let mut last = String::new();
        for _ in 0..CLEANUPS {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let request = proto::DeleteVolumeRequest {
                volume_id: id.clone(),
                secrets: secrets.clone(),
            };
            match self.driver.within(left).delete_volume(request).await {
                Ok(_) => return format!("{mismatch}; it was deleted and is asked for again"),
                Err(error) => last = error.to_string(),
            }
        }
        format!("{mismatch}; deleting it failed, so volume {id} may be left at the driver: {last}")
    }

    async fn secrets(&self, reference: Option<&SecretRef>) -> Result<SecretData, SecretTrouble> {
        let Some(SecretRef { namespace, name }) = reference else {
            return Ok(SecretData::default());
        };
        match self.api.secret(namespace, name).await {
            Ok(Some(data)) => Ok(SecretData::new(data)),
            Ok(None) => Err(SecretTrouble::Missing(format!("{namespace}/{name}"))),
            Err(error) => Err(SecretTrouble::ApiError(error)),
        }
    }
}
