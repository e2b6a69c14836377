//! CSINodes: whether the driver is registered there, and with which topology keys.

use std::sync::Arc;

use super::{Cache, Cached, Stores};
use crate::cluster::{objects::CsiNode, store::Store, topology::TopologyKeys};

/// The topology keys of the driver on a node, `None` if it is not registered there.
pub(super) type Registered = Option<Arc<TopologyKeys>>;

impl Cached for CsiNode {
    type Kept = Registered;

    fn key(&self) -> &str {
        &self.name
    }

    fn store(stores: &mut Stores) -> &mut Store<Registered> {
        &mut stores.csi_nodes
    }

    fn applied(mut self, cache: &Cache) {
        let mut stores = cache.stores.lock();
        let registered = self.drivers.remove(&cache.driver);
        let registered = registered.map(|keys| stores.topology.shared(keys));
        let before = stores.csi_nodes.insert(&self.name, registered.clone());
        // That a CSINode exists tells something, too, if only that the driver is not registered there.
        if before.as_ref() == Some(&registered) {
            return;
        }
        let has_new_keys = match (before.flatten(), registered) {
            (_, Some(keys)) => stores.topology.registered(&self.name, &keys),
            (Some(keys), None) => {
                stores.topology.vanished(&self.name, keys);
                false
            }
            (None, None) => false,
        };
        drop(stores);
        if has_new_keys {
            cache.new_keys.send_modify(|count| *count += 1);
        }
        cache.topology_changed();
    }

    fn removed(cache: &Cache, name: &str, registered: Registered) {
        if let Some(keys) = registered {
            cache.stores.lock().topology.vanished(name, keys);
        }
        cache.topology_changed();
    }
}
