//! What the election decides, as tables.

use std::time::Duration;

use jiff::Timestamp;

use crate::cluster::lease_object::micro_time;
use crate::lease::{
    elect::{Elector, Move},
    record::LeaderElectionRecord,
    timing::Timing,
};

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
    assert_eq!(elector.certain_for(S(103)), Duration::from_millis(10_500));
    assert_eq!(elector.certain_for(S(114)), S(0));
    // So does the next renewal.
    assert_eq!(elector.renew_in(S(103)), Duration::from_millis(500));
    assert_eq!(elector.renew_in(S(104)), S(0));
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
    assert_eq!(elector.certain_for(S(106)), Duration::from_millis(7_500));
    elector.confirmed(renewal, S(105), S(107));
    assert_eq!(elector.certain_for(S(107)), Duration::from_millis(11_500));
    elector.step_down();
    assert_eq!(elector.certain_for(S(107)), S(0));
}

#[test]
fn a_lease_that_was_touched_by_others_ends_the_term_at_once() {
    let Move::Create(ours) = seen(None, 100).next(S(100), wall()) else {
        unreachable!()
    };
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
        // name, holder, seen at, now, jitter, pause
        ("usual, least", "you", 100, 100, 0.0, 5.0),
        ("usual, most", "you", 100, 100, 1.0, 11.0),
        ("at the end", "you", 100, 113, 0.0, 2.0),
        ("at the end, whatever the jitter", "you", 100, 113, 1.0, 2.0),
        ("past the end the pause is the usual", "you", 100, 120, 0.5, 8.0),
        ("free", "", 100, 100, 0.0, 5.0),
        ("our own", "me", 100, 113, 0.0, 5.0),
        ("jitter out of range", "you", 100, 100, f64::INFINITY, 11.0),
    ];
    for (name, holder, at, now, jitter, wanted) in rows {
        let elector = seen(Some(held_by(holder, 15, 0)), at);
        assert_eq!(
            elector.pause(S(now), jitter),
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
