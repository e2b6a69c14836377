//! The cache (client-go: shared informers): the cluster as far as it concerns one driver, as the reflectors last saw
//! it.
//!
//! Everything is decided on arrival. An object that needs work is kept; a volume of ours that needs none becomes two
//! UIDs; all else is forgotten at once, so the claims and volumes of other drivers cost nothing. The reflectors run
//! from start to end of the process, on leaders and standbys alike. Each kind of object has a file of its own here.

mod attachments;
mod capacities;
mod claims;
mod classes;
mod csi_nodes;
mod nodes;
mod sources;
mod volumes;
mod watched;

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use futures::future::OptionFuture;
use kube::Client;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};

use self::{capacities::CapacityIndex, nodes::Topology, sources::Sources, volumes::VolumeUids};
pub use self::{
    nodes::ROLL_OUT,
    watched::{Need, NodeSource, Watched},
};
use super::{
    decode::Object,
    objects::{Attachment, Claim, Class, CsiNode, Node, StorageCapacity, Volume},
    reflector::{self, ListScope, Update},
    source::Snapshot,
    store::Store,
};
use crate::base::api_error::{ApiError, Reason};

/// A watch that is refused is tried again twice in this time at least.
const REFUSED: Duration = Duration::from_secs(60);

/// Which objects need work: the cheap part of a controller's decision, applied to everything that arrives.
#[derive(Clone, Copy)]
pub struct Predicates {
    /// Whether a claim needs work from the driver of this name.
    pub claim: fn(&Claim, &str) -> bool,
    /// Whether a volume that is ours needs work from the driver of this name.
    pub volume: fn(&Volume, &str) -> bool,
}

