//! From a volume at the driver to its object: the second half of a creation.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{
    finish::{is_object_of, log_orphan},
    reconcile::{NOT_LEADING, Provision},
    record::Record,
    refusal::Refusal,
    settle::{HoldReason, SeenObject},
    volume::written,
};
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
        if let Some(claim) = claim {
            self.being_saved.insert(claim);
        }
        let plan = &record.plan;
        let name = &plan.request.name;
        match self.api.create_volume(&written(volume)).await {
            Ok(SaveOutcome::Created) => self.close(record, origin, claim),
            Ok(SaveOutcome::AlreadySaved(standing)) if is_object_of(&standing, volume) => {
                self.close(record, origin, claim)
            }
            // CSI: CreateVolume of one name gives one volume. But who led before may have written this object late, for
            // one that is deleted by now; and where each node has a driver of its own, another may have made one, too.
            Ok(SaveOutcome::AlreadySaved(standing)) => {
                self.hold(record, origin, HoldReason::OtherVolume, Some(&standing))
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
            Err(_) if self.seen_object(record) == SeenObject::Same => self.close(record, origin, claim),
            Err(error) if error.reason == Reason::NotLeading => NOT_LEADING,
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

    /// A record was closed while the driver made this volume for it. If the object that stands is for another one, then
    /// nobody knows of this one but the log.
    pub(super) async fn look_for_orphan(&self, record: &Record, created: &PersistentVolume) {
        if let Ok(Some(standing)) = self.api.volume(&record.plan.request.name).await
            && !is_object_of(&standing, created)
        {
            log_orphan(record);
        }
    }
}
