//! Upstream's own cases: whether a claim gets a volume from us, and of which mode.

use serde_json::json;

use super::{
    super::decide::{Leave, Wait, concerns},
    cases::{all_of, lab, mount},
    *,
};
use crate::cluster::objects::{BindingMode, PROVISIONER_BETA, SELECTED_NODE};

#[test]
fn a_claim_gets_its_volume_from_us_or_is_left_alone_as_upstream_does() {
    let rows: &[(&str, Change, Option<Leave>)] = &[
        ("lib.ShouldProvision.01", |_| {}, None),
        (
            "lib.ShouldProvision.03",
            |w| w.claim.has_volume = true,
            Some(Leave::HasVolume),
        ),
        (
            "lib.ShouldProvision.04",
            |w| {
                w.claim.annotations.clear();
                w.class = None;
            },
            Some(Leave::NotOurs),
        ),
        (
            "lib.ShouldProvision.05",
            |w| {
                w.annotate(PROVISIONER, "abc.com/xyz");
                w.class().provisioner = "abc.com/xyz".into();
            },
            Some(Leave::NotOurs),
        ),
        (
            "lib.ShouldProvision.06",
            |w| w.claim.annotations = map(&[(PROVISIONER_BETA, "abc.com/xyz")]),
            Some(Leave::NotOurs),
        ),
        (
            "lib.ShouldProvision.07",
            |w| w.claim.annotations.clear(),
            Some(Leave::NotOurs),
        ),
        (
            "lib.ShouldProvision.08",
            |w| w.claim.annotations = map(&[(PROVISIONER, "abc.com/xyz")]),
            Some(Leave::NotOurs),
        ),
        (
            "lib.ShouldProvision.11",
            |w| w.class().binding_mode = Some(BindingMode::WaitForFirstConsumer),
            Some(Leave::WaitsForConsumer),
        ),
        (
            "lib.ShouldProvision.12",
            |w| {
                w.class().binding_mode = Some(BindingMode::WaitForFirstConsumer);
                w.claim.annotations = map(&[(PROVISIONER_BETA, DRIVER), (SELECTED_NODE, "node-1")]);
            },
            None,
        ),
        (
            "lib.ShouldProvision.13",
            |w| {
                w.class().binding_mode = Some(BindingMode::WaitForFirstConsumer);
                w.annotate(SELECTED_NODE, "node-1");
            },
            None,
        ),
    ];
    for (id, change, leave) in rows {
        let decision = World::but(*change).decide();
        match leave {
            Some(leave) => assert_eq!(decision, Decision::Leave(*leave), "{id}"),
            None => assert!(matches!(decision, Decision::Provision(_)), "{id}: {decision:?}"),
        }
    }
}

#[test]
fn what_the_predicate_does_not_let_through_is_left_alone_and_the_rest_is_decided_on() {
    let rows: [(&str, Change, bool); 2] = [
        (
            "lib.ShouldProvision.09",
            |w| w.annotate(PROVISIONER, "other"),
            false,
        ),
        ("lib.ShouldProvision.10", |_| {}, true),
    ];
    for (id, change, passes) in rows {
        let world = World::but(change);
        assert_eq!(concerns(&world.claim, DRIVER), passes, "{id}");
        assert_eq!(matches!(world.decide(), Decision::Provision(_)), passes, "{id}");
    }
}

/// The library's provisioner may know no block volumes. Every CSI driver is asked for them, here and upstream, and
/// refuses them itself: `tests/flows/claims.rs`.
#[test]
fn every_volume_mode_is_asked_of_the_driver() {
    let block = || json!([{"mode": "SINGLE_NODE_WRITER", "block": {}}]);
    let filesystem = || mount("SINGLE_NODE_WRITER");
    let rows = [
        ("lib.CanProvision.01", None, filesystem()),
        ("lib.CanProvision.02", Some("Filesystem"), filesystem()),
        ("lib.CanProvision.04", None, filesystem()),
        ("lib.CanProvision.05", Some("Filesystem"), filesystem()),
        ("lib.CanProvision.07", None, filesystem()),
        ("lib.CanProvision.08", Some("Filesystem"), filesystem()),
        ("lib.CanProvision.09", Some("Block"), block()),
    ];
    for (id, mode, expected) in rows {
        let mut world = lab(|_| {});
        world.claim.volume_mode = mode.map(str::to_owned);
        assert_eq!(all_of(&world)["request"]["capabilities"], expected, "{id}");
    }
}

#[test]
fn a_class_that_was_just_missed_is_not_called_missing() {
    let mut world = world();
    world.class_just_missed = true;
    assert!(matches!(world.decide(), Decision::Provision(_)), "it is there");
    world.class = None;
    assert_eq!(world.decide(), Decision::Wait(Wait::WatchLag, LEFT));
}
