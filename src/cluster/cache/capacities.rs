//! CSIStorageCapacities: those that carry the labels of this sidecar.

use std::sync::Arc;

use super::{Cache, CacheEvent, Cached, Stores};
use crate::cluster::{objects::StorageCapacity, store::Store};

impl Cached for StorageCapacity {
    type Kept = Arc<Self>;

    fn key(&self) -> &str {
        &self.uid
    }

    fn store(stores: &mut Stores) -> &mut Store<Arc<Self>> {
        &mut stores.capacities
    }

    fn applied(self, cache: &Cache) {
        let capacity = Arc::new(self);
        let before = cache
            .stores
            .lock()
            .capacities
            .insert(&capacity.uid, capacity.clone());
        if before.as_ref() != Some(&capacity) {
            cache.emit(CacheEvent::Capacity(&capacity.uid));
        }
    }

    fn removed(cache: &Cache, uid: &str, _: Arc<Self>) {
        cache.emit(CacheEvent::Capacity(uid));
    }
}

impl Cache {
    /// The capacity objects of this sidecar.
    pub fn capacities(&self) -> Vec<Arc<StorageCapacity>> {
        self.stores.lock().capacities.values().cloned().collect()
    }

    /// The capacity object of this UID.
    pub fn capacity(&self, uid: &str) -> Option<Arc<StorageCapacity>> {
        self.stores.lock().capacities.get(uid).cloned()
    }
}
