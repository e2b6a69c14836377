//! The controllers and what connects them: which change leads to which reconcile, and how much is done at once.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use futures::future::OptionFuture;
use tokio::{sync::Notify, time::sleep};
use tokio_util::task::TaskTracker;

use super::{
    Identity,
    capacity::{self, CapacityHook},
    config::Config,
    metrics::Metrics,
    protection,
};
use crate::{
    capacity::{reconcile::Capacity, run::Refresh},
    cluster::{
        active::Active,
        api::ApiClient,
        cache::{Cache, CacheEvent, Need, NodeSource, Predicates, Watched},
        events::{Event, EventRecorder, ObjectReference},
        workers::WorkerPool,
    },
    csi::{Driver, DriverInfo},
    ledger::Ledger,
    protect::reconcile::Protection,
    provision::{
        self,
        policy::Policy,
        reconcile::{Provision, Timings},
        record::Record,
    },
    reclaim::{self, reconcile::Reclaim},
    telemetry::{Readiness, metrics::MetricsError},
};

/// Nodes change together: a node plugin is rolled out, a zone comes up. One look is enough for all that comes so close.
const TOPOLOGY_BURST: Duration = Duration::from_secs(1);

/// What the controllers are built from.
pub(super) struct Parts {
    pub(super) identity: Identity,
    pub(super) api: ApiClient,
    pub(super) ledger: Ledger<Record>,
    /// A person wants a record settled that was held.
    pub(super) settle: Arc<Notify>,
    pub(super) active: Active,
    pub(super) events: EventRecorder,
    pub(super) driver: Driver,
    pub(super) driver_info: DriverInfo,
    pub(super) metrics: Metrics,
    pub(super) ready: Readiness,
}

/// Everything that works while we lead.
pub(super) struct Controllers {
    driver: Driver,
    pub(super) provision: Arc<Provision>,
    reclaim: Arc<Reclaim>,
    /// `None`: the driver makes volumes from nothing.
    protection: Option<Arc<Protection>>,
    capacity: Option<Arc<Capacity>>,
    pub(super) ledger: Arc<Ledger<Record>>,
    /// By the UID of a claim: the claim and its record are one object of work.
    claims: Arc<WorkerPool>,
    /// By the UID of a volume.
    volumes: Arc<WorkerPool>,
    topology_changed: Arc<Notify>,
    settle: Arc<Notify>,
    /// What runs in either pool.
    pub(super) tasks: TaskTracker,
    active: Active,
    events: EventRecorder,
    pub(super) ready: Readiness,
    pub(super) metrics: Metrics,
}

