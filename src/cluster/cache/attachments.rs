//! VolumeAttachments of our driver, and which volumes they keep from being deleted.

use super::{Cache, CacheEvent, Cached, Stores};
use crate::cluster::{objects::Attachment, store::Store};

impl Cached for Attachment {
    type Kept = Self;

    fn key(&self) -> &str {
        &self.name
    }

    fn store(stores: &mut Stores) -> &mut Store<Self> {
        &mut stores.attachments
    }

    fn applied(self, cache: &Cache) {
        if self.attacher != cache.driver {
            return cache.remove::<Self>(&self.name);
        }
        let (name, volume) = (self.name.clone(), self.volume.clone());
        let mut stores = cache.stores.lock();
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
