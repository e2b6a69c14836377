//! StorageClasses: ours are kept whole; of the others that they are not ours is worth knowing.

use std::sync::Arc;

use super::{Cache, CacheEvent, Cached, Stores};
use crate::cluster::{migration::is_name_of, objects::Class, store::Store};

impl Cached for Class {
    type Kept = Arc<Self>;

    fn key(&self) -> &str {
        &self.name
    }

    fn store(stores: &mut Stores) -> &mut Store<Arc<Self>> {
        &mut stores.classes
    }

    fn applied(self, cache: &Cache) {
        let class = Arc::new(if is_name_of(&cache.driver, &self.provisioner) {
            self
        } else {
            Self {
                name: self.name,
                uid: self.uid,
                provisioner: self.provisioner,
                ..Self::default()
            }
        });
        let before = cache.stores.lock().classes.insert(&class.name, class.clone());
        if before.as_ref() != Some(&class) {
            cache.emit_claims(|claim| claim.class() == class.name);
            cache.emit(CacheEvent::Class(&class.name));
        }
    }

    fn removed(cache: &Cache, name: &str, _: Arc<Self>) {
        cache.emit(CacheEvent::Class(name));
    }
}

impl Cache {
    /// The classes of the driver, also those that call it by the name of the plugin that it took over from.
    pub fn classes(&self) -> Vec<Arc<Class>> {
        let stores = self.stores.lock();
        let ours = stores
            .classes
            .values()
            .filter(|class| is_name_of(&self.driver, &class.provisioner));
        ours.cloned().collect()
    }

    /// The class of this name.
    pub fn class(&self, name: &str) -> Option<Arc<Class>> {
        self.stores.lock().classes.get(name).cloned()
    }
}
