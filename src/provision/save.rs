//! From a volume at the driver to its object: the second half of a creation.

use k8s_openapi::api::core::v1::PersistentVolume;
use tokio::time::Instant;

use super::{reconcile::Provision, record::Record, refusal::Refusal};
use crate::{
    base::api_error::Reason,
    cluster::{
        api::SaveOutcome,
        events::Event,
        objects::{Claim, Volume},
        queue::Requeue,
    },
};

impl Provision {
    /// Writes the object of a volume that exists.
    pub(super) async fn save(
        &self,
        record: &Record,
        claim: Option<&Claim>,
        volume: &PersistentVolume,
        begun: Instant,
    ) -> Requeue {
        let plan = &record.plan;
        let name = &plan.request.name;
        match self.api.create_volume(volume).await {
            Ok(SaveOutcome::Created | SaveOutcome::AlreadySaved) => self.close(record, claim, begun),
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

    /// The volume has its object: nothing is left to be remembered.
    pub(super) fn close(&self, record: &Record, claim: Option<&Claim>, begun: Instant) -> Requeue {
        let (plan, name) = (&record.plan, &record.plan.request.name);
        self.saved.insert(&record.uid);
        self.announced.remove(&record.uid);
        self.ledger.erase(&record.uid);
        self.metrics
            .provision_succeeded(&plan.class_label, &plan.source_label, begun.elapsed());
        match claim {
            Some(claim) => {
                let text = format!("Successfully provisioned volume {name}");
                self.events
                    .publish(claim, Event::normal("ProvisioningSucceeded", text));
            }
            None => tracing::info!(claim = record.key, volume = name, "the volume has its object"),
        }
        Requeue::AwaitChange
    }

    /// The last thing before the lease is given up for good: objects that could not be written are tried once more, and
    /// what stays open is said, because nobody will remember it.
    pub async fn flush(&self) {
        for entry in self.ledger.entries() {
            if let Some(volume) = &entry.record.created {
                self.save(&entry.record, None, volume, Instant::now()).await;
            }
        }
        for entry in self.ledger.entries() {
            let record = entry.record;
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
fn is_object_of(standing: &Volume, created: &PersistentVolume) -> bool {
    let created = created.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    created
        .zip(standing.csi.as_ref())
        .is_some_and(|(created, standing)| {
            created.driver == standing.driver && created.volume_handle == standing.handle
        })
}
