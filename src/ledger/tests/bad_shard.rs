//! One shard that fails does not stop the others, and an API server that is down is nobody's fault.

use super::{
    super::{
        OpenError,
        next::Next,
        shard::SHARDS,
        slot::{LEFT_ALONE, ShardFailure, ShardPause},
    },
    MS, S, note,
    server::{Fate, Scene, error},
    settings, term,
};
use crate::base::api_error::Reason::{self, Forbidden, Invalid, RetryLater, Unauthorized, Unavailable};

fn failure(reason: Reason, writing: bool) -> ShardFailure {
    ShardFailure {
        error: error(reason),
        writing,
    }
}

#[test]
fn a_pause_grows_while_others_succeed_and_only_then() {
    // What the shard failed with, how many requests had succeeded by then, the pause in seconds, and left alone or not.
    type Row = (Reason, u64, u64, bool);
    let rows: &[(&str, &[Row])] = &[
        ("once", &[(Unavailable, 7, 1, false)]),
        (
            "others succeed in between",
            &[
                (Unavailable, 1, 1, false),
                (RetryLater, 2, 2, false),
                (Unauthorized, 3, 4, true),
                (Unavailable, 5, 8, true),
                (Unavailable, 6, 16, true),
                (Unavailable, 7, 32, true),
                (Unavailable, 8, 60, true),
                (Unavailable, 9, 60, true),
            ],
        ),
        (
            "nobody succeeds",
            &[
                (Unavailable, 4, 1, false),
                (Unavailable, 4, 1, false),
                (Unavailable, 4, 1, false),
                (Unavailable, 4, 1, false),
            ],
        ),
        ("not accepted", &[(Invalid, 1, 60, true), (Invalid, 1, 60, true)]),
    ];
    for (name, steps) in rows {
        let (mut pause, mut now, mut told) = (ShardPause::default(), S(10), 0);
        for (reason, successes, seconds, left) in *steps {
            told += usize::from(pause.failed(failure(*reason, true), 0, *successes, now));
            assert_eq!(pause.until(), now + S(*seconds), "{name}, {successes}");
            assert_eq!(pause.is_left_alone(), *left, "{name}, {successes}");
            now = pause.until();
            assert!(pause.is_over(now), "{name}");
        }
        assert_eq!(told, usize::from(pause.is_left_alone()), "{name}: told once");
    }
}

#[test]
fn what_a_term_begins_without_is_left_alone_at_once_and_says_why() {
    let mut pause = ShardPause::default();
    assert!(!pause.failed(failure(Unavailable, true), 0, 1, S(1)));
    assert!(pause.failed(failure(Unavailable, true), LEFT_ALONE, 1, S(1)));
    assert!(pause.is_left_alone() && pause.error().is_some());
    assert_eq!(pause.until(), S(5));
}

#[test]
fn a_read_ends_the_pause_after_a_read_and_not_the_one_after_a_write() {
    for (writing, ends) in [(false, true), (true, false)] {
        let mut pause = ShardPause::default();
        pause.failed(failure(Unavailable, writing), 0, 0, S(1));
        pause.was_read();
        assert_eq!(pause.error().is_none(), ends);
    }
}

fn scene() -> Scene {
    let mut scene = Scene::leading(settings(), &term());
    scene.opened("uid", note("uid", 900));
    scene
}

fn answer(scene: &Scene, ticket: Option<u64>) -> Option<Result<(), OpenError>> {
    let answers = scene.answers.iter();
    let mut mine = answers.filter(|(it, _)| Some(*it) == ticket);
    mine.next().map(|(_, answer)| answer.clone())
}

