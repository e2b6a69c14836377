//! What a request takes from other objects: its source and its VolumeAttributesClass are read as they are at this moment,
//! before anything is asked of the driver.

use std::{fmt, sync::Arc};

use super::{
    attributes::mutable_parameters,
    content::{NoContent, Wanted, bound_content, bound_volume, of_claim, of_snapshot},
    create::OVERTAKEN,
    granted::{NotGranted, granted},
    outcome::other_id,
    plan::Plan,
    reconcile::Provision,
    record::{Record, SecretData},
    refusal::Refusal,
};
use crate::{
    base::api_error::ApiError,
    cluster::{
        events::Event,
        objects::Claim,
        queue::Requeue,
        source::{Source, SourceKind},
    },
    csi::{
        RpcError,
        proto::{CreateVolumeResponse, VolumeContentSource},
    },
    ledger::Entry,
};

/// What a request cannot be made without.
enum Missing {
    Content(Source, NotRead),
    /// The VolumeAttributesClass could not be read.
    AttributesClass(ApiError),
    /// It cannot be applied.
    Attributes(Refusal),
}

/// Why a volume cannot have its content.
enum NotRead {
    NotGranted(NotGranted),
    Unusable(NoContent),
    Failed(ApiError),
}

impl Provision {
    /// Begins a creation, or goes on with the one that is on record where another request would be the same.
    pub(super) async fn provision(
        &self,
        claim: &Claim,
        mut plan: Box<Plan>,
        entry: Option<Entry<Record>>,
    ) -> Requeue {
        let (source_uid, missing) = match self.complete(claim, &mut plan).await {
            Ok(uid) => (uid, None),
            Err(missing) => (None, Some(missing)),
        };
        match (entry, missing) {
            // With something missing no other request can be made; the one on record may have made a volume.
            (Some(entry), missing) if missing.is_some() || *plan == *entry.record.plan => {
                self.repeat(&entry, claim).await
            }
            (_, Some(missing)) => self.not_begun(claim, &plan, missing),
            (entry, None) => self.begin(claim, Arc::from(plan), source_uid, entry).await,
        }
    }

    /// Repeats the request on record, if that is still what the ledger has.
    pub(super) async fn repeat(&self, entry: &Entry<Record>, claim: &Claim) -> Requeue {
        if !self.is_current(&claim.uid, Some(&entry.record)) {
            return Requeue::After(OVERTAKEN);
        }
        self.reconcile_record(entry, Some(claim)).await
    }

    /// Completes the request with the content of its source, and with what its VolumeAttributesClass says. Returns the UID
    /// of the source.
    async fn complete(&self, claim: &Claim, plan: &mut Plan) -> Result<Option<String>, Missing> {
        let mut uid = None;
        if let Some(source) = plan.source.clone() {
            match self.content(claim, plan, &source).await {
                Ok((content, of)) => {
                    plan.request.volume_content_source = Some(content);
                    uid = Some(of);
                }
                Err(why) => return Err(Missing::Content(source, why)),
            }
        }
        if let Some(name) = plan.attributes_class() {
            let class = self.api.attributes_class(name).await;
            let class = class.map_err(Missing::AttributesClass)?;
            let parameters = mutable_parameters(name, class, &self.driver_info.name);
            plan.request.mutable_parameters = parameters.map_err(Missing::Attributes)?;
        }
        Ok(uid)
    }

    /// What the driver is to copy, and the UID of the source.
    async fn content(
        &self,
        claim: &Claim,
        plan: &Plan,
        source: &Source,
    ) -> Result<(VolumeContentSource, String), NotRead> {
        let Source {
            kind,
            namespace,
            name,
        } = source;
        if *namespace != claim.namespace {
            let grants = self.api.reference_grants(namespace).await?;
            granted(claim, source, grants.as_deref())?;
        }
        let wanted = Wanted {
            claim,
            driver: &self.driver_info.name,
            bytes: plan.bytes(),
            prevent_mode_conversion: self.policy.prevent_mode_conversion,
        };
        match kind {
            SourceKind::Snapshot => {
                let snapshot = self.api.snapshot(namespace, name).await?;
                let (snapshot, name) = bound_content(snapshot.as_ref())?;
                let content = self.api.snapshot_content(name).await?;
                let source = of_snapshot(&wanted, snapshot, name, content.as_ref())?;
                Ok((source, snapshot.uid.clone()))
            }
            SourceKind::Claim => {
                let source = self.api.source_claim(namespace, name).await?;
                let (source, name) = bound_volume(&wanted, source.as_ref())?;
                let volume = self.api.volume(name).await?;
                let content = of_claim(&wanted, source, name, volume.as_ref())?;
                Ok((content, source.claim.uid.clone()))
            }
        }
    }

