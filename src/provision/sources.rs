//! A claim that asks for content: its source is read as it is at this moment, before anything is asked of the driver.

use std::{sync::Arc, time::Duration};

use super::{
    content::{NoContent, Wanted, bound_content, bound_volume, of_claim, of_snapshot},
    create::OVERTAKEN,
    plan::Plan,
    reconcile::Provision,
    record::Record,
};
use crate::{
    base::api_error::ApiError,
    cluster::{
        events::Event,
        objects::Claim,
        queue::Requeue,
        source::{Source, SourceKind},
    },
    csi::proto::VolumeContentSource,
    ledger::Entry,
};

/// A source that only takes time is looked at again after this pause.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a volume cannot have its content.
enum NotRead {
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
        let mut missing = None;
        if let Some(source) = plan.source.clone() {
            match self.content(claim, &plan, &source).await {
                Ok(content) => plan.request.volume_content_source = Some(content),
                Err(why) => missing = Some((source, why)),
            }
        }
        match (entry, missing) {
            // Without its source no other request can be made; the one on record may have made a volume.
            (Some(entry), missing) if missing.is_some() || *plan == *entry.record.plan => {
                if !self.is_current(&claim.uid, Some(&entry.record)) {
                    return Requeue::After(OVERTAKEN);
                }
                self.reconcile_record(&entry, Some(claim)).await
            }
            (_, Some((source, why))) => self.without_content(claim, &plan, &source, why),
            (entry, None) => self.begin(claim, Arc::from(plan), entry).await,
        }
    }

    /// What the driver is to copy.
    async fn content(
        &self,
        claim: &Claim,
        plan: &Plan,
        Source {
            kind,
            namespace,
            name,
        }: &Source,
    ) -> Result<VolumeContentSource, NotRead> {
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
                Ok(of_snapshot(&wanted, snapshot, name, content.as_ref())?)
            }
            SourceKind::Claim => {
                let source = self.api.source_claim(namespace, name).await?;
                let (source, name) = bound_volume(&wanted, source.as_ref())?;
                let volume = self.api.volume(name).await?;
                Ok(of_claim(&wanted, source, name, volume.as_ref())?)
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
                Requeue::After(PAUSE)
            }
            NotRead::Unusable(why) => {
                let text = format!("cannot take the content of {source}: {why}");
                self.fail(plan, Some(claim), &text)
            }
            NotRead::Failed(error) => {
                let text = format!("cannot take the content of {source}: {error}");
                self.fail(plan, Some(claim), &text)
            }
        }
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
