//! A volume that is not the one that was asked for goes away again, where somebody waits for another one.

use tokio::time::Instant;

use super::{
    create::RETRIES_DELAYED,
    memory::INFEASIBLE,
    metrics::Settled,
    outcome::{Mismatch, object_of, other_id},
    reconcile::Provision,
    record::Record,
    settle::{Doubt, MOST_EARLIER},
    volume::written_source,
};
use crate::{
    base::api_error::ApiError,
    cluster::{
        objects::{Claim, Volume},
        queue::Requeue,
    },
    csi::{NotSent, proto},
    ledger::Entry,
};

/// How often DeleteVolume is tried before CreateVolume is called again, within one `--timeout`.
const CLEANUPS: usize = 5;

impl Provision {
    /// Deletes a volume that is not the one that was asked for. One that the same request makes again is not asked for
    /// again before its time, whoever waits for it.
    pub(super) async fn reject(
        &self,
        Entry { record, origin }: &Entry<Record>,
        claim: Option<&Claim>,
        made: &proto::Volume,
        mismatch: &Mismatch,
        doubt: Doubt,
    ) -> Requeue {
        let plan = &record.plan;
        let (text, gone) = self.clean_up(record, made, mismatch).await;
        // One that stands may be another request's, and the driver says the same of it again.
        if let (true, Some(other)) = (gone, other_id(plan, made)) {
            self.other_ids.insert(&record.uid, other);
        }
        if !gone || !mismatch.is_lasting() {
            if gone {
                self.remember(record, true, doubt.cleaned_up(), false);
            }
            return self.fail(plan, claim, &text);
        }
        self.infeasible.insert(&record.uid, plan);
        match doubt {
            // Each call was answered, and what was made is gone.
            Doubt::None if record.earlier.is_empty() => {
                if self.ledger.erase(&record.uid) {
                    self.count_settled(*origin, Settled::Erased);
                }
            }
            _ => {
                let renewable = record.earlier.len() < MOST_EARLIER;
                self.remember(record, true, doubt.cleaned_up(), renewable);
            }
        }
        self.fail(plan, claim, &format!("{RETRIES_DELAYED} {text}"));
        Requeue::After(INFEASIBLE)
    }

    /// A PersistentVolume that has the volume and is not about to go. One with an in-tree source may know it by another
    /// handle.
    async fn in_use(&self, record: &Record, made: &proto::Volume) -> Result<Option<Volume>, ApiError> {
        let written = written_source(&object_of(&record.plan, made)).map(|source| source.handle);
        let handles = [Some(made.volume_id.clone()), written];
        for handle in handles.into_iter().flatten() {
            // The cache says whether a volume may have the handle, for nothing; only then are all volumes read.
            if self.cache.may_share_handle(&handle, "") {
                let found = self
                    .live
                    .find_with_handle(&handle, |volume| !volume.is_unwanted());
                if let Some(found) = found.await? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Deletes a volume that is not the one that was asked for, unless a PersistentVolume has it that is not about to go.
    /// The record stays open: only a final answer of the driver to another CreateVolume tells that none is left.
    /// Returns what to say, and whether it is gone.
    async fn clean_up(&self, record: &Record, made: &proto::Volume, mismatch: &Mismatch) -> (String, bool) {
        let id = &made.volume_id;
        let in_use = self.in_use(record, made).await;
        match in_use {
            Ok(None) => {}
            Ok(Some(other)) => {
                let text = format!(
                    "{mismatch}; it is not deleted, because PersistentVolume {} names it: volume {id}",
                    other.name
                );
                return (text, false);
            }
            Err(error) => {
                let text = format!(
                    "{mismatch}; it is not deleted, as it is not known whether a PersistentVolume names it: {error}"
                );
                return (text, false);
            }
        }
        let end = Instant::now() + self.timings.timeout;
        let secrets = record.secrets.clone().unwrap_or_default();
        let driver = self.driver.migrated(record.plan.is_migrated());
        let mut last = String::new();
        for _ in 0..CLEANUPS {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let request = proto::DeleteVolumeRequest {
                volume_id: id.clone(),
                secrets: secrets.reveal(),
            };
            match driver.within(left).delete_volume(request).await {
                Ok(Ok(_)) => return (format!("{mismatch}; it was deleted and is asked for again"), true),
                Ok(Err(error)) => last = error.to_string(),
                Err(NotSent) => break,
            }
        }
        let text =
            format!("{mismatch}; deleting it failed, so volume {id} may be left at the driver: {last}");
        (text, false)
    }
}
