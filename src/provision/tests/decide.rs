//! Which claims get a volume, and which check has the first word.

use super::{
    super::{
        decide::{Decision, Leave, Wait, concerns},
        refusal::Refusal,
        request::ParameterError,
    },
    *,
};
use crate::{
    base::{names::VolumeNameError, quantity::QuantityError, secrets::SecretError},
    cluster::{
        objects::{BindingMode, CLASS_BETA, MIGRATED_TO, PROVISIONER_BETA, SELECTED_NODE, SourceRef},
        source::{NoSource, Source, SourceKind},
    },
};

const IN_TREE: &str = "kubernetes.io/aws-ebs";

pub(super) fn source(kind: &str) -> SourceRef {
    SourceRef {
        kind: kind.into(),
        name: "origin".into(),
        ..SourceRef::default()
    }
}

pub(super) fn snapshot() -> Source {
    Source {
        kind: SourceKind::Snapshot,
        namespace: "shop".into(),
        name: "origin".into(),
    }
}

pub(super) fn tell(refusal: Refusal) -> Decision {
    refusal.into()
}

/// Every check, in the order in which they are made.
fn checks() -> Vec<(&'static str, Change, Decision)> {
    let wrong = |error| tell(Refusal::Parameter("fast".into(), error));
    let half = SecretError::Half {
        present: "csiNodeStageSecretName".into(),
        missing: "csi.storage.k8s.io/node-stage-secret-namespace".into(),
    };
    let unknown = "csi.storage.k8s.io/bim".to_owned();
    vec![
        ("is in progress", |w| w.in_progress = true, Decision::Resume),
        (
            "was called infeasible",
            |w| w.infeasible = Some(("class-uid", None)),
            Decision::Wait(Wait::Infeasible, LEFT),
        ),
        (
            "was saved a moment ago",
            |w| w.just_saved = true,
            Decision::Wait(Wait::WatchLag, LEFT),
        ),
        (
            "was sent back to the scheduler a moment ago",
            |w| w.just_rescheduled = true,
            Decision::Wait(Wait::WatchLag, LEFT),
        ),
        (
            "has a volume",
            |w| w.claim.has_volume = true,
            Leave::HasVolume.into(),
        ),
        (
            "asks another provisioner",
            |w| w.annotate(PROVISIONER, "other"),
            Leave::NotOurs.into(),
        ),
        (
            "D-32: is being deleted",
            |w| w.claim.deleting = true,
            Leave::BeingDeleted.into(),
        ),
        (
            "no such class",
            |w| w.class = None,
            tell(Refusal::NoClass("fast".into())),
        ),
        (
            "class of an in-tree plugin that the driver did not take over from",
            |w| w.class().provisioner = IN_TREE.into(),
            Leave::ForeignClass.into(),
        ),
        (
            "class of another provisioner",
            |w| w.class().provisioner = "other".into(),
            Leave::ForeignClass.into(),
        ),
        (
            "no node chosen yet",
            |w| w.class().binding_mode = Some(BindingMode::WaitForFirstConsumer),
            Leave::WaitsForConsumer.into(),
        ),
        (
            "nameless",
            |w| w.policy.name_prefix.clear(),
            tell(Refusal::Name(VolumeNameError::NoPrefix)),
        ),
        (
            "name taken",
            |w| w.name_used_by = Some("another-uid".into()),
            tell(Refusal::NameTaken(NAME.into())),
        ),
        (
            "made already",
            |w| w.name_used_by = Some(UID.into()),
            Leave::Provisioned.into(),
        ),
        (
            "filled from a snapshot",
            |w| w.claim.data_source = Some(source("VolumeSnapshot")),
            tell(Refusal::CannotCopy(snapshot())),
        ),
        (
            "filled by a populator",
            |w| w.claim.data_source_ref = Some(source("Dump")),
            tell(Refusal::NoSource(NoSource::Populator)),
        ),
        (
            "attributes class for a driver that applies none",
            |w| {
                w.claim.attributes_class = Some("silver".into());
                w.driver.modify_volume = false;
            },
            tell(Refusal::CannotModify("silver".into())),
        ),
        (
            "selector",
            |w| w.claim.has_selector = true,
            tell(Refusal::Selector),
        ),
        (
            "nonsense for a size",
            |w| w.claim.storage_request = Some("much".into()),
            tell(Refusal::Size(QuantityError::Malformed("much".into()))),
        ),
        (
            "two file system types",
            |w| {
                for key in ["fstype", "FSType"] {
                    w.class().parameters.insert(key.into(), "xfs".into());
                }
            },
            wrong(ParameterError::FsTypeTwice("FSType".into(), "fstype".into())),
        ),
        (
            "unknown access mode",
            |w| w.modes(&["ReadWriteOnce", "WriteOnly"]),
            tell(Refusal::AccessMode("WriteOnly".into())),
        ),
        (
            "no node runs the driver",
            |w| w.nodes = Some(ClusterTopology::default()),
            tell(Refusal::NoTopology),
        ),
        (
            "half a secret",
            |w| {
                let key = "csiNodeStageSecretName".to_owned();
                w.class().parameters.insert(key, "s".into());
            },
            tell(Refusal::Secret("fast".into(), Box::new(half))),
        ),
        (
            "unknown reserved parameter",
            |w| {
                let key = "csi.storage.k8s.io/bim".to_owned();
                w.class().parameters.insert(key, "bam".into());
            },
            wrong(ParameterError::Unknown(unknown)),
        ),
    ]
}

