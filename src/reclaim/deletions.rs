//! What is remembered of volumes that are being deleted, until their objects are gone.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    base::backoff::Backoff,
    cluster::objects::{ClaimRef, Volume},
};

/// How long the watch may take to show what the API server has accepted, before it is asked for once more. Usually it
/// takes milliseconds. But a proxy may have answered in the server's place, and then nothing was done.
const CONFIRMATION: Backoff = Backoff {
    start: Duration::from_secs(10),
    max: Duration::from_secs(300),
};

/// Deletions under way, by the UID of the volume.
#[derive(Default)]
pub(super) struct Deletions(Mutex<HashMap<String, Deletion>>);

#[derive(Default)]
struct Deletion {
    /// The claimRef that it had when it was first seen Released, from the first one with a UID on.
    released_from: Option<ClaimRef>,
    /// How often our right to read the secret was denied without a success in between, and since when.
    denials: u32,
    denied_since: Option<Instant>,
    /// UID of the claim that it was for, from when the driver is asked to delete it until that fails or the object is gone.
    deleting_for: Option<String>,
    /// The driver has deleted the volume: it is asked once, however often the object resists.
    deleted: bool,
    /// How often the API server has accepted the removal of the object.
    removals: u32,
    /// How often it has accepted a change of our finalizer alone.
    finalizer_changes: u32,
    /// When the latest of these should have shown.
    due: Option<Instant>,
}

impl Deletions {
    /// The volume is seen. From when it is Released on, what it was released from is remembered.
    pub(super) fn seen(&self, volume: &Volume) {
        if volume.is_released() {
            // One without a UID is on its way to be another one, or to be put back.
            if let Some(claim) = volume.claim.as_ref().filter(|claim| !claim.uid.is_empty()) {
                self.update(&volume.uid, |deletion| {
                    deletion.released_from.get_or_insert_with(|| claim.clone());
                });
            }
        } else if let Some(deletion) = self.0.lock().get_mut(&volume.uid) {
            deletion.released_from = None;
        }
    }

    /// A term begins. Who led meanwhile may have seen volumes bound and released again, so what they were released from
    /// counts anew. It may also have made again what the driver had deleted here.
    pub(super) fn begin_term(&self) {
        for deletion in self.0.lock().values_mut() {
            deletion.released_from = None;
            if std::mem::take(&mut deletion.deleted) {
                deletion.deleting_for = None;
            }
        }
    }

    /// The claimRef that the volume had when it was first seen Released, if it has another one by now.
    pub(super) fn other_claim(&self, volume: &Volume) -> Option<ClaimRef> {
        let deletions = self.0.lock();
        let before = deletions.get(&volume.uid)?.released_from.as_ref()?;
        (Some(before) != volume.claim.as_ref()).then(|| before.clone())
    }

    /// The secret may not be read. Returns how often that was so, and for how long.
    pub(super) fn secret_denied(&self, uid: &str) -> (u32, Duration) {
        self.update(uid, |deletion| {
            deletion.denials = deletion.denials.saturating_add(1);
            let since = deletion.denied_since.get_or_insert_with(Instant::now);
            (deletion.denials, since.elapsed())
        })
    }

    /// The secret was read: denials count from here.
    pub(super) fn secret_read(&self, uid: &str) {
        if let Some(deletion) = self.0.lock().get_mut(uid) {
            (deletion.denials, deletion.denied_since) = (0, None);
        }
    }

    /// The driver is about to be asked to delete the volume of this claim.
    pub(super) fn begin(&self, uid: &str, claim: &str) {
        self.update(uid, |deletion| deletion.deleting_for = Some(claim.to_owned()));
    }

    /// The driver was not asked, or has refused.
    pub(super) fn give_up(&self, uid: &str) {
        if let Some(deletion) = self.0.lock().get_mut(uid) {
            deletion.deleting_for = None;
        }
    }

    /// Whether a volume of this claim is being deleted at the driver, or was, and its object stands still.
    pub(super) fn is_deleting_for(&self, claim: &str) -> bool {
        let deletions = self.0.lock();
        let mut claims = deletions
            .values()
            .filter_map(|deletion| deletion.deleting_for.as_deref());
        claims.any(|deleted| deleted == claim)
    }

    /// The driver has deleted the volume.
    pub(super) fn volume_deleted(&self, uid: &str) {
        self.update(uid, |deletion| deletion.deleted = true);
    }

    /// Whether the driver has deleted the volume.
    pub(super) fn is_volume_deleted(&self, uid: &str) -> bool {
        self.0.lock().get(uid).is_some_and(|deletion| deletion.deleted)
    }

