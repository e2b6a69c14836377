//! Pure. Whether a record that was found may be acted upon when nobody waits for its volume.

use std::time::Duration;

use jiff::Timestamp;

use super::record::{Distrust, Opening};

/// How long nobody may have kept a shard.
const KEPT: Duration = Duration::from_secs(3600);

/// Where a record was found, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// Our driver.
    pub(super) driver: &'a str,
    /// UID of the leader's Lease; without election, of the shard.
    pub(super) lease_uid: &'a str,
    /// `leaseTransitions` of the first of the leaders, up to this one, that all keep a ledger; `None` without election.
    pub(super) first_transitions: Option<i64>,
    /// Somebody has kept the shard lately.
    pub(super) kept: bool,
}

/// Why the record of this claim is not to be trusted, if so.
pub(super) fn distrust(
    claim_uid: &str,
    opening: &Opening,
    approved: bool,
    volume: &str,
    deletes: bool,
    found: Found<'_>,
) -> Option<Distrust> {
    if opening.lease_uid != found.lease_uid || opening.lease_uid.is_empty() || opening.driver != found.driver
    {
        return Some(Distrust::Foreign);
    }
    if !found.kept || opening.was_stale {
        return Some(Distrust::Stale);
    }
    // A person has looked at it.
    if approved {
        return None;
    }
    if !has_whole_uid(volume, claim_uid) {
        return Some(Distrust::ShortName);
    }
    // An unknowing leader may have given the claim another volume and lost sight of this one. Where volumes are deleted
    // the worst is an empty one that comes and goes; one that is retained would stay. Without election nobody knows who
    // was at work in between.
    let unknown_leader = found
        .first_transitions
        .is_none_or(|first| opening.transitions < first);
    (!deletes && unknown_leader).then_some(Distrust::UnknownLeader)
}

fn has_whole_uid(volume: &str, claim_uid: &str) -> bool {
    !claim_uid.is_empty() && (volume.contains(claim_uid) || volume.contains(&claim_uid.replace('-', "")))
}

/// Whether somebody has kept a shard lately that says this of its renewal. Clocks differ, so one from the near future
/// counts.
pub(super) fn is_kept(renewed: Option<&str>, now: Timestamp) -> bool {
    let Some(renewed) = renewed.and_then(|at| at.parse::<Timestamp>().ok()) else {
        return false;
    };
    now.duration_since(renewed).unsigned_abs() < KEPT
}
