//! VolumeAttachments: those of our driver and those of our volumes, and which volumes they keep from being deleted.

use super::{Cache, CacheEvent, Cached, Stores};
use crate::cluster::{
    objects::{Attachment, Volume},
    store::Store,
};

impl Cached for Attachment {
    type Kept = Self;

    fn key(&self) -> &str {
        &self.name
    }

    fn store(stores: &mut Stores) -> &mut Store<Self> {
        &mut stores.attachments
    }

    fn applied(self, cache: &Cache) {
        let (name, volume) = (self.name.clone(), self.volume.clone());
        let volumes_known = cache.has_listed::<Volume>();
        let mut stores = cache.stores.lock();
        if volumes_known && is_foreign(&self, &cache.driver, &stores) {
            drop(stores);
            return cache.remove::<Self>(&name);
        }
        let before = stores.attachments.insert(&name, self);
        if before.as_ref().is_none_or(|before| before.volume != volume) {
            stores.attachments_of_volume.entry(volume).or_default().push(name);
            drop(stores);
            // Recreated for another volume while we did not look.
            if let Some(before) = before {
                cache.detached(&before);
            }
        }
    }

    fn removed(cache: &Cache, _: &str, attachment: Self) {
        cache.detached(&attachment);
    }
}

impl Cache {
    /// A node that the volume of this name is attached to, or was asked to be.
    pub fn node_of_volume(&self, name: &str) -> Option<String> {
        let stores = self.stores.lock();
        let attachment = stores.attachments_of_volume.get(name)?.first()?;
        Some(stores.attachments.get(attachment)?.node.clone())
    }

    /// Our volumes are known: what others have attached besides them is forgotten.
    pub(super) fn forget_foreign_attachments(&self) {
        let foreign: Vec<_> = {
            let stores = self.stores.lock();
            let attachments = stores.attachments.values();
            let foreign = attachments.filter(|it| is_foreign(it, &self.driver, &stores));
            foreign.map(|it| it.name.clone()).collect()
        };
        for name in &foreign {
            self.remove::<Attachment>(name);
        }
        self.stores.lock().attachments_of_volume.shrink_to_fit();
    }

    fn detached(&self, attachment: &Attachment) {
        let uid = {
            let mut stores = self.stores.lock();
            let Some(names) = stores.attachments_of_volume.get_mut(&attachment.volume) else {
                return;
            };
            names.retain(|name| *name != attachment.name);
            if !names.is_empty() {
                return;
            }
            stores.attachments_of_volume.remove(&attachment.volume);
            let volume = stores.volumes.get(&attachment.volume);
            volume.map(|uids| uids.volume().to_owned())
        };
        // The last attachment is gone.
        if let Some(uid) = uid.filter(|uid| self.volume(uid).is_some()) {
            self.emit(CacheEvent::Volume(&uid));
        }
    }
}

/// Whether an attachment is neither ours nor of a volume of ours. Whoever attaches a volume of ours may be using it.
fn is_foreign(attachment: &Attachment, driver: &str, stores: &Stores) -> bool {
    attachment.attacher != driver && stores.volumes.get(&attachment.volume).is_none()
}
