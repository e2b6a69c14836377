//! Carries a decision out: record, call the driver, save, erase the record.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    decide::{Decision, Facts, Infeasible, decide},
    memory::{INFEASIBLE, InfeasibleClaims, RecentlySaved},
    metrics::ProvisionMetrics,
    outcome::{CreateOutcome, SizeMismatch, outcome_of},
    plan::Plan,
    policy::Policy,
    record::{Record, RecordFacts, Step, next_step},
    refusal::Refusal,
};
use crate::{
    base::names,
    cluster::{
        api::ApiClient,
        cache::Cache,
        events::{Event, EventRecorder},
        objects::Claim,
        queue::Requeue,
        workers::Active,
    },
    csi::{Driver, DriverInfo, proto},
    ledger::{Entry, Ledger},
};

/// So often is an unusable volume asked to be deleted before the next attempt, within one `--timeout`.
const CLEANUPS: usize = 5;
const FAILED: &str = "ProvisioningFailed";

/// The controller that turns claims into volumes.
pub struct Provision {
    driver: Driver,
    driver_info: DriverInfo,
    /// `--timeout`: the budget of one clean-up.
    timeout: Duration,
    pub(super) api: ApiClient,
    pub(super) cache: Arc<Cache>,
    pub(super) ledger: Arc<Ledger<Record>>,
    pub(super) events: EventRecorder,
    pub(super) metrics: ProvisionMetrics,
    policy: Policy,
    infeasible: InfeasibleClaims,
    pub(super) saved: RecentlySaved,
    active: Active,
    /// The moments in records count from here.
    pub(super) origin: Instant,
}

