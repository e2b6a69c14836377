//! Which volumes are deleted, and what they need before.

use std::collections::BTreeMap;

use super::decide::{Decision, Facts, Refusal, concerns, decide};
use crate::{
    base::secrets::{SecretError, SecretRef},
    cluster::objects::{
        CLASS_BETA, ClaimRef, Class, CsiSource, DELETION_SECRET_NAME, DELETION_SECRET_NAMESPACE,
        PROVISIONED_BY, VOLUME_FINALIZER, Volume,
    },
    csi::DriverInfo,
};

mod cases;
mod foreign;
mod migration;

const DRIVER: &str = "lab.csi.example.com";
const OTHERS: &str = "kubernetes.io/pv-protection";

struct World {
    volume: Volume,
    class: Option<Class>,
    driver: DriverInfo,
    node: Option<&'static str>,
}

/// In what a row differs from a volume that can be deleted at once.
type Change = fn(&mut World);
/// Name and namespace.
type Secret = Option<(&'static str, &'static str)>;

/// A released volume of ours, made without a secret, attached to no node.
fn world() -> World {
    World {
        volume: Volume {
            name: "pvc-1".into(),
            uid: "volume-uid".into(),
            finalizers: vec![OTHERS.into(), VOLUME_FINALIZER.into()],
            annotations: map(&[
                (PROVISIONED_BY, DRIVER),
                (DELETION_SECRET_NAME, ""),
                (DELETION_SECRET_NAMESPACE, ""),
            ]),
            phase: "Released".into(),
            reclaim_policy: "Delete".into(),
            class_name: Some("fast".into()),
            claim: Some(ClaimRef {
                uid: "claim-uid".into(),
                namespace: "shop".into(),
                name: "data".into(),
            }),
            csi: Some(CsiSource {
                driver: DRIVER.into(),
                handle: "vol-1".into(),
            }),
            ..Volume::default()
        },
        class: Some(Class {
            name: "fast".into(),
            provisioner: DRIVER.into(),
            ..Class::default()
        }),
        driver: DriverInfo {
            name: DRIVER.into(),
            controller_service: true,
            create_delete_volume: true,
            publish_unpublish: true,
            ..DriverInfo::default()
        },
        node: None,
    }
}

impl World {
    fn but(change: Change) -> Self {
        let mut world = world();
        change(&mut world);
        world
    }

    fn decide(&self) -> Decision {
        decide(Facts {
            volume: &self.volume,
            class: self.class.as_ref(),
            driver: &self.driver,
            node: self.node,
        })
    }

    fn annotate(&mut self, name: &str, namespace: &str) {
        let pair = [
            (DELETION_SECRET_NAME, name),
            (DELETION_SECRET_NAMESPACE, namespace),
        ];
        self.volume.annotations.extend(map(&pair));
    }

