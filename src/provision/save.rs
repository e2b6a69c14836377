//! From a volume at the driver to its object: the second half of a creation.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{finish::is_object_of, reconcile::Provision, record::Record, refusal::Refusal};
use crate::{
    base::api_error::Reason,
    cluster::{api::SaveOutcome, objects::Claim, queue::Requeue},
    ledger::Entry,
};

impl Provision {
    /// Writes the object of a volume that exists.
    pub(super) async fn save(
        &self,
        Entry { record, origin }: &Entry<Record>,
        claim: Option<&Claim>,
        volume: &PersistentVolume,
    ) -> Requeue {
        let origin = *origin;
        let plan = &record.plan;
        let name = &plan.request.name;
        match self.api.create_volume(volume).await {
            Ok(SaveOutcome::Created) => self.close(record, origin, claim),
            Ok(SaveOutcome::AlreadySaved) => {
                self.look_for_orphan(record, volume).await;
                self.close(record, origin, claim)
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
            Err(_) if self.is_saved(record) => self.close(record, origin, claim),
            Err(error) if error.reason == Reason::NotLeading => Requeue::AwaitChange,
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
}
