//! Volumes of the in-tree plugin that the driver took over from.

use super::*;
use crate::cluster::{
    migration::{ClassTranslationError, VolumeTranslationError},
    objects::{InTreeSource, MIGRATED_TO},
};

const EBS: &str = "ebs.csi.aws.com";
const PLUGIN: &str = "kubernetes.io/aws-ebs";

/// A released volume that was made from a class of the plugin.
fn migrated() -> World {
    let mut world = world();
    world.driver.name = EBS.into();
    let volume = &mut world.volume;
    volume.annotations.extend(map(&[(PROVISIONED_BY, PLUGIN)]));
    volume.csi = Some(CsiSource {
        driver: EBS.into(),
        handle: "vol-1".into(),
    });
    volume.in_tree = Some(InTreeSource::Translated);
    world
}

#[test]
fn an_in_tree_volume_is_ours_as_upstream_tells() {
    type Notes = &'static [(&'static str, &'static str)];
    let rows: &[(&str, Notes, bool)] = &[
        (
            "lib.IsProvisionerForVolume.02",
            &[(PROVISIONED_BY, PLUGIN), (MIGRATED_TO, EBS)],
            true,
        ),
        (
            "lib.IsProvisionerForVolume.04",
            &[(PROVISIONED_BY, "foo"), (MIGRATED_TO, "foo")],
            false,
        ),
        ("lib.IsProvisionerForVolume.10", &[(MIGRATED_TO, EBS)], true),
        ("lib.IsProvisionerForVolume.11", &[(MIGRATED_TO, "foo")], false),
        (
            "made by ours or upstream's sidecar",
            &[(PROVISIONED_BY, PLUGIN)],
            true,
        ),
        (
            "made by another plugin",
            &[(PROVISIONED_BY, "kubernetes.io/gce-pd")],
            false,
        ),
        ("nobody has said that the driver takes over", &[], false),
    ];
    for (id, annotations, ours) in rows {
        let mut world = migrated();
        world.volume.annotations = map(annotations);
        assert_eq!(world.volume.belongs_to(EBS), *ours, "{id}");
    }
}

#[test]
fn an_in_tree_volume_is_kept_and_deleted_as_any_other() {
    const BOUND: Change = |w| {
        w.volume.phase = "Bound".into();
        w.volume.finalizers = vec![OTHERS.into()];
        w.volume.annotations = map(&[(MIGRATED_TO, EBS)]);
    };
    let rows: [(&str, Change, Decision); 5] = [
        ("lib.Controller.39", BOUND, Decision::Protect),
        ("lib.Controller.40", BOUND, Decision::Protect),
        (
            "lib.ShouldDelete.07",
            |w| w.volume.annotations.extend(map(&[(MIGRATED_TO, EBS)])),
            delete(None),
        ),
        ("ctl.DeleteMigration.01", |_| {}, delete(None)),
        (
            "ctl.DeleteMigration.02",
            |w| w.volume.in_tree = None,
            delete(None),
        ),
    ];
    for (id, change, expected) in rows {
        let mut world = migrated();
        change(&mut world);
        assert!(concerns(&world.volume, EBS), "{id}");
        assert_eq!(world.decide(), expected, "{id}");
    }
}

#[test]
fn a_volume_from_before_the_annotations_has_its_secret_from_the_class_in_the_drivers_words() {
    let mut world = migrated();
    world.driver.name = "pxd.portworx.com".into();
    world.volume.csi = Some(CsiSource {
        driver: "pxd.portworx.com".into(),
        handle: "vol-1".into(),
    });
    world.volume.annotations = map(&[(PROVISIONED_BY, "kubernetes.io/portworx-volume")]);
    let class = world.class.get_or_insert_default();
    class.provisioner = "kubernetes.io/portworx-volume".into();
    class.parameters = map(&[
        ("openstorage.io/auth-secret-name", "px"),
        ("openstorage.io/auth-secret-namespace", "${pvc.namespace}"),
    ]);
    assert_eq!(world.decide(), delete(Some(("px", "shop"))));
    class_of(&mut world)
        .parameters
        .extend(map(&[("csi.storage.k8s.io/provisioner-secret-name", "other")]));
    let twice = ClassTranslationError::Twice(
        "csi.storage.k8s.io/provisioner-secret-name".into(),
        "openstorage.io/auth-secret-name".into(),
    );
    let refusal = Refusal::Class("fast".into(), twice);
    assert!(
        refusal
            .to_string()
            .contains("; name the secret for deletion in the volume's annotations")
    );
    assert_eq!(world.decide(), Decision::Tell(refusal));
}

fn class_of(world: &mut World) -> &mut Class {
    world.class.get_or_insert_default()
}

#[test]
fn an_in_tree_volume_that_cannot_be_found_at_the_driver_is_told_and_not_held() {
    let error = VolumeTranslationError::Id {
        id: "aws://x".into(),
        expected: "aws://ZONE/vol-ID",
    };
    let mut world = migrated();
    world.volume.csi = None;
    world.volume.in_tree = Some(InTreeSource::Odd(error.clone().into()));
    let refusal = Refusal::InTree(error.into());
    assert_eq!(
        refusal.to_string(),
        "the volume's in-tree source cannot be read as one of this driver: the id \"aws://x\" is not aws://ZONE/vol-ID; \
         delete what is behind it by hand, then the object, and take the provisioner's finalizer off if it is there"
    );
    assert_eq!(world.decide(), Decision::Tell(refusal));
    world.volume.phase = "Bound".into();
    world.volume.finalizers = vec![OTHERS.into()];
    assert_eq!(world.decide(), Decision::Leave);
}
