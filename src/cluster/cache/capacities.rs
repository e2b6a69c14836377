//! CSIStorageCapacities: those that carry the labels of this sidecar.

use std::{collections::HashMap, sync::Arc};

use super::{Cache, CacheEvent, Cached, Stores};
use crate::{
    base::segment::Segment,
    cluster::{objects::StorageCapacity, store::Store},
};

/// Capacity objects by class and segment.
pub(super) type CapacityIndex = HashMap<(String, Option<Segment>), Vec<Arc<StorageCapacity>>>;

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
        let mut stores = cache.stores.lock();
        let before = stores.capacities.insert(&capacity.uid, capacity.clone());
        if let Some(before) = &before {
            unindex(&mut stores.capacities_like, before);
        }
        let index = (capacity.class.clone(), capacity.segment.clone());
        let like = stores.capacities_like.entry(index).or_default();
        like.push(capacity.clone());
        drop(stores);
        // Class and segment of an object never change. What else it says is compared when the driver is asked: if each
        // update were a reason to ask, our own would be.
        if before.is_none() {
            cache.emit(CacheEvent::Capacity(&capacity));
        }
    }

    fn removed(cache: &Cache, _: &str, capacity: Arc<Self>) {
        unindex(&mut cache.stores.lock().capacities_like, &capacity);
        cache.emit(CacheEvent::Capacity(&capacity));
    }
}

fn unindex(index: &mut CapacityIndex, capacity: &StorageCapacity) {
    let key = (capacity.class.clone(), capacity.segment.clone());
    if let Some(like) = index.get_mut(&key) {
        like.retain(|other| other.uid != capacity.uid);
        if like.is_empty() {
            index.remove(&key);
        }
    }
}

impl Cache {
    /// The capacity objects of this sidecar.
    pub fn capacities(&self) -> Vec<Arc<StorageCapacity>> {
        self.stores.lock().capacities.values().cloned().collect()
    }

    /// Those of them for this class and segment. More than one is one too many.
    pub fn capacities_like(&self, class: &str, segment: Option<&Segment>) -> Vec<Arc<StorageCapacity>> {
        let key = (class.to_owned(), segment.cloned());
        let stores = self.stores.lock();
        stores.capacities_like.get(&key).cloned().unwrap_or_default()
    }
}
