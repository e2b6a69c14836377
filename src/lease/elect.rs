//! Pure. The election: from what the lease said when, to what to do next.
//!
//! The rules are client-go's, so that its replicas and ours can compete for one lease. Two of them make it safe however
//! wrong the clocks are. A standby measures how long the record has not *changed*, on its own monotonic clock from when
//! it saw the change; the times in the record are never compared with a clock. And a leader counts its term from when
//! it *sent* the last write that was confirmed, and leads for less than the time that a standby waits. So it does no
//! harm however long a request takes: an answer that comes too late is no term, and one that comes in time is.
//!
//! Moments are durations on a monotonic clock with any origin; wall-clock time is only written down.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    record::LeaderElectionRecord,
    timing::{JITTER, Timing},
};
use crate::cluster::lease_object::micro_time;

/// What to do with the lease now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// There is no lease: create it with this.
    Create(LeaderElectionRecord),
    /// Nobody leads, or we did: write this to lead.
    Acquire(LeaderElectionRecord),
    /// We lead: write this to go on.
    Renew(LeaderElectionRecord),
    /// Somebody else leads, as far as we know for this long still.
    Wait(Duration),
}

/// One replica's view of the election.
#[derive(Clone, Debug)]
pub(super) struct Elector {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    held: Option<Held>,
}

#[derive(Clone, Debug)]
struct Seen {
    record: LeaderElectionRecord,
    /// When we first saw the record like this.
    at: Duration,
}

#[derive(Clone, Debug)]
struct Held {
    record: LeaderElectionRecord,
    /// When we sent the last write that was confirmed.
    sent: Duration,
}

impl Elector {
    pub(super) fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            held: None,
        }
    }

    /// Who leads by the last record that we saw, if anybody.
    pub(super) fn holder(&self) -> Option<&str> {
        let holder = self.seen.as_ref()?.record.holder.as_str();
        Some(holder).filter(|holder| !holder.is_empty())
    }

    /// The API server said this, and the answer arrived at `now`. `None`: there is no lease.
    pub(super) fn observe(&mut self, record: Option<LeaderElectionRecord>, now: Duration) {
        // A lease that was deleted or taken may have had another leader in between, even if it is free or ours again.
        // A renewal of ours whose answer was lost changes none of these.
        let same_term = |held: &Held| {
            record.as_ref().is_some_and(|seen| {
                (&seen.holder, &seen.acquired, seen.transitions)
                    == (
                        &held.record.holder,
                        &held.record.acquired,
                        held.record.transitions,
                    )
            })
        };
        if !self.held.as_ref().is_some_and(same_term) {
            self.held = None;
        }
        match (record, &self.seen) {
            (Some(record), Some(seen)) if seen.record == record => {}
            (record, _) => self.seen = record.map(|record| Seen { record, at: now }),
        }
    }

    /// Our write of `record`, sent at `sent`, was confirmed at `now`.
    pub(super) fn confirmed(&mut self, record: LeaderElectionRecord, sent: Duration, now: Duration) {
        // A term that was uncertain for a moment, because this process was stopped, does not go on: who looked at that
        // moment has left its work undone. The next one begins when that of this one has ended.
        let lapsed = self.held.is_some() && self.certain_for(now).is_zero();
        if record.holder != self.identity {
            self.held = None;
        } else if !lapsed {
            self.held = Some(Held {
                record: record.clone(),
                sent,
            });
        }
        self.seen = Some(Seen { record, at: now });
    }

    /// Until when our leadership is certain; `None` when we do not lead.
    pub(super) fn certain_until(&self) -> Option<Duration> {
        self.held.as_ref().map(|held| held.sent + self.timing.validity())
    }

    /// How long our leadership is certain from `now` on; zero when we do not lead.
    pub(super) fn certain_for(&self, now: Duration) -> Duration {
        self.certain_until().unwrap_or_default().saturating_sub(now)
    }

    /// How long from `now` on the next renewal is sent; zero when it is due, or when we do not lead.
    pub(super) fn renew_in(&self, now: Duration) -> Duration {
        self.held.as_ref().map_or(Duration::ZERO, |held| {
            (held.sent + self.timing.renewal_interval()).saturating_sub(now)
        })
    }

    /// How long the lease stays somebody else's by the record that we saw last; zero when we may take it.
    pub(super) fn left(&self, now: Duration) -> Duration {
        match &self.seen {
            Some(Seen { record, at }) if !record.holder.is_empty() && record.holder != self.identity => {
                (*at + record.duration(self.timing.lease())).saturating_sub(now)
            }
            _ => Duration::ZERO,
        }
    }

    /// Whether no answer so far says that our term is over; it may still have run out.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Our term has run out: we lead no more, whatever the lease says.
    pub(super) fn step_down(&mut self) {
        self.held = None;
    }

    /// What to do, going by the record that we saw last. `wall` is written into the lease.
    pub(super) fn next(&self, now: Duration, wall: Timestamp) -> Move {
        let wall = micro_time(wall);
        let fresh = LeaderElectionRecord {
            holder: self.identity.clone(),
            // Rounded up: a standby must not take us for gone before we stop.
            seconds: i64::try_from(self.timing.lease().as_millis().div_ceil(1000)).unwrap_or(i64::MAX),
            acquired: wall.clone(),
            renewed: wall,
            transitions: 0,
        };
        let Some(Seen { record, .. }) = &self.seen else {
            return Move::Create(fresh);
        };
        // Also when we do not lead: our container was restarted, or a write counted after all.
        if record.holder == self.identity {
            let go_on = LeaderElectionRecord {
                acquired: record.acquired.clone(),
                transitions: record.transitions,
                ..fresh
            };
            return if self.held.is_some() {
                Move::Renew(go_on)
            } else {
                Move::Acquire(go_on)
            };
        }
        let left = self.left(now);
        if !left.is_zero() {
            return Move::Wait(left);
        }
        Move::Acquire(LeaderElectionRecord {
            transitions: record.transitions.saturating_add(1).max(1),
            ..fresh
        })
    }

    /// The record that gives the lease up: nobody's, and soon over, so that every client takes it at once.
    /// `None` when the lease is not ours by what we know.
    pub(super) fn release(&self, wall: Timestamp) -> Option<LeaderElectionRecord> {
        let record = &self.seen.as_ref()?.record;
        let wall = micro_time(wall);
        (record.holder == self.identity).then(|| LeaderElectionRecord {
            holder: String::new(),
            seconds: 1,
            acquired: wall.clone(),
            renewed: wall,
            transitions: record.transitions,
        })
    }

    /// How long a standby waits before it looks again; `jitter` is from 0 to 1.
    ///
    /// This is client-go's pause, but not beyond the moment at which the lease runs out. Of several standbys that write
    /// then, one gets the lease and the others a conflict.
    pub(super) fn pause(&self, now: Duration, jitter: f64) -> Duration {
        let usual = self.timing.retry().mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0));
        let left = self.left(now);
        if left.is_zero() { usual } else { usual.min(left) }
    }
}
