//! Pure. The election: from what the lease said when, to what to do next.
//!
//! client-go's rules, so that its replicas and ours can take turns on one lease. Two of them make
//! it safe however wrong the clocks are. A standby measures how long the record has not *changed*,
//! on its own monotonic clock from when it saw the change; the times in the record are never
//! compared with a clock. And a leader counts its term from when it *sent* the last write that was
//! confirmed, and leads for less than the time that a standby waits.
//!
//! Moments are durations on a monotonic clock with any origin; wall-clock time is only written down.

use std::time::Duration;

use jiff::Timestamp;

use super::record::{LeaderElectionRecord, micro_time};
use super::timing::{JITTER, Timing};

/// What to do with the lease now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// There is no lease: create it with this.
    Create(LeaderElectionRecord),
    /// Nobody leads, or we did: write this to lead.
    Acquire(LeaderElectionRecord),
    /// We lead: write this to go on.
    Renew(LeaderElectionRecord),
    /// Somebody else leads, by what we know for this long still.
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
        // A lease that was deleted or taken may have had another leader in between, even if it
        // is free or ours again. A renewal of ours whose answer was lost changes none of these.
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
        self.held = (record.holder == self.identity).then(|| Held {
            record: record.clone(),
            sent,
        });
        self.seen = Some(Seen { record, at: now });
    }

    /// How long our leadership is certain from `now` on; zero when we do not lead.
    pub(super) fn certain_for(&self, now: Duration) -> Duration {
        self.held.as_ref().map_or(Duration::ZERO, |held| {
            (held.sent + self.timing.renew()).saturating_sub(now)
        })
    }

    /// Whether no answer so far says that our term is over; it may still have run out.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The renew deadline has passed: we lead no more, whatever the lease says.
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
        let Some(Seen { record, at }) = &self.seen else {
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
        let left = (*at + record.duration(self.timing.lease())).saturating_sub(now);
        if !record.holder.is_empty() && !left.is_zero() {
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

    /// How long a standby waits before it looks again; `nonce` is from 0 to 1.
    ///
    /// client-go's pause, but not beyond the moment at which the lease runs out. There the dice
    /// keep several standbys from writing at the same moment.
    pub(super) fn pause(&self, now: Duration, nonce: f64) -> Duration {
        let nonce = nonce.clamp(0.0, 1.0);
        let usual = self.timing.retry().mul_f64(1.0 + JITTER * nonce);
        let seen = self
            .seen
            .as_ref()
            .filter(|seen| !seen.record.holder.is_empty() && seen.record.holder != self.identity);
        let left = seen.map(|seen| (seen.at + seen.record.duration(self.timing.lease())).saturating_sub(now));
        match left {
            Some(left) if !left.is_zero() => {
                usual.min(left + self.timing.retry().mul_f64(0.02 + 0.1 * nonce))
            }
            _ => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn timing() -> Timing {
        Timing::new(S(15), S(10), S(5)).unwrap()
    }

    fn wall() -> Timestamp {
        "2025-11-21T04:36:01Z".parse().unwrap()
    }

    fn held_by(holder: &str, seconds: i64, transitions: i64) -> LeaderElectionRecord {
        let long_ago = "1970-01-01T00:00:00.000000Z".to_owned();
        LeaderElectionRecord {
            holder: holder.into(),
            seconds,
            acquired: long_ago.clone(),
            renewed: long_ago,
            transitions,
        }
    }

    fn seen(record: Option<LeaderElectionRecord>, at: u64) -> Elector {
        let mut elector = Elector::new("me".into(), timing());
        elector.observe(record, S(at));
        elector
    }

    #[test]
    fn what_to_do_follows_from_what_was_seen_and_when() {
        let fresh = |transitions| LeaderElectionRecord {
            holder: "me".into(),
            seconds: 15,
            acquired: "2025-11-21T04:36:01.000000Z".into(),
            renewed: "2025-11-21T04:36:01.000000Z".into(),
            transitions,
        };
        let ours_again = LeaderElectionRecord {
            acquired: held_by("", 0, 0).acquired,
            ..fresh(4)
        };
        let rows = [
            // name, lease as seen at 100 s, now, move
            ("no lease: create it", None, 100, Move::Create(fresh(0))),
            (
                "a leader whose times are ancient leads until we saw it idle",
                Some(held_by("you", 15, 4)),
                100,
                Move::Wait(S(15)),
            ),
            (
                "one second before that it still leads",
                Some(held_by("you", 15, 4)),
                114,
                Move::Wait(S(1)),
            ),
            (
                "then it does not",
                Some(held_by("you", 15, 4)),
                115,
                Move::Acquire(fresh(5)),
            ),
            (
                "the record's own duration counts, not ours",
                Some(held_by("you", 60, 4)),
                159,
                Move::Wait(S(1)),
            ),
            (
                "without one ours does",
                Some(held_by("you", 0, 4)),
                114,
                Move::Wait(S(1)),
            ),
            (
                "a released lease is free at once",
                Some(held_by("", 1, 4)),
                100,
                Move::Acquire(fresh(5)),
            ),
            (
                "our own from before a restart is ours at once",
                Some(held_by("me", 15, 4)),
                100,
                Move::Acquire(ours_again),
            ),
            (
                "a strange count starts anew",
                Some(held_by("", 1, -7)),
                100,
                Move::Acquire(fresh(1)),
            ),
            (
                "the largest count stays",
                Some(held_by("", 1, i64::MAX)),
                100,
                Move::Acquire(fresh(i64::MAX)),
            ),
        ];
        for (name, record, now, wanted) in rows {
            assert_eq!(seen(record, 100).next(S(now), wall()), wanted, "{name}");
        }
    }

    #[test]
    fn only_a_change_of_the_record_renews_another_leader() {
        let mut elector = seen(Some(held_by("you", 15, 4)), 100);
        elector.observe(Some(held_by("you", 15, 4)), S(110));
        assert_eq!(elector.next(S(112), wall()), Move::Wait(S(3)));
        elector.observe(
            Some(LeaderElectionRecord {
                renewed: "1969-01-01T00:00:00.000000Z".into(),
                ..held_by("you", 15, 4)
            }),
            S(114),
        );
        assert_eq!(elector.next(S(114), wall()), Move::Wait(S(15)));
        assert_eq!(elector.holder(), Some("you"));
    }

    fn leading() -> Elector {
        let mut elector = seen(None, 100);
        let Move::Create(record) = elector.next(S(100), wall()) else {
            unreachable!()
        };
        elector.confirmed(record, S(100), S(103));
        elector
    }

    #[test]
    fn a_term_counts_from_when_the_confirmed_write_was_sent() {
        let mut elector = leading();
        assert_eq!(elector.certain_for(S(103)), S(7));
        assert_eq!(elector.certain_for(S(110)), S(0));
        let later = wall() + S(5);
        let Move::Renew(renewal) = elector.next(S(105), later) else {
            unreachable!()
        };
        assert_eq!(renewal.acquired, micro_time(wall()));
        assert_eq!(
            (renewal.renewed.clone(), renewal.transitions),
            (micro_time(later), 0)
        );
        // The answer to the renewal was lost, the write was not: the term goes on, no more certain than before.
        elector.observe(Some(renewal.clone()), S(106));
        assert_eq!(elector.certain_for(S(106)), S(4));
        elector.confirmed(renewal, S(105), S(107));
        assert_eq!(elector.certain_for(S(107)), S(8));
        elector.step_down();
        assert_eq!(elector.certain_for(S(107)), S(0));
    }

    #[test]
    fn a_lease_that_was_touched_by_others_ends_the_term_at_once() {
        let ours = leading().seen.unwrap().record;
        let rows = [
            ("taken", Some(held_by("you", 15, 1))),
            (
                "cleared",
                Some(LeaderElectionRecord {
                    holder: String::new(),
                    ..ours.clone()
                }),
            ),
            ("deleted", None),
            (
                "ours again, with somebody in between",
                Some(LeaderElectionRecord {
                    transitions: 2,
                    ..ours.clone()
                }),
            ),
            (
                "made anew for us",
                Some(LeaderElectionRecord {
                    acquired: "2026-01-01T00:00:00.000000Z".into(),
                    ..ours
                }),
            ),
        ];
        for (name, record) in rows {
            let mut elector = leading();
            elector.observe(record, S(104));
            assert!(
                elector.certain_for(S(104)).is_zero() && !elector.is_held(),
                "{name}"
            );
        }
    }

    #[test]
    fn release_empties_the_holder_and_only_of_our_own_lease() {
        let released = leading().release(wall()).unwrap();
        assert_eq!(
            (released.holder.as_str(), released.seconds, released.transitions),
            ("", 1, 0)
        );
        assert_eq!(seen(Some(held_by("you", 15, 4)), 100).release(wall()), None);
        assert_eq!(seen(None, 100).release(wall()), None);
        let mut elector = leading();
        elector.confirmed(released, S(104), S(104));
        assert!(elector.certain_for(S(104)).is_zero());
        assert!(matches!(
            elector.next(S(104), wall()),
            Move::Acquire(LeaderElectionRecord { transitions: 1, .. })
        ));
    }

    #[test]
    fn a_standby_looks_again_when_the_lease_may_run_out() {
        let rows = [
            // name, holder, seen at, now, dice, pause
            ("usual, least", "you", 100, 100, 0.0, 5.0),
            ("usual, most", "you", 100, 100, 1.0, 11.0),
            ("just after the end", "you", 100, 113, 0.0, 2.1),
            ("just after the end, not all at once", "you", 100, 113, 1.0, 2.6),
            ("past the end the pause is the usual", "you", 100, 120, 0.5, 8.0),
            ("free", "", 100, 100, 0.0, 5.0),
            ("our own", "me", 100, 113, 0.0, 5.0),
            ("nonce out of range", "you", 100, 100, f64::INFINITY, 11.0),
        ];
        for (name, holder, at, now, nonce, wanted) in rows {
            let elector = seen(Some(held_by(holder, 15, 0)), at);
            assert_eq!(
                elector.pause(S(now), nonce),
                Duration::from_secs_f64(wanted),
                "{name}"
            );
        }
    }

    #[test]
    fn the_written_duration_is_never_shorter_than_ours() {
        let timing = Timing::new(Duration::from_millis(1500), S(1), Duration::from_millis(500)).unwrap();
        let Move::Create(record) = Elector::new("me".into(), timing).next(S(0), wall()) else {
            unreachable!()
        };
        assert_eq!(record.seconds, 2);
    }
}
