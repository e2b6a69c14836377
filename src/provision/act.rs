//! Carries a decision out: record, call, settle, erase.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::PersistentVolume;
use tokio::time::Instant;

use super::{
    answer::{Misfit, Verdict, judge},
    decide::{Decision, Facts, Plan, Policy, Refusal, decide},
};
use crate::{
    base::{names, secrets::SecretRef},
    cluster::{
        denied::{Denied, Why},
        events::{Events, Notice},
        rows::Claim,
        view::View,
        work::Again,
        write::{Door, Saved},
    },
    csi::{Driver, Profile, proto},
    ledger::Ledger,
    serve::metrics::Metrics,
};

/// After InvalidArgument the same request is not sent again for this long, however often the claim changes.
const INFEASIBLE: Duration = Duration::from_secs(300);
/// So often is an unusable volume asked to be deleted before the next try, within one `--timeout`.
const CLEANUPS: usize = 5;
const FAILED: &str = "ProvisioningFailed";

/// The room: what it takes to turn claims into volumes.
pub struct Provision {
    /// The driver.
    pub driver: Driver,
    /// Who the driver is.
    pub profile: Profile,
    /// `--timeout`: the budget of one clean-up.
    pub timeout: Duration,
    /// The API server.
    pub door: Door,
    /// What the watches told.
    pub view: Arc<View>,
    /// What may exist at the driver.
    pub ledger: Arc<Ledger<Record>>,
    /// Who is told.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// How the operator wants it.
    pub policy: Policy,
    /// Claims whose request the driver called infeasible.
    pub held: Held,
}

/// What is remembered of a creation under way.
#[derive(Clone, Debug)]
pub struct Record {
    /// UID of the claim.
    pub uid: String,
    /// `namespace/name` of the claim, for people.
    pub key: String,
    /// What was decided, as it stays until the driver has given a final answer.
    pub plan: Arc<Plan>,
    /// The object to be written, once the driver has made the volume.
    pub made: Option<Arc<PersistentVolume>>,
}

/// Claims that wait out a refusal as infeasible, with the class they were refused for.
#[derive(Default)]
pub struct Held(Mutex<HashMap<String, (Instant, String)>>);

impl Held {
    fn hold(&self, claim: &str, class: &str) {
        let now = Instant::now();
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, (until, _)| *until > now);
        held.insert(claim.to_owned(), (now + INFEASIBLE, class.to_owned()));
    }

    /// How long the claim is to be left alone still. A class that was made anew is another one.
    fn left(&self, claim: &str, class: Option<&str>) -> Option<Duration> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, of) = held.get(claim)?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero() && class.is_none_or(|class| class == of)).then_some(left)
    }
}

impl Provision {
    /// One turn of a claim that is asked of us and has no volume.
    pub async fn claim(&self, claim: Arc<Claim>) -> Again {
        let begun = Instant::now();
        if let Some(record) = self.ledger.get(&claim.uid) {
            self.announce(&claim);
            return self.finish(&record, Some(&claim), begun).await;
        }
        let class = self.view.class_named(claim.class());
        if let Some(left) = self
            .held
            .left(&claim.uid, class.as_ref().map(|class| class.uid.as_str()))
        {
            return Again::After(left);
        }
        let name = names::volume_name(&self.policy.name_prefix, &claim.uid, self.policy.uid_length);
        let standing = name.ok().and_then(|name| self.view.claim_of_volume(&name));
        let decision = decide(Facts {
            claim: &claim,
            class: class.as_deref(),
            driver: &self.profile,
            standing: standing.as_deref(),
            policy: &self.policy,
        });
        match decision {
            Decision::Leave(why) => {
                tracing::debug!(claim = claim.key(), ?why, "claim left alone");
                Again::OnChange
            }
            Decision::Tell(refusal) => self.refuse(&claim, &refusal),
            Decision::Provision(plan) => {
                self.announce(&claim);
                // Read before the record is opened: a secret that is missing is no reason to remember anything.
                if let Err(error) = self.secrets(plan.secret.as_ref()).await {
                    return self.fail(&plan, Some(&claim), &error.to_string());
                }
                let record = Record {
                    uid: claim.uid.clone(),
                    key: claim.key(),
                    plan: Arc::from(plan),
                    made: None,
                };
                self.ledger.record(&claim.uid, record.clone());
                self.finish(&record, Some(&claim), begun).await
            }
        }
    }

    /// One turn of a record. While its claim is there the claim's own turns see to it.
    pub async fn record(&self, record: Arc<Record>) -> Again {
        if self.view.claims.get(&record.uid).is_some() {
            return Again::OnChange;
        }
        tracing::info!(
            claim = record.key,
            volume = record.plan.request.name,
            "finishing a creation without its claim"
        );
        self.finish(&record, None, Instant::now()).await
    }

    fn announce(&self, claim: &Claim) {
        let text = format!(
            "External provisioner is provisioning volume for claim \"{}\"",
            claim.key()
        );
        self.events.say(claim, Notice::normal("Provisioning", text));
    }

    fn refuse(&self, claim: &Claim, refusal: &Refusal) -> Again {
        let text = refusal.to_string();
        if !refusal.is_warning() {
            self.events.say(claim, Notice::normal("Provisioning", text));
            return Again::OnChange;
        }
        self.metrics.provision_failed(
            claim.class_name.as_deref().unwrap_or_default(),
            claim.source_kind(),
        );
        self.events.say(claim, Notice::warning(FAILED, text));
        Again::Failed
    }

