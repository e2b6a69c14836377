//! What follows when somebody else wrote a shard, by kind, and when the API server wants a pause.

use serde_json::json;

use super::{
    super::{
        annotation::{HELD, OPEN, SETTLE},
        record::Origin,
        slot::Notice,
    },
    LedgerSettings, S, note,
    server::{Fate, Scene},
    settings, term,
};
use crate::base::api_error::Reason;

fn scene(elected: bool) -> Scene {
    let mut scene = Scene::leading(
        LedgerSettings {
            elected,
            ..settings()
        },
        &term(),
    );
    scene.opened("uid", note("uid", 900));
    scene
}

#[test]
fn another_holder_ends_the_term_and_nothing_is_written_over() {
    let mut scene = scene(true);
    scene
        .server
        .edit(0, |shard| shard["spec"]["holderIdentity"] = json!("they"));
    let before = scene.server.shards[0].clone();
    scene.open("next", note("next", 900)).unwrap();
    assert!(scene.step(Fate::Done), "the write");
    scene.now += S(1);
    assert!(scene.step(Fate::Done), "the read");
    assert!(scene.resigned);
    assert_eq!(scene.server.shards[0], before);
}

#[test]
fn without_election_the_records_of_others_stay_as_they_are() {
    let mut scene = scene(false);
    scene.server.edit(0, |shard| {
        shard["spec"]["holderIdentity"] = json!("they");
        shard["metadata"]["annotations"][format!("{OPEN}theirs")] = json!("whatever they write");
        shard["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove(&format!("{OPEN}uid"));
    });
    scene.opened("next", note("next", 900));
    assert!(!scene.resigned);
    let shard = scene.server.shards[0].clone().unwrap();
    assert_eq!(
        shard["metadata"]["annotations"][format!("{OPEN}theirs")],
        "whatever they write"
    );
    assert_eq!(
        scene.server.uids().into_iter().collect::<Vec<_>>(),
        ["next", "theirs", "uid"]
    );
    assert!(!scene.state.open.contains_key("theirs"), "they are not adopted");
    scene.state.erase("theirs", scene.now);
    scene.run();
    assert!(scene.server.uids().contains("theirs"));
}

#[test]
fn a_hand_edit_is_read_for_what_it_means() {
    let mut scene = scene(true);
    scene.opened("held", note("held", 900));
    scene.opened("wanted", note("wanted", 900));
    scene.state.hold("held", "tired");
    scene.state.hold("wanted", "tired");
    scene.run();
    scene.server.edit(0, |shard| {
        let annotations = &mut shard["metadata"]["annotations"];
        annotations[format!("{OPEN}uid")] = json!("damaged");
        annotations[format!("{SETTLE}wanted")] = json!("");
        annotations["theirs"] = json!("stays");
        annotations
            .as_object_mut()
            .unwrap()
            .remove(&format!("{HELD}held"));
    });
    scene.opened("next", note("next", 900));
    let shard = scene.server.shards[0].clone().unwrap();
    let annotations = shard["metadata"]["annotations"].as_object().unwrap();
    let keys: Vec<_> = annotations.keys().map(String::as_str).collect();
    let ours = ["next", "uid", "wanted"].map(|uid| format!("{OPEN}{uid}"));
    assert_eq!(keys, [&ours[0], &ours[1], &ours[2], "theirs"]);
    assert_ne!(annotations[&ours[1]], "damaged", "a running one is put back");
    let settled = &scene.state.open["wanted"];
    assert_eq!(settled.entry.origin, Origin::Inherited { distrust: None });
    assert!(settled.approved, "that outlives this process");
    assert!(
        scene
            .notices
            .iter()
            .any(|told| matches!(told, Notice::Settling(uid) if uid == "wanted"))
    );
    scene.restart(&term());
    assert!(scene.state.open["wanted"].approved);
}

#[test]
fn a_settlement_whose_answer_is_lost_is_made_good() {
    for fate in [Fate::Unheard, Fate::Lost, Fate::Late] {
        let mut scene = scene(true);
        scene.state.hold("uid", "tired");
        scene.run();
        scene.server.edit(0, |shard| {
            shard["metadata"]["annotations"][format!("{SETTLE}uid")] = json!("yes")
        });
        scene.now += S(61);
        assert!(scene.step(Fate::Done), "the look");
        assert!(scene.step(fate), "the write");
        scene.run();
        scene.server.catch_up();
        scene.run();
        let shard = scene.server.shards[0].clone().unwrap();
        let annotations = shard["metadata"]["annotations"].as_object().unwrap();
        let keys: Vec<_> = annotations.keys().collect();
        assert_eq!(keys, [&format!("{OPEN}uid")], "{fate:?}");
        assert!(scene.state.open["uid"].approved, "{fate:?}");
    }
}

#[test]
fn a_shard_that_a_person_made_invalid_does_not_hold_up_the_others() {
    let mut scene = scene(true);
    scene.opened("large", note("large", 60_000));
    let told = |scene: &Scene| {
        let told = scene.notices.iter();
        told.filter(|told| matches!(told, Notice::LeftAlone(_))).count()
    };
    scene.state.erase("uid", scene.now);
    scene.state.erase("large", scene.now);
    scene.now += S(1);
    assert!(scene.step(Fate::Refused(Reason::Invalid)), "the first shard");
    assert!(scene.step(Fate::Done), "the second one, at once");
    assert_eq!(scene.server.open(), [("uid".to_owned(), 0)]);
    assert!(scene.state.is_flushed(), "nobody waits for the first");
    scene.opened("next", note("next", 900));
    assert!(scene.server.open().contains(&("next".to_owned(), 1)));
    // It is tried again every minute, and said once.
    scene.now += S(60);
    assert!(scene.step(Fate::Refused(Reason::Invalid)));
    assert!(!scene.step(Fate::Done));
    scene.now += S(60);
    assert!(scene.step(Fate::Done));
    assert_eq!(scene.server.open(), [("next".to_owned(), 1)]);
    assert_eq!(told(&scene), 1);
}

#[test]
fn flow_control_is_obeyed_and_fails_nothing() {
    let mut scene = scene(true);
    let ticket = scene.open("next", note("next", 900)).unwrap().unwrap();
    let began = scene.now;
    assert!(scene.step(Fate::Refused(Reason::TooManyRequests(S(7)))));
    assert!(!scene.step(Fate::Done));
    scene.now = began + S(7);
    assert!(scene.step(Fate::Done));
    assert!(scene.answers.contains(&(ticket, Ok(()))));
}

#[test]
fn after_a_lost_answer_the_shard_is_read_and_written_before_anything_else() {
    let mut scene = scene(true);
    scene.open("next", note("next", 900)).unwrap();
    assert!(scene.step(Fate::Late));
    scene.run();
    // It was fenced off by a write that was confirmed.
    scene.server.catch_up();
    assert_eq!(scene.server.uids().into_iter().collect::<Vec<_>>(), ["uid"]);
}

#[test]
fn what_is_erased_while_its_replacement_is_under_way_is_as_the_caller_hears() {
    let mut scene = scene(true);
    scene.open("uid", note("uid", 1_000)).unwrap();
    assert!(scene.step(Fate::Unheard));
    assert!(scene.state.open.contains_key("uid"), "the old one counts still");
    scene.run();
    let stored = scene.server.shards[0].clone().unwrap().to_string();
    scene.restart(&term());
    assert_eq!(scene.state.open["uid"].entry.record, note("uid", 900), "{stored}");
}
