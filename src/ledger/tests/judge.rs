//! What a term begins with.

use super::{
    super::{
        annotation::{HELD, OPEN},
        record::{Distrust, Origin},
        shard::Shard,
        slot::{Notice, Place},
    },
    LedgerSettings, Note, S, TermFacts, UID, note,
    server::{Fate, Scene},
    settings, term,
};

/// A process that has ended, and left a record that was opened in the seventh term.
fn left(record: std::sync::Arc<Note>) -> Scene {
    let mut scene = Scene::leading(settings(), &term());
    scene.opened(UID, record);
    scene.state = super::super::state::LedgerState::new(settings());
    scene
}

fn origin(scene: &Scene) -> Option<Origin> {
    scene.state.open.get(UID).map(|known| known.entry.origin)
}

fn keys(scene: &Scene) -> Vec<String> {
    let shard = Shard::new(scene.server.shards[0].clone());
    let all = [OPEN, HELD].map(|prefix| {
        let records: Vec<_> = shard
            .records(prefix)
            .map(|(uid, _)| format!("{prefix}{uid}"))
            .collect();
        records
    });
    all.concat()
}

#[test]
fn without_trust_a_record_resumes_for_a_claim_that_waits_and_is_held_otherwise() {
    let later = TermFacts {
        transitions: 9,
        undisturbed: false,
        ..term()
    };
    let kept = note(UID, 100);
    let retained = std::sync::Arc::new(Note {
        deletes: false,
        ..(*kept).clone()
    });
    let mut short = (*kept).clone();
    short.head.volume = "pvc-0123".to_owned();
    let (short, hour) = (std::sync::Arc::new(short), S(3600));
    let foreign = TermFacts {
        lease_uid: "lease-2".to_owned(),
        ..later.clone()
    };
    let broken = TermFacts {
        first_transitions: 8,
        ..later.clone()
    };
    #[rustfmt::skip]
    let rows = [
        ("trusted", &kept, &later, S(0), None),
        ("trusted, retained", &retained, &later, S(0), None),
        ("restored", &kept, &foreign, S(0), Some(Distrust::Foreign)),
        ("left alone", &kept, &later, hour, Some(Distrust::Stale)),
        ("a short name", &short, &later, S(0), Some(Distrust::ShortName)),
        ("an unknown leader", &retained, &broken, S(0), Some(Distrust::UnknownLeader)),
        ("an unknown leader, deleted", &kept, &broken, S(0), None),
    ];
    for (name, record, facts, age, distrust) in rows {
        for waits in [true, false] {
            let mut scene = left(record.clone());
            scene.now += age;
            scene.take_over(facts, |_| waits);
            let resumed = Some(Origin::Inherited { distrust });
            let (wanted, key) = match waits || distrust.is_none() {
                true => (resumed, OPEN),
                false => (None, HELD),
            };
            assert_eq!(
                (origin(&scene), keys(&scene)),
                (wanted, vec![format!("{key}{UID}")]),
                "{name}, {waits}"
            );
            let held = scene
                .notices
                .iter()
                .any(|told| matches!(told, Notice::Held { .. }));
            assert_eq!(
                (held, scene.state.status().held),
                (wanted.is_none(), usize::from(wanted.is_none())),
                "{name}"
            );
            let holder = Shard::new(scene.server.shards[0].clone())
                .holder()
                .map(str::to_owned);
            assert_eq!(holder.as_deref(), Some("we"));
        }
    }
}

#[test]
fn a_take_over_that_is_repeated_trusts_no_more_than_the_first_time() {
    let mut scene = left(note(UID, 100));
    scene.now += S(3600);
    let later = TermFacts {
        transitions: 9,
        undisturbed: false,
        ..term()
    };
    // The first one has written all shards, by which they look kept.
    scene.take_over(&later, |_| true);
    scene.take_over(&later, |_| false);
    assert_eq!(
        origin(&scene),
        Some(Origin::Inherited {
            distrust: Some(Distrust::Stale)
        })
    );
}