    fn fail(&self, plan: &Plan, claim: Option<&Claim>, text: &str) -> Again {
        self.metrics
            .provision_failed(&plan.class_label, &plan.source_label);
        match claim {
            Some(claim) => self.events.say(claim, Notice::warning(FAILED, text)),
            None => tracing::warn!(
                volume = plan.request.name,
                err = text,
                "cannot finish a creation yet"
            ),
        }
        Again::Failed
    }

    /// Brings an open record as far as it goes now.
    async fn finish(&self, record: &Record, claim: Option<&Claim>, begun: Instant) -> Again {
        let again = match &record.made {
            Some(volume) => self.save(record, claim, volume, begun).await,
            None => self.create(record, claim, begun).await,
        };
        // The claim may have gone while its turn lasted, and the record may be younger than the news of that.
        if self.ledger.get(&record.uid).is_some() && self.view.claims.get(&record.uid).is_none() {
            self.ledger.orphan(&record.uid);
        }
        again
    }

    async fn create(&self, record: &Record, claim: Option<&Claim>, begun: Instant) -> Again {
        let plan = &record.plan;
        let secrets = match self.secrets(plan.secret.as_ref()).await {
            Ok(secrets) => secrets,
            Err(error) => return self.fail(plan, claim, &error.to_string()),
        };
        let mut request = plan.request.clone();
        request.secrets.clone_from(&secrets);
        match judge(plan, self.driver.create_volume(request).await) {
            Verdict::Made(volume) => {
                let volume = Arc::from(volume);
                self.ledger.record(
                    &record.uid,
                    Record {
                        made: Some(Arc::clone(&volume)),
                        ..record.clone()
                    },
                );
                self.save(record, claim, &volume, begun).await
            }
            Verdict::Nothing(fault) => {
                self.ledger.erase(&record.uid);
                self.fail(plan, claim, &fault.to_string())
            }
            Verdict::Infeasible(fault) => {
                self.ledger.erase(&record.uid);
                self.held.hold(&record.uid, &plan.class_uid);
                let text = format!(
                    "Volume provisioning failed with infeasible error. Retries will be delayed. {fault}"
                );
                self.fail(plan, claim, &text);
                Again::After(INFEASIBLE)
            }
            Verdict::Perhaps(fault) => self.fail(plan, claim, &fault.to_string()),
            Verdict::Unnamed(what) => {
                let text = format!("{what}; a volume named {} may exist there", plan.request.name);
                self.fail(plan, claim, &text)
            }
            Verdict::Unusable(volume, misfit) => {
                let text = self.clean_up(volume.volume_id, misfit, secrets).await;
                self.fail(plan, claim, &text)
            }
        }
    }

    /// Deletes a volume that is not the one that was asked for. The record stays open: only a final answer of the
    /// driver to another CreateVolume tells that none is left.
    async fn clean_up(&self, id: String, misfit: Misfit, secrets: BTreeMap<String, String>) -> String {
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
                Ok(_) => return format!("{misfit}; it was deleted and is asked for again"),
                Err(fault) => last = fault.to_string(),
            }
        }
        format!("{misfit}; deleting it failed, so volume {id} may be left at the driver: {last}")
    }

    /// Writes the object of a volume that exists.
    async fn save(
        &self,
        record: &Record,
        claim: Option<&Claim>,
        volume: &PersistentVolume,
        begun: Instant,
    ) -> Again {
        let plan = &record.plan;
        let name = &plan.request.name;
        match self.door.create_volume(volume).await {
            Ok(Saved::Created | Saved::StoodAlready) => {
                self.ledger.erase(&record.uid);
                self.metrics
                    .provision_succeeded(&plan.class_label, &plan.source_label, begun.elapsed());
                match claim {
                    Some(claim) => {
                        let text = format!("Successfully provisioned volume {name}");
                        self.events
                            .say(claim, Notice::normal("ProvisioningSucceeded", text));
                    }
                    None => tracing::info!(
                        claim = record.key,
                        volume = name,
                        "wrote the object of a volume whose claim is gone"
                    ),
                }
                Again::OnChange
            }
            Ok(Saved::Taken { by }) => {
                // The driver knows volumes by name, so what it gave us is the other claim's volume: it has its object.
                self.ledger.erase(&record.uid);
                tracing::error!(
                    claim = record.key,
                    volume = name,
                    by,
                    "the volume's name is taken by another claim"
                );
                self.fail(plan, claim, &Refusal::NameTaken(name.clone()).to_string())
            }
            Err(denied) => {
                let text =
                    format!("the volume exists at the driver, but its object cannot be saved: {denied}");
                self.fail(plan, claim, &text);
                match denied.why {
                    Why::Throttled(pause) => Again::After(pause),
                    _ => Again::Failed,
                }
            }
        }
    }

    async fn secrets(
        &self,
        reference: Option<&SecretRef>,
    ) -> Result<BTreeMap<String, String>, SecretTrouble> {
        let Some(SecretRef { namespace, name }) = reference else {
            return Ok(Default::default());
        };
        match self.door.secret(namespace, name).await {
            Ok(Some(data)) => Ok(data),
            Ok(None) => Err(SecretTrouble::Missing(format!("{namespace}/{name}"))),
            Err(denied) => Err(SecretTrouble::Denied(denied)),
        }
    }
}

/// Why the secret of a request is not to be had.
#[derive(Debug, thiserror::Error)]
enum SecretTrouble {
    #[error("provisioner secret {0} not found: create it, or correct the storage class")]
    Missing(String),
    #[error("provisioner secret: {0}")]
    Denied(Denied),
}
