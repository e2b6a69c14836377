//! Who is at work on what, and what a source is called in the queue.

use super::{
    super::holders::{Holders, key_of, source_of},
    backup, source,
};
use crate::cluster::source::SourceKind;

#[test]
fn a_source_is_held_from_the_begin_of_a_reconcile_to_its_end() {
    let mut holders = Holders::default();
    assert_eq!(holders.end("uid-1"), None);
    holders.begin("uid-1", &backup());
    holders.begin("uid-2", &backup());
    assert_eq!(holders.end("uid-1"), Some(backup()));
    assert!(holders.is_at_work(&backup()), "of another claim");
    assert_eq!(holders.end("uid-2"), Some(backup()));
    assert!(!holders.is_at_work(&backup()));
    assert_eq!(
        holders.end("uid-2"),
        Some(backup()),
        "it is remembered until nobody needs it"
    );
    holders.forget(&backup());
    assert_eq!(holders.end("uid-2"), None);
}

#[test]
fn a_term_begins_with_who_needs_what_and_with_calls_that_outlive_the_last_one() {
    let other = source(SourceKind::Claim, "origin");
    let mut holders = Holders::default();
    holders.begin("at work", &backup());
    holders.begin("done", &source(SourceKind::Snapshot, "gone"));
    holders.end("done");
    holders.begin_term(vec![
        ("at work".into(), backup()),
        ("inherited".into(), other.clone()),
    ]);
    assert_eq!(
        holders.sources().into_iter().collect::<Vec<_>>(),
        [backup(), other.clone()]
    );
    assert!(holders.is_at_work(&backup()) && !holders.is_at_work(&other));
}

#[test]
fn a_key_tells_kind_namespace_and_name() {
    for (kind, key) in [
        (SourceKind::Snapshot, "VolumeSnapshot/default/a.b"),
        (SourceKind::Claim, "PersistentVolumeClaim/default/a.b"),
    ] {
        assert_eq!(key_of(&source(kind, "a.b")), key);
        assert_eq!(source_of(key), Some(source(kind, "a.b")));
    }
    for odd in ["", "shop/a", "Dump/default/a"] {
        assert_eq!(source_of(odd), None, "{odd:?}");
    }
}