    /// The API server has accepted the removal of the object. Returns how often that was so, and how long to wait for
    /// the watch to show it.
    pub(super) fn object_removed(&self, uid: &str) -> (u32, Duration) {
        self.update(uid, |deletion| {
            let wait = CONFIRMATION.delay(deletion.removals);
            deletion.removals = deletion.removals.saturating_add(1);
            deletion.due = Some(Instant::now() + wait);
            (deletion.removals, wait)
        })
    }

    /// The API server has accepted a change of our finalizer. Returns how long to wait for the watch to show it.
    pub(super) fn finalizer_changed(&self, uid: &str) -> Duration {
        self.update(uid, |deletion| {
            let wait = CONFIRMATION.delay(deletion.finalizer_changes);
            deletion.finalizer_changes = deletion.finalizer_changes.saturating_add(1);
            wait
        })
    }

    /// How long to wait still for the watch to show that the object is gone.
    pub(super) fn unconfirmed(&self, uid: &str) -> Option<Duration> {
        let due = self.0.lock().get(uid)?.due?;
        let left = due.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// The volume needs nothing any more.
    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }

    /// Forgets those that went away while nobody reconciled them.
    pub(super) fn retain(&self, stands: impl Fn(&str) -> bool) {
        self.0.lock().retain(|uid, _| stands(uid));
    }

    fn update<T>(&self, uid: &str, change: impl FnOnce(&mut Deletion) -> T) -> T {
        change(self.0.lock().entry(uid.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn b8b_a_removal_that_is_not_confirmed_is_repeated_after_longer_and_longer_waits() {
        let deletions = Deletions::default();
        let secs = Duration::from_secs;
        assert_eq!(deletions.unconfirmed("a"), None);
        for (times, wait) in [(1, secs(10)), (2, secs(20)), (3, secs(40))] {
            assert_eq!(deletions.object_removed("a"), (times, wait));
            advance(wait - secs(1)).await;
            assert_eq!(deletions.unconfirmed("a"), Some(secs(1)));
            advance(secs(1)).await;
            assert_eq!(deletions.unconfirmed("a"), None);
        }
        deletions.forget("a");
        assert_eq!(deletions.object_removed("a").0, 1);
        deletions.retain(|uid| uid != "a");
        assert_eq!(deletions.object_removed("a").0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn b4_denials_are_counted_with_their_time_until_the_secret_is_read() {
        let deletions = Deletions::default();
        let secs = Duration::from_secs;
        assert_eq!(deletions.secret_denied("a"), (1, secs(0)));
        advance(secs(20)).await;
        assert_eq!(deletions.secret_denied("a"), (2, secs(20)));
        deletions.secret_read("a");
        assert_eq!(deletions.secret_denied("a"), (1, secs(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn b8b_a_finalizer_that_is_not_confirmed_is_changed_again_after_longer_and_longer_waits() {
        let deletions = Deletions::default();
        let waits: Vec<_> = (0..7)
            .map(|_| deletions.finalizer_changed("a").as_secs())
            .collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_driver_has_deleted_stays_deleted_whatever_else_happens() {
        let deletions = Deletions::default();
        deletions.secret_denied("a");
        assert!(!deletions.is_volume_deleted("a"));
        deletions.volume_deleted("a");
        assert!(deletions.is_volume_deleted("a") && !deletions.is_volume_deleted("b"));
    }

    #[test]
    fn what_was_deleted_in_an_earlier_term_may_have_been_made_again() {
        let deletions = Deletions::default();
        deletions.begin("done", "a");
        deletions.volume_deleted("done");
        deletions.begin("under way", "b");
        deletions.begin_term();
        assert!(!deletions.is_volume_deleted("done") && !deletions.is_deleting_for("a"));
        assert!(
            deletions.is_deleting_for("b"),
            "the driver is at work on it still"
        );
    }

    #[test]
    fn a_claim_has_a_volume_that_is_being_deleted_until_the_driver_refuses_or_the_object_is_gone() {
        let deletions = Deletions::default();
        deletions.begin("a", "claim");
        assert!(deletions.is_deleting_for("claim") && !deletions.is_deleting_for("other"));
        deletions.give_up("a");
        assert!(!deletions.is_deleting_for("claim"));
        deletions.begin("a", "claim");
        deletions.volume_deleted("a");
        assert!(deletions.is_deleting_for("claim"));
        deletions.forget("a");
        assert!(!deletions.is_deleting_for("claim"));
    }
}
