//! From a volume at the driver to its object: the second half of a creation.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{reconcile::Provision, record::Record, refusal::Refusal};
use crate::{
    base::api_error::Reason,
    cluster::{
        api::SaveOutcome,
        events::Event,
        objects::{Claim, Volume},
        queue::Requeue,
    },
    ledger::{Entry, Origin},
};

impl Provision {
    /// Writes the object of a volume that exists.
    pub(super) async fn save(
        &self,
        record: &Record,
        claim: Option<&Claim>,
        volume: &PersistentVolume,
    ) -> Requeue {
        let plan = &record.plan;
        let name = &plan.request.name;
        match self.api.create_volume(volume).await {
            Ok(SaveOutcome::Created) => self.close(record, claim),
            Ok(SaveOutcome::AlreadySaved) => {
                self.look_for_orphan(record, volume).await;
                self.close(record, claim)
            }
            Ok(SaveOutcome::NameTaken { by }) => {
                tracing::error!(
                    claim = record.key,
                    volume = name,
                    by,
                    "the name is taken by another claim"
                );
                // The driver knows volumes by name, so this may be the other claim's volume, which has its object. Any
                // other one is ours alone, and stays remembered until the name is free.
                if let Ok(Some(standing)) = self.api.volume(name).await
                    && is_object_of(&standing, volume)
                {
                    self.ledger.erase(&record.uid);
                }
                self.fail(plan, claim, &Refusal::NameTaken(name.clone()).to_string())
            }
            // Only the answer was lost.
            Err(_) if self.is_saved(record) => self.close(record, claim),
            Err(error) => {
                let text =
                    format!("the volume exists at the driver, but its object cannot be saved: {error}");
                self.fail(plan, claim, &text);
                match error.reason {
                    Reason::TooManyRequests(pause) => Requeue::After(pause),
                    _ => Requeue::Backoff,
                }
            }
        }
    }

    /// The object of a volume stands already. CSI: CreateVolume of one name gives one volume; but where each node has a
    /// driver of its own, another node may have made one, too. Then nobody knows of this one but the log.
    pub(super) async fn look_for_orphan(&self, record: &Record, created: &PersistentVolume) {
        let name = &record.plan.request.name;
        if let Ok(Some(standing)) = self.api.volume(name).await
            && !is_object_of(&standing, created)
        {
            let csi = created.spec.as_ref().and_then(|spec| spec.csi.as_ref());
            tracing::error!(
                claim = record.key,
                volume = name,
                handle = csi.map(|csi| csi.volume_handle.as_str()),
                "the driver has made this volume, but the PersistentVolume of its name is for another one: delete it at \
                 the driver"
            );
        }
    }

    /// The object of a volume was seen: nothing of its creation is left to be remembered, whoever wrote it and whoever
    /// leads.
    pub fn volume_seen(&self, volume: &str, claim_uid: &str) {
        if let Some(Entry { record, .. }) = self.ledger.get(claim_uid)
            && record.plan.request.name == volume
        {
            self.close(&record, self.cache.claim(claim_uid).as_deref());
        }
    }

    /// The volume has its object: nothing is left to be remembered. The answer to our request and the watch may both
    /// tell of it; who closes the record publishes the success, if it is ours.
    pub(super) fn close(&self, record: &Record, claim: Option<&Claim>) -> Requeue {
        self.saved.insert(&record.uid);
        self.announced.remove(&record.uid);
        if self.ledger.erase(&record.uid) && record.created.is_some() {
            self.publish_success(record, claim);
        }
        Requeue::AwaitChange
    }

    fn publish_success(&self, record: &Record, claim: Option<&Claim>) {
        let (plan, name) = (&record.plan, &record.plan.request.name);
        let took = self.origin.elapsed().saturating_sub(record.begun);
        self.metrics
            .provision_succeeded(&plan.class_label, &plan.source_label, took);
        match claim {
            Some(claim) => {
                let text = format!("Successfully provisioned volume {name}");
                self.events
                    .publish(claim, Event::normal("ProvisioningSucceeded", text));
            }
            None => tracing::info!(claim = record.key, volume = name, "the volume has its object"),
        }
    }

    /// The last thing of a term: objects that could not be written are tried once more. Not the doubtful ones: another
    /// replica may have deleted the volume.
    pub async fn flush(&self) {
        for Entry { record, origin } in self.ledger.entries() {
            if let Some(volume) = record.created.as_ref().filter(|_| origin == Origin::Own) {
                let claim = self.cache.claim(&record.uid);
                self.save(&record, claim.as_deref(), volume).await;
            }
        }
    }

    /// The last thing of the process: what stays open is said, because nobody will remember it.
    pub fn report_unfinished(&self) {
        for Entry { record, .. } in self.ledger.entries() {
            let csi = record
                .created
                .as_ref()
                .and_then(|volume| volume.spec.as_ref()?.csi.as_ref());
            tracing::error!(
                claim = record.key,
                volume = record.plan.request.name,
                handle = csi.map(|csi| csi.volume_handle.as_str()),
                "stopping with this creation unfinished: as long as the claim stands the next leader finishes it, else \
                 the driver may be left with a volume that no PersistentVolume names"
            );
        }
    }
}

/// Whether an object that stands is for the volume at the driver that `created` was written for.
pub(super) fn is_object_of(standing: &Volume, created: &PersistentVolume) -> bool {
    let created = created.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    created
        .zip(standing.csi.as_ref())
        .is_some_and(|(created, standing)| {
            created.driver == standing.driver && created.volume_handle == standing.handle
        })
}
