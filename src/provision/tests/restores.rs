//! Which snapshots can be restored; upstream's own cases among them.

use super::{
    super::content::NoContent::{self, *},
    content::{Lab, Row, check, other_driver, too_small},
};
use crate::csi::proto::volume_content_source::{SnapshotSource, Type};

pub(super) fn mode_change(allowed: Option<&str>) -> NoContent {
    ModeChange {
        from: "Filesystem".into(),
        to: "Block".into(),
        content: "content".into(),
        allowed: allowed.map(str::to_owned),
    }
}

pub(super) fn of_other(snapshot: &str) -> NoContent {
    ContentOfOther {
        content: "content".into(),
        snapshot: snapshot.into(),
    }
}

fn snap() -> Type {
    Type::Snapshot(SnapshotSource {
        snapshot_id: "snap-1".into(),
    })
}

/// In their order, which decides what people read.
pub(super) fn snapshot_checks() -> Vec<Row> {
    vec![
        (&[], "it is gone", |lab| lab.snapshot = None, Err(NotFound)),
        (
            &["ctl.ProvisionFromSnapshot.36", "ctl.ProvisionFromSnapshot.37"],
            "it goes away, and nothing of ours holds it",
            |lab| lab.snapshot().deleting = true,
            Err(BeingDeleted),
        ),
        (
            &["ctl.ProvisionFromSnapshot.14", "ctl.ProvisionFromSnapshot.15"],
            "it has no content",
            |lab| lab.snapshot().content = None,
            Err(NoContentYet),
        ),
        (
            &[],
            "its content is gone",
            |lab| lab.content = None,
            Err(ContentNotFound("content".into())),
        ),
        (
            &["ctl.ProvisionFromSnapshot.08"],
            "its content is for a snapshot of another UID",
            |lab| lab.content().snapshot.uid = "x".into(),
            Err(of_other("shop/origin with UID \"x\"")),
        ),
        (
            &["ctl.ProvisionFromSnapshot.11"],
            "its content is another driver's",
            |lab| lab.content().driver = "other".into(),
            Err(other_driver("VolumeSnapshotContent content")),
        ),
        (
            &["ctl.ProvisionFromSnapshot.06", "ctl.ProvisionFromSnapshot.16"],
            "it is not ready",
            |lab| lab.snapshot().ready = false,
            Err(NotReady),
        ),
        (
            &["ctl.ProvisionFromSnapshot.12", "ctl.ProvisionFromSnapshot.13"],
            "its content has no handle",
            |lab| lab.content().handle = None,
            Err(NoHandle("content".into())),
        ),
        (
            &["ctl.ProvisionFromSnapshot.02"],
            "the claim is too small",
            |lab| lab.bytes = 100,
            Err(too_small(100)),
        ),
        (
            &["ctl.ProvisionFromSnapshot.18"],
            "the mode changes",
            |lab| lab.modes(Some("Block"), Some("Filesystem")),
            Err(mode_change(None)),
        ),
    ]
}

#[test]
fn a_snapshot_is_checked_in_upstreams_order() {
    check(snapshot_checks(), Lab::restore, snap());
}

#[test]
fn a_snapshot_may_be_larger_protected_or_of_another_mode_where_that_is_allowed() {
    let rows: Vec<Row> = vec![
        (
            &["ctl.ProvisionFromSnapshot.01", "ctl.ProvisionFromSnapshot.19"],
            "as it is",
            |_| {},
            Ok(()),
        ),
        (
            &["ctl.ProvisionFromSnapshot.38"],
            "it goes away, and our finalizer holds it",
            |lab| {
                lab.snapshot().deleting = true;
                lab.snapshot().is_protected = true;
            },
            Ok(()),
        ),
        (&[], "a larger claim", |lab| lab.bytes = 1001, Ok(())),
        (
            &[],
            "no size is needed",
            |lab| {
                lab.snapshot().restore_size = None;
                lab.bytes = 0;
            },
            Ok(()),
        ),
        (
            &[],
            "a size is needed, and the claim has none",
            |lab| {
                lab.snapshot().restore_size = Some(0);
                lab.claim.storage_request = None;
                lab.bytes = 0;
            },
            Err(TooSmall { asked: 0, needed: 0 }),
        ),
        (
            &["ctl.ProvisionFromSnapshot.09"],
            "its content is for another namespace",
            |lab| lab.content().snapshot.namespace = "x".into(),
            Err(of_other("x/origin with UID \"snapshot-uid\"")),
        ),
        (
            &["ctl.ProvisionFromSnapshot.10"],
            "its content is for another name",
            |lab| lab.content().snapshot.name = "x".into(),
            Err(of_other("shop/x with UID \"snapshot-uid\"")),
        ),
        (
            &["ctl.ProvisionFromSnapshot.17"],
            "another mode, allowed",
            |lab| {
                lab.modes(Some("Block"), Some("Filesystem"));
                lab.content().allow_mode_change = Some("true".into());
            },
            Ok(()),
        ),
        (
            &[],
            "another mode, forbidden",
            |lab| {
                lab.modes(Some("Block"), Some("Filesystem"));
                lab.content().allow_mode_change = Some("false".into());
            },
            Err(mode_change(Some("false"))),
        ),
        (
            &[],
            "another mode, and nonsense about it",
            |lab| {
                lab.modes(Some("Block"), Some("Filesystem"));
                lab.content().allow_mode_change = Some("yes".into());
            },
            Err(mode_change(Some("yes"))),
        ),
        (
            &[],
            "another mode, and nobody minds",
            |lab| {
                lab.modes(Some("Block"), Some("Filesystem"));
                lab.prevent_mode_conversion = false;
            },
            Ok(()),
        ),
        (
            &[],
            "the origin's mode is not known",
            |lab| lab.modes(Some("Block"), None),
            Ok(()),
        ),
        (
            &[],
            "the claim has no mode",
            |lab| lab.modes(None, Some("Block")),
            Ok(()),
        ),
    ];
    check(rows, Lab::restore, snap());
}
