//! What is remembered of claims for a while, without which they would be looked at too early.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{content::NoContent, decide::Decision, outcome::OtherId, plan::Plan};
use crate::cluster::objects::Claim;

/// After InvalidArgument the same request is not sent again for this long, however often the claim changes otherwise.
pub(super) const INFEASIBLE: Duration = Duration::from_secs(300);
/// A PersistentVolume that we wrote shows in the watch well within this time.
pub(super) const WATCH_LAG: Duration = Duration::from_secs(60);

/// Claims and classes come over watches of their own: a class that was made before its claim may be heard of this much
/// later.
const CLASS_LAG: Duration = Duration::from_secs(1);

/// What the API server keeps an event for after its last change, unless told otherwise.
pub(super) const EVENT_TTL: Duration = Duration::from_secs(3600);

/// Claims whose request the driver called infeasible.
#[derive(Default)]
pub(super) struct InfeasibleClaims(Expiring<InfeasibleRequest>);

/// What a request was made of, of which another one may be worth an early retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InfeasibleRequest {
    /// UID of the class.
    pub(super) class_uid: String,
    /// Name of the VolumeAttributesClass.
    pub(super) attributes_class: Option<String>,
}

impl InfeasibleClaims {
    pub(super) fn insert(&self, claim: &str, plan: &Plan) {
        let request = InfeasibleRequest {
            class_uid: plan.class_uid.clone(),
            attributes_class: plan.attributes_class().map(str::to_owned),
        };
        self.0.insert(claim, request, INFEASIBLE);
    }

    /// What a claim's request was made of, and how long that is not to be repeated.
    pub(super) fn get(&self, claim: &str) -> Option<(InfeasibleRequest, Duration)> {
        self.0.get(claim)
    }
}

/// Claims whose PersistentVolume we wrote and may not have seen yet: until the watch tells of it, only this keeps a
/// claim that changes meanwhile from being given another volume.
#[derive(Default)]
pub(super) struct RecentlySaved(Expiring<()>);

impl RecentlySaved {
    pub(super) fn insert(&self, claim: &str) {
        self.0.insert(claim, (), WATCH_LAG);
    }

    /// How long to wait for the object still.
    pub(super) fn left(&self, claim: &str) -> Option<Duration> {
        self.0.get(claim).map(|((), left)| left)
    }
}

/// Claims that we sent back to the scheduler, with the resourceVersion that they had in the watch then: until it shows
/// another one, they look as if the node were selected still.
#[derive(Default)]
pub(super) struct RecentlyRescheduled(Expiring<String>);

impl RecentlyRescheduled {
    pub(super) fn insert(&self, claim: &str, resource_version: &str) {
        self.0.insert(claim, resource_version.to_owned(), WATCH_LAG);
    }

    /// How long to wait for the claim's change still.
    pub(super) fn left(&self, claim: &str, resource_version: &str) -> Option<Duration> {
        let (seen, left) = self.0.get(claim)?;
        (seen == resource_version).then_some(left)
    }
}

/// Claims whose class is not known, with the moment from which on it counts as missing.
#[derive(Default)]
pub(super) struct ClaimsWithoutClass(Expiring<Instant>);

impl ClaimsWithoutClass {
    /// How long the class may only not have been heard of yet. Counts from the first call for a claim.
    pub(super) fn left(&self, claim: &str) -> Option<Duration> {
        let now = Instant::now();
        let end = match self.0.get(claim) {
            Some((end, _)) => end,
            None => {
                self.0.insert(claim, now + CLASS_LAG, EVENT_TTL);
                now + CLASS_LAG
            }
        };
        let left = end.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }
}

/// Claims whose volume's object is being written, as they were before: the watch may show them Bound, so that the cache
/// forgets them, before the answer comes.
#[derive(Default)]
pub(super) struct ClaimsBeingSaved(Expiring<Arc<Claim>>);

impl ClaimsBeingSaved {
    pub(super) fn insert(&self, claim: &Claim) {
        self.0.insert(&claim.uid, Arc::new(claim.clone()), WATCH_LAG);
    }

    pub(super) fn get(&self, uid: &str) -> Option<Arc<Claim>> {
        self.0.get(uid).map(|(claim, _)| claim)
    }

    pub(super) fn remove(&self, uid: &str) {
        self.0.remove(uid);
    }
}