#[test]
fn what_was_left_for_long_is_not_trusted_by_the_next_process_either() {
    let mut scene = left(note(UID, 100));
    scene.now += S(3600);
    let term = |transitions| TermFacts {
        transitions,
        undisturbed: false,
        ..term()
    };
    // The claim waits, so the record is taken up; its shard is written, and looks kept.
    scene.take_over(&term(9), |_| true);
    assert!(scene.state.open.contains_key(UID));
    // That process is killed, and the claim deleted.
    scene.state = super::super::state::LedgerState::new(settings());
    scene.now += S(20);
    scene.take_over(&term(10), |_| false);
    assert!(scene.state.open.is_empty());
    assert_eq!(scene.state.status().held, 1);
}

#[test]
fn in_a_term_that_nobody_disturbed_what_this_process_opened_is_its_own() {
    let mut scene = Scene::leading(settings(), &term());
    scene.opened(UID, note(UID, 100));
    scene.take_over(
        &TermFacts {
            transitions: 8,
            ..term()
        },
        |_| false,
    );
    assert_eq!(origin(&scene), Some(Origin::Own));
    scene.take_over(
        &TermFacts {
            transitions: 10,
            undisturbed: false,
            ..term()
        },
        |_| false,
    );
    assert_eq!(origin(&scene), Some(Origin::Inherited { distrust: None }));
}

#[test]
fn what_another_leader_opened_anew_is_not_taken_for_what_was_erased_here() {
    let mut scene = Scene::leading(settings(), &term());
    scene.opened(UID, note(UID, 100));
    scene.state.erase(UID, scene.now);
    // Not written yet; the other erases it, too, and the claim begins again.
    let mut other = left(note(UID, 200));
    other.restart(&TermFacts {
        transitions: 8,
        ..term()
    });
    other.state.erase(UID, other.now);
    other.run();
    other.opened(UID, note(UID, 300));
    scene.server = other.server;
    scene.take_over(
        &TermFacts {
            transitions: 9,
            undisturbed: false,
            ..term()
        },
        |_| false,
    );
    assert_eq!(scene.state.open[UID].entry.record, note(UID, 300));
    assert!(scene.state.slots[0].erasing.is_empty());
}

/// A term after another leader's.
fn disturbed() -> TermFacts {
    TermFacts {
        transitions: 9,
        undisturbed: false,
        ..term()
    }
}

#[test]
fn what_was_to_be_erased_in_an_earlier_term_is_inherited_when_another_has_led() {
    for lost in [false, true] {
        let mut scene = Scene::leading(settings(), &term());
        if lost {
            // The record arrives, and nobody hears of it: it was to be erased, too.
            scene.open(UID, note(UID, 100)).unwrap();
            assert!(scene.step(Fate::Unheard));
        } else {
            scene.opened(UID, note(UID, 100));
            scene.state.erase(UID, scene.now);
        }
        // The other inherits it, calls the driver and is killed.
        scene.take_over(&disturbed(), |_| false);
        scene.run();
        let inherited = Some(Origin::Inherited { distrust: None });
        assert_eq!(
            (origin(&scene), keys(&scene)),
            (inherited, vec![format!("{OPEN}{UID}")])
        );
    }
}

#[test]
fn what_was_to_be_held_in_an_earlier_term_is_inherited_when_another_has_led() {
    let mut scene = Scene::leading(settings(), &term());
    scene.opened(UID, note(UID, 100));
    scene.state.hold(UID, "tired");
    // The other has it settled, and the claim begins again, on another shard.
    let mut other = left(note(UID, 200));
    other.restart(&term());
    other.state.erase(UID, other.now);
    other.run();
    other.opened(UID, note(UID, 100));
    let mut newer = other.server.shards[0].clone().unwrap();
    newer["metadata"]["name"] = "lab-ledger-1".into();
    scene.server.store(1, newer);
    scene.take_over(&disturbed(), |_| false);
    scene.run();
    assert_eq!(scene.state.status().held, 0);
    assert_eq!(origin(&scene), Some(Origin::Inherited { distrust: None }));
    assert_eq!(scene.server.open(), [(UID.to_owned(), 1)]);
}