/// A reason to reconcile an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheEvent<'a> {
    /// The claim of this UID changed, or its class did, or its volume went away; or it needs nothing from us any more.
    Claim(&'a str),
    /// A PersistentVolume of ours was seen.
    VolumeOfClaim {
        /// Its name.
        volume: &'a str,
        /// UID of the claim that it is for.
        claim: &'a str,
    },
    /// The volume of this UID changed, or is attached no longer; or it needs nothing from us any more.
    Volume(&'a str),
    /// The class of this name changed or is gone.
    Class(&'a str),
    /// [`Cache::topology`] may have changed.
    Topology,
    /// This capacity object has come or gone; that it was updated is no event.
    Capacity(&'a StorageCapacity),
}

/// Hears of [`CacheEvent`]s. The cache shows the change already.
pub type OnCacheEvent = Box<dyn Fn(CacheEvent<'_>) + Send + Sync>;

/// What the cluster looks like.
pub struct Cache {
    driver: String,
    predicates: Predicates,
    watched: Watched,
    stores: Mutex<Stores>,
    sync: watch::Sender<SyncStatus>,
    /// When a list or watch was refused last, and why.
    refusals: Mutex<HashMap<&'static str, (Instant, ApiError)>>,
    /// Counts the times when topology keys appeared that no Node was kept with.
    new_keys: watch::Sender<u64>,
    on_event: OnCacheEvent,
}

#[derive(Default)]
struct Stores {
    /// Claims that need a volume from us, by UID.
    claims: Store<Arc<Claim>>,
    /// By name.
    classes: Store<Arc<Class>>,
    /// Volumes of ours, by name.
    volumes: Store<VolumeUids>,
    /// Those of them that need work, by UID.
    unfinished_volumes: Store<Arc<Volume>>,
    /// Which claim those that are Released had before, by the volume's UID; only where the release was seen.
    released_from: HashMap<Box<str>, Box<str>>,
    /// By name.
    attachments: Store<Attachment>,
    /// Names of the attachments of a volume, by the volume's name.
    attachments_of_volume: HashMap<String, Vec<String>>,
    /// Labels of the Nodes, as far as they are topology keys, by name.
    nodes: Store<nodes::Labels>,
    /// What the CSINodes say of the driver, by name.
    csi_nodes: Store<csi_nodes::Registered>,
    topology: Topology,
    /// By UID.
    capacities: Store<Arc<StorageCapacity>>,
    capacities_like: CapacityIndex,
    /// What the claims that need a volume from us take its content from.
    sources: Sources,
    /// The snapshots among that, by UID.
    snapshots: Store<Snapshot>,
    /// Whether snapshots are watched, or why not. `None`: it is not known yet.
    snapshots_watched: Option<Result<(), Reason>>,
}

/// How objects of one kind are cached.
trait Cached: Object {
    /// What is remembered of an object.
    type Kept;

    /// Under what it is remembered.
    fn key(&self) -> &str;

    fn store(stores: &mut Stores) -> &mut Store<Self::Kept>;

    /// The object exists and looks like this.
    fn applied(self, cache: &Cache);

    /// An object that was remembered is deleted, or is no concern of ours any more.
    fn removed(cache: &Cache, key: &str, kept: Self::Kept);

    /// An object is deleted, whether it was remembered or not.
    fn deleted(&self, _cache: &Cache) {}

    /// A list begins.
    fn listing(_cache: &Cache) {}

    /// A list is complete.
    fn listed(_cache: &Cache) {}

    /// A list or watch has failed.
    fn interrupted(_cache: &Cache, _error: &ApiError) {}
}

/// Which first lists are complete, and what keeps the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus(Vec<(&'static str, Need, ListStatus)>);

/// How far a first list is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ListStatus {
    /// An answer is awaited.
    Pending,
    /// The API server refuses or is away.
    Failing(ApiError),
    /// It is complete. Errors after that are the reflector's to mend; what is known stays known.
    Synced,
}

impl SyncStatus {
    /// All lists are complete that this needs.
    pub fn has_synced(&self, need: Need) -> bool {
        self.needed(need).all(|(_, status)| *status == ListStatus::Synced)
    }

    /// What keeps lists from being complete that this needs, other than time.
    pub fn failures(&self, need: Need) -> Vec<String> {
        let text = |(_, status): (&str, &ListStatus)| match status {
            ListStatus::Failing(error) => Some(error.to_string()),
            ListStatus::Pending | ListStatus::Synced => None,
        };
        self.needed(need).filter_map(text).collect()
    }

    /// What this misses, for a person.
    pub fn missing(&self, need: Need) -> Vec<String> {
        let text = |(resource, status): (&str, &ListStatus)| match status {
            ListStatus::Pending => Some(format!("the list of {resource} is not complete yet")),
            ListStatus::Failing(error) => Some(error.to_string()),
            ListStatus::Synced => None,
        };
        self.needed(need).filter_map(text).collect()
    }

    /// Whether this list is complete.
    fn is_synced(&self, resource: &str) -> bool {
        let synced =
            |(name, _, status): &(&str, Need, ListStatus)| *name == resource && *status == ListStatus::Synced;
        self.0.iter().any(synced)
    }

    /// Capacity needs what volumes need, and more.
    fn needed(&self, need: Need) -> impl Iterator<Item = (&'static str, &ListStatus)> {
        let lists = self.0.iter();
        let needed = lists.filter(move |(_, list, _)| need == Need::Capacity || *list == Need::Volumes);
        needed.map(|(resource, _, status)| (*resource, status))
    }
}

impl Cache {
    /// A cache of nothing yet.
    pub fn new(driver: &str, predicates: Predicates, watched: Watched, on_event: OnCacheEvent) -> Self {
        let volumes = |resource| Some((resource, Need::Volumes));
        let lists = [
            volumes(Claim::PLURAL),
            volumes(Volume::PLURAL),
            volumes(Class::PLURAL),
            watched.attachments.then_some((Attachment::PLURAL, Need::Volumes)),
            watched.nodes.watched().map(|need| (CsiNode::PLURAL, need)),
            watched.nodes.watched().map(|need| (Node::PLURAL, need)),
            watched
                .capacities
                .as_ref()
                .map(|_| (StorageCapacity::PLURAL, Need::Capacity)),
        ];
        let pending = lists
            .into_iter()
            .flatten()
            .map(|(resource, need)| (resource, need, ListStatus::Pending));
        Self {
            driver: driver.to_owned(),
            predicates,
            watched,
            stores: Mutex::default(),
            sync: watch::Sender::new(SyncStatus(pending.collect())),
            refusals: Mutex::default(),
            new_keys: watch::Sender::new(0),
            on_event,
        }
    }

    /// Runs the reflectors. Never returns.
    pub async fn run(&self, client: Client) -> Infallible {
        let watched = &self.watched;
        let everywhere = ListScope::default();
        let capacities = watched.capacities.as_ref().map(|(namespace, labels)| ListScope {
            namespace: Some(namespace.clone()),
            labels: Some(labels.clone()),
        });
        let attachments = watched
            .attachments
            .then(|| self.list_watch::<Attachment>(&client, &everywhere));
        let nodes = watched.nodes.watched();
        let csi_nodes = nodes.map(|_| self.list_watch::<CsiNode>(&client, &everywhere));
        let nodes = nodes.map(|_| self.list_watch_nodes(&client));
        let capacities = capacities
            .as_ref()
            .map(|scope| self.list_watch::<StorageCapacity>(&client, scope));
        let snapshots = watched
            .snapshots
            .then(|| self.list_watch::<Snapshot>(&client, &everywhere));
        let (never, ..) = tokio::join!(
            self.list_watch::<Claim>(&client, &everywhere),
            self.list_watch::<Volume>(&client, &everywhere),
            self.list_watch::<Class>(&client, &everywhere),
            OptionFuture::from(attachments),
            OptionFuture::from(csi_nodes),
            OptionFuture::from(nodes),
            OptionFuture::from(capacities),
            OptionFuture::from(snapshots),
        );
        never
    }

    async fn list_watch<K: Cached>(&self, client: &Client, scope: &ListScope) -> Infallible {
        reflector::list_watch::<K>(client.clone(), scope, |update| self.update(update)).await
    }

    fn update<K: Cached>(&self, update: Update<K>) {
        match update {
            Update::Init => {
                K::store(&mut self.stores.lock()).begin_list();
                K::listing(self);
            }
            Update::Apply(object) => object.applied(self),
            Update::Delete(object) => {
                object.deleted(self);
                self.remove::<K>(object.key());
            }
            Update::InitDone => {
                let gone = K::store(&mut self.stores.lock()).finish_list();
                for (key, kept) in gone {
                    K::removed(self, &key, kept);
                }
                self.set_status(K::PLURAL, ListStatus::Synced);
                K::listed(self);
            }
            Update::Error(error) => {
                if let Reason::Forbidden | Reason::Unauthorized | Reason::NotFound = error.reason {
                    let refusal = (Instant::now(), error.clone());
                    self.refusals.lock().insert(K::PLURAL, refusal);
                }
                K::interrupted(self, &error);
                let failing = ListStatus::Failing(error.clone());
                // What was never there is missed again and again for the same reason: once is enough.
                if self.set_status(K::PLURAL, failing) || self.has_listed::<K>() {
                    tracing::warn!(%error, "watching is interrupted");
                }
            }
        }
    }

    fn remove<K: Cached>(&self, key: &str) {
        let removed = K::store(&mut self.stores.lock()).remove(key);
        if let Some(kept) = removed {
            K::removed(self, key, kept);
        }
    }

    /// Returns whether it was another one before.
    fn set_status(&self, resource: &str, now: ListStatus) -> bool {
        self.sync.send_if_modified(|sync| {
            let status = sync.0.iter_mut().find(|(name, ..)| *name == resource);
            match status {
                Some((.., status)) if *status != ListStatus::Synced && *status != now => {
                    *status = now;
                    true
                }
                _ => false,
            }
        })
    }

    /// Whether the first list of this kind was complete.
    fn has_listed<K: Cached>(&self) -> bool {
        self.sync.borrow().is_synced(K::PLURAL)
    }

    fn emit(&self, event: CacheEvent<'_>) {
        (self.on_event)(event);
    }

    /// Name of the driver.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// How far the first lists are.
    pub fn sync_status(&self) -> watch::Receiver<SyncStatus> {
        self.sync.subscribe()
    }

    /// What this needs and the API server refuses at present: what is known of it grows old.
    pub fn refused(&self, need: Need) -> Vec<String> {
        let refusals = self.refusals.lock();
        let sync = self.sync.borrow();
        let refused = sync
            .needed(need)
            .filter_map(|(resource, _)| refusals.get(resource));
        refused
            .filter(|(at, _)| at.elapsed() < REFUSED)
            .map(|(_, error)| error.to_string())
            .collect()
    }

    /// How many claims, classes, volumes, attachments and attached volumes are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 5] {
        let stores = self.stores.lock();
        [
            stores.claims.len(),
            stores.classes.len(),
            stores.volumes.len(),
            stores.attachments.len(),
            stores.attachments_of_volume.len(),
        ]
    }
}
