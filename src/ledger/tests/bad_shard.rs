//! One shard that fails does not stop the others, and an API server that is down is nobody's fault.

use sandbox::{Api, Fault, Harm};
use tokio::time::{sleep, timeout};

use super::{
    super::{CrashSafe, LedgerSettings, OpenError, next::Next, shard::SHARDS, slot::ShardPause},
    S,
    faults::{OTHER, Process, UID, key, shard},
    note,
    server::{Fate, Scene, error},
    settings, term,
};
use crate::base::api_error::Reason::{self, Invalid, RetryLater, Unauthorized, Unavailable};

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
            told += usize::from(pause.failed(&error(*reason), true, *successes, now));
            assert_eq!(pause.until(), now + S(*seconds), "{name}, {successes}");
            assert_eq!(pause.is_left_alone(), *left, "{name}, {successes}");
            now = pause.until();
            assert!(pause.is_over(now), "{name}");
        }
        assert_eq!(told, usize::from(pause.is_left_alone()), "{name}: told once");
    }
}

#[test]
fn a_read_ends_the_pause_after_a_read_and_not_the_one_after_a_write() {
    for (writing, ends) in [(false, true), (true, false)] {
        let mut pause = ShardPause::default();
        pause.failed(&error(Unavailable), writing, 0, S(1));
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

/// A leader that was killed, and has left a record in each of the first two shards.
async fn left() -> Api {
    let api = Api::new();
    let they = LedgerSettings {
        identity: "they".to_owned(),
        ..settings()
    };
    let process = Process::leading(&api, they).await;
    process.open(UID).await.unwrap();
    process.ledger.open(OTHER, note(OTHER, 60_000)).await.unwrap();
    api
}

fn required() -> LedgerSettings {
    LedgerSettings {
        mode: CrashSafe::Required,
        ..settings()
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_without_a_shard_that_cannot_be_read_and_takes_it_over_later() {
    let api = left().await;
    let bad = || {
        Fault::new(Harm::Status(500))
            .on("get", "leases")
            .named("lab-ledger-1")
    };
    api.harm(bad());
    let process = Process::new(&api, required());
    process.take_over(&term(), true).await.unwrap_err();
    drop(process);
    let process = Process::leading(&api, settings()).await;
    assert_eq!(process.ledger.claim_uids(), [UID]);
    let status = process.ledger.status();
    assert!(status.left_alone[0].contains("lab-ledger-1"), "{status:?}");
    process.ledger.erase(UID);
    sleep(S(300)).await;
    api.heal();
    timeout(S(61), process.ledger.became_readable()).await.unwrap();
    process.take_over(&term(), true).await.unwrap();
    assert_eq!(process.ledger.claim_uids(), [OTHER]);
    assert!(process.ledger.status().left_alone.is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_term_begins_when_the_api_server_goes_down_in_the_middle() {
    let api = left().await;
    api.harm(
        Fault::new(Harm::Status(500))
            .on("get", "leases")
            .named("lab-ledger-1"),
    );
    api.harm(
        Fault::new(Harm::Status(500))
            .on("get", "leases")
            .after(SHARDS - 1),
    );
    let process = Process::new(&api, settings());
    process.take_over(&term(), true).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_without_a_shard_that_cannot_be_written_and_writes_it_later() {
    for harm in [Harm::Status(500), Harm::Deny(1), Harm::Cut] {
        let api = left().await;
        api.harm(
            Fault::new(harm.clone())
                .on("update", "leases")
                .named("lab-ledger-1"),
        );
        let process = Process::new(&api, required());
        process.take_over(&term(), true).await.unwrap_err();
        drop(process);
        api.forget_requests();
        let process = Process::leading(&api, settings()).await;
        let answered = (api.count("get", "leases"), api.count("update", "leases"));
        assert_eq!(answered, (2, 1), "{harm:?}: not all over again");
        let status = process.ledger.status();
        assert!(status.left_alone[0].contains("lab-ledger-1"), "{status:?}");
        sleep(S(300)).await;
        assert!(
            process.active.leads(),
            "{harm:?}: the leader before is no other one"
        );
        api.heal();
        sleep(S(61)).await;
        assert_eq!(shard(&api, 1).unwrap()["spec"]["holderIdentity"], "we");
        assert!(process.ledger.status().left_alone.is_empty(), "{harm:?}");
        assert!(process.active.leads() && process.ledger.claim_uids().len() == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_before_writes_to_a_shard_that_was_left_is_taken_over() {
    let api = left().await;
    api.harm(
        Fault::new(Harm::Deny(1))
            .on("update", "leases")
            .named("lab-ledger-1"),
    );
    let process = Process::leading(&api, settings()).await;
    let late = "01234567-89ab-cdef-0123-456789abcde1";
    assert!(api.edit("leases", "default", "lab-ledger-1", |lease| {
        let record = lease["metadata"]["annotations"][key("ledger", OTHER)].clone();
        lease["metadata"]["annotations"][key("ledger", late)] = record;
    }));
    api.heal();
    timeout(S(61), process.ledger.became_readable()).await.unwrap();
    process.take_over(&term(), true).await.unwrap();
    assert!(process.ledger.get(late).is_some());
}