/// What was decided about claims that a change of nodes may help.
#[derive(Default)]
pub(super) struct ClaimsWaitingForNodes(Mutex<HashMap<String, Decision>>);

impl ClaimsWaitingForNodes {
    /// Remembers the claim if it waits for nodes, and forgets it if not.
    pub(super) fn update(&self, claim: &str, decision: &Decision) {
        if decision.waits_for_nodes() {
            self.0.lock().insert(claim.to_owned(), decision.clone());
        } else {
            self.remove(claim);
        }
    }

    pub(super) fn remove(&self, claim: &str) {
        let mut waiting = self.0.lock();
        if waiting.remove(claim).is_some() && waiting.is_empty() {
            *waiting = HashMap::new();
        }
    }

    /// Those about which something else is decided now: however often nodes change, the others keep their delays and
    /// say nothing. `None`: the claim is gone.
    pub(super) fn changed(&self, decide: impl Fn(&str) -> Option<Decision>) -> Vec<String> {
        let before = self.0.lock().clone();
        let mut changed = Vec::new();
        for (claim, before) in before {
            match decide(&claim) {
                None => self.remove(&claim),
                Some(now) if now != before => changed.push(claim),
                Some(_) => {}
            }
        }
        changed
    }
}

/// Claims whose owner was told that a volume is being provisioned for them.
#[derive(Default)]
pub(super) struct AnnouncedClaims(Expiring<()>);

impl AnnouncedClaims {
    /// Whether this is the first attempt for a claim. It counts as known until there was none for as long as the API
    /// server keeps an event.
    pub(super) fn insert(&self, claim: &str) -> bool {
        let is_first = self.0.get(claim).is_none();
        self.0.insert(claim, (), EVENT_TTL);
        is_first
    }

    /// Its volume is saved, or it is gone.
    pub(super) fn remove(&self, claim: &str) {
        self.0.remove(claim);
    }
}

/// Claims whose owner was told what their source is waited for.
#[derive(Default)]
pub(super) struct ClaimsWaitingForSource(Expiring<NoContent>);

impl ClaimsWaitingForSource {
    /// Whether this is to be told: it was not waited for before, or so long ago that the event is gone.
    pub(super) fn insert(&self, claim: &str, why: &NoContent) -> bool {
        let is_new = self.0.get(claim).is_none_or(|(before, _)| before != *why);
        if is_new {
            self.0.insert(claim, why.clone(), EVENT_TTL);
        }
        is_new
    }
}

/// Drivers that are known to answer with ids of their storage's for sources: that of GCE PD gives the numbers of snapshots
/// and disks, whose names are their ids otherwise.
const OWN_IDS: [&str; 1] = ["pd.csi.storage.gke.io"];

/// What the driver has called the source of a claim's volume, where that was not what it had been given, and the volume is
/// gone again.
#[derive(Default)]
pub(super) struct OtherIds(Expiring<OtherId>);

impl OtherIds {
    pub(super) fn insert(&self, claim: &str, other: OtherId) {
        self.0.insert(claim, other, EVENT_TTL);
    }

    /// Whether this is the driver's own id of what it was given: it is known for that, or says the same of a new volume.
    pub(super) fn stands_for_ours(&self, claim: &str, driver: &str, other: &OtherId) -> bool {
        OWN_IDS.contains(&driver) || self.0.get(claim).is_some_and(|(before, _)| before == *other)
    }
}

/// Values that are forgotten after a while.
struct Expiring<T>(Mutex<Entries<T>>);

struct Entries<T> {
    by_claim: HashMap<String, (Instant, T)>,
    /// When to look next for what has expired: not at every insertion, or a burst would cost its square.
    sweep: Option<Instant>,
}

impl<T> Default for Expiring<T> {
    fn default() -> Self {
        Self(Mutex::new(Entries {
            by_claim: HashMap::new(),
            sweep: None,
        }))
    }
}

impl<T: Clone> Expiring<T> {
    fn insert(&self, claim: &str, value: T, lifetime: Duration) {
        let now = Instant::now();
        let Entries { by_claim, sweep } = &mut *self.0.lock();
        if sweep.is_none_or(|sweep| sweep <= now) {
            by_claim.retain(|_, (end, _)| *end > now);
            by_claim.shrink_to_fit();
            *sweep = Some(now + lifetime);
        }
        by_claim.insert(claim.to_owned(), (now + lifetime, value));
    }

