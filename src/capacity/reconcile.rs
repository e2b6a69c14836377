//! From a change in the cluster to the items that are to be looked at.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{api::core::v1::PersistentVolume, apimachinery::pkg::apis::meta::v1::OwnerReference};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::{
    diff::{Change, Room, change},
    metrics::CapacityCounts,
    segments::{Desired, WorkItem, term_to_segment, terms_of},
};
use crate::{
    base::{backoff::Backoff, reminder::Reminder},
    cluster::{
        api::ApiClient,
        cache::{Cache, CacheEvent, Need},
        node_selector::NodeSelectorTerm,
        objects::StorageCapacity,
        workers::{Active, WorkerPool},
    },
    csi::Driver,
};

/// Changes of nodes and classes come in bursts: so long after the first one it is looked what they came to.
const BURST: Duration = Duration::from_secs(1);

/// What may have become of the room that the driver has.
#[derive(Clone, Copy, Debug)]
pub enum Refresh<'a> {
    /// It is unknown what changed.
    All,
    /// A volume of this class could not be made.
    Class(&'a str),
    /// This volume was made.
    Created(&'a PersistentVolume),
    /// A volume has gone that was reachable from where any of these terms says.
    Terms(&'a [NodeSelectorTerm]),
}

/// What is published, and how.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where the objects are.
    pub namespace: String,
    /// Which of them are ours.
    pub labels: BTreeMap<String, String>,
    /// Also for classes that bind at once.
    pub immediate: bool,
    /// How often everything is asked for again; above zero.
    pub poll_interval: Duration,
    /// Name of our pod, and how many levels above it the owner of the objects is.
    pub owner: Option<(String, u32)>,
    /// Delays after failures.
    pub backoff: Backoff,
}

/// The controller that publishes capacity.
pub struct Capacity {
    pub(super) driver: Driver,
    pub(super) api: ApiClient,
    pub(super) cache: Arc<Cache>,
    pub(super) active: Active,
    pub(super) publication: Publication,
    pool: Arc<WorkerPool>,
    /// Nodes or classes have changed.
    changed: Notify,
    pub(super) state: Mutex<CapacityState>,
    /// The moments in `state` count from here.
    pub(super) origin: Instant,
}

/// What the controller remembers.
#[derive(Default)]
pub(super) struct CapacityState {
    pub(super) desired: Desired,
    /// Lists and owner are there.
    ready: bool,
    /// Once it has been found.
    pub(super) owner: Option<OwnerReference>,
    /// What the driver said last, of items that are wanted.
    pub(super) rooms: HashMap<WorkItem, Room>,
    /// Objects that were created and not seen yet, by their item: their UIDs and when.
    pub(super) unseen: HashMap<WorkItem, (String, Instant)>,
    /// Keys of items whose last attempt failed.
    pub(super) failing: HashSet<String>,
    /// What went wrong last, by who said so: one line in the log for all items together.
    pub(super) complaints: HashMap<&'static str, Reminder<String>>,
}

impl Capacity {
    /// `pool` works on the keys of items; `active` says whether driver and API server may be called.
    pub fn new(
        driver: Driver,
        api: ApiClient,
        cache: Arc<Cache>,
        active: Active,
        publication: Publication,
        pool: Arc<WorkerPool>,
    ) -> Self {
        Self {
            driver,
            api,
            cache,
            active,
            publication,
            pool,
            changed: Notify::new(),
            state: Mutex::default(),
            origin: Instant::now(),
        }
    }

    /// Something in the cache changed. No effect unless the controller runs.
    pub fn on_event(&self, event: CacheEvent<'_>) {
        match event {
            CacheEvent::Class(_) | CacheEvent::Topology => self.changed.notify_one(),
            CacheEvent::Capacity(object) => {
                let item = WorkItem::of(object);
                if !self.is_echo(&item, object) {
                    self.pool.add(&item.key());
                }
            }
            CacheEvent::Claim(_) | CacheEvent::Volume(_) | CacheEvent::VolumeOfClaim { .. } => {}
        }
    }

    /// Whether this is what we wrote, or would write: no reason to ask the driver.
    fn is_echo(&self, item: &WorkItem, object: &StorageCapacity) -> bool {
        let alone = match &*self.cache.capacities_like(&item.class, item.segment.as_ref()) {
            [only] => only.uid == object.uid,
            _ => false,
        };
        let mut state = self.state.lock();
        if state.unseen.get(item).is_some_and(|(uid, _)| *uid == object.uid) {
            state.unseen.remove(item);
        }
        let owner = state.owner.as_ref().map(|owner| owner.uid.as_str());
        let written = state.rooms.get(item);
        alone && written.is_some_and(|room| change(Some(object), *room, owner) == Change::Nothing)
    }

    /// The driver's room may have changed: what this concerns is asked for again.
    pub fn refresh(&self, what: Refresh<'_>) {
        let items = self.concerned(what);
        items.iter().for_each(|item| self.pool.add(&item.key()));
    }

    fn concerned(&self, what: Refresh<'_>) -> Vec<WorkItem> {
        let state = self.state.lock();
        let desired = &state.desired;
        let in_terms = |terms: &[NodeSelectorTerm]| {
            let segment = |term| {
                let segment = term_to_segment(term);
                segment
                    .inspect_err(|error| tracing::debug!(%error, "this node affinity is no segment"))
                    .ok()
            };
            let segments = terms.iter().filter_map(segment);
            segments
                .flat_map(|segment| desired.in_segment(&segment).collect::<Vec<_>>())
                .collect()
        };
        match what {
            Refresh::All => desired.items().collect(),
            Refresh::Class(class) => desired.of_class(class).collect(),
            Refresh::Terms(terms) => in_terms(terms),
            Refresh::Created(volume) => match terms_of(volume) {
                Some(terms) => in_terms(&terms),
                None => {
                    let class = volume
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.storage_class_name.as_deref());
                    desired.of_class(class.unwrap_or_default()).collect()
                }
            },
        }
    }

    /// How things are.
    pub fn counts(&self) -> CapacityCounts {
        let objects = self.cache.capacities();
        let state = self.state.lock();
        let (wanted, obsolete): (Vec<_>, Vec<_>) = objects
            .iter()
            .partition(|object| state.desired.contains(&object.class, object.segment.as_ref()));
        let current: HashSet<_> = wanted
            .iter()
            .map(|object| (&object.class, &object.segment))
            .collect();
        CapacityCounts {
            desired: state.desired.len(),
            current: current.len(),
            obsolete: obsolete.len(),
            failing: state.failing.len(),
            ready: state.ready,
        }
    }

    /// Publishes until dropped. Begins when the lists are complete, and when the owner is known: until then it says
    /// what is missing.
    pub async fn run(self: &Arc<Self>) -> Infallible {
        let _end = NotReadyOnDrop(self);
        self.wait_for_lists().await;
        self.find_owner().await;
        let desired = loop {
            match self.look() {
                Some(desired) => break desired,
                None => self.changed.notified().await,
            }
        };
        {
            let mut state = self.state.lock();
            (state.desired, state.ready) = (desired, true);
        }
        let this = self.clone();
        let keys = || self.keys();
        let reconciled = self.pool.clone().run(keys, move |key| {
            let this = this.clone();
            async move { this.reconcile(&key).await }
        });
        let (never, ..) = tokio::join!(reconciled, self.poll(), self.follow());
        never
    }

    /// Of all that is wanted, and of all that is there.
    fn keys(&self) -> Vec<String> {
        let mut keys: HashSet<_> = self
            .cache
            .capacities()
            .iter()
            .map(|object| WorkItem::of(object).key())
            .collect();
        keys.extend(self.state.lock().desired.items().map(|item| item.key()));
        keys.into_iter().collect()
    }

    async fn wait_for_lists(&self) {
        let mut status = self.cache.sync_status();
        let mut said = HashSet::new();
        loop {
            let failures = {
                let status = status.borrow_and_update();
                if status.has_synced(Need::Capacity) {
                    return;
                }
                status.failures(Need::Capacity)
            };
            for failure in failures {
                if said.insert(failure.clone()) {
                    tracing::warn!("no storage capacity is published, volumes are: {failure}");
                }
            }
            if status.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    async fn find_owner(&self) {
        let Some((pod, level)) = &self.publication.owner else {
            return;
        };
        let mut failures = 0;
        while self.state.lock().owner.is_none() {
            match self.api.owner(&self.publication.namespace, pod, *level).await {
                Ok(owner) => {
                    tracing::info!(
                        kind = owner.kind,
                        name = owner.name,
                        "owner of the capacity objects"
                    );
                    self.state.lock().owner = Some(owner);
                }
                Err(error) => {
                    tracing::warn!(
                        "no storage capacity is published, volumes are: the owner of the objects is not known \
                         (--capacity-ownerref-level={level}): {error}"
                    );
                    sleep(self.publication.backoff.delay(failures)).await;
                    failures = failures.saturating_add(1);
                }
            }
        }
    }

    async fn poll(&self) -> Infallible {
        let interval = self.publication.poll_interval;
        let mut polls = interval_at(Instant::now() + interval, interval);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            polls.tick().await;
            self.refresh(Refresh::All);
        }
    }

    /// Keeps up with nodes and classes.
    async fn follow(&self) -> Infallible {
        loop {
            let expires = self.cache.topology_expires();
            tokio::select! {
                () = self.changed.notified() => sleep(BURST).await,
                () = sleep(expires.unwrap_or_default()), if expires.is_some() => {}
            }
            let Some(desired) = self.look() else { continue };
            let before = std::mem::replace(&mut self.state.lock().desired, desired.clone());
            let items = desired.difference(&before);
            if !items.is_empty() {
                tracing::debug!(items = items.len(), "other capacities are wanted");
            }
            items.iter().for_each(|item| self.pool.add(&item.key()));
        }
    }

    /// What is wanted now. `None` while labels of nodes are being read: what seems to have gone may be there.
    fn look(&self) -> Option<Desired> {
        let topology = self.cache.topology();
        if topology.is_incomplete() {
            return None;
        }
        let classes = self.cache.classes();
        let classes = classes.iter().map(|class| &**class);
        Some(Desired::new(
            classes,
            topology.segments().clone(),
            self.publication.immediate,
        ))
    }
}

struct NotReadyOnDrop<'a>(&'a Capacity);

impl Drop for NotReadyOnDrop<'_> {
    fn drop(&mut self) {
        self.0.state.lock().ready = false;
    }
}
