//! What claims that wait for a volume take its content from: who waits for which source, and what was last seen of it.
//!
//! Of the snapshots only those are kept that such a claim names, and of the claims that have their volume nothing but the
//! UIDs of those. Whoever makes a volume reads its source from the API server: what is seen here only says when to look.

use std::collections::{BTreeSet, HashMap};

use super::{Cache, CacheEvent, Cached, Stores};
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{
        objects::Claim,
        source::{Snapshot, Source, SourceKind},
        store::Store,
    },
};

/// The sources of claims that wait for a volume.
#[derive(Default)]
pub(super) struct Sources(HashMap<Source, Waited>);

#[derive(Default)]
struct Waited {
    /// UIDs of the claims.
    by: BTreeSet<Box<str>>,
    /// UID of the snapshot that is kept, or of the source claim that was seen Bound.
    seen: Option<Box<str>>,
}

impl Sources {
    fn add(&mut self, source: Source, claim: &str) {
        self.0.entry(source).or_default().by.insert(claim.into());
    }

    /// Returns the UID of what was seen of the source, if nobody waits for it any more.
    fn remove(&mut self, source: &Source, claim: &str) -> Option<Box<str>> {
        let waited = self.0.get_mut(source)?;
        waited.by.remove(claim);
        if !waited.by.is_empty() {
            return None;
        }
        let waited = self.0.remove(source)?;
        if self.0.is_empty() {
            self.0 = HashMap::new();
        }
        waited.seen
    }

