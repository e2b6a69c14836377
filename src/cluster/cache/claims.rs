//! Claims: those that need a volume from us are kept whole.

use std::sync::Arc;

use super::{Cache, CacheEvent, Cached, Stores};
use crate::cluster::{objects::Claim, store::Store};

impl Cached for Claim {
    type Kept = Arc<Self>;

    fn key(&self) -> &str {
        &self.uid
    }

    fn store(stores: &mut Stores) -> &mut Store<Arc<Self>> {
        &mut stores.claims
    }

    fn applied(self, cache: &Cache) {
        if !(cache.predicates.claim)(&self, &cache.driver) {
            return cache.remove::<Self>(&self.uid);
        }
        let claim = Arc::new(self);
        let before = cache.stores.lock().claims.insert(&claim.uid, claim.clone());
        // A relist shows everything again: what it shows unchanged is no reason to look.
        if before.as_ref() != Some(&claim) {
            cache.emit(CacheEvent::Claim(&claim.uid));
        }
    }

    fn removed(cache: &Cache, uid: &str, _: Arc<Self>) {
        cache.emit(CacheEvent::Claim(uid));
    }
}

impl Cache {
    /// The claim of this UID, if it needs a volume from us.
    pub fn claim(&self, uid: &str) -> Option<Arc<Claim>> {
        self.stores.lock().claims.get(uid).cloned()
    }

    /// UIDs of the claims that need a volume from us.
    pub fn claim_uids(&self) -> Vec<String> {
        self.stores.lock().claims.keys().map(str::to_owned).collect()
    }

    /// Something changed that the claims under this predicate depend on.
    pub(super) fn emit_claims(&self, concerned: impl Fn(&Claim) -> bool) {
        let claims: Vec<_> = {
            let stores = self.stores.lock();
            let concerned = stores.claims.values().filter(|claim| concerned(claim));
            concerned.cloned().collect()
        };
        for claim in claims {
            self.emit(CacheEvent::Claim(&claim.uid));
        }
    }
}
