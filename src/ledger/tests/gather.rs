//! When a write is due, and which records go into it.

use super::{
    super::{
        next::{ERASE, GATHER, KEEP, Next},
        record::OpenError,
        shard::{FILLED, SHARDS, Shard},
        slot::Refused,
    },
    MS, S, note,
    server::{Fate, Scene, error},
    settings, term,
};
use crate::base::api_error::Reason;

fn scene() -> Scene {
    Scene::leading(settings(), &term())
}

/// When something is to be sent next, from now on.
fn due_in(scene: &mut Scene) -> Option<std::time::Duration> {
    match scene.state.next(scene.now, scene.wall()) {
        Next::Wait(at) => at.map(|at| at - scene.now),
        sent => panic!("{sent:?}"),
    }
}

fn many(scene: &mut Scene, count: usize) {
    for n in 0..count {
        scene.open(&format!("uid-{n}"), note("x", 100)).unwrap();
    }
    scene.run();
}

#[test]
fn the_first_after_quiet_goes_at_once_however_many_are_open() {
    let mut scene = scene();
    many(&mut scene, 100);
    scene.open("late", note("late", 100)).unwrap();
    assert!(scene.step(Fate::Done));
    assert_eq!(scene.state.open.len(), 101);
}

#[test]
fn under_load_a_write_waits_for_a_tenth_of_the_open_records_or_for_the_time_to_gather() {
    let mut scene = scene();
    many(&mut scene, 100);
    scene.opened("one", note("one", 100));
    // That was two seconds ago: another write makes it a load.
    scene.open("two", note("two", 100)).unwrap();
    assert!(scene.step(Fate::Done));
    for n in 0..10 {
        assert!(!scene.step(Fate::Done), "{n} do not go");
        scene.open(&format!("more-{n}"), note("x", 100)).unwrap();
    }
    assert!(!scene.step(Fate::Done), "10 of 102 do not");
    scene.open("enough", note("x", 100)).unwrap();
    assert!(scene.step(Fate::Done), "11 of 102 do");
    assert_eq!(scene.state.open.len(), 113);
    scene.open("alone", note("x", 100)).unwrap();
    assert_eq!(due_in(&mut scene), Some(GATHER));
    scene.now += GATHER;
    assert!(scene.step(Fate::Done));
}

#[test]
fn erasures_ride_along_and_alone_they_go_within_a_second() {
    let mut scene = scene();
    many(&mut scene, 3);
    let writes = scene.server.writes;
    scene.state.erase("uid-0", scene.now);
    assert_eq!(due_in(&mut scene), Some(ERASE));
    scene.opened("next", note("next", 100));
    assert_eq!(scene.server.writes, writes + 1, "both in one");
    assert!(!scene.server.uids().contains("uid-0"));
    scene.state.erase("uid-1", scene.now);
    scene.now += ERASE;
    assert!(scene.step(Fate::Done));
    assert!(!scene.server.uids().contains("uid-1"));
}

#[test]
fn at_the_end_erasures_do_not_wait() {
    let mut scene = scene();
    many(&mut scene, 3);
    scene.state.erase("uid-0", scene.now);
    scene.state.flushing = true;
    assert!(!scene.state.is_flushed());
    assert!(scene.step(Fate::Done));
    assert!(scene.state.is_flushed());
}

#[test]
fn shards_are_filled_one_after_another_and_a_large_record_stands_alone() {
    let mut scene = scene();
    for n in 0..5 {
        scene.opened(&format!("uid-{n}"), note("x", 12_000));
    }
    scene.opened("large", note("large", 150_000));
    scene.opened("small", note("small", 100));
    let mut places = scene.server.open();
    places.sort_by_key(|(uid, number)| (*number, uid.clone()));
    let places: Vec<_> = places
        .iter()
        .map(|(uid, number)| (uid.as_str(), *number))
        .collect();
    assert_eq!(
        places,
        [
            ("small", 0),
            ("uid-0", 0),
            ("uid-1", 0),
            ("uid-2", 1),
            ("uid-3", 1),
            ("uid-4", 2),
            ("large", 3)
        ]
    );
    for object in scene.server.shards.iter().flatten() {
        let shard = Shard::new(Some(object.clone()));
        assert!(shard.size() <= FILLED || shard.value("ledger.volwright.dev/", "large").is_some());
    }
}

