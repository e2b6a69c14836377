//! The rooms and what connects them: who hears of what, and how much is done at once.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{Identity, config::Config, metrics::Metrics};
use crate::{
    cluster::{
        api::ApiClient,
        cache::{Cache, CacheEvent, Predicates},
        events::{Event, EventRecorder, ObjectReference},
        hot::{LineEvent, OnLine},
        work::{Active, Busy, Crew},
    },
    csi::{Driver, DriverInfo},
    ledger::Ledger,
    provision::{
        self,
        memory::{InfeasibleClaims, RecentlySaved, Record},
        policy::Policy,
        reconcile::Provision,
    },
    reclaim::{
        self,
        reconcile::{Deleted, Reclaim},
    },
};

/// How long running calls may go on after the signal to stop, or after the lease is lost, before the lease is given up
/// all the same. Kubernetes kills 30 s after the signal unless told otherwise.
const GRACE: Duration = Duration::from_secs(15);
/// How long the last writes may take after that.
const FINAL_SAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Everything that works while we lead.
pub(super) struct Controllers {
    provision: Arc<Provision>,
    reclaim: Arc<Reclaim>,
    claims: Crew,
    volumes: Crew,
    tasks: TaskTracker,
    active: Active,
    events: EventRecorder,
    pub(super) metrics: Metrics,
}

impl Controllers {
    /// Builds them around the door for volumes and the line for events. Waits for one answer of the API server:
    /// whether it knows VolumeAttributesClasses.
    pub(super) async fn build(
        config: &Config,
        identity: &Identity,
        api: ApiClient,
        events: EventRecorder,
        driver: Driver,
        driver_info: DriverInfo,
        metrics: Metrics,
    ) -> Self {
        let attributes_classes = match config.gates.attributes_class {
            Some(set) => set,
            None => serves_attributes_classes(&api).await,
        };
        let policy = Policy {
            name_prefix: config.naming.prefix.clone(),
            uid_length: config.naming.uid,
            default_fs_type: config.volumes.default_fstype.clone(),
            extra_metadata: config.volumes.extra_metadata,
            publish_read_only: config.volumes.readonly,
            attributes_classes,
            identity: identity.provisioner_identity(&driver_info.name),
        };

        let counted = metrics.provision.clone();
        let count = Box::new(move |open| counted.records("open", open));
        let ledger = Arc::new(Ledger::<Record>::new(queue(&metrics, "records"), count));
        let (orphans, unfinished) = (ledger.clone(), ledger.clone());
        let predicates = Predicates {
            claim: provision::decide::concerns,
            volume: reclaim::decide::concerns,
            attachments: driver_info.publish_unpublish,
        };
        let cache = Arc::new(Cache::new(
            &driver_info.name,
            predicates,
            queue(&metrics, "claims"),
            queue(&metrics, "volumes"),
            // Either way the record, if there is one, is to be looked at now: to go on without the claim, or to be closed.
            Box::new(move |(CacheEvent::ClaimLeft(uid) | CacheEvent::VolumeStands(uid))| orphans.orphan(uid)),
        ));

        let (tasks, active) = (TaskTracker::new(), Active::default());
        let panics = metrics.sidecar.clone();
        let crew = || {
            let panics = panics.clone();
            Crew {
                workers: u16::try_from(config.work.at_once.get()).unwrap_or(u16::MAX),
                retry: config.work.backoff,
                busy: Busy::default(),
                tasks: tasks.clone(),
                on_panic: Arc::new(move || panics.panicked()),
            }
        };
        Self {
            claims: crew(),
            volumes: crew(),
            provision: Arc::new(Provision {
                driver: driver.clone(),
                driver_info: driver_info.clone(),
                timeout: config.driver.timeout,
                api: api.clone(),
                cache: cache.clone(),
                ledger,
                events: events.clone(),
                metrics: metrics.provision.clone(),
                policy,
                held: InfeasibleClaims::default(),
                saved: RecentlySaved::default(),
                active: active.clone(),
            }),
            reclaim: Arc::new(Reclaim {
                driver,
                driver_info,
                api,
                cache,
                events: events.clone(),
                metrics: metrics.reclaim.clone(),
                deleted: Deleted::default(),
                unfinished: Box::new(move |claim| unfinished.get(claim).is_some()),
                active: active.clone(),
            }),
            tasks,
            active,
            events,
            metrics,
        }
    }

    pub(super) fn cache(&self) -> Arc<Cache> {
        self.provision.cache.clone()
    }

    /// Works until dropped: claims, the records of claims that are gone, and volumes.
    pub(super) async fn work(&self) {
        let _duty = self.active.take();
        let (claims, records, reclaim) = (
            self.provision.clone(),
            self.provision.clone(),
            self.reclaim.clone(),
        );
        let cache = self.cache();
        tokio::join!(
            self.claims.clone().work(cache.claims.clone(), move |claim| {
                let controller = claims.clone();
                async move { controller.reconcile_claim(claim).await }
            }),
            // The same crew: a claim and its record are never worked on at the same time.
            self.claims
                .clone()
                .work(self.provision.ledger.records(), move |record| {
                    let controller = records.clone();
                    async move { controller.reconcile_record(record).await }
                }),
            self.volumes.clone().work(cache.volumes.clone(), move |volume| {
                let controller = reclaim.clone();
                async move { controller.reconcile_volume(volume).await }
            }),
        );
    }

    /// Waits for the calls that were running when [`Controllers::work`] was dropped, for [`GRACE`] at most.
    pub(super) async fn drain(&self) {
        self.tasks.close();
        if timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                running = self.tasks.len(),
                "calls are still running, not waiting for them any longer"
            );
        }
        self.tasks.reopen();
    }

    /// Somebody else has led since we last did.
    pub(super) fn distrust(&self) {
        self.provision.distrust();
    }

    /// Writes what can be written still, and says what is left unfinished.
    pub(super) async fn close(&self) {
        if timeout(FINAL_SAVE_TIMEOUT, self.provision.close()).await.is_err() {
            tracing::warn!("the API server does not answer: volumes that were made may lack their objects");
        }
    }

    pub(super) fn say(&self, subject: ObjectReference, event: Event) {
        self.events.say(subject, event);
    }
}

/// The gate VolumeAttributesClass is on by default, and off where the server does not serve the API.
async fn serves_attributes_classes(api: &ApiClient) -> bool {
    match api.serves_attributes_classes().await {
        Ok(serves) => serves,
        Err(error) => {
            tracing::warn!(%error, "cannot tell whether VolumeAttributesClasses are served, assuming that they are");
            true
        }
    }
}

/// The figures of a line under the name of upstream's work queue.
fn queue(metrics: &Metrics, name: &str) -> OnLine {
    let queue = metrics.registry.queue(name);
    // The line does not report its times yet.
    Box::new(move |event| match event {
        LineEvent::Added(_) => queue.add(),
        LineEvent::Started(_) => queue.get(Duration::ZERO),
        LineEvent::Finished(_) => queue.done(Duration::ZERO),
        LineEvent::Dropped(_) => queue.forget(),
        LineEvent::Retried => queue.retry(),
    })
}