    /// What else it takes before a record is opened: the secrets are read and the source is protected; or why not.
    pub(super) async fn prepare(
        &self,
        claim: &Claim,
        plan: &Plan,
        source_uid: Option<&str>,
    ) -> Result<SecretData, String> {
        let secrets = self.secrets(plan.secret.as_ref()).await;
        let secrets = secrets.map_err(|error| error.to_string())?;
        if let Some(source) = &plan.source {
            let held = (self.hold_source)(source, source_uid, &claim.uid).await;
            held.map_err(|error| format!("{source} cannot be protected: {error}"))?;
        }
        Ok(secrets)
    }

    /// The source of a creation on record: another replica, or a person, may have taken our finalizer off. What is gone
    /// stays gone, and the driver may have it all the same.
    pub(super) async fn hold_again(&self, record: &Record) {
        if let Some(source) = &record.plan.source
            && let Err(error) = (self.hold_source)(source, None, &record.uid).await
        {
            tracing::debug!(%source, %error, "the source of a creation on record is not protected");
        }
    }

    /// Some drivers answer with an id of their storage's for the source that they were given. It becomes the one that was
    /// asked for, once the driver has shown that it means that.
    pub(super) fn translate_source(
        &self,
        record: &Record,
        answer: &mut Result<CreateVolumeResponse, RpcError>,
    ) {
        if let Ok(CreateVolumeResponse { volume: Some(made) }) = answer
            && let Some(other) = other_id(&record.plan, made)
            && self
                .other_ids
                .stands_for_ours(&record.uid, &self.driver_info.name, &other)
        {
            tracing::debug!(
                volume = record.plan.request.name,
                ?other,
                "the driver's own id of the source"
            );
            made.content_source
                .clone_from(&record.plan.request.volume_content_source);
        }
    }

    fn not_begun(&self, claim: &Claim, plan: &Plan, missing: Missing) -> Requeue {
        match missing {
            Missing::Content(source, why) => self.without_content(claim, plan, &source, why),
            Missing::AttributesClass(error) => {
                self.announce(claim);
                self.fail(plan, Some(claim), &error.to_string())
            }
            Missing::Attributes(refusal) => {
                self.announce(claim);
                self.refuse(claim, &refusal)
            }
        }
    }

    fn without_content(&self, claim: &Claim, plan: &Plan, source: &Source, why: NotRead) -> Requeue {
        match why {
            NotRead::Unusable(why) if why.is_wait() => {
                if self.waiting_for_source.insert(&claim.uid, &why) {
                    let text = format!("waiting for the content of {source}: {why}");
                    self.events.publish(claim, Event::normal("Provisioning", text));
                }
                match self.cache.is_watched(source.kind) {
                    true => Requeue::AwaitChange,
                    false => Requeue::Backoff,
                }
            }
            NotRead::Unusable(why) => self.cannot_copy(claim, plan, source, &why),
            NotRead::NotGranted(why) => self.cannot_copy(claim, plan, source, &why),
            NotRead::Failed(error) => self.cannot_copy(claim, plan, source, &error),
        }
    }

    fn cannot_copy(&self, claim: &Claim, plan: &Plan, source: &Source, why: &impl fmt::Display) -> Requeue {
        let text = format!("cannot take the content of {source}: {why}");
        self.fail(plan, Some(claim), &text)
    }
}

impl From<NotGranted> for NotRead {
    fn from(why: NotGranted) -> Self {
        Self::NotGranted(why)
    }
}

impl From<NoContent> for NotRead {
    fn from(why: NoContent) -> Self {
        Self::Unusable(why)
    }
}

impl From<ApiError> for NotRead {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}