#[test]
fn others_are_used_while_one_fails_and_it_comes_back_when_it_can() {
    for reason in [Unavailable, RetryLater, Unauthorized, Invalid] {
        let mut scene = scene();
        scene.bad = Some((0, reason));
        let first = scene.open("first", note("first", 900)).unwrap();
        assert!(scene.step(Fate::Done), "{reason:?}");
        let second = scene.open("second", note("second", 900)).unwrap();
        scene.run();
        assert_eq!(answer(&scene, second), Some(Ok(())), "{reason:?}");
        assert!(scene.server.open().contains(&("second".to_owned(), 1)));
        scene.asked.clear();
        // Ten minutes of work.
        for n in 0..300 {
            let uid = format!("uid-{n}");
            scene.opened(&uid, note(&uid, 900));
            scene.state.erase(&uid, scene.now);
        }
        let tried = scene.asked.iter().filter(|number| **number == 0).count();
        assert!((9..30).contains(&tried), "{reason:?}: {tried}");
        let status = scene.state.status();
        assert!(
            status.left_alone[0].contains("lab-ledger-0"),
            "{reason:?}: {status:?}"
        );
        scene.bad = None;
        scene.now += S(60);
        scene.run();
        assert!(scene.state.status().left_alone.is_empty(), "{reason:?}");
        let stored = scene.server.uids().contains("first");
        assert_eq!(stored, answer(&scene, first) == Some(Ok(())), "{reason:?}");
        scene.opened("third", note("third", 900));
        assert!(scene.server.open().contains(&("third".to_owned(), 0)));
    }
}

/// The first two shards have a record each; this one was written last.
fn two(last: usize) -> Scene {
    let mut scene = scene();
    scene.opened("large", note("large", 60_000));
    scene.state.slots[last].must_write = true;
    scene.run();
    scene
}

#[test]
fn a_policy_that_denies_one_shard_is_told_from_a_right_that_is_gone() {
    for (bad, last) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut scene = two(last);
        if bad == last {
            // Nothing tells yet whether it is about this one.
            scene.state.slots[1 - bad].must_write = true;
            scene.run();
        }
        scene.bad = Some((bad, Forbidden));
        scene.state.slots[bad].must_write = true;
        let ticket = scene.open("first", note("first", 900)).unwrap();
        scene.run();
        assert_eq!(answer(&scene, ticket), Some(Ok(())), "{bad} {last}");
        assert!(scene.state.in_memory.is_empty(), "{bad} {last}");
        scene.asked.clear();
        // Half an hour without any work.
        for _ in 0..900 {
            scene.run();
            assert_eq!(scene.state.status().in_memory, None, "{bad} {last}");
        }
        let tried = scene.asked.iter().filter(|number| **number == bad).count();
        assert!((25..50).contains(&tried), "{bad} {last}: {tried}");
        assert_eq!(scene.state.status().left_alone.len(), 1);
        scene.bad = None;
        scene.now += S(60);
        scene.run();
        assert!(scene.state.status().left_alone.is_empty());
    }
    for last in [0, 1] {
        let mut scene = two(last);
        let ticket = scene.open("first", note("first", 900)).unwrap();
        scene.asked.clear();
        scene.state.slots[1 - last].must_write = true;
        while scene.state.status().in_memory.is_none() {
            if !scene.step(Fate::Refused(Forbidden)) {
                scene.now += MS(10);
            }
        }
        assert_eq!(scene.asked, [1 - last, last], "two requests tell");
        assert_eq!(answer(&scene, ticket), Some(Ok(())), "in memory");
    }
}

#[test]
fn after_a_refusal_of_all_one_shard_that_stays_denied_does_not_keep_the_others_out() {
    for bad in [0, 1] {
        let mut scene = two(1);
        scene.state.last_written = None;
        scene.state.slots[bad].must_write = true;
        assert!(scene.step(Fate::Refused(Forbidden)));
        assert!(scene.state.status().in_memory.is_some());
        scene.bad = Some((bad, Forbidden));
        scene.now += S(600);
        scene.run();
        assert_eq!(scene.state.status().in_memory, None, "{bad}");
    }
}

#[test]
fn a_shard_that_is_left_alone_does_not_hold_up_the_others() {
    for reason in [Unavailable, RetryLater, Forbidden] {
        let mut scene = two(1);
        scene.bad = Some((0, reason));
        scene.state.slots[0].must_write = true;
        let mut tried = 0;
        for n in 0..2_000 {
            scene.asked.clear();
            scene.now += MS(100);
            scene.step(Fate::Done);
            let is_trial = scene.asked == [0] && !scene.state.status().left_alone.is_empty();
            tried += usize::from(is_trial);
            if is_trial || n % 10 == 0 {
                let uid = format!("uid-{n}");
                let ticket = scene.open(&uid, note(&uid, 90)).unwrap();
                while scene.step(Fate::Done) {}
                let at_once = answer(&scene, ticket) == Some(Ok(()));
                assert!(at_once || !is_trial, "{reason:?}");
                scene.state.erase(&uid, scene.now);
            }
        }
        assert!(tried > 3, "{reason:?}: {tried}");
    }
}

