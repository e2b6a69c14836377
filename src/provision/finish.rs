//! What becomes of open records: carries out what [`super::settle`] says, and ends them.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{
    create::claim_state,
    decide::concerns,
    memory::WATCH_LAG,
    metrics::Settled,
    reconcile::Provision,
    record::Record,
    settle::{HoldReason, RecordFacts, SeenObject, Step, VolumeState, settle},
    volume::written_source,
};
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{
        api::LiveClaim,
        events::Event,
        migration::csi_source,
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
        mut known: VolumeState,
        claim: Option<&Claim>,
    ) -> Option<Requeue> {
        let Entry { record, origin } = entry;
        let mut live = None;
        let mut other = None;
        loop {
            let step = settle(RecordFacts {
                // What takes long may change it.
                claim: claim_state(self.cache.claim(&record.uid).as_deref()),
                object: live.unwrap_or_else(|| self.seen_object(record)),
                asked: record.asked,
                origin: *origin,
                known,
            });
            return Some(match (step, &record.created) {
                (Step::Close, _) if known == VolumeState::Listed => {
                    if self.ledger.erase(&record.uid) {
                        self.count_settled(*origin, Settled::Found);
                    }
                    self.announced.remove(&record.uid);
                    Requeue::AwaitChange
                }
                (Step::Close, _) => self.close(record, *origin, claim),
                // The cache may not show the claim yet.
                (Step::Hold(why @ HoldReason::Distrust(_)), _) => match self.is_claim_waiting(record).await {
                    Ok(false) => self.hold(record, *origin, why, None),
                    Ok(true) => Requeue::Backoff,
                    Err(error) => {
                        let text = format!("it is not known whether its claim waits still: {error}");
                        self.fail(&record.plan, claim, &text)
                    }
                },
                (Step::Hold(why), _) => self.hold(record, *origin, why, other.as_ref()),
                (Step::Save, Some(volume)) => self.save(entry, claim, volume).await,
                (Step::Look, Some(volume)) => match self.api.volume(&record.plan.request.name).await {
                    Ok(standing) => {
                        let standing = standing.filter(|standing| {
                            let claim = standing.claim.as_ref();
                            claim.is_some_and(|claim| claim.uid == record.uid)
                        });
                        live = Some(match standing {
                            None => SeenObject::Absent,
                            Some(standing) if is_object_of(&standing, volume) => SeenObject::Same,
                            Some(standing) => {
                                other = Some(standing);
                                SeenObject::OtherLive
                            }
                        });
                        continue;
                    }
                    Err(error) => {
                        let text = format!(
                            "the volume exists at the driver, and an object of its name is for another one: {error}"
                        );
                        self.fail(&record.plan, claim, &text)
                    }
                },
                (Step::List, Some(volume)) => match self.listed(record, volume).await {
                    Ok(listed) => {
                        (known, other) = listed;
                        continue;
                    }
                    Err(error) => {
                        let text = format!(
                            "the volume exists at the driver, and it is not known whether an object names it: {error}"
                        );
                        self.fail(&record.plan, claim, &text)
                    }
                },
                (Step::Create, _) | (Step::Save | Step::List | Step::Look, None) => return None,
            });
        }
    }

    /// What the API server has at this moment of the volume and of its claim's volumes. Another leader may have
    /// finished the creation; and who has adopted the volume may have given it any name.
    async fn listed(
        &self,
        record: &Record,
        created: &PersistentVolume,
    ) -> Result<(VolumeState, Option<Volume>), ApiError> {
        let (uid, written) = (record.uid.clone(), written_source(created));
        // An administrator may have adopted it under the driver's own handle, whatever form its object would have.
        let made = csi_source(created).and_then(Result::ok);
        let is_it = move |volume: &Volume| volume.csi.is_some() && [&written, &made].contains(&&volume.csi);
        let meant = is_it.clone();
        let of_claim = move |volume: &Volume| volume.claim.as_ref().is_some_and(|claim| claim.uid == uid);
        let mut listed = self
            .live
            .find_all(move |volume| meant(volume) || of_claim(volume))
            .await?;
        if listed.iter().any(is_it) {
            return Ok((VolumeState::Listed, None));
        }
        let Some(other) = listed.pop() else {
            return Ok((VolumeState::Unlisted, None));
        };
        tracing::warn!(
            claim = record.key,
            volume = record.plan.request.name,
            other = other.name,
            "the claim of this creation has another PersistentVolume"
        );
        Ok((VolumeState::OtherListed, Some(other)))
    }

    /// The object of a volume was seen: nothing of its creation is left to be remembered, whoever wrote it and whoever
    /// leads; unless a call of ours may have made another volume. Then the one who leads has to ask, and a standby may
    /// forget: what is on record is read when it leads again.
    pub fn volume_seen(&self, volume: &str, claim_uid: &str) {
        if let Some(Entry { record, origin }) = self.ledger.get(claim_uid)
            && record.plan.request.name == volume
        {
            if self.seen_object(&record).closes(record.asked) {
                let claim = self.cache.claim(claim_uid);
                let claim = claim.or_else(|| self.being_saved.get(claim_uid));
                self.close(&record, origin, claim.as_deref());
            } else if !self.active.leads() {
                self.announced.remove(claim_uid);
                self.ledger.forget(claim_uid);
            }
        }
    }

    /// The volume has its object: nothing is left to be remembered. The answer to our request and the watch may both
    /// tell of it; who closes the record publishes the success, if it is ours.
    pub(super) fn close(&self, record: &Record, origin: Origin, claim: Option<&Claim>) -> Requeue {
        self.saved.insert(&record.uid);
        self.announced.remove(&record.uid);
        self.being_saved.remove(&record.uid);
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
        self.when_bound(record)
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

    /// A person is to decide. `other`: the volume that the claim has got.
    pub(super) fn hold(
        &self,
        record: &Record,
        origin: Origin,
        why: HoldReason,
        other: Option<&Volume>,
    ) -> Requeue {
        self.announced.remove(&record.uid);
        // What becomes of a record that another leader has is not ours to say.
        if !self.active.leads() && self.ledger.forget(&record.uid) {
            if why == HoldReason::OtherVolume {
                log_orphan(record);
            }
            return Requeue::AwaitChange;
        }
        if why == HoldReason::OtherVolume && self.ledger.is_approved(&record.uid) {
            return self.close_beside(record, origin, other);
        }
        let text = match (why, record.handle()) {
            (HoldReason::OtherVolume, Some(handle)) => format!("{why}: volume {handle} at the driver"),
            _ => why.to_string(),
        };
        self.ledger.hold(&record.uid, &text);
        if why == HoldReason::OtherVolume {
            self.saved.insert(&record.uid);
        }
        self.when_bound(record)
    }

    /// A person has seen the record held, and wanted it settled all the same: the other volume is the right one.
    fn close_beside(&self, record: &Record, origin: Origin, other: Option<&Volume>) -> Requeue {
        tracing::warn!(
            claim = record.key,
            volume = record.plan.request.name,
            handle = record.handle(),
            other = other.map(|other| &*other.name),
            other_handle = other.and_then(|other| other.csi.as_ref()).map(|csi| &*csi.handle),
            "a record that was settled by hand is closed, because its claim has another volume: if nobody needs the one \
             of this handle, delete it at the driver"
        );
        self.saved.insert(&record.uid);
        if self.ledger.erase(&record.uid) {
            self.count_settled(origin, Settled::Found);
        }
        self.when_bound(record)
    }

    /// The claim is to be bound to the object that stands. If the watch shows neither that nor the object, which may have
    /// come and gone unseen, the claim is looked at all the same.
    fn when_bound(&self, record: &Record) -> Requeue {
        match self.cache.claim(&record.uid) {
            Some(_) => Requeue::After(WATCH_LAG),
            None => Requeue::AwaitChange,
        }
    }

    /// Standbys forget the records that the leader has settled.
    pub(super) fn count_settled(&self, origin: Origin, outcome: Settled) {
        if origin != Origin::Own && self.active.leads() {
            self.metrics.settled(outcome);
        }
    }

    /// Whether the claim of a record waits for a volume of ours still, by what the API server has at this moment. One that
    /// cannot be read may wait: its record stays open, and is neither settled nor held before more is known.
    ///
    /// # Errors
    /// [`ApiError`]: there is no answer yet.
    pub async fn is_claim_waiting(&self, record: &Record) -> Result<bool, ApiError> {
        let Some((namespace, name)) = record.key.split_once('/') else {
            return Ok(false);
        };
        match self.api.claim(namespace, name).await {
            Ok(None) => Ok(false),
            Ok(Some(LiveClaim::Odd { uid })) => Ok(uid == record.uid),
            Ok(Some(LiveClaim::Read(claim))) => {
                let is_it = claim.uid == record.uid && !claim.deleting;
                Ok(is_it && concerns(&claim, &self.driver_info.name))
            }
            Err(error) if is_passing(error.reason) => Err(error),
            Err(error) => {
                tracing::warn!(claim = record.key, %error, "it is not known whether the claim of a record waits still");
                Ok(true)
            }
        }
    }

    /// The last thing of a term: objects that could not be written are tried once more. Not those of records that were
    /// inherited: another replica may have deleted the volume. And what another replica has finished most likely is
    /// forgotten, as by a standby.
    pub async fn flush(&self) {
        for entry in self.ledger.entries() {
            if self.seen_object(&entry.record) == SeenObject::Unproven {
                self.ledger.forget(&entry.record.uid);
            }
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
            let (claim, volume) = (&record.key, &record.plan.request.name);
            let handle = record.handle();
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

/// Whether the same request may be answered a moment later. One that is forbidden, in this namespace perhaps, is not, and
/// nothing else is to wait for it.
const fn is_passing(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Unavailable | Reason::TooManyRequests(_) | Reason::RetryLater
    )
}

/// Nobody knows of a volume but the log.
pub(super) fn log_orphan(record: &Record) {
    tracing::error!(
        claim = record.key,
        volume = record.plan.request.name,
        handle = record.handle(),
        "the driver has made this volume, but the PersistentVolume of its name is for another one: delete it at the driver"
    );
}

/// Whether an object that stands is for the volume at the driver that `created` was written for.
pub(super) fn is_object_of(standing: &Volume, created: &PersistentVolume) -> bool {
    let source = written_source(created);
    source.is_some() && source == standing.csi
}
