//! What becomes of open records: carries out what [`super::settle`] says, and ends them.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{
    create::claim_state,
    decide::concerns,
    metrics::Settled,
    reconcile::Provision,
    record::Record,
    settle::{HoldReason, Known, RecordFacts, Step, settle},
};
use crate::{
    base::api_error::ApiError,
    cluster::{
        events::Event,
        objects::{Claim, Volume},
        queue::Requeue,
    },
    ledger::{Entry, Origin},
};

impl Provision {
    /// Brings an open record as far as it goes without the driver. `None`: the driver is to be asked.
    pub(super) async fn advance(
        &self,
        entry: &Entry<Record>,
        mut known: Known,
        claim: Option<&Claim>,
    ) -> Option<Requeue> {
        let Entry { record, origin } = entry;
        loop {
            let step = settle(RecordFacts {
                // What takes long may change it.
                claim: claim_state(self.cache.claim(&record.uid).as_deref()),
                saved: self.is_saved(record),
                origin: *origin,
                known,
            });
            return Some(match (step, &record.created) {
                (Step::Close, _) if known == Known::Listed => {
                    if self.ledger.erase(&record.uid) {
                        self.count_settled(*origin, Settled::Found);
                    }
                    self.announced.remove(&record.uid);
                    Requeue::AwaitChange
                }
                (Step::Close, _) => self.close(record, *origin, claim),
                (Step::Hold(why), _) => self.hold(record, *origin, why),
                (Step::Save, Some(volume)) => self.save(entry, claim, volume).await,
                (Step::List, Some(volume)) => match self.listed(record, volume).await {
                    Ok(listed) => {
                        known = listed;
                        continue;
                    }
                    Err(error) => {
                        let text = format!(
                            "the volume exists at the driver, and it is not known whether an object names it: {error}"
                        );
                        self.fail(&record.plan, claim, &text)
                    }
                },
                (Step::Create, _) | (Step::Save | Step::List, None) => return None,
            });
        }
    }

    /// What the API server has at this moment of the volume and of its claim's volumes. Another leader may have
    /// finished the creation; and who has adopted the volume may have given it any name.
    async fn listed(&self, record: &Record, created: &Arc<PersistentVolume>) -> Result<Known, ApiError> {
        let (uid, created) = (record.uid.clone(), created.clone());
        let is_it = move |volume: &Volume| is_object_of(volume, &created);
        let meant = is_it.clone();
        let of_claim = move |volume: &Volume| volume.claim.as_ref().is_some_and(|claim| claim.uid == uid);
        let listed = self
            .live
            .find_all(move |volume| meant(volume) || of_claim(volume))
            .await?;
        Ok(
            match listed.iter().find(|volume| is_it(volume)).or(listed.first()) {
                None => Known::Unlisted,
                Some(volume) if is_it(volume) => Known::Listed,
                Some(volume) => {
                    tracing::warn!(
                        claim = record.key,
                        volume = record.plan.request.name,
                        other = volume.name,
                        "the claim of this creation has another PersistentVolume"
                    );
                    Known::OtherListed
                }
            },
        )
    }

    /// The object of a volume was seen: nothing of its creation is left to be remembered, whoever wrote it and whoever
    /// leads.
    pub fn volume_seen(&self, volume: &str, claim_uid: &str) {
        if let Some(Entry { record, origin }) = self.ledger.get(claim_uid)
            && record.plan.request.name == volume
        {
            self.close(&record, origin, self.cache.claim(claim_uid).as_deref());
        }
    }

    /// The volume has its object: nothing is left to be remembered. The answer to our request and the watch may both
    /// tell of it; who closes the record publishes the success, if it is ours.
    pub(super) fn close(&self, record: &Record, origin: Origin, claim: Option<&Claim>) -> Requeue {
        self.saved.insert(&record.uid);
        self.announced.remove(&record.uid);
        if self.ledger.erase(&record.uid) {
            let outcome = match record.created {
                Some(_) => Settled::Saved,
                None => Settled::Found,
            };
            self.count_settled(origin, outcome);
            if outcome == Settled::Saved {
                self.publish_success(record, claim);
            }
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

    /// A person is to decide.
    pub(super) fn hold(&self, record: &Record, origin: Origin, why: HoldReason) -> Requeue {
        self.announced.remove(&record.uid);
        self.count_settled(origin, Settled::Held);
        self.ledger.hold(&record.uid, &why.to_string());
        Requeue::AwaitChange
    }

    /// Standbys forget the records that the leader has settled.
    pub(super) fn count_settled(&self, origin: Origin, outcome: Settled) {
        if origin != Origin::Own && self.active.leads() {
            self.metrics.settled(outcome);
        }
    }

    /// Whether the claim of a record waits for a volume of ours still, by what the API server has at this moment.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn is_claim_waiting(&self, record: &Record) -> Result<bool, ApiError> {
        let Some((namespace, name)) = record.key.split_once('/') else {
            return Ok(false);
        };
        let claim = self.api.claim(namespace, name).await?;
        Ok(claim.is_some_and(|claim| {
            claim.uid == record.uid && !claim.deleting && concerns(&claim, &self.driver_info.name)
        }))
    }

    /// The last thing of a term: objects that could not be written are tried once more. Not those of records that were
    /// inherited: another replica may have deleted the volume.
    pub async fn flush(&self) {
        for entry in self.ledger.entries() {
            if let (Origin::Own, Some(volume)) = (entry.origin, &entry.record.created) {
                let claim = self.cache.claim(&entry.record.uid);
                self.save(&entry, claim.as_deref(), volume).await;
            }
        }
    }

    /// The last thing of the process: what stays open is said, and the more so if nobody will remember it.
    pub fn report_unfinished(&self) {
        let is_lost = self.ledger.status().in_memory.is_some();
        for Entry { record, .. } in self.ledger.entries() {
            let created = record.created.as_ref();
            let csi = created.and_then(|volume| volume.spec.as_ref()?.csi.as_ref());
            let (claim, volume) = (&record.key, &record.plan.request.name);
            let handle = csi.map(|csi| csi.volume_handle.as_str());
            if is_lost {
                tracing::error!(
                    claim,
                    volume,
                    handle,
                    "stopping with this creation unfinished: as long as the claim stands the next leader finishes it, \
                     else the driver may be left with a volume that no PersistentVolume names"
                );
            } else {
                tracing::info!(
                    claim,
                    volume,
                    handle,
                    "stopping with this creation unfinished: it is on record, and the next leader finishes it"
                );
            }
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
