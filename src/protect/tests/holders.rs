//! Who is at work on what, and what a source is called in the queue.

use super::{
    super::holders::{Holders, key_of, source_of},
    backup, source,
};
use crate::cluster::source::SourceKind;

#[test]
fn a_source_is_held_from_the_begin_of_a_reconcile_to_its_end() {
    let mut holders = Holders::default();
    assert_eq!(holders.end("uid-1", None), None);
    holders.begin("uid-1", &backup());
    holders.begin("uid-2", &backup());
    assert_eq!(holders.end("uid-1", None), Some(backup()));
    assert!(holders.is_at_work(&backup()), "of another claim");
    assert_eq!(holders.end("uid-2", Some(backup())), Some(backup()));
    assert!(!holders.is_at_work(&backup()));
    assert_eq!(holders.end("uid-2", None), Some(backup()), "it had waited");
    assert_eq!(holders.end("uid-2", None), None);
    assert_eq!(holders.sources(), [backup()].into(), "it is due");
    holders.looked_at(&backup());
    assert_eq!(holders.len(), 0);
}

#[test]
fn a_term_begins_with_who_needs_what_and_with_calls_that_outlive_the_last_one() {
    let [origin, due] = ["origin", "due"].map(|name| source(SourceKind::Claim, name));
    let mut holders = Holders::default();
    holders.begin("at work", &backup());
    holders.begin("waited", &due);
    holders.end("waited", Some(due.clone()));
    holders.looked_at(&due);
    holders.begin_term(vec![
        ("at work".into(), backup()),
        ("inherited".into(), origin.clone()),
    ]);
    assert_eq!(holders.sources(), [backup(), origin.clone(), due].into());
    assert!(holders.is_at_work(&backup()) && !holders.is_at_work(&origin));
    assert_eq!(holders.end("waited", None), None, "it is gone");
    assert_eq!(holders.end("inherited", None), Some(origin));
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