    fn get_mut(&mut self, kind: SourceKind, namespace: &str, name: &str) -> Option<&mut Waited> {
        // Nearly always: no claim waits for any source.
        if self.0.is_empty() {
            return None;
        }
        self.0.get_mut(&Source {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    fn of_kind(&self, kind: SourceKind) -> Vec<Box<str>> {
        let sources = self.0.iter().filter(|(source, _)| source.kind == kind);
        sources
            .flat_map(|(_, waited)| waited.by.iter().cloned())
            .collect()
    }
}

/// Also one in another namespace: whether that counts is found out by whoever looks at the claim.
fn source_of(claim: &Claim) -> Option<Source> {
    Source::of(claim, true).ok().flatten()
}

impl Cached for Snapshot {
    type Kept = Self;

    fn key(&self) -> &str {
        &self.uid
    }

    fn store(stores: &mut Stores) -> &mut Store<Self> {
        &mut stores.snapshots
    }

    fn applied(mut self, cache: &Cache) {
        // Our own finalizer is no reason to look again.
        self.is_protected = false;
        let claims = {
            let stores = &mut *cache.stores.lock();
            stores.snapshots_watched = Some(Ok(()));
            let waited = stores
                .sources
                .get_mut(SourceKind::Snapshot, &self.namespace, &self.name);
            let Some(waited) = waited else { return };
            waited.seen = Some(self.uid.as_str().into());
            let before = stores.snapshots.insert(&self.uid, self.clone());
            if before.as_ref() == Some(&self) {
                return;
            }
            waited.by.clone()
        };
        cache.wake(claims);
    }

    fn deleted(&self, cache: &Cache) {
        cache.source_gone(SourceKind::Snapshot, &self.namespace, &self.name);
    }

    fn removed(cache: &Cache, _: &str, snapshot: Self) {
        cache.source_gone(SourceKind::Snapshot, &snapshot.namespace, &snapshot.name);
    }

    fn listed(cache: &Cache) {
        cache.stores.lock().snapshots_watched = Some(Ok(()));
    }

    /// Snapshots that cannot be watched are looked at instead, so who waits for one has to know.
    fn interrupted(cache: &Cache, error: &ApiError) {
        let is_refused = matches!(
            error.reason,
            Reason::NotFound | Reason::Forbidden | Reason::Unauthorized
        );
        // What worked before goes on in a moment, as a rule.
        if !is_refused && cache.is_watched(SourceKind::Snapshot) {
            return;
        }
        let claims = {
            let stores = &mut *cache.stores.lock();
            let now = Some(Err(error.reason));
            if stores.snapshots_watched == now {
                return;
            }
            stores.snapshots_watched = now;
            stores.sources.of_kind(SourceKind::Snapshot)
        };
        tracing::warn!(
            %error,
            "VolumeSnapshots are not watched: a claim that waits for one looks at it at the pace of failed attempts, all else goes on"
        );
        cache.wake(claims);
    }
}

impl Cache {
    /// Whether a claim hears of each change of its source, once it is of this kind.
    pub fn is_watched(&self, kind: SourceKind) -> bool {
        match kind {
            SourceKind::Snapshot => self.stores.lock().snapshots_watched == Some(Ok(())),
            SourceKind::Claim => true,
        }
    }

    /// Whether a claim like this needs a volume from us, and its content from this source.
    pub fn is_named(&self, source: &Source, by: impl Fn(&Claim) -> bool) -> bool {
        let stores = self.stores.lock();
        let Some(waited) = stores.sources.0.get(source) else {
            return false;
        };
        let mut claims = waited.by.iter().filter_map(|uid| stores.claims.get(uid));
        claims.any(|claim| by(claim))
    }

    /// A claim was seen that others may wait for.
    pub(super) fn claim_seen(&self, claim: &Claim) {
        let claims = {
            let stores = &mut *self.stores.lock();
            let waited = stores
                .sources
                .get_mut(SourceKind::Claim, &claim.namespace, &claim.name);
            let Some(waited) = waited else { return };
            let bound = claim.is_bound.then(|| claim.uid.as_str().into());
            if waited.seen == bound {
                return;
            }
            waited.seen = bound;
            if !claim.is_bound {
                return;
            }
            waited.by.clone()
        };
        self.wake(claims);
    }

    /// Who waits for a source that is gone is told so.
    pub(super) fn source_gone(&self, kind: SourceKind, namespace: &str, name: &str) {
        let claims = {
            let stores = &mut *self.stores.lock();
            let Some(waited) = stores.sources.get_mut(kind, namespace, name) else {
                return;
            };
            waited.seen = None;
            waited.by.clone()
        };
        self.wake(claims);
    }

    fn wake(&self, claims: impl IntoIterator<Item = Box<str>>) {
        for uid in claims {
            self.emit(CacheEvent::Claim(&uid));
        }
    }
}

impl Stores {
    /// A claim waits for a volume.
    pub(super) fn claim_waits(&mut self, claim: &Claim) {
        if let Some(source) = source_of(claim) {
            self.sources.add(source, &claim.uid);
        }
    }

    /// It does not any more.
    pub(super) fn claim_waits_no_more(&mut self, claim: &Claim) {
        if let Some(source) = source_of(claim)
            && let Some(seen) = self.sources.remove(&source, &claim.uid)
            && source.kind == SourceKind::Snapshot
        {
            self.snapshots.remove(&seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::objects::SourceRef;

    fn claim(uid: &str, kind: &str) -> Claim {
        Claim {
            uid: uid.into(),
            namespace: "shop".into(),
            data_source: Some(SourceRef {
                kind: kind.into(),
                name: "origin".into(),
                ..SourceRef::default()
            }),
            ..Claim::default()
        }
    }

    #[test]
    fn a_source_is_remembered_while_a_claim_waits_for_it_and_a_snapshot_kept() {
        let mut stores = Stores::default();
        let (first, second) = (claim("a", "VolumeSnapshot"), claim("b", "VolumeSnapshot"));
        let clone = claim("c", "PersistentVolumeClaim");
        for claim in [&first, &second, &clone, &claim("d", "Dump"), &Claim::default()] {
            stores.claim_waits(claim);
        }
        assert_eq!(stores.sources.0.len(), 2);
        assert_eq!(
            stores.sources.of_kind(SourceKind::Snapshot),
            ["a".into(), "b".into()]
        );
        let named = |stores: &mut Stores| {
            let waited = stores.sources.get_mut(SourceKind::Snapshot, "shop", "origin");
            waited.map(|waited| waited.seen = Some("u".into())).is_some()
        };
        assert!(named(&mut stores));
        stores.snapshots.insert("u", Snapshot::default());
        stores.claim_waits_no_more(&first);
        stores.claim_waits_no_more(&first);
        assert_eq!(stores.snapshots.len(), 1, "another one waits");
        stores.claim_waits_no_more(&second);
        assert_eq!(stores.snapshots.len(), 0);
        assert!(!named(&mut stores));
        stores.claim_waits_no_more(&clone);
        assert_eq!(stores.sources.0.capacity(), 0);
    }
}