#[test]
fn annotations_that_are_somebody_elses_take_no_room_from_records_but_what_an_object_may_have() {
    for (foreign, place) in [(100, 0), (60_000, 0), (100_000, 1)] {
        let mut scene = scene();
        scene.opened("first", note("first", 100));
        scene.state.erase("first", scene.now);
        let shard = scene.server.shards[0].as_mut().expect("a shard");
        shard["metadata"]["annotations"]["policy.example.com/checked"] = "x".repeat(foreign).into();
        shard["metadata"]["resourceVersion"] = "foreign".into();
        scene.opened("large", note("large", 150_000));
        let open = scene.server.open();
        assert!(open.contains(&("large".to_owned(), place)), "{foreign}: {open:?}");
    }
}

#[test]
fn an_open_record_goes_where_most_is_erased() {
    let mut scene = scene();
    for n in 0..6 {
        scene.opened(&format!("uid-{n}"), note("x", 12_000));
    }
    scene.state.erase("uid-0", scene.now);
    scene.state.erase("uid-4", scene.now);
    scene.state.erase("uid-5", scene.now);
    scene.open("next", note("next", 12_000)).unwrap();
    assert!(scene.step(Fate::Done));
    assert!(scene.server.open().contains(&("next".to_owned(), 2)));
}

#[test]
fn what_does_not_fit_is_told() {
    let mut scene = scene();
    let huge = scene.open("huge", note("huge", 300_000));
    assert!(
        matches!(huge, Err(OpenError::TooLarge { bytes }) if bytes > 300_000),
        "{huge:?}"
    );
    let odd = scene.open("a b", note("odd", 10));
    assert_eq!(odd, Err(OpenError::NoKey("a b".to_owned())));
    for n in 0..SHARDS {
        scene.opened(&format!("uid-{n}"), note("x", 150_000));
    }
    let ticket = scene.open("late", note("late", 100)).unwrap().unwrap();
    scene.run();
    assert!(scene.answers.contains(&(ticket, Err(OpenError::Full))));
    assert!(scene.state.status().full);
    scene.state.erase("uid-7", scene.now);
    scene.opened("late", note("late", 100));
    assert!(!scene.state.status().full);
}

#[test]
fn one_that_is_open_already_costs_nothing_and_another_request_takes_its_place() {
    let mut scene = scene();
    scene.opened("uid", note("uid", 1_000));
    let writes = scene.server.writes;
    assert_eq!(scene.open("uid", note("uid", 1_000)), Ok(None));
    assert_eq!(scene.server.writes, writes);
    // Larger than a shard is filled to, but where else?
    scene.opened("other", note("other", 20_000));
    scene.opened("uid", note("uid", 25_000));
    assert_eq!(
        scene.server.open(),
        [("other".to_owned(), 0), ("uid".to_owned(), 0)]
    );
}

/// From now on a quota keeps new shards out.
fn deny_new_shards(scene: &mut Scene) {
    scene.state.no_new_shards = Some(Refused {
        error: error(Reason::Forbidden),
        until: scene.now + S(600),
    });
}

#[test]
fn another_request_may_be_as_large_as_there_is_room_without_the_one_before() {
    let mut scene = scene();
    for size in [90_000, 180_000, 190_000, 90_000, 180_000] {
        scene.opened("uid", note("uid", size));
    }
    // In the same write as the erasure.
    scene.state.erase("uid", scene.now);
    scene.opened("uid", note("uid", 185_000));
    assert_eq!(scene.server.open(), [("uid".to_owned(), 0)]);
}

