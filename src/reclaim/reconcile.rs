//! Carries the deletion of a volume out: driver first, object second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    decide::{Decision, Facts, decide},
    deletions::Deletions,
    metrics::ReclaimMetrics,
};
use crate::{
    base::{
        api_error::{ApiError, Reason},
        secrets::SecretRef,
    },
    cluster::{
        active::Active,
        api::{ApiClient, LiveVolumes},
        cache::Cache,
        events::{Event, EventRecorder},
        objects::Volume,
        queue::Requeue,
    },
    csi::{Driver, DriverInfo, NotSent, proto::DeleteVolumeRequest},
};

const FAILED: &str = "VolumeFailedDelete";

/// How often the right to read a secret must have been denied before a volume is deleted without it, if the secret was
/// in the claim's namespace.
const DENIALS: u32 = 5;
/// And for how long, since a volume that changes all the time is looked at more often.
const DENIED_FOR: Duration = Duration::from_secs(30);

/// Tells whether the claim of this UID is being reconciled: a request to write an object may be on its way, and would
/// arrive after the deletion. An open record is no reason to wait: it is closed as soon as its own volume is seen, and
/// any other volume is none of its business.
pub type InProgress = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// Hears of each volume that the driver has deleted.
pub type OnDeleted = Box<dyn Fn(&Volume) + Send + Sync>;

/// The controller that deletes released volumes.
pub struct Reclaim {
    driver: Driver,
    driver_info: DriverInfo,
    pub(super) api: ApiClient,
    pub(super) cache: Arc<Cache>,
    events: EventRecorder,
    metrics: ReclaimMetrics,
    pub(super) deletions: Deletions,
    pub(super) live: LiveVolumes,
    active: Active,
    in_progress: InProgress,
    on_deleted: OnDeleted,
}