    fn remove(&self, claim: &str) {
        self.0.lock().by_claim.remove(claim);
    }

    fn get(&self, claim: &str) -> Option<(T, Duration)> {
        let entries = self.0.lock();
        let (end, value) = entries.by_claim.get(claim)?;
        let left = end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (value.clone(), left))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{
        super::{refusal::Refusal, tests::world},
        *,
    };

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test(start_paused = true)]
    async fn an_infeasible_request_is_remembered_with_its_classes_for_five_minutes() {
        let infeasible = InfeasibleClaims::default();
        assert_eq!(infeasible.get("a"), None);
        let mut plan = world().plan();
        plan.class_uid = "class".into();
        infeasible.insert("a", &plan);
        advance(secs(100)).await;
        let mut request = InfeasibleRequest {
            class_uid: "class".into(),
            attributes_class: None,
        };
        assert_eq!(infeasible.get("a"), Some((request.clone(), secs(200))));
        plan.draft.spec.as_mut().unwrap().volume_attributes_class_name = Some("gold".into());
        infeasible.insert("a", &plan);
        advance(secs(299)).await;
        request.attributes_class = Some("gold".into());
        assert_eq!(infeasible.get("a"), Some((request, secs(1))));
        advance(secs(1)).await;
        assert_eq!(infeasible.get("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_saved_volume_is_waited_for_a_minute() {
        let saved = RecentlySaved::default();
        saved.insert("a");
        assert_eq!((saved.left("a"), saved.left("b")), (Some(secs(60)), None));
        advance(secs(60)).await;
        assert_eq!(saved.left("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_was_sent_back_is_waited_for_until_the_watch_shows_it() {
        let rescheduled = RecentlyRescheduled::default();
        rescheduled.insert("a", "7");
        advance(secs(10)).await;
        assert_eq!(rescheduled.left("a", "7"), Some(secs(50)));
        assert_eq!(
            (rescheduled.left("a", "8"), rescheduled.left("b", "7")),
            (None, None)
        );
        advance(secs(50)).await;
        assert_eq!(rescheduled.left("a", "7"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_class_counts_as_missing_a_second_after_it_was_missed() {
        let without = ClaimsWithoutClass::default();
        assert_eq!(without.left("a"), Some(secs(1)));
        advance(secs(1) / 2).await;
        assert_eq!(
            (without.left("a"), without.left("b")),
            (Some(secs(1) / 2), Some(secs(1)))
        );
        advance(secs(1) / 2).await;
        assert_eq!(without.left("a"), None);
        advance(secs(300)).await;
        assert_eq!(without.left("a"), None, "a retry waits no second time");
    }

    #[test]
    fn of_the_claims_that_wait_for_nodes_those_are_looked_at_for_which_something_has_changed() {
        let (waits, other) = (Decision::from(Refusal::NoTopology), Decision::Resume);
        let waiting = ClaimsWaitingForNodes::default();
        for claim in ["a", "b", "c", "d"] {
            waiting.update(claim, &waits);
        }
        waiting.update("b", &other);
        let now = |claim: &str| match claim {
            "a" => Some(waits.clone()),
            "c" => Some(other.clone()),
            _ => None,
        };
        assert_eq!(waiting.changed(now), ["c"]);
        assert_eq!(waiting.0.lock().len(), 2, "b needs no nodes any more, d is gone");
        assert_eq!(waiting.changed(now), ["c"], "until it is looked at");
        waiting.remove("a");
        waiting.remove("c");
        assert_eq!(waiting.0.lock().capacity(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_announced_once_while_it_is_tried() {
        let announced = AnnouncedClaims::default();
        assert!(announced.insert("a") && announced.insert("b"));
        for _ in 0..100 {
            advance(secs(300)).await;
            assert!(!announced.insert("a"));
        }
        assert!(announced.insert("b"), "nobody tried for an hour");
        announced.remove("a");
        assert!(announced.insert("a"), "another creation");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_takes_no_memory_once_something_is_added() {
        let saved = RecentlySaved::default();
        (0..10_000).for_each(|n| saved.insert(&n.to_string()));
        advance(secs(60)).await;
        saved.insert("a");
        let kept = saved.0.0.lock().by_claim.len();
        assert_eq!(kept, 1);
    }
}
