//! Where the content of a claim is to come from, and whether the volume that was made has it.

use super::{
    super::{
        outcome::{CreateOutcome, Mismatch, outcome_of},
        refusal::Refusal,
    },
    cases::answer,
    decide::{snapshot, source, tell},
    outcome::made,
    *,
};
use crate::{
    cluster::source::{NoSource, SNAPSHOT_GROUP, Source, SourceKind},
    csi::proto::{
        VolumeContentSource,
        volume_content_source::{SnapshotSource, Type, VolumeSource},
    },
};

/// The claim's source, and what the driver can copy.
fn world_with(kind: &str, snapshots: bool, clones: bool) -> World {
    let mut world = world();
    world.claim.data_source = Some(source(kind));
    world.driver.create_delete_snapshot = snapshots;
    world.driver.clone = clones;
    world
}

#[test]
fn a_source_that_the_driver_cannot_copy_is_refused_and_what_a_populator_fills_is_left_to_it() {
    const NO_CLONE: &str = "ctl.ProvisionFromPVC.02";
    let clone = Source {
        kind: SourceKind::Claim,
        ..snapshot()
    };
    for (kind, snapshots, clones, source) in [
        ("VolumeSnapshot", true, false, snapshot()),
        ("PersistentVolumeClaim", false, true, clone),
    ] {
        let plan = world_with(kind, snapshots, clones).plan();
        assert_eq!(plan.source.as_ref(), Some(&source));
        assert_eq!(plan.request.volume_content_source, None, "it is yet to be read");
        let refused = world_with(kind, clones, snapshots).decide();
        assert_eq!(refused, tell(Refusal::CannotCopy(source)), "{NO_CLONE}");
    }
    let populated = tell(Refusal::NoSource(NoSource::Populator));
    assert_eq!(world_with("MyPopulator", true, true).decide(), populated);
}

#[test]
fn a_source_that_is_none_is_refused_whatever_the_driver_can() {
    let rows: [(&str, Change, NoSource); 4] = [
        (
            "ctl.ProvisionFromSnapshot.03",
            |w| w.claim.data_source.as_mut().unwrap().name.clear(),
            NoSource::NoName(SourceKind::Snapshot),
        ),
        (
            "ctl.ProvisionFromSnapshot.04",
            |w| w.claim.data_source = Some(source("Unknown")),
            NoSource::Populator,
        ),
        (
            "ctl.ProvisionFromSnapshot.05",
            |w| w.claim.data_source.as_mut().unwrap().api_group = Some("other".into()),
            NoSource::OtherGroup("other".into()),
        ),
        (
            "ctl.ProvisionFromSnapshot.27",
            |w| {
                w.claim.data_source_ref = w.claim.data_source.take();
                let source = w.claim.data_source_ref.as_mut().unwrap();
                source.api_group = Some(SNAPSHOT_GROUP.into());
                source.namespace = Some("ns1".into());
            },
            NoSource::OtherNamespace("ns1".into()),
        ),
    ];
    for (id, change, expected) in rows {
        let mut world = world_with("VolumeSnapshot", true, true);
        change(&mut world);
        assert_eq!(world.decide(), tell(Refusal::NoSource(expected)), "{id}");
    }
    let mut world = world_with("PersistentVolumeClaim", true, true);
    world.claim.data_source_ref = world.claim.data_source.take();
    world.claim.data_source_ref.as_mut().unwrap().namespace = Some("ns1".into());
    let expected = tell(Refusal::NoSource(NoSource::OtherNamespace("ns1".into())));
    assert_eq!(world.decide(), expected, "ctl.ProvisionFromPVC.49");
}

fn copy_of(source: Type) -> VolumeContentSource {
    VolumeContentSource { r#type: Some(source) }
}

fn snap(id: &str) -> VolumeContentSource {
    copy_of(Type::Snapshot(SnapshotSource {
        snapshot_id: id.into(),
    }))
}

fn vol(id: &str) -> VolumeContentSource {
    copy_of(Type::Volume(VolumeSource { volume_id: id.into() }))
}

fn outcome(
    asked: Option<VolumeContentSource>,
    got: Option<VolumeContentSource>,
    bytes: i64,
) -> CreateOutcome {
    let mut plan = world().plan();
    plan.request.volume_content_source = asked;
    let mut answer = answer(bytes);
    answer.volume.as_mut().unwrap().content_source = got;
    outcome_of(&plan, Ok(answer))
}

#[test]
fn a_volume_with_another_content_than_was_asked_for_is_not_used() {
    let rows = [
        ("the snapshot", snap("a"), Some(snap("a")), None),
        ("the volume", vol("a"), Some(vol("a")), None),
        (
            "ctl.ProvisionFromSnapshot.07",
            snap("a"),
            None,
            Some(
                "created volume has the content of nothing that the driver tells of, that of snapshot a was asked for",
            ),
        ),
        (
            "a source of no kind",
            vol("a"),
            Some(VolumeContentSource::default()),
            Some(
                "created volume has the content of nothing that the driver tells of, that of volume a was asked for",
            ),
        ),
        (
            "D-34: another snapshot",
            snap("a"),
            Some(snap("b")),
            Some("created volume has the content of snapshot b, that of snapshot a was asked for"),
        ),
        (
            "a volume of the snapshot's name",
            snap("a"),
            Some(vol("a")),
            Some("created volume has the content of volume a, that of snapshot a was asked for"),
        ),
    ];
    for (what, asked, got, expected) in rows {
        match (outcome(Some(asked), got, 1 << 30), expected) {
            (CreateOutcome::Created(_), None) => {}
            (CreateOutcome::Unusable(_, mismatch), Some(text)) => {
                assert_eq!(mismatch.to_string(), text, "{what}");
            }
            (other, _) => panic!("{what}: {other:?}"),
        }
    }
    made(outcome(None, Some(snap("a")), 1 << 30));
}

#[test]
fn a_clone_that_is_too_small_is_not_used() {
    let outcome = outcome(Some(vol("a")), Some(vol("a")), 1000);
    let CreateOutcome::Unusable(_, mismatch) = outcome else {
        panic!("ctl.ProvisionFromPVC.04");
    };
    let (got, wanted) = (1000, 1 << 30);
    assert_eq!(mismatch, Mismatch::TooSmall { got, wanted });
}