impl Reclaim {
    /// `active` says whether the driver may be called.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that the controller talks to"
    )]
    pub fn new(
        driver: Driver,
        driver_info: DriverInfo,
        api: ApiClient,
        cache: Arc<Cache>,
        events: EventRecorder,
        metrics: ReclaimMetrics,
        active: Active,
        in_progress: InProgress,
        on_deleted: OnDeleted,
    ) -> Self {
        let live = LiveVolumes::new(api.clone(), &driver_info.name);
        Self {
            driver,
            driver_info,
            api,
            cache,
            events,
            metrics,
            deletions: Deletions::default(),
            live,
            active,
            in_progress,
            on_deleted,
        }
    }

    /// Whether the driver is deleting a volume of the claim of this UID, or has, and its object stands still. To ask for the
    /// volume meanwhile could make it anew under the same id, and the object that is about to go would be taken for its
    /// own.
    pub fn is_deleting_for(&self, claim: &str) -> bool {
        self.deletions.is_deleting_for(claim)
    }

    /// A term begins: what was seen of volumes before another replica led counts no more.
    pub fn begin_term(&self) {
        self.deletions.begin_term();
    }

    /// UIDs of all volumes to be reconciled. What is remembered of others is forgotten: they went away while nobody
    /// reconciled them.
    pub fn volume_uids(&self) -> Vec<String> {
        self.deletions.retain(|uid| self.cache.volume(uid).is_some());
        self.cache.volume_uids()
    }

    /// Reconciles the volume of this UID.
    pub async fn reconcile(&self, uid: &str) -> Requeue {
        match self.cache.volume(uid) {
            Some(volume) => self.reconcile_volume(&volume).await,
            None => {
                self.deletions.forget(uid);
                Requeue::AwaitChange
            }
        }
    }

    async fn reconcile_volume(&self, volume: &Volume) -> Requeue {
        let begun = Instant::now();
        self.deletions.seen(volume);
        match self.decide(volume) {
            Decision::Leave => Requeue::AwaitChange,
            Decision::Protect => self.protect(volume, true).await,
            Decision::Unprotect => self.protect(volume, false).await,
            Decision::WaitForDetach(node) => {
                let text = format!(
                    "persistentvolume {} is still attached to node {node}, waiting for detach",
                    volume.name
                );
                self.events.publish(volume, Event::normal("VolumeDelete", text));
                Requeue::AwaitChange
            }
            Decision::Tell(refusal) => self.fail(volume, refusal.to_string()),
            Decision::Delete { .. }
                if volume
                    .claim
                    .as_ref()
                    .is_some_and(|claim| (self.in_progress)(&claim.uid)) =>
            {
                Requeue::After(Duration::from_secs(1))
            }
            Decision::Delete { handle, secret } => {
                if let Some(left) = self.deletions.unconfirmed(&volume.uid) {
                    return Requeue::After(left);
                }
                match self.delete(volume, handle, secret).await {
                    Ok(true) => {
                        let (times, wait) = self.deletions.object_removed(&volume.uid);
                        if times == 1 {
                            let class = volume.class_name.as_deref().unwrap_or_default();
                            self.metrics.delete_succeeded(class, begun.elapsed());
                        }
                        Requeue::After(wait)
                    }
                    // What was seen is old, which is no failure. The change will tell of itself, but not one of the
                    // class, and the watch may lag for long.
                    Ok(false) => Requeue::Backoff,
                    Err(text) => self.fail(volume, text),
                }
            }
        }
    }

    fn decide(&self, volume: &Volume) -> Decision {
        let class = self.cache.class(volume.class());
        let node = self.cache.node_of_volume(&volume.name);
        decide(Facts {
            volume,
            class: class.as_deref(),
            driver: &self.driver_info,
            node: node.as_deref(),
        })
    }

    fn fail(&self, volume: &Volume, text: String) -> Requeue {
        self.metrics
            .delete_failed(volume.class_name.as_deref().unwrap_or_default());
        self.events.publish(volume, Event::warning(FAILED, text));
        Requeue::Backoff
    }

    async fn protect(&self, volume: &Volume, protect: bool) -> Requeue {
        match self
            .api
            .protect_volume(&volume.name, &volume.finalizers, protect)
            .await
        {
            Ok(()) => Requeue::After(self.deletions.finalizer_changed(&volume.uid)),
            // The term may go on all the same, and then nothing else brings the volume back.
            Err(error) if error.reason == Reason::NotLeading => Requeue::Backoff,
            Err(error) => {
                tracing::warn!(volume = volume.name, %error, "the volume's finalizer could not be changed");
                Requeue::Backoff
            }
        }
    }

    /// Whether the volume is gone; false if it turned out that it need not go.
    async fn delete(
        &self,
        volume: &Volume,
        handle: String,
        secret: Option<SecretRef>,
    ) -> Result<bool, String> {
        let text = |error: ApiError| error.to_string();
        if !self.deletions.is_volume_deleted(&volume.uid) {
            let (secrets, denied) = self.secrets(volume, secret.as_ref()).await.map_err(text)?;
            let objection = self.objection(volume, &handle).await.map_err(text)?;
            // What a watch told may be old: another leader, or an administrator, may have been here since. This is the
            // last thing that is asked, since all else takes its time.
            let live = self.api.volume(&volume.name).await.map_err(text)?;
            let wanted = Decision::Delete {
                handle: handle.clone(),
                secret,
            };
            let is_same = |live: &Volume| live.uid == volume.uid && live.claim == volume.claim;
            if !live.is_some_and(|live| is_same(&live) && self.decide(&live) == wanted) {
                return Ok(false);
            }
            if let Some(objection) = objection {
                return Err(objection.to_string());
            }
            if !self.active.is_set() {
                return Ok(false);
            }
            // First said, then looked whether the claim is worked on; the other controller does the same the other way
            // round. Of two at once one at least sees the other.
            let claim = volume.claim.as_ref().map_or("", |claim| &claim.uid);
            self.deletions.begin(&volume.uid, claim);
            if (self.in_progress)(claim) {
                self.deletions.give_up(&volume.uid);
                return Ok(false);
            }
            let request = DeleteVolumeRequest {
                volume_id: handle,
                secrets,
            };
            let driver = self.driver.migrated(volume.in_tree.is_some());
            match driver.delete_volume(request).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    self.deletions.give_up(&volume.uid);
                    return Err(match denied {
                        Some(denied) => format!("{error}; it was called without secrets: {denied}"),
                        None => error.to_string(),
                    });
                }
                Err(NotSent) => {
                    self.deletions.give_up(&volume.uid);
                    return Ok(false);
                }
            }
            self.deletions.volume_deleted(&volume.uid);
            (self.on_deleted)(volume);
        }
        match self.api.delete_volume(&volume.name, &volume.uid).await {
            Ok(None) => Ok(true),
            Ok(Some(holding)) => self
                .release(&volume.name, &volume.uid, holding)
                .await
                .or_else(|error| match error.reason {
                    Reason::NotLeading => Ok(false),
                    _ => Err(text(error)),
                }),
            // The UID is another one's: ours is gone. Unless it was some other conflict.
            Err(error) if error.reason == Reason::Conflict => {
                match self.api.volume(&volume.name).await.map_err(text)? {
                    Some(live) if live.uid == volume.uid => Err(text(error)),
                    _ => Ok(true),
                }
            }
            Err(error) if error.reason == Reason::NotLeading => Ok(false),
            Err(error) => Err(text(error)),
        }
    }

    /// Takes our finalizer off an object that is being deleted.
    async fn release(&self, name: &str, uid: &str, holding: Vec<String>) -> Result<bool, ApiError> {
        match self.api.protect_volume(name, &holding, false).await {
            Err(error) if matches!(error.reason, Reason::Invalid | Reason::Conflict) => {
                // The protection controller takes its own finalizer off at the same time; ours has moved.
                match self.api.volume(name).await? {
                    Some(live) if live.uid == uid => self
                        .api
                        .protect_volume(name, &live.finalizers, false)
                        .await
                        .map(|()| true),
                    _ => Ok(true),
                }
            }
            done => done.map(|()| true),
        }
    }

    /// A secret that is not there is no reason to keep the volume (upstream goes on without, too); one that cannot be
    /// read just now is: without it the driver might delete half of what there is.
    ///
    /// Where secrets may be read in chosen namespaces only, the right goes away with the namespace, and the API server
    /// denies it before it looks for the secret. Nothing tells that from a right that was never granted. So a secret in
    /// the namespace of a claim that is gone, denied again and again, counts as not there. Keeping the secrets of all
    /// volumes instead would mean to read them all at each start. Returns the denial as well.
    async fn secrets(
        &self,
        volume: &Volume,
        reference: Option<&SecretRef>,
    ) -> Result<(BTreeMap<String, String>, Option<ApiError>), ApiError> {
        let Some(SecretRef { namespace, name }) = reference else {
            return Ok((BTreeMap::new(), None));
        };
        let is_of_claim = volume
            .claim
            .as_ref()
            .is_some_and(|claim| claim.namespace == *namespace);
        let (secret, denied) = match self.api.secret(namespace, name).await {
            Err(error) if error.reason == Reason::Forbidden && is_of_claim => {
                let (denials, lasted) = self.deletions.secret_denied(&volume.uid);
                if denials <= DENIALS || lasted < DENIED_FOR {
                    return Err(error);
                }
                (None, Some(error))
            }
            answer => {
                let secret = answer?;
                self.deletions.secret_read(&volume.uid);
                (secret, None)
            }
        };
        if secret.is_none() {
            tracing::warn!(
                volume = volume.name,
                secret = format!("{namespace}/{name}"),
                denied = denied.is_some(),
                "secret for deletion not found, going on without"
            );
        }
        Ok((secret.unwrap_or_default(), denied))
    }
}