impl Provision {
    /// `timeout` is the budget of one clean-up; `active` says whether the driver may be called.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that the controller talks to"
    )]
    pub fn new(
        driver: Driver,
        driver_info: DriverInfo,
        timeout: Duration,
        api: ApiClient,
        cache: Arc<Cache>,
        ledger: Arc<Ledger<Record>>,
        events: EventRecorder,
        metrics: ProvisionMetrics,
        policy: Policy,
        active: Active,
    ) -> Self {
        Self {
            driver,
            driver_info,
            timeout,
            api,
            cache,
            ledger,
            events,
            metrics,
            policy,
            infeasible: InfeasibleClaims::default(),
            saved: RecentlySaved::default(),
            active,
            origin: Instant::now(),
        }
    }

    /// The cache that this controller reads.
    pub fn cache(&self) -> Arc<Cache> {
        self.cache.clone()
    }

    /// UIDs of all claims to be reconciled: those that need a volume, and those with a creation under way.
    pub fn claim_uids(&self) -> Vec<String> {
        let mut uids = self.cache.claim_uids();
        uids.extend(self.ledger.claim_uids());
        uids
    }

    /// Reconciles the claim of this UID, whether it stands or is gone.
    pub async fn reconcile(&self, uid: &str) -> Requeue {
        match (self.cache.claim(uid), self.ledger.get(uid)) {
            (Some(claim), entry) => self.reconcile_claim(&claim, entry).await,
            (None, Some(entry)) => self.reconcile_record(entry, None).await,
            (None, None) => Requeue::AwaitChange,
        }
    }

    /// Reconciles a claim that is asked of us and has no volume.
    async fn reconcile_claim(&self, claim: &Claim, entry: Option<Entry<Record>>) -> Requeue {
        let class = self.cache.class(claim.class());
        let name = names::volume_name(&self.policy.name_prefix, &claim.uid, self.policy.uid_length);
        let name_used_by = name
            .as_ref()
            .ok()
            .and_then(|name| self.cache.claim_of_volume(name));
        let infeasible = self.infeasible.get(&claim.uid);
        let decision = decide(Facts {
            claim,
            class: class.as_deref(),
            driver: &self.driver_info,
            policy: &self.policy,
            in_progress: entry.is_some(),
            infeasible: infeasible.as_ref().map(|(class_uid, left)| Infeasible {
                class_uid,
                left: *left,
            }),
            name: name.as_deref().map_err(|error| *error),
            name_used_by: name_used_by.as_deref(),
            saved: self.saved.left(&claim.uid),
        });
        match (decision, entry) {
            (Decision::Leave(why), _) => {
                tracing::debug!(claim = claim.key(), ?why, "claim left alone");
                Requeue::AwaitChange
            }
            (Decision::Wait(why, left), _) => {
                tracing::debug!(claim = claim.key(), ?why, ?left, "claim left alone for a while");
                Requeue::After(left)
            }
            (Decision::Tell(refusal), _) => self.refuse(claim, &refusal),
            (Decision::Resume, Some(entry)) => {
                self.announce(claim);
                self.reconcile_record(entry, Some(claim)).await
            }
            // There is nothing to resume without a record.
            (Decision::Resume, None) => Requeue::AwaitChange,
            (Decision::Provision(plan), _) => self.begin(claim, Arc::from(plan)).await,
        }
    }

    /// Brings an open record as far as it goes now. `claim` is there if it needs a volume still.
    async fn reconcile_record(&self, entry: Entry<Record>, claim: Option<&Claim>) -> Requeue {
        let Entry { record, doubtful } = entry;
        let volume = &record.plan.request.name;
        let step = next_step(RecordFacts {
            claim_waits: claim.is_some(),
            saved: self.is_saved(&record),
            doubtful,
            created: record.created.is_some(),
        });
        if claim.is_none() && step != Step::Hold {
            tracing::info!(
                claim = record.key,
                volume,
                "finishing a creation whose claim is gone or has a volume"
            );
        }
        match (step, &record.created) {
            (Step::Close, _) => self.close(&record, claim),
            (Step::Hold, _) => {
                tracing::warn!(
                    claim = record.key,
                    volume,
                    "held: another replica has led since this creation began, and its claim is gone; if the driver \
                     has a volume of this name that no PersistentVolume names, delete it there"
                );
                Requeue::AwaitChange
            }
            (Step::Save, Some(volume)) => self.save(&record, claim, volume).await,
            (Step::Save, None) | (Step::Create, _) => {
                self.ledger.trust(&record.uid);
                self.create_again(&record, claim).await
            }
        }
    }

    /// Whether the object of a creation was seen.
    pub(super) fn is_saved(&self, record: &Record) -> bool {
        let claim = self.cache.claim_of_volume(&record.plan.request.name);
        claim.as_deref() == Some(&*record.uid)
    }

    /// Opens a record and makes the first call.
    async fn begin(&self, claim: &Claim, plan: Arc<Plan>) -> Requeue {
        let begun = self.origin.elapsed();
        self.announce(claim);
        // Read before the record is opened: a secret that is missing is no reason to remember anything.
        let secrets = match self.secrets(plan.secret.as_ref()).await {
            Ok(secrets) => secrets,
            Err(error) => return self.fail(&plan, Some(claim), &error.to_string()),
        };
        let record = Record {
            uid: claim.uid.clone(),
            key: claim.key(),
            begun,
            plan,
            secrets,
            created: None,
        };
        self.create(record, Some(claim)).await
    }

    /// Repeats the call of an open record.
    async fn create_again(&self, record: &Record, claim: Option<&Claim>) -> Requeue {
        let begun = self.origin.elapsed();
        let secrets = match self.secrets(record.plan.secret.as_ref()).await {
            Ok(secrets) => secrets,
            // A claim's namespace takes the secret along, and the right to read it, which is denied first. What the
            // driver was called with before is good enough to finish.
            Err(error) if claim.is_none() && error.is_refusal() => record.secrets.clone(),
            Err(error) => return self.fail(&record.plan, claim, &error.to_string()),
        };
        let record = Record {
            begun,
            secrets,
            created: None,
            ..record.clone()
        };
        self.create(record, claim).await
    }

    /// Stores the record, and calls the driver. No call without a record: after a lost answer only the record tells
    /// that a volume may exist.
    async fn create(&self, record: Record, claim: Option<&Claim>) -> Requeue {
        if !self.active.is_set() {
            return Requeue::AwaitChange;
        }
        let mut record = Arc::new(record);
        if let Err(error) = self.ledger.record(&record.uid, record.clone()).await {
            let text = format!("the driver is not called, because the creation cannot be recorded: {error}");
            return self.fail(&record.plan, claim, &text);
        }
        // An object that was seen before the record stood has closed nothing, and is not told of again.
        if self.is_saved(&record) {
            return self.close(&record, claim);
        }
        if !self.active.is_set() {
            return Requeue::AwaitChange;
        }
        let plan = record.plan.clone();
        let mut request = plan.request.clone();
        request.secrets = record.secrets.reveal();
        match outcome_of(&plan, self.driver.create_volume(request).await) {
            CreateOutcome::Created(volume) => {
                let volume = Arc::from(volume);
                Arc::make_mut(&mut record).created = Some(Arc::clone(&volume));
                // A record that cannot be stored now is as good as the one before: asking again gives the same volume.
                if let Err(error) = self.ledger.record(&record.uid, record.clone()).await {
                    tracing::debug!(claim = record.key, %error, "the created volume is not recorded");
                }
                // As above: meanwhile another replica may have finished this creation.
                if self.is_saved(&record) {
                    return self.close(&record, claim);
                }
                self.save(&record, claim, &volume).await
            }
            CreateOutcome::Failed(error) => {
                self.ledger.erase(&record.uid);
                self.fail(&plan, claim, &error.to_string())
            }
            CreateOutcome::Infeasible(error) => {
                self.ledger.erase(&record.uid);
                self.infeasible.insert(&record.uid, &plan.class_uid);
                let text = format!(
                    "Volume provisioning failed with infeasible error. Retries will be delayed. {error}"
                );
                self.fail(&plan, claim, &text);
                Requeue::After(INFEASIBLE)
            }
            CreateOutcome::InBackground(error) => self.fail(&plan, claim, &error.to_string()),
            CreateOutcome::MissingId(what) => {
                let text = format!("{what}; a volume named {} may exist there", plan.request.name);
                self.fail(&plan, claim, &text)
            }
            CreateOutcome::Unusable(volume, mismatch) => {
                let text = self
                    .clean_up(volume.volume_id, mismatch, record.secrets.reveal())
                    .await;
                self.fail(&plan, claim, &text)
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

    fn announce(&self, claim: &Claim) {
        let text = format!(
            "External provisioner is provisioning volume for claim \"{}\"",
            claim.key()
        );
        self.events.publish(claim, Event::normal("Provisioning", text));
    }

    fn refuse(&self, claim: &Claim, refusal: &Refusal) -> Requeue {
        let text = refusal.to_string();
        if !refusal.is_warning() {
            self.events.publish(claim, Event::normal("Provisioning", text));
            return Requeue::AwaitChange;
        }
        self.metrics.provision_failed(
            claim.class_name.as_deref().unwrap_or_default(),
            claim.source_kind(),
        );
        self.events.publish(claim, Event::warning(FAILED, text));
        Requeue::Backoff
    }

    pub(super) fn fail(&self, plan: &Plan, claim: Option<&Claim>, text: &str) -> Requeue {
        self.metrics
            .provision_failed(&plan.class_label, &plan.source_label);
        match claim {
            Some(claim) => self.events.publish(claim, Event::warning(FAILED, text)),
            None => tracing::warn!(
                volume = plan.request.name,
                err = text,
                "cannot finish a creation yet"
            ),
        }
        Requeue::Backoff
    }
}
