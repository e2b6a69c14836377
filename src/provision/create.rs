//! From a plan to a volume at the driver: the first half of a creation.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::{
    decide::can_reschedule,
    memory::INFEASIBLE,
    outcome::{CreateOutcome, SizeMismatch, outcome_of},
    plan::Plan,
    reconcile::{FAILED, Provision},
    record::Record,
    volume::out_of_reach,
};
use crate::{
    cluster::{events::Event, objects::Claim, queue::Requeue},
    csi::{NotSent, proto},
};

/// How often DeleteVolume is tried on an unusable volume before CreateVolume is called again, within one `--timeout`.
const CLEANUPS: usize = 5;

impl Provision {
    /// Opens a record and makes the first call.
    pub(super) async fn begin(&self, claim: &Claim, plan: Arc<Plan>) -> Requeue {
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
    pub(super) async fn create_again(&self, record: &Record, claim: Option<&Claim>) -> Requeue {
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
        if let Err(error) = self.ledger.open(&record.uid, record.clone()).await {
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
        let request = plan.request_with(record.secrets.reveal());
        let Ok(answer) = self.driver.create_volume(request).await else {
            return Requeue::AwaitChange;
        };
        let outcome = outcome_of(&plan, answer);
        (self.on_answer)(
            &plan,
            match &outcome {
                CreateOutcome::Created(volume) => Some(volume),
                _ => None,
            },
        );
        match outcome {
            CreateOutcome::Created(volume) => {
                let volume = Arc::from(volume);
                Arc::make_mut(&mut record).created = Some(Arc::clone(&volume));
                // Its object was seen while the call ran: another replica has finished this creation, and may have
                // deleted the volume since.
                if !self.ledger.update(&record.uid, record.clone()) {
                    self.look_for_orphan(&record, &volume).await;
                    return Requeue::AwaitChange;
                }
                if let (Some(claim), Some(node)) = (claim, plan.node())
                    && let Some(text) = out_of_reach(&volume, node)
                {
                    self.events.publish(claim, Event::warning(FAILED, text));
                }
                self.save(&record, claim, &volume).await
            }
            CreateOutcome::Failed(error) => {
                self.ledger.erase(&record.uid);
                self.fail(&plan, claim, &error.to_string())
            }
            CreateOutcome::Reschedule(error) => {
                self.ledger.erase(&record.uid);
                match (claim, plan.node()) {
                    (Some(claim), Some(node)) if can_reschedule(claim) => {
                        self.reschedule(claim, &node.name, &error.to_string()).await
                    }
                    _ => self.fail(&plan, claim, &error.to_string()),
                }
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
                Ok(Ok(_)) => return format!("{mismatch}; it was deleted and is asked for again"),
                Ok(Err(error)) => last = error.to_string(),
                Err(NotSent) => break,
            }
        }
        format!("{mismatch}; deleting it failed, so volume {id} may be left at the driver: {last}")
    }
}