#[test]
fn a_request_that_another_leader_has_replaced_stays_replaced() {
    let mut scene = Scene::leading(settings(), &term());
    scene.opened(UID, note(UID, 100));
    let mut other = Scene::new(settings());
    other.server = std::mem::take(&mut scene.server);
    other.restart(&term());
    other.opened(UID, note(UID, 200));
    scene.server = other.server;
    scene.take_over(&disturbed(), |_| false);
    scene.run();
    assert_eq!(scene.state.open[UID].entry.record, note(UID, 200));
    scene.restart(&term());
    assert_eq!(scene.state.open[UID].entry.record, note(UID, 200));
}

#[test]
fn what_cannot_be_read_is_held_untouched() {
    let mut scene = left(note(UID, 100));
    let key = format!("{OPEN}{UID}");
    scene.server.edit(0, |shard| {
        let value = shard["metadata"]["annotations"][&key]
            .as_str()
            .unwrap()
            .replace(" v1 ", " v2 ");
        shard["metadata"]["annotations"][&key] = value.into();
    });
    let value =
        |scene: &Scene| scene.server.shards[0].clone().unwrap()["metadata"]["annotations"][&key].clone();
    let before = value(&scene);
    scene.take_over(&term(), |_| true);
    assert_eq!((scene.state.status().held, origin(&scene)), (1, None));
    // The claim waits all the same; its record stands elsewhere.
    scene.opened(UID, note(UID, 100));
    scene.state.erase(UID, scene.now);
    scene.run();
    assert_eq!(value(&scene), before);
    assert_eq!(scene.server.open(), [(UID.to_owned(), 0)]);
}

#[test]
fn of_two_records_of_one_claim_the_later_counts() {
    let mut scene = left(note(UID, 100));
    let older = scene.server.shards[0].clone().unwrap();
    let mut other = left(note(UID, 200));
    other.now += S(60);
    other.restart(&term());
    other.state.erase(UID, other.now);
    other.run();
    other.opened(UID, note(UID, 300));
    let mut newer = other.server.shards[0].clone().unwrap();
    newer["metadata"]["name"] = "lab-ledger-1".into();
    for (first, second) in [(older.clone(), newer.clone()), (newer, older)] {
        scene.server.store(0, first);
        scene.server.store(1, second);
        scene.restart(&term());
        assert_eq!(scene.state.open[UID].entry.record, note(UID, 300));
        assert_eq!(scene.server.open().len(), 1);
    }
}

#[test]
fn without_election_a_record_belongs_to_its_shard() {
    let alone = LedgerSettings {
        elected: false,
        ..settings()
    };
    let mut scene = Scene::leading(alone.clone(), &term());
    scene.opened(UID, note(UID, 100));
    scene.restart(&term());
    assert_eq!(origin(&scene), Some(Origin::Inherited { distrust: None }));
    // Restored from a copy, the object has another UID.
    scene.state = super::super::state::LedgerState::new(alone);
    scene
        .server
        .edit(0, |shard| shard["metadata"]["uid"] = "another".into());
    scene.take_over(&term(), |_| false);
    assert_eq!(
        (origin(&scene), keys(&scene)),
        (None, vec![format!("{HELD}{UID}")])
    );
}

#[test]
fn of_two_records_of_one_claim_none_is_forgotten_that_may_have_made_a_volume() {
    for (other, held) in [(note(UID, 100), 0), (note(UID, 200), 1)] {
        // Another process has left one, in a shard that cannot be read when the term begins.
        let mut scene = left(other);
        let shard = scene.server.shards[0].take();
        scene.now += S(10);
        scene.take_over(&term(), |_| true);
        scene.opened(UID, note(UID, 100));
        assert_eq!(origin(&scene), Some(Origin::Own));
        scene.server.shards[1] = scene.server.shards[0].take();
        scene.server.shards[0] = shard;
        let place = scene.state.open.get_mut(UID).expect("it is open");
        place.place = Place::Shard(1);
        // It can be read now.
        scene.take_over(&term(), |_| true);
        assert_eq!(
            origin(&scene),
            Some(Origin::Inherited { distrust: None }),
            "in doubt"
        );
        scene.now += S(2);
        while scene.step(Fate::Done) {}
        assert_eq!(scene.state.status().held, held);
        assert_eq!(scene.server.open(), [(UID.to_owned(), 1)]);
    }
}
