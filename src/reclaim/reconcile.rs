//! Carries the deletion of a volume out: driver first, object second.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    decide::{Decision, Facts, decide},
    metrics::ReclaimMetrics,
};
use crate::{
    base::{
        api_error::{ApiError, Reason},
        secrets::SecretRef,
    },
    cluster::{
        api::ApiClient,
        cache::Cache,
        events::{Event, EventRecorder},
        objects::Volume,
        queue::Requeue,
        workers::Active,
    },
    csi::{Driver, DriverInfo, proto::DeleteVolumeRequest},
};

const FAILED: &str = "VolumeFailedDelete";

/// Tells whether the creation of a volume for the claim of this UID is under way still: a request to write the object
/// may be on its way, and would arrive after the deletion.
pub type InProgress = Box<dyn Fn(&str) -> bool + Send + Sync>;

/// The controller that deletes released volumes.
pub struct Reclaim {
    driver: Driver,
    driver_info: DriverInfo,
    api: ApiClient,
    cache: Arc<Cache>,
    events: EventRecorder,
    metrics: ReclaimMetrics,
    /// UIDs of volumes that the driver has deleted and whose object stands still: the driver is asked once, however
    /// often the object resists.
    deleted: Mutex<HashSet<String>>,
    active: Active,
    in_progress: InProgress,
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
    ) -> Self {
        Self {
            driver,
            driver_info,
            api,
            cache,
            events,
            metrics,
            deleted: Mutex::default(),
            active,
            in_progress,
        }
    }

    /// Reconciles the volume of this UID.
    pub async fn reconcile(&self, uid: &str) -> Requeue {
        match self.cache.volume(uid) {
            Some(volume) => self.reconcile_volume(&volume).await,
            None => Requeue::AwaitChange,
        }
    }

    async fn reconcile_volume(&self, volume: &Volume) -> Requeue {
        let begun = Instant::now();
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
            Decision::Delete { handle, secret } => match self.delete(volume, handle, secret).await {
                Ok(true) => {
                    self.deleted.lock().remove(&volume.uid);
                    self.metrics
                        .delete_succeeded(volume.class_name.as_deref().unwrap_or_default(), begun.elapsed());
                    Requeue::AwaitChange
                }
                // What was seen is old. The change will tell of itself, but not one of the class.
                Ok(false) => Requeue::After(Duration::from_secs(1)),
                Err(text) => self.fail(volume, text),
            },
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
            Ok(()) => Requeue::AwaitChange,
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
        if !self.deleted.lock().contains(&volume.uid) {
            let secrets = self.secrets(secret.as_ref()).await.map_err(text)?;
            // What a watch told may be old: another leader, or an administrator, may have been here since.
            let live = self.api.volume(&volume.name).await.map_err(text)?;
            let wanted = Decision::Delete {
                handle: handle.clone(),
                secret,
            };
            match live {
                Some(live) if live.uid == volume.uid && self.decide(&live) == wanted => {}
                _ => return Ok(false),
            }
            if !self.active.is_set() {
                return Ok(false);
            }
            let request = DeleteVolumeRequest {
                volume_id: handle,
                secrets,
            };
            self.driver
                .delete_volume(request)
                .await
                .map_err(|error| error.to_string())?;
            let mut deleted = self.deleted.lock();
            deleted.retain(|uid| self.cache.volume(uid).is_some());
            deleted.insert(volume.uid.clone());
        }
        match self.api.delete_volume(&volume.name, &volume.uid).await {
            Ok(None) => Ok(true),
            Ok(Some(holding)) => self
                .release(&volume.name, &volume.uid, holding)
                .await
                .map_err(text),
            // The UID is another one's: ours is gone. Unless it was some other conflict.
            Err(error) if error.reason == Reason::Conflict => {
                match self.api.volume(&volume.name).await.map_err(text)? {
                    Some(live) if live.uid == volume.uid => Err(text(error)),
                    _ => Ok(true),
                }
            }
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
    async fn secrets(&self, reference: Option<&SecretRef>) -> Result<BTreeMap<String, String>, ApiError> {
        let Some(SecretRef { namespace, name }) = reference else {
            return Ok(BTreeMap::new());
        };
        let secret = self.api.secret(namespace, name).await?;
        if secret.is_none() {
            tracing::warn!(
                secret = format!("{namespace}/{name}"),
                "secret for deletion not found, going on without"
            );
        }
        Ok(secret.unwrap_or_default())
    }
}
