//! Which requests a record has when one takes the place of another.

use std::sync::Arc;

use super::{
    super::{
        plan::Plan,
        record::{Record, SecretData},
        settle::Doubt,
    },
    *,
};
use crate::base::secrets::SecretRef;

/// A request of this tier.
fn asks(tier: &str) -> Plan {
    let mut world = world();
    world.class().parameters = map(&[("tier", tier)]);
    world.plan()
}

/// What is sent, and what was sent before.
fn record(sent: &str, earlier: &[&str]) -> Record {
    Record {
        earlier: earlier.iter().map(|tier| Arc::new(asks(tier))).collect(),
        ..Record::inherited(UID, "shop/data", asks(sent))
    }
}

fn tiers<'a>(plans: impl IntoIterator<Item = &'a Arc<Plan>>) -> String {
    let tier = |plan: &Arc<Plan>| plan.request.parameters["tier"].clone();
    plans.into_iter().map(tier).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_request_that_is_replaced_is_kept_once_and_one_that_is_sent_again_is_no_earlier_one() {
    let rows = [
        // The record, the new request, what was sent before it then.
        ("a", &[][..], "b", "a"),
        ("a", &[], "a", ""),
        ("b", &["a"], "c", "b a"),
        ("b", &["a"], "a", "b"),
        ("b", &["a"], "b", "a"),
        ("c", &["b", "a"], "a", "c b"),
    ];
    for (sent, earlier, new, expected) in rows {
        let kept = record(sent, earlier).earlier_than(&asks(new));
        assert_eq!(tiers(&kept), expected, "{sent} after {earlier:?}, now {new}");
    }
}

#[test]
fn the_same_request_for_another_object_is_the_same_request() {
    let mut retained = asks("a");
    let spec = retained.draft.spec.as_mut().unwrap();
    spec.persistent_volume_reclaim_policy = Some("Retain".into());
    retained.class_uid = "made anew".into();
    assert!(record("a", &[]).earlier_than(&retained).is_empty());
    let elsewhere = Plan {
        secret: Some(SecretRef {
            namespace: "vault".into(),
            name: "login".into(),
        }),
        ..asks("a")
    };
    assert_eq!(tiers(&record("a", &[]).earlier_than(&elsewhere)), "a");
}

#[test]
fn earlier_requests_take_turns_with_one_that_may_have_made_the_volume_and_replace_one_that_has_not() {
    let rows = [
        // The record, whether the refused request is kept, the record after it.
        ("a", &[][..], true, None),
        ("a", &[], false, None),
        ("b", &["a"], true, Some("a b")),
        ("b", &["a"], false, Some("a")),
        ("c", &["b", "a"], true, Some("b a c")),
        ("c", &["b", "a"], false, Some("b a")),
    ];
    for (sent, earlier, keeps, expected) in rows {
        let next = record(sent, earlier).fallen_back(keeps, Doubt::FRESH);
        let next = next.as_ref().map(|next| tiers(next.plans()));
        assert_eq!(
            next.as_deref(),
            expected,
            "{sent} after {earlier:?}, kept: {keeps}"
        );
    }
}

#[test]
fn all_requests_that_take_turns_have_theirs() {
    let mut record = record("c", &["b", "a"]);
    let mut sent = Vec::new();
    for _ in 0..6 {
        sent.push(record.plan.request.parameters["tier"].clone());
        record = record.fallen_back(true, Doubt::FRESH).unwrap();
    }
    assert_eq!(sent.join(" "), "c b a c b a");
}

#[test]
fn a_request_is_not_sent_with_the_secrets_of_another_one() {
    let known = Record {
        secrets: Some(SecretData::default()),
        renewable: true,
        ..record("b", &["a"])
    };
    let next = known.fallen_back(true, Doubt::None).unwrap();
    assert!(next.secrets.is_some(), "they have the same");
    assert!(next.asked && !next.renewable && next.doubt == Doubt::None);
    let mut other = asks("a");
    other.secret = Some(SecretRef {
        namespace: "vault".into(),
        name: "login".into(),
    });
    let known = Record {
        earlier: vec![Arc::new(other)],
        ..known
    };
    assert!(known.fallen_back(true, Doubt::None).unwrap().secrets.is_none());
}
