//! Claims: those that need a volume from us are kept whole.

use std::sync::Arc;

use super::{Cache, CacheEvent, Cached, Stores};
use crate::cluster::{objects::Claim, source::SourceKind, store::Store};

impl Cached for Claim {
    type Kept = Arc<Self>;

    fn key(&self) -> &str {
        &self.uid
    }

    fn store(stores: &mut Stores) -> &mut Store<Arc<Self>> {
        &mut stores.claims
    }

    fn applied(self, cache: &Cache) {
        cache.claim_seen(&self);
        if !(cache.predicates.claim)(&self, &cache.driver) {
            return cache.remove::<Self>(&self.uid);
        }
        let claim = Arc::new(self);
        let before = {
            let mut stores = cache.stores.lock();
            let before = stores.claims.insert(&claim.uid, claim.clone());
            if before.is_none() {
                stores.claim_waits(&claim);
            }
            before
        };
        // A relist shows everything again: what it shows unchanged is no reason to look.
        if before.as_ref() != Some(&claim) {
            cache.emit(CacheEvent::Claim(&claim.uid));
        }
    }

    fn deleted(&self, cache: &Cache) {
        cache.source_gone(SourceKind::Claim, &self.namespace, &self.name);
    }

    fn removed(cache: &Cache, uid: &str, claim: Arc<Self>) {
        cache.stores.lock().claim_waits_no_more(&claim);
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