#[test]
fn after_an_outage_nothing_waits_for_a_minute() {
    let mut scene = scene();
    for n in 0..600 {
        scene.open(&format!("uid-{n}"), note("x", 900)).unwrap();
        while scene.step(Fate::Lost) {}
        scene.now += S(1);
    }
    assert!(scene.state.status().left_alone.is_empty());
    let began = scene.now;
    let ticket = scene.open("late", note("late", 900)).unwrap();
    while answer(&scene, ticket).is_none() {
        if !scene.step(Fate::Done) {
            scene.now += S(1);
        }
    }
    assert_eq!(answer(&scene, ticket), Some(Ok(())));
    assert!(scene.now - began <= S(6), "{:?}", scene.now - began);
}

#[test]
fn an_open_waits_for_its_claims_shard_and_those_behind_it_go_on() {
    let mut scene = scene();
    scene.bad = Some((0, Unavailable));
    scene.state.erase("nobody", scene.now);
    scene.open("lost", note("lost", 900)).unwrap();
    assert!(scene.step(Fate::Done));
    let home = scene.open("uid", note("uid", 1_000)).unwrap();
    let again = scene.open("lost", note("lost", 900)).unwrap();
    let behind = scene.open("behind", note("behind", 900)).unwrap();
    scene.run();
    assert_eq!(answer(&scene, behind), Some(Ok(())));
    assert_eq!((answer(&scene, home), answer(&scene, again)), (None, None));
    scene.bad = None;
    for _ in 0..4 {
        scene.run();
    }
    assert_eq!(answer(&scene, home), Some(Ok(())));
    assert_eq!(answer(&scene, again), Some(Ok(())));
    assert_eq!(scene.server.open().len(), 3, "one record of each claim");
}

#[test]
fn an_open_is_not_told_full_while_a_shard_with_room_fails() {
    let mut scene = Scene::leading(settings(), &term());
    for n in 0..SHARDS {
        scene.opened(&format!("uid-{n}"), note("x", 150_000));
    }
    scene.bad = Some((7, Unavailable));
    scene.server.edit(7, |shard| {
        shard["metadata"]["annotations"] = serde_json::json!({});
    });
    scene.state.erase("uid-7", scene.now);
    scene.now += S(1);
    assert!(scene.step(Fate::Done), "the erasure");
    let ticket = scene.open("late", note("late", 900)).unwrap();
    scene.run();
    assert_eq!(answer(&scene, ticket), None);
    scene.bad = None;
    scene.now += S(4);
    scene.run();
    assert_eq!(answer(&scene, ticket), Some(Ok(())));
}

#[test]
fn an_open_that_has_waited_for_thirty_seconds_hears_why() {
    // The term has not begun.
    let mut scene = scene();
    scene.state.taking = true;
    let ticket = scene.open("next", note("next", 900)).unwrap();
    let wall = scene.wall();
    let Next::Wait(Some(at)) = scene.state.next(scene.now, wall) else {
        panic!("it wakes for that");
    };
    assert_eq!(at, scene.now + S(30));
    scene.now = at;
    assert!(!scene.step(Fate::Done));
    assert_eq!(answer(&scene, ticket), Some(Err(OpenError::TimedOut(None))));
    // The shard of its claim fails, and others do not.
    scene.state.taking = false;
    scene.bad = Some((0, RetryLater));
    let ticket = scene.open("uid", note("uid", 1_000)).unwrap();
    for n in 0..20 {
        scene.opened(&format!("uid-{n}"), note("x", 900));
    }
    let Some(Err(why)) = answer(&scene, ticket) else {
        panic!("it waits for ever")
    };
    assert!(why.to_string().contains("lab-ledger-0"), "{why}");
}
