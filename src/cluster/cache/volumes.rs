//! Volumes of ours: those that need work are kept whole, of the others two UIDs and a hash. So are those that another
//! provisioner has made objects for at our driver.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{Cache, CacheEvent, Cached, Stores};
use crate::cluster::{objects::Volume, store::Store};

/// The UID of a volume and that of its claim, in one piece because there may be tens of thousands, with a mark where the
/// volume is Released; and the hash of its handle: what has the same is looked at more closely.
pub(super) struct VolumeUids {
    uids: Box<str>,
    handle: u64,
}

impl VolumeUids {
    fn new(volume: &Volume) -> Self {
        let claim = volume.claim.as_ref().map_or("", |claim| &claim.uid);
        let handle = volume.csi.as_ref().map_or("", |csi| &csi.handle);
        let mark = if volume.is_released() { " Released" } else { "" };
        Self {
            uids: format!("{} {claim}{mark}", volume.uid).into(),
            handle: hash(handle),
        }
    }

    pub(super) fn volume(&self) -> &str {
        self.uids.split(' ').next().unwrap_or_default()
    }

    fn claim(&self) -> &str {
        self.uids.split(' ').nth(1).unwrap_or_default()
    }

    fn is_released(&self) -> bool {
        self.uids.split(' ').nth(2).is_some()
    }
}

/// The same for the same handle, as long as this process runs.
fn hash(handle: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    handle.hash(&mut hasher);
    hasher.finish()
}

impl Cached for Volume {
    type Kept = VolumeUids;

    fn key(&self) -> &str {
        &self.name
    }

    fn store(stores: &mut Stores) -> &mut Store<VolumeUids> {
        &mut stores.volumes
    }

    fn applied(mut self, cache: &Cache) {
        let ours = self.belongs_to(&cache.driver);
        // Another provisioner may have made an object for a volume of the driver: its handle counts.
        let is_of_driver = self.csi.as_ref().is_some_and(|csi| csi.driver == cache.driver);
        if !ours && !is_of_driver {
            return cache.remove::<Self>(&self.name);
        }
        let uids = VolumeUids::new(&self);
        let claim = uids.claim().to_owned();
        let before = cache.stores.lock().volumes.insert(&self.name, uids);
        let before = match before {
            // The same name under another UID: the old object is gone, and no event of its own says so when the change
            // fell into a relist.
            Some(before) if before.volume() != self.uid => {
                cache.finish_volume(before.volume());
                None
            }
            before => before,
        };
        if !ours {
            return cache.finish_volume(&self.uid);
        }
        cache.emit(CacheEvent::VolumeOfClaim {
            volume: &self.name,
            claim: &claim,
        });
        if (cache.predicates.volume)(&self, &cache.driver) && cache.watched.nodes.reaches(&self) {
            if !cache.watched.node_affinity {
                self.node_affinity = None;
            }
            let volume = Arc::new(self);
            let mut stores = cache.stores.lock();
            if !volume.is_released() {
                stores.released_from.remove(volume.uid.as_str());
            } else if let Some(before) = before.filter(|before| !before.is_released()) {
                let (uid, claim) = (volume.uid.as_str().into(), before.claim().into());
                stores.released_from.insert(uid, claim);
            }
            let before = stores.unfinished_volumes.insert(&volume.uid, volume.clone());
            drop(stores);
            if before.as_ref() != Some(&volume) {
                cache.emit(CacheEvent::Volume(&volume.uid));
            }
        } else {
            cache.finish_volume(&self.uid);
        }
    }

    fn removed(cache: &Cache, name: &str, uids: VolumeUids) {
        cache.finish_volume(uids.volume());
        // A claim whose volume object was deleted before it was bound needs another one.
        if cache.claim(uids.claim()).is_some() {
            cache.emit(CacheEvent::Claim(uids.claim()));
        }
        tracing::debug!(volume = name, "volume object is gone");
    }

    fn listed(cache: &Cache) {
        cache.forget_foreign_attachments();
    }
}

impl Cache {
    /// The volume of this UID, if it needs work from us.
    pub fn volume(&self, uid: &str) -> Option<Arc<Volume>> {
        self.stores.lock().unfinished_volumes.get(uid).cloned()
    }

    /// Whether this volume, which is Released, was seen with this claim before it was.
    pub fn was_released_from(&self, uid: &str, claim: &str) -> bool {
        let stores = self.stores.lock();
        let before = stores.released_from.get(uid);
        before.is_some_and(|before| **before == *claim)
    }

    /// UIDs of the volumes that need work from us.
    pub fn volume_uids(&self) -> Vec<String> {
        let stores = self.stores.lock();
        stores.unfinished_volumes.keys().map(str::to_owned).collect()
    }

    /// UID of the claim that our volume of this name is for; `None` if there is no such volume.
    pub fn claim_of_volume(&self, name: &str) -> Option<String> {
        let stores = self.stores.lock();
        stores.volumes.get(name).map(|uids| uids.claim().to_owned())
    }

    /// Whether our volume of this name has this handle, or perhaps another one with its hash.
    pub fn volume_has_handle(&self, name: &str, handle: &str) -> bool {
        let stores = self.stores.lock();
        stores
            .volumes
            .get(name)
            .is_some_and(|uids| uids.handle == hash(handle))
    }

    /// Whether a volume of ours other than the one of this UID has this handle, or perhaps another one with its hash.
    ///
    /// They are all gone through: this is asked once per deletion, and an index by the hash would cost more for each
    /// volume than the hash itself.
    pub fn may_share_handle(&self, handle: &str, uid: &str) -> bool {
        let handle = hash(handle);
        let stores = self.stores.lock();
        let mut others = stores.volumes.values();
        others.any(|other| other.handle == handle && other.volume() != uid)
    }

    /// A volume needs no work any more.
    fn finish_volume(&self, uid: &str) {
        let mut stores = self.stores.lock();
        stores.released_from.remove(uid);
        let finished = stores.unfinished_volumes.remove(uid);
        drop(stores);
        if finished.is_some() {
            self.emit(CacheEvent::Volume(uid));
        }
    }
}