impl Controllers {
    /// Builds them. Waits for one answer of the API server: whether it knows VolumeAttributesClasses.
    ///
    /// # Errors
    /// Two families of metrics have the same name.
    pub(super) async fn build(config: &Config, parts: Parts) -> Result<Self, MetricsError> {
        let Parts {
            identity,
            api,
            ledger,
            settle,
            active,
            events,
            driver,
            driver_info,
            metrics,
            ready,
        } = parts;
        let attributes_classes = match config.gates.attributes_class {
            Some(set) => set,
            None => serves_attributes_classes(&api).await,
        };
        let node = config.node.as_ref().map(|node| node.name.as_str());
        let policy = Policy {
            name_prefix: config.naming.prefix.clone(),
            uid_length: config.naming.uid,
            default_fs_type: config.volumes.default_fstype.clone(),
            extra_metadata: config.volumes.extra_metadata,
            publish_read_only: config.volumes.readonly,
            topology: config.gates.topology,
            strict_topology: config.volumes.strict_topology,
            immediate_topology: config.volumes.immediate_topology,
            prevent_mode_conversion: config.volumes.prevent_mode_conversion,
            attributes_classes,
            cross_namespace: config.gates.cross_namespace,
            node: config.node.clone(),
            identity: identity.provisioner_identity(&driver_info.name, node),
        };

        let (ledger, tasks) = (Arc::new(ledger), TaskTracker::new());
        let leads = active.clone();
        let driver = driver.fenced(Arc::new(move || leads.leads()));
        let api = api.fenced(active.clone());
        let pool = |name| metrics.worker_pool(name, config.work.at_once, config.work.backoff, tasks.clone());
        let (claims, volumes) = (pool("claims"), pool("volumes"));

        let predicates = Predicates {
            claim: provision::decide::concerns,
            volume: reclaim::decide::concerns,
        };
        let mut watched = Watched {
            attachments: driver_info.publish_unpublish,
            snapshots: driver_info.create_delete_snapshot,
            nodes: match (node, driver_info.topology && config.gates.topology) {
                (Some(node), _) => NodeSource::Own {
                    name: node.to_owned(),
                    segment: driver_info.node.clone().unwrap_or_default().segment,
                    has_topology: driver_info.topology,
                },
                (None, true) => NodeSource::Watched(Need::Volumes),
                (None, false) => NodeSource::Unwatched,
            },
            ..Watched::default()
        };
        let topology_changed = Arc::new(Notify::new());
        let publishes = capacity::publishes(config, &driver_info);
        if let Some(settings) = publishes {
            capacity::watch(&mut watched, settings, &driver_info.name, node);
        }
        let hook = CapacityHook::default();
        let protector = Arc::new(OnceLock::<Arc<Protection>>::new());
        let deleter = Arc::new(OnceLock::<Weak<Reclaim>>::new());
        let provision = Arc::new_cyclic(|provision: &Weak<Provision>| {
            let (on_claim, on_volume, provision) = (claims.clone(), volumes.clone(), provision.clone());
            let (on_topology, on_capacity) = (topology_changed.clone(), hook.clone());
            let (on_answer, is_deleting, protector) = (hook.clone(), deleter.clone(), protector.clone());
            let on_event = move |event: CacheEvent<'_>| match event {
                CacheEvent::Claim(uid) => on_claim.add(uid),
                CacheEvent::Volume(uid) => on_volume.add(uid),
                CacheEvent::Topology => {
                    on_topology.notify_one();
                    on_capacity.on_event(event);
                }
                CacheEvent::Class(_) | CacheEvent::Capacity(_) => on_capacity.on_event(event),
                // On standbys, too: there is no work queue to wait for.
                CacheEvent::VolumeOfClaim { volume, claim } => {
                    if let Some(provision) = provision.upgrade() {
                        provision.volume_seen(volume, claim);
                    }
                }
            };
            let cache = Cache::new(&driver_info.name, predicates, watched, Box::new(on_event));
            Provision::new(
                driver.clone(),
                driver_info.clone(),
                Timings {
                    timeout: config.driver.timeout,
                    longest_retry: config.work.backoff.max,
                },
                api.clone(),
                Arc::new(cache),
                ledger.clone(),
                events.clone(),
                metrics.provision.clone(),
                policy,
                active.clone(),
                Box::new(move |plan, volume| on_answer.volume_asked_for(plan, volume)),
                Box::new(move |claim| {
                    let reclaim = is_deleting.get().and_then(Weak::upgrade);
                    reclaim.is_some_and(|reclaim| reclaim.is_deleting_for(claim))
                }),
                Box::new(move |source, uid, claim| {
                    let protection = protector.get().cloned();
                    let (source, uid, claim) = (source.clone(), uid.map(str::to_owned), claim.to_owned());
                    Box::pin(async move {
                        match protection {
                            Some(protection) => protection.hold(&source, uid.as_deref(), &claim).await,
                            None => Ok(()),
                        }
                    })
                }),
            )
        });
        let capacity = publishes.map(|settings| {
            let publication = capacity::publication(settings, &driver_info.name, node, config.work.backoff);
            capacity::build(
                settings,
                publication,
                driver.clone(),
                &api,
                provision.cache(),
                active.clone(),
                &metrics,
            )
        });
        let capacity = capacity.transpose()?;
        hook.set(capacity.as_ref());
        let protection = protection::build(
            config,
            &driver_info,
            &api,
            &active,
            provision.cache(),
            ledger.clone(),
            &metrics,
            tasks.clone(),
        );
        if let Some(protection) = &protection {
            let _ = protector.set(protection.clone());
        }
        let on_claim = claims.clone();
        let reclaim = Arc::new(Reclaim::new(
            driver.clone(),
            driver_info.clone(),
            api,
            provision.cache(),
            events.clone(),
            metrics.reclaim.clone(),
            active.clone(),
            Box::new(move |claim| on_claim.is_processing(claim)),
            Box::new(move |volume| hook.volume_deleted(volume)),
        ));
        let _ = deleter.set(Arc::downgrade(&reclaim));
        Ok(Self {
            driver,
            provision,
            reclaim,
            protection,
            capacity,
            ledger,
            claims,
            volumes,
            topology_changed,
            settle,
            tasks,
            active,
            events,
            ready,
            metrics,
        })
    }

    pub(super) fn cache(&self) -> Arc<Cache> {
        self.provision.cache()
    }

    /// What failed while the driver was away is tried when it is back, whatever delay it is under.
    async fn retry_when_driver_returns(&self) -> Infallible {
        let mut returns = self.driver.returns();
        while returns.changed().await.is_ok() {
            self.provision
                .claim_uids()
                .iter()
                .for_each(|uid| self.claims.add(uid));
            self.reclaim
                .volume_uids()
                .iter()
                .for_each(|uid| self.volumes.add(uid));
            if let Some(capacity) = &self.capacity {
                capacity.refresh(Refresh::All);
            }
        }
        std::future::pending().await
    }

    /// Claims that wait because of nodes are looked at when nodes change.
    async fn retry_when_topology_changes(&self) -> Infallible {
        loop {
            self.topology_changed.notified().await;
            sleep(TOPOLOGY_BURST).await;
            for uid in self.provision.unblocked_by_nodes() {
                self.claims.add(&uid);
            }
        }
    }

    /// Records that a person wants settled are looked at.
    async fn settle_what_was_held(&self) -> Infallible {
        loop {
            self.settle.notified().await;
            self.ledger
                .claim_uids()
                .iter()
                .for_each(|uid| self.claims.add(uid));
        }
    }

    /// Works until dropped. What is running then goes on by itself.
    pub(super) async fn run(&self) {
        let _active = self.active.set();
        self.reclaim.begin_term();
        if let Some(protection) = &self.protection {
            protection.begin_term();
        }
        let (provision, reclaim) = (self.provision.clone(), self.reclaim.clone());
        let protection = self.protection.clone();
        tokio::join!(
            self.claims.clone().run(
                || self.provision.claim_uids(),
                move |uid| {
                    let (provision, protection) = (provision.clone(), protection.clone());
                    async move {
                        let _at_work = protection.map(|protection| protection.reconciling(&uid));
                        provision.reconcile(&uid).await
                    }
                }
            ),
            self.volumes.clone().run(
                || self.reclaim.volume_uids(),
                move |uid| {
                    let reclaim = reclaim.clone();
                    async move { reclaim.reconcile(&uid).await }
                }
            ),
            self.retry_when_driver_returns(),
            self.retry_when_topology_changes(),
            self.settle_what_was_held(),
            OptionFuture::from(self.protection.as_ref().map(|protection| protection.run())),
            OptionFuture::from(self.capacity.as_ref().map(|capacity| capacity.run())),
        );
    }

    /// Logs what the process leaves unfinished, whoever leads.
    pub(super) fn report_unfinished(&self) {
        self.provision.report_unfinished();
    }

    pub(super) fn publish(&self, reference: ObjectReference, event: Event) {
        self.events.publish(reference, event);
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