#[test]
fn each_thing_that_stands_in_the_way_is_found() {
    for (name, change, expected) in checks() {
        assert_eq!(World::but(change).decide(), expected, "{name}");
    }
}

#[test]
fn of_several_things_that_stand_in_the_way_the_first_check_names_its_own() {
    let mut world = world();
    for (name, change, expected) in checks().into_iter().rev() {
        change(&mut world);
        if expected == Decision::Wait(Wait::WatchLag, LEFT) {
            // Waited for means not seen yet.
            world.name_used_by = None;
        }
        if expected == Decision::Wait(Wait::Infeasible, LEFT) {
            world.class = None;
            world.claim.attributes_class = None;
        }
        assert_eq!(world.decide(), expected, "{name}, with all that come after it");
    }
}

#[test]
fn what_upstream_does_not_mind_stands_in_nobodys_way() {
    let rows: &[(&str, Change)] = &[
        ("all in order", |_| {}),
        ("asked under the beta name of the annotation", |w| {
            w.claim.annotations = map(&[(PROVISIONER_BETA, DRIVER)]);
        }),
        ("asked, and migrated to us besides", |w| {
            w.annotate(MIGRATED_TO, DRIVER)
        }),
        ("asked, and migrated to another", |w| {
            w.annotate(MIGRATED_TO, "other")
        }),
        ("class named by the legacy annotation", |w| {
            w.claim.class_name = None;
            w.annotate(CLASS_BETA, "fast");
        }),
        ("waited for its node, which is chosen", |w| {
            w.class().binding_mode = Some(BindingMode::WaitForFirstConsumer);
            w.annotate(SELECTED_NODE, "node-1");
        }),
        ("node chosen although nobody waited", |w| {
            w.annotate(SELECTED_NODE, "node-1")
        }),
        ("no size", |w| w.claim.storage_request = None),
        ("no access mode", |w| w.modes(&[])),
        ("no volume mode", |w| w.claim.volume_mode = None),
        ("no parameters", |w| w.parameters(&[])),
        ("empty name of an attributes class", |w| {
            w.claim.attributes_class = Some(String::new());
        }),
        ("attributes class", |w| {
            w.claim.attributes_class = Some("silver".into());
        }),
        ("attributes class for a driver that applies none, gate off", |w| {
            w.claim.attributes_class = Some("silver".into());
            w.driver.modify_volume = false;
            w.policy.attributes_classes = false;
        }),
    ];
    for (name, change) in rows {
        let world = World::but(*change);
        assert!(concerns(&world.claim, DRIVER), "{name}");
        assert!(matches!(world.decide(), Decision::Provision(_)), "{name}");
    }
}

