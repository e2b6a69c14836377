//! Nodes: of their labels those that are topology keys of the driver. And what nodes and registrations come to: the
//! cluster's topology, built again after a change when somebody asks for it.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use kube::Client;
use tokio::time::Instant;

use super::{Cache, CacheEvent, Cached, NodeSource, Stores};
use crate::{
    base::segment::Segment,
    cluster::{
        decode::Object as _,
        objects::{CsiNode, Node},
        reflector::ListScope,
        store::Store,
        topology::{ClusterTopology, NodeState, Registration, TopologyKeys},
    },
};

/// How long a registration that has vanished counts on while its Node stands. The kubelet takes a driver out of the
/// CSINode while its node plugin is replaced; a roll-out must take no zone away.
pub const ROLL_OUT: Duration = Duration::from_secs(120);

/// Those labels of a Node that are topology keys.
pub(in crate::cluster) type Labels = Segment;

/// What is known of the nodes besides the two lists.
#[derive(Default)]
pub(super) struct Topology {
    /// The sets of keys that the driver has registered somewhere; nodes with the same keys share one.
    sets: BTreeSet<Arc<TopologyKeys>>,
    /// All keys that the driver has ever registered.
    keys: TopologyKeys,
    /// Those that the list of Nodes was begun with which is being read.
    listing: TopologyKeys,
    /// Those that all Nodes were kept with.
    read: TopologyKeys,
    /// Registrations that have vanished, by node, and when they stop to count.
    vanished: HashMap<String, (Arc<TopologyKeys>, Instant)>,
    /// As last built, until something changes.
    built: Option<(Arc<ClusterTopology>, Option<Instant>)>,
}

impl Topology {
    /// The same keys, kept once.
    pub(super) fn shared(&mut self, keys: TopologyKeys) -> Arc<TopologyKeys> {
        if let Some(shared) = self.sets.get(&keys) {
            return shared.clone();
        }
        // Those that no node has any more.
        self.sets.retain(|keys| Arc::strong_count(keys) > 1);
        let keys = Arc::new(keys);
        self.sets.insert(keys.clone());
        keys
    }

    /// The driver has registered these keys on a node. Returns whether some are new, so that no Node was kept with them.
    pub(super) fn registered(&mut self, node: &str, keys: &TopologyKeys) -> bool {
        self.vanished.remove(node);
        let known = self.keys.len();
        self.keys.extend(keys.iter().cloned());
        self.keys.len() > known
    }

    /// The driver is not registered on a node any more, where it had these keys.
    pub(super) fn vanished(&mut self, node: &str, keys: Arc<TopologyKeys>) {
        let now = Instant::now();
        // Replicas that wait for the lease never ask for the topology.
        self.vanished.retain(|_, (_, end)| now < *end);
        self.vanished.insert(node.to_owned(), (keys, now + ROLL_OUT));
    }
}

impl Cached for Node {
    type Kept = Labels;

    fn key(&self) -> &str {
        &self.name
    }

    fn store(stores: &mut Stores) -> &mut Store<Labels> {
        &mut stores.nodes
    }

    fn applied(mut self, cache: &Cache) {
        let mut stores = cache.stores.lock();
        self.labels.retain(|key| stores.topology.keys.contains(key));
        let before = stores.nodes.insert(&self.name, self.labels.clone());
        drop(stores);
        if before.as_ref() != Some(&self.labels) {
            cache.topology_changed();
        }
    }

    fn removed(cache: &Cache, _: &str, _: Labels) {
        cache.topology_changed();
    }

    fn listing(cache: &Cache) {
        let topology = &mut cache.stores.lock().topology;
        topology.listing.clone_from(&topology.keys);
    }

    fn listed(cache: &Cache) {
        {
            let topology = &mut cache.stores.lock().topology;
            topology.read = std::mem::take(&mut topology.listing);
        }
        cache.topology_changed();
    }
}

impl Cache {
    /// Watches the Nodes. When a key appears that they were not kept with, they are read again.
    pub(super) async fn list_watch_nodes(&self, client: &Client) -> Infallible {
        let mut new_keys = self.new_keys.subscribe();
        // Else every Node would be read twice.
        let mut sync = self.sync.subscribe();
        let _ = sync
            .wait_for(|sync| sync.is_synced(CsiNode::PLURAL))
            .await
            .map(|_| new_keys.mark_unchanged());
        let everywhere = ListScope::default();
        loop {
            tokio::select! {
                never = self.list_watch::<Node>(client, &everywhere) => return never,
                _ = new_keys.changed() => {}
            }
        }
    }

    pub(super) fn topology_changed(&self) {
        self.stores.lock().topology.built = None;
        self.emit(CacheEvent::Topology);
    }

    /// What is kept of a Node.
    #[cfg(test)]
    pub(in crate::cluster) fn labels_of(&self, node: &str) -> Labels {
        self.stores.lock().nodes.get(node).cloned().unwrap_or_default()
    }

    /// Where the driver runs.
    pub fn topology(&self) -> Arc<ClusterTopology> {
        let mut stores = self.stores.lock();
        let now = Instant::now();
        match &stores.topology.built {
            Some((built, end)) if end.is_none_or(|end| now < end) => return built.clone(),
            _ => {}
        }
        stores.topology.vanished.retain(|_, (_, end)| now < *end);
        let built = Arc::new(match &self.watched.nodes {
            NodeSource::Own { name, segment, .. } => ClusterTopology::of_one_node(name, segment.clone()),
            NodeSource::Unwatched | NodeSource::Watched(_) => stores.build(),
        });
        let end = stores.topology.vanished.values().map(|(_, end)| *end).min();
        stores.topology.built = Some((built.clone(), end));
        built
    }

    /// When the topology changes next by time alone: the end of a registration that has vanished.
    pub fn topology_expires(&self) -> Option<Duration> {
        let stores = self.stores.lock();
        let ends = stores.topology.vanished.values().map(|(_, end)| *end);
        let end = ends.min()?;
        Some(end.saturating_duration_since(Instant::now()))
    }
}

impl Stores {
    fn build(&self) -> ClusterTopology {
        let Topology {
            keys, read, vanished, ..
        } = &self.topology;
        let names: BTreeSet<&str> = self
            .csi_nodes
            .keys()
            .chain(vanished.keys().map(String::as_str))
            .collect();
        let state = |name: &str| NodeState {
            name: name.to_owned(),
            labels: self.nodes.get(name).cloned(),
            registration: match self.csi_nodes.get(name) {
                None => Registration::NoCsiNode,
                Some(None) => Registration::NoDriver,
                Some(Some(keys)) => Registration::Keys(keys.clone()),
            },
            vanished: vanished.get(name).map(|(keys, _)| keys.clone()),
        };
        ClusterTopology::new(names.into_iter().map(state), !keys.is_subset(read))
    }
}