#[test]
fn another_request_without_room_is_told_so_also_where_no_new_shard_may_be() {
    let mut scene = scene();
    scene.opened("uid", note("uid", 1_000));
    scene.opened("other", note("other", 1_000));
    scene.opened("other", note("other", 200_000));
    deny_new_shards(&mut scene);
    let ticket = scene.open("uid", note("uid", 100_000)).unwrap().unwrap();
    // The server refuses a shard that is too large.
    scene.run();
    assert!(scene.answers.contains(&(ticket, Err(OpenError::Full))));
    assert_eq!(scene.state.open["uid"].entry.record, note("uid", 1_000));
}

#[test]
fn under_a_quota_what_finds_no_room_does_not_keep_smaller_ones_in_memory() {
    let mut scene = scene();
    scene.opened("uid", note("uid", 900));
    deny_new_shards(&mut scene);
    for (uid, size) in [
        ("a", 60_000),
        ("b", 70_000),
        ("c", 25_000),
        ("d", 25_000),
        ("e", 900),
    ] {
        scene.open(uid, note(uid, size)).unwrap();
        scene.run();
    }
    assert_eq!(scene.server.open().len(), 3, "uid, c and e");
    // There is room for the other.
    scene.state.erase("c", scene.now);
    scene.run();
    let stored: Vec<_> = scene.server.uids().into_iter().collect();
    assert_eq!(stored, ["d", "e", "uid"]);
    assert_eq!(scene.state.in_memory.iter().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn at_the_end_nobody_waits_for_a_deleted_shard_that_may_not_be_made_anew() {
    for is_known in [true, false] {
        let mut scene = scene();
        scene.opened("erased", note("erased", 3_000));
        scene.opened("held", note("held", 500));
        scene.opened("next", note("next", 31_000));
        if is_known {
            deny_new_shards(&mut scene);
        }
        scene.server.shards[0] = None;
        scene.state.erase("erased", scene.now);
        scene.state.hold("held", "tired");
        scene.state.flushing = true;
        scene.bad = (!is_known).then_some((0, Reason::NotFound));
        assert!(scene.step(Fate::Done));
        scene.bad = (!is_known).then_some((0, Reason::Forbidden));
        scene.run();
        assert!(scene.state.is_flushed(), "{is_known}");
        let elsewhere = scene.server.shards[1].as_ref().unwrap().to_string();
        assert_eq!(elsewhere.contains("held.volwright.dev/held"), !is_known);
    }
}

#[test]
fn a_shard_with_records_is_kept() {
    let mut scene = scene();
    scene.opened("uid", note("uid", 100));
    let renewed = |scene: &Scene| {
        Shard::new(scene.server.shards[0].clone())
            .renewed()
            .unwrap()
            .to_owned()
    };
    let before = renewed(&scene);
    scene.now += KEEP - S(3);
    assert!(!scene.step(Fate::Done));
    scene.now += S(3);
    assert!(scene.step(Fate::Done));
    assert!(renewed(&scene) > before);
    scene.state.erase("uid", scene.now);
    scene.run();
    assert_eq!(due_in(&mut scene), None, "an empty one is not");
}

#[test]
fn nobody_hears_of_what_nobody_waits_for() {
    let mut scene = scene();
    let queued = scene.open("queued", note("queued", 100)).unwrap().unwrap();
    scene.state.cancel(queued);
    assert!(!scene.step(Fate::Done));
    // Given up while it was on its way.
    let sent = scene.open("sent", note("sent", 100)).unwrap().unwrap();
    let Next::Write(write) = scene.state.next(scene.now, scene.wall()) else {
        panic!()
    };
    scene.state.cancel(sent);
    let object = scene.server.store(write.number, write.object);
    scene.state.written(write.number, Ok(object), scene.now);
    assert_eq!(scene.server.uids().len(), 1);
    scene.now += MS(1);
    scene.run();
    assert!(scene.server.uids().is_empty() && scene.state.open.is_empty());
}