#[test]
fn a_claim_whose_annotations_ask_others_is_left_alone() {
    let rows: &[(&str, Pairs)] = &[
        ("nobody is asked", &[]),
        ("nobody is asked, migrated to us", &[(MIGRATED_TO, DRIVER)]),
        ("another is asked", &[(PROVISIONER, "other")]),
        (
            "the newer annotation wins",
            &[(PROVISIONER, "other"), (PROVISIONER_BETA, DRIVER)],
        ),
        (
            "the newer annotation wins, even when empty",
            &[(PROVISIONER, ""), (PROVISIONER_BETA, DRIVER)],
        ),
        (
            "another is asked, and it is no in-tree plugin that could migrate to us",
            &[(PROVISIONER, "other"), (MIGRATED_TO, DRIVER)],
        ),
        ("an in-tree plugin is asked", &[(PROVISIONER, IN_TREE)]),
        (
            "an in-tree plugin is asked, migrated to another",
            &[(PROVISIONER, IN_TREE), (MIGRATED_TO, "other")],
        ),
        (
            "an in-tree plugin is asked that we did not take over from, migrated to us",
            &[(PROVISIONER_BETA, IN_TREE), (MIGRATED_TO, DRIVER)],
        ),
    ];
    for (name, annotations) in rows {
        let mut world = world();
        world.claim.annotations = map(annotations);
        assert_eq!(world.decide(), Leave::NotOurs.into(), "{name}");
    }
}

#[test]
fn a_request_that_was_infeasible_is_worth_an_early_retry_when_another_class_makes_it_another_one() {
    let rows: &[(&str, Change, bool)] = &[
        ("the same class", |_| {}, true),
        (
            "another class of that name",
            |w| w.class().uid = "made anew".into(),
            false,
        ),
        ("the class is gone", |w| w.class = None, true),
        (
            "another attributes class",
            |w| w.claim.attributes_class = Some("gold".into()),
            false,
        ),
        ("no attributes class", |w| w.claim.attributes_class = None, false),
        (
            "another attributes class, and the class is gone",
            |w| {
                w.claim.attributes_class = Some("gold".into());
                w.class = None;
            },
            false,
        ),
        (
            "a gate that is closed now",
            |w| w.policy.attributes_classes = false,
            false,
        ),
    ];
    for (name, change, waits) in rows {
        let mut world = world();
        world.claim.attributes_class = Some("silver".into());
        world.infeasible = Some(("class-uid", Some("silver")));
        change(&mut world);
        let decision = world.decide();
        assert_eq!(
            matches!(decision, Decision::Wait(Wait::Infeasible, _)),
            *waits,
            "{name}"
        );
    }
}

#[test]
fn a_volume_that_was_saved_is_waited_for_only_until_it_is_seen() {
    let mut world = world();
    world.just_saved = true;
    world.name_used_by = Some(UID.into());
    assert_eq!(world.decide(), Leave::Provisioned.into());
    world.name_used_by = Some("other".into());
    assert_eq!(world.decide(), tell(Refusal::NameTaken(NAME.into())));
}

#[test]
fn a_creation_in_progress_goes_on_whatever_became_of_claim_and_class() {
    for (name, change, _) in checks() {
        let mut world = World::but(change);
        world.in_progress = true;
        assert_eq!(world.decide(), Decision::Resume, "{name}");
    }
}

#[test]
fn a_claim_that_does_not_concern_us_is_left_alone_without_further_checks() {
    for (name, change, expected) in checks() {
        let world = World::but(change);
        let cheap = matches!(expected, Decision::Leave(Leave::HasVolume | Leave::NotOurs));
        assert_eq!(concerns(&world.claim, DRIVER), !cheap, "{name}");
    }
}

#[test]
fn a_volume_of_our_name_is_ours_only_when_it_is_for_this_claim() {
    for (name, used_by, expected) in [
        ("for this claim", UID, Leave::Provisioned.into()),
        (
            "for another claim",
            "other",
            tell(Refusal::NameTaken(NAME.into())),
        ),
        ("for no claim", "", tell(Refusal::NameTaken(NAME.into()))),
    ] {
        let mut world = world();
        world.name_used_by = Some(used_by.into());
        assert_eq!(world.decide(), expected, "{name}");
    }
}

#[test]
fn a_chosen_node_is_one_with_a_name() {
    let world = World::but(|w| {
        w.class().binding_mode = Some(BindingMode::WaitForFirstConsumer);
        w.annotate(SELECTED_NODE, "");
    });
    assert_eq!(world.decide(), Leave::WaitsForConsumer.into());
}
