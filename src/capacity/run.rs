//! Which items are looked at, and when: what the controller does as long as this replica is the active one.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PersistentVolume;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::{
    diff,
    metrics::CapacityCounts,
    reconcile::{Capacity, CapacityState},
    segments::{Desired, WorkItem},
};
use crate::cluster::{
    cache::{CacheEvent, Need},
    node_selector::{NodeSelectorTerm, terms_of},
    objects::StorageCapacity,
    queue::Requeue,
};

/// Changes of nodes and classes come in bursts: so long after the first one it is looked what they came to.
const BURST: Duration = Duration::from_secs(1);
/// The only key of the queue for them (upstream's queue has one, too).
const TOPOLOGY: &str = "topology";

/// What may have become of the capacity that the driver has.
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

impl Capacity {
    /// Something in the cache changed. No effect unless the controller runs.
    pub fn on_event(&self, event: CacheEvent<'_>) {
        match event {
            CacheEvent::Class(class) => {
                self.state.lock().changed_classes.insert(class.to_owned());
                self.topology_pool.add(TOPOLOGY);
            }
            CacheEvent::Topology => self.topology_pool.add(TOPOLOGY),
            CacheEvent::Capacity(object) => self.count_objects(object),
            CacheEvent::Claim(_) | CacheEvent::Volume(_) | CacheEvent::VolumeOfClaim { .. } => {}
        }
    }

    /// An object came or went. What objects say is compared at the polls, and their number here.
    fn count_objects(&self, object: &StorageCapacity) {
        let item = WorkItem::of(object);
        let objects = self.cache.capacities_like(&item.class, item.segment.as_ref());
        let mut state = self.state.lock();
        let is_due = match (state.wants(&item), objects.len()) {
            // Whoever deletes it again and again is no reason to make it faster than we poll.
            (true, 0) => state.lost.insert(item.clone()),
            (true, 1) | (false, 0) => false,
            _ => true,
        };
        drop(state);
        if is_due {
            self.pool.add(&item.key());
        }
    }

    /// The driver's capacity may have changed: these items are asked for again.
    pub fn refresh(&self, what: Refresh<'_>) {
        let items = self.items_of(what);
        items.iter().for_each(|item| self.pool.add(&item.key()));
    }

