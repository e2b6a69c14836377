//! Upstream's own cases: whose volume it is, whether it goes away now, and with which secret.

use super::*;

const IN_TREE: &str = "kubernetes.io/aws-ebs";

/// Released volumes without our finalizer get it first; then the same volume is decided on again.
fn decided(world: &mut World) -> Decision {
    let first = world.decide();
    if first == Decision::Protect && world.volume.phase == "Released" {
        world.volume.finalizers.push(VOLUME_FINALIZER.into());
        return world.decide();
    }
    first
}

fn unprotected(change: Change) -> World {
    let mut world = world();
    world.volume.finalizers = vec![OTHERS.into()];
    change(&mut world);
    world
}

#[test]
fn a_volume_without_our_finalizer_is_deleted_when_it_is_released_and_of_no_use() {
    let rows: &[(&str, Change, [Decision; 2])] = &[
        (
            "lib.ShouldDelete.01: a released volume without our finalizer gets it before it is deleted",
            |_| {},
            [Decision::Protect, delete(None)],
        ),
        (
            "lib.ShouldDelete.02",
            |w| w.volume.phase = "Failed".into(),
            [Decision::Leave, Decision::Leave],
        ),
        (
            "lib.ShouldDelete.03",
            |w| w.volume.phase = "Bound".into(),
            [Decision::Protect, Decision::Protect],
        ),
        (
            "lib.ShouldDelete.04",
            |w| w.volume.reclaim_policy = "Retain".into(),
            [Decision::Leave, Decision::Leave],
        ),
        (
            "lib.ShouldDelete.05",
            |w| w.volume.deleting = true,
            [Decision::Leave, Decision::Leave],
        ),
        (
            "lib.ShouldDelete.06: a released volume without our finalizer gets it before it is deleted",
            |w| w.volume.deleting = false,
            [Decision::Protect, delete(None)],
        ),
    ];
    for (id, change, expected) in rows {
        let mut world = unprotected(*change);
        assert_eq!([world.decide(), decided(&mut world)], *expected, "{id}");
    }
}

#[test]
fn our_finalizer_comes_stays_and_goes_with_phase_and_policy() {
    let rows: &[(&str, bool, Change, Decision)] = &[
        ("lib.ShouldDeleteWithFinalizer.01", true, |_| {}, delete(None)),
        (
            "lib.ShouldDeleteWithFinalizer.02",
            true,
            |w| w.volume.deleting = true,
            delete(None),
        ),
        (
            "lib.ShouldDeleteWithFinalizer.03",
            true,
            |w| w.volume.phase = "Bound".into(),
            Decision::Leave,
        ),
        (
            "lib.ShouldDeleteWithFinalizer.04",
            true,
            |w| w.volume.reclaim_policy = "Retain".into(),
            Decision::Unprotect,
        ),
        (
            "lib.Controller.33",
            true,
            |w| w.volume.reclaim_policy = "Retain".into(),
            Decision::Unprotect,
        ),
        (
            "lib.Controller.33",
            true,
            |w| {
                w.volume.phase = "Bound".into();
                w.volume.reclaim_policy = "Recycle".into();
            },
            Decision::Unprotect,
        ),
        (
            "lib.Controller.34",
            false,
            |w| w.volume.deleting = true,
            Decision::Leave,
        ),
        (
            "lib.Controller.34",
            false,
            |w| {
                w.volume.phase = "Bound".into();
                w.volume.deleting = true;
            },
            Decision::Leave,
        ),
        ("lib.Controller.35", true, |_| {}, delete(None)),
        (
            "lib.Controller.36",
            true,
            |w| w.volume.deleting = true,
            delete(None),
        ),
        (
            "lib.Controller.41",
            false,
            |w| {
                w.volume.phase = "Bound".into();
                w.volume.annotations.clear();
            },
            Decision::Protect,
        ),
    ];
    for (id, protected, change, expected) in rows {
        let world = if *protected {
            World::but(*change)
        } else {
            unprotected(*change)
        };
        assert_eq!(world.decide(), *expected, "{id}");
    }
}

#[test]
fn a_volume_is_ours_as_upstream_tells() {
    let csi = |driver: &str| {
        Some(CsiSource {
            driver: driver.into(),
            handle: "vol-1".into(),
        })
    };
    let rows = [
        ("lib.IsProvisionerForVolume.01", Some(DRIVER), None, true),
        ("lib.IsProvisionerForVolume.03", Some(IN_TREE), None, false),
        ("lib.IsProvisionerForVolume.05", Some(DRIVER), csi(DRIVER), true),
        (
            "lib.IsProvisionerForVolume.06",
            Some("other"),
            csi("other"),
            false,
        ),
        ("lib.IsProvisionerForVolume.07", None, csi(DRIVER), true),
        ("lib.IsProvisionerForVolume.08", None, csi("other"), false),
        ("lib.IsProvisionerForVolume.09", None, None, false),
    ];
    for (id, provisioned_by, csi, ours) in rows {
        let mut world = world();
        world.volume.annotations.clear();
        if let Some(by) = provisioned_by {
            world.volume.annotations.extend(map(&[(PROVISIONED_BY, by)]));
        }
        world.volume.csi = csi;
        assert_eq!(world.volume.belongs_to(DRIVER), ours, "{id}");
    }
}

#[test]
fn a_volume_is_deleted_with_the_secret_that_upstream_takes() {
    let half = SecretError::Half {
        present: "csi.storage.k8s.io/provisioner-secret-name".into(),
        missing: "csi.storage.k8s.io/provisioner-secret-namespace".into(),
    };
    let rows: Vec<(&str, Change, Decision)> = vec![
        (
            "ctl.Delete.02",
            |w| w.volume.csi = None,
            Decision::Tell(Refusal::OtherSource),
        ),
        (
            "ctl.Delete.03",
            |w| {
                w.volume.annotations.clear();
                w.class.get_or_insert_default().parameters = map(&[(
                    "csi.storage.k8s.io/provisioner-secret-name",
                    "static-${pv.name}-${pvc.namespace}-${pvc.name}-${pvc.annotations['akey']}",
                )]);
            },
            Decision::Tell(Refusal::Secret("fast".into(), Box::new(half))),
        ),
        ("ctl.Delete.07", |w| w.volume.claim = None, delete(None)),
        (
            "ctl.Delete.09",
            |w| assert!(w.volume.claim.is_some(), "a claim"),
            delete(None),
        ),
        ("ctl.Delete.10", |w| w.annotate("", ""), delete(None)),
        (
            "ctl.Delete.11",
            |w| {
                w.annotate("", "");
                w.class = None;
            },
            delete(None),
        ),
        (
            "ctl.Delete.12",
            |w| {
                w.old("key", "vault");
                w.annotate("key", "vault");
            },
            delete(Some(("key", "vault"))),
        ),
        (
            "ctl.Delete.13",
            |w| {
                w.annotate("key", "vault");
                w.class = None;
            },
            delete(Some(("key", "vault"))),
        ),
        (
            "ctl.Delete.14",
            |w| {
                w.old("another-key", "vault");
                w.annotate("key", "vault");
            },
            delete(Some(("key", "vault"))),
        ),
        (
            "ctl.Delete.16",
            |w| {
                w.old("key", "vault");
                w.volume.class_name = None;
                w.volume.annotations = map(&[(CLASS_BETA, "fast")]);
                assert_eq!(w.volume.class(), "fast");
            },
            delete(Some(("key", "vault"))),
        ),
    ];
    for (id, change, expected) in rows {
        assert_eq!(World::but(change).decide(), expected, "{id}");
    }
}