    /// From before the annotations: the class says which secret.
    fn old(&mut self, name: &str, namespace: &str) {
        self.volume.annotations.clear();
        let class = self.class.get_or_insert_default();
        class.parameters = map(&[
            ("csi.storage.k8s.io/provisioner-secret-name", name),
            ("csi.storage.k8s.io/provisioner-secret-namespace", namespace),
        ]);
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

fn delete(secret: Secret) -> Decision {
    Decision::Delete {
        handle: "vol-1".into(),
        secret: secret.map(|(name, namespace)| SecretRef {
            namespace: namespace.into(),
            name: name.into(),
        }),
    }
}

#[test]
fn phase_policy_finalizer_and_deletion_say_what_a_volume_needs() {
    // Per phase: the four combinations of our finalizer and deletionTimestamp:
    // neither, deleting, protected, protected and deleting.
    const NOTHING: [&str; 4] = ["-"; 4];
    const KEPT: [&str; 4] = ["-", "-", "unprotect", "unprotect"];
    let rows = [
        ("Delete", "", NOTHING),
        ("Delete", "Pending", NOTHING),
        ("Delete", "Available", NOTHING),
        ("Delete", "Bound", ["protect", "-", "-", "-"]),
        ("Delete", "Released", ["protect", "-", "delete", "delete"]),
        ("Delete", "Failed", NOTHING),
        ("Retain", "", KEPT),
        ("Retain", "Pending", KEPT),
        ("Retain", "Available", KEPT),
        ("Retain", "Bound", KEPT),
        ("Retain", "Released", KEPT),
        ("Retain", "Failed", KEPT),
        ("Recycle", "Bound", KEPT),
        ("Recycle", "Released", KEPT),
    ];
    for (policy, phase, expected) in rows {
        for (case, expected) in expected.into_iter().enumerate() {
            let (protected, deleting) = (case & 2 != 0, case & 1 != 0);
            for node in [None, Some("node-1")] {
                let mut world = world();
                world.node = node;
                world.volume.reclaim_policy = policy.into();
                world.volume.phase = phase.into();
                world.volume.deleting = deleting;
                if !protected {
                    world.volume.finalizers.pop();
                }
                let decision = match expected {
                    "protect" => Decision::Protect,
                    "unprotect" => Decision::Unprotect,
                    "delete" => {
                        node.map_or_else(|| delete(None), |node| Decision::WaitForDetach(node.into()))
                    }
                    _ => Decision::Leave,
                };
                let row =
                    format!("{policy} {phase} protected: {protected} deleting: {deleting} node: {node:?}");
                assert_eq!(world.decide(), decision, "{row}");
                assert_eq!(
                    concerns(&world.volume, DRIVER),
                    decision != Decision::Leave,
                    "{row}"
                );
            }
        }
    }
    let failed = World::but(|w| w.volume.phase = "Failed".into());
    assert_eq!(failed.decide(), Decision::Leave, "D-46");
}

/// Every check of a volume that is to be deleted, in the order in which they are made.
fn checks() -> Vec<(&'static str, Change, Decision)> {
    let half = SecretError::Half {
        present: "csiProvisionerSecretName".into(),
        missing: "csi.storage.k8s.io/provisioner-secret-namespace".into(),
    };
    vec![
        (
            "no CSI source",
            |w| w.volume.csi = None,
            Decision::Tell(Refusal::OtherSource),
        ),
        (
            "source of another driver, whose id is not ours to delete",
            |w| {
                w.volume.csi = Some(CsiSource {
                    driver: "other".into(),
                    handle: "vol-1".into(),
                });
            },
            Decision::Tell(Refusal::OtherSource),
        ),
        (
            "half a secret in the class",
            |w| {
                w.volume.annotations.clear();
                let class = w.class.get_or_insert_default();
                class.parameters = map(&[("csiProvisionerSecretName", "s")]);
            },
            Decision::Tell(Refusal::Secret("fast".into(), Box::new(half))),
        ),
        (
            "attached",
            |w| w.node = Some("node-1"),
            Decision::WaitForDetach("node-1".into()),
        ),
        ("nothing", |_| {}, delete(None)),
    ]
}

#[test]
fn each_thing_that_stands_in_the_way_of_a_deletion_is_found() {
    for (name, change, expected) in checks() {
        assert_eq!(World::but(change).decide(), expected, "{name}");
    }
}

#[test]
fn of_several_things_in_the_way_of_a_deletion_the_first_check_names_its_own() {
    let mut world = world();
    for (name, change, expected) in checks().into_iter().rev() {
        change(&mut world);
        assert_eq!(world.decide(), expected, "{name}, with all that come after it");
    }
}

#[test]
fn a_driver_that_attaches_nothing_waits_for_no_detach() {
    let world = World::but(|w| {
        w.node = Some("node-1");
        w.driver.publish_unpublish = false;
    });
    assert_eq!(world.decide(), delete(None));
}

#[test]
fn a_volume_that_an_administrator_made_is_deleted_like_one_of_ours() {
    let world = World::but(|w| {
        w.volume.annotations.clear();
        w.volume.class_name = None;
        w.class = None;
    });
    assert_eq!(world.decide(), delete(None));
}

#[test]
fn the_secret_is_the_one_in_the_annotations_or_else_the_one_of_the_class() {
    const CLASS: Secret = Some(("class-key", "vault"));
    let rows: &[(&str, Change, Secret)] = &[
        ("annotations, both empty", |_| {}, None),
        ("annotations, both empty, class gone", |w| w.class = None, None),
        (
            "annotations, both empty, class with a secret",
            |w| {
                w.old("class-key", "vault");
                w.annotate("", "");
            },
            None,
        ),
        (
            "annotations",
            |w| w.annotate("key", "safe"),
            Some(("key", "safe")),
        ),
        (
            "annotations, class gone",
            |w| {
                w.annotate("key", "safe");
                w.class = None;
            },
            Some(("key", "safe")),
        ),
        (
            "annotations, class with another secret",
            |w| {
                w.old("class-key", "vault");
                w.annotate("key", "safe");
            },
            Some(("key", "safe")),
        ),
        (
            "annotations are no templates",
            |w| w.annotate("${pv.name}", "safe"),
            Some(("${pv.name}", "safe")),
        ),
        ("annotations, name empty", |w| w.annotate("", "safe"), None),
        ("annotations, namespace empty", |w| w.annotate("key", ""), None),
        (
            "one annotation absent: as if both were",
            |w| {
                w.old("class-key", "vault");
                w.volume.annotations = map(&[(DELETION_SECRET_NAME, "key")]);
            },
            CLASS,
        ),
        ("class", |w| w.old("class-key", "vault"), CLASS),
        (
            "class, templates",
            |w| w.old("${pv.name}.${pvc.name}.${pvc.namespace}", "${pvc.namespace}"),
            Some(("pvc-1.data.shop", "shop")),
        ),
        (
            "class, default pair",
            |w| {
                w.old("class-key", "vault");
                let default = [
                    ("csi.storage.k8s.io/secret-name", "class-key"),
                    ("csi.storage.k8s.io/secret-namespace", "vault"),
                ];
                w.class.get_or_insert_default().parameters = map(&default);
            },
            CLASS,
        ),
        (
            "class, other pairs make no sense",
            |w| {
                w.old("class-key", "vault");
                let class = w.class.get_or_insert_default();
                class
                    .parameters
                    .extend(map(&[("csiNodeStageSecretName", "half")]));
            },
            CLASS,
        ),
        ("class without a secret", |w| w.volume.annotations.clear(), None),
        (
            "class gone",
            |w| {
                w.old("class-key", "vault");
                w.class = None;
            },
            None,
        ),
        (
            "claim gone without a trace",
            |w| {
                w.old("class-key", "vault");
                w.volume.claim = None;
            },
            None,
        ),
    ];
    for (name, change, secret) in rows {
        assert_eq!(World::but(*change).decide(), delete(*secret), "{name}");
    }
}

#[test]
fn a_secret_that_only_the_claim_could_name_is_asked_for() {
    let world = World::but(|w| {
        w.old("${pvc.annotations['key']}", "vault");
        w.volume.annotations = map(&[(CLASS_BETA, "legacy")]);
    });
    let Decision::Tell(refusal) = world.decide() else {
        panic!("the token cannot be known");
    };
    assert_eq!(
        refusal.to_string(),
        "storage class \"legacy\": parameter csi.storage.k8s.io/provisioner-secret-name: \
         \"${pvc.annotations['key']}\" uses ${pvc.annotations['key']}, unknown here: known are pv.name, pvc.name, \
         pvc.namespace; name the secret for deletion in the volume's annotations \
         volume.kubernetes.io/provisioner-deletion-secret-name and \
         volume.kubernetes.io/provisioner-deletion-secret-namespace",
        "D-43"
    );
}

#[test]
fn every_refusal_to_delete_says_what_is_wrong_and_what_to_do() {
    assert_eq!(
        Refusal::OtherSource.to_string(),
        "the volume has no source of this driver, nor of an in-tree plugin that it took over from: delete what is behind \
         it by hand, then the object, and take the provisioner's finalizer off if it is there"
    );
}