    fn items_of(&self, what: Refresh<'_>) -> Vec<WorkItem> {
        let state = self.state.lock();
        let Some(desired) = &state.desired else {
            return Vec::new();
        };
        let in_terms = |terms: &[NodeSelectorTerm]| {
            let segment = |term: &NodeSelectorTerm| {
                let segment = term.segment();
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

    /// How things are; all is zero while the controller does not run.
    pub fn counts(&self) -> CapacityCounts {
        let objects = self.cache.capacities();
        let state = self.state.lock();
        let Some(goal) = &state.desired else {
            return CapacityCounts::default();
        };
        let [desired, current, obsolete] = diff::counts(goal, &objects);
        CapacityCounts {
            desired,
            current,
            obsolete,
            failing: state.failing.len(),
            ready: state.refused.is_empty(),
        }
    }

    /// Publishes until dropped. Begins when the lists are complete, and when the owner is known: until then it says
    /// what is missing.
    pub async fn run(self: &Arc<Self>) -> Infallible {
        let _end = ForgetOnDrop(self);
        self.wait_for_lists().await;
        self.wait_for_owner().await;
        let desired = loop {
            match self.desired() {
                Some(desired) => break desired,
                None => sleep(BURST).await,
            }
        };
        {
            let mut state = self.state.lock();
            state.desired = Some(desired);
            // All items are looked at now.
            state.changed_classes.clear();
        }
        let (this, that) = (self.clone(), self.clone());
        let items = self.pool.clone().run(
            || self.keys(),
            move |key| {
                let this = this.clone();
                async move { this.reconcile(&key).await }
            },
        );
        let topology = self.topology_pool.clone().run(
            || vec![TOPOLOGY.to_owned()],
            move |_| {
                let that = that.clone();
                async move { that.update_desired().await }
            },
        );
        let (never, ..) = tokio::join!(items, topology, self.poll());
        never
    }

    /// Of all that is wanted, and of all that is there.
    fn keys(&self) -> Vec<String> {
        let objects = self.cache.capacities();
        let mut items: HashSet<_> = objects.iter().map(|object| WorkItem::of(object)).collect();
        items.extend(self.items_of(Refresh::All));
        items.iter().map(WorkItem::key).collect()
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

    async fn wait_for_owner(&self) {
        let mut failures = 0;
        while let Err(error) = self.find_owner().await {
            tracing::warn!("no storage capacity is published, volumes are: {error}");
            sleep(self.publication.backoff.delay(failures)).await;
            failures = failures.saturating_add(1);
        }
    }

    /// Finds the owner of the objects anew. An error names the flag.
    async fn find_owner(&self) -> Result<(), String> {
        let Some((pod, level)) = &self.publication.owner else {
            return Ok(());
        };
        let found = self.api.owner(&self.publication.namespace, pod, *level).await;
        let owner = found.map_err(|error| {
            format!("the owner of the objects is not known (--capacity-ownerref-level={level}): {error}")
        })?;
        let mut state = self.state.lock();
        if state.owner.as_ref() != Some(&owner) {
            let (kind, name) = (&owner.kind, &owner.name);
            tracing::info!(kind, name, "owner of the capacity objects");
        }
        state.owner = Some(owner);
        Ok(())
    }

    async fn poll(&self) -> Infallible {
        let interval = self.publication.poll_interval;
        let mut polls = interval_at(Instant::now() + interval, interval);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            polls.tick().await;
            self.check_watches();
            let lost = std::mem::take(&mut self.state.lock().lost);
            // Objects whose owner has gone are deleted by the garbage collector, each time anew.
            if !lost.is_empty()
                && let Err(error) = self.find_owner().await
            {
                tracing::warn!("capacity objects were deleted by somebody else, and {error}");
            }
            self.refresh(Refresh::All);
        }
    }

    /// A right may be taken away at any time.
    fn check_watches(&self) {
        let refused = self.cache.refused(Need::Capacity);
        let before = std::mem::replace(&mut self.state.lock().refused, refused.clone());
        for failure in refused.iter().filter(|failure| !before.contains(failure)) {
            tracing::warn!("published storage capacity grows old: {failure}");
        }
    }

    /// Keeps up with nodes and classes.
    async fn update_desired(&self) -> Requeue {
        sleep(BURST).await;
        if let Some(desired) = self.desired() {
            for item in self.replace_desired(&desired) {
                self.pool.add(&item.key());
            }
        }
        match self.cache.topology_expires() {
            Some(left) => Requeue::After(left),
            None => Requeue::AwaitChange,
        }
    }

    /// Returns the items that have to be looked at. None at the end of a term: this may run a little longer.
    fn replace_desired(&self, desired: &Desired) -> Vec<WorkItem> {
        let mut state = self.state.lock();
        let Some(before) = &mut state.desired else {
            return Vec::new();
        };
        let before = std::mem::replace(before, desired.clone());
        state.removed.extend(before.segments_without(desired));
        let classes = std::mem::take(&mut state.changed_classes);
        drop(state);
        let mut items = desired.difference(&before);
        // A class that was made anew at once may have other parameters.
        items.extend(classes.iter().flat_map(|class| desired.of_class(class)));
        if !items.is_empty() {
            tracing::debug!(items = items.len(), "capacities to look at");
        }
        items
    }

    /// What is wanted now. `None` while labels of nodes are being read: what seems to have gone may be there.
    fn desired(&self) -> Option<Desired> {
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

/// At the end of a term. What was true then may not be in the next one.
struct ForgetOnDrop<'a>(&'a Capacity);

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        *self.0.state.lock() = CapacityState::default();
    }
}
