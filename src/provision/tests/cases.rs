//! Upstream's own cases: what is asked of the driver for a claim, and which object follows.

use serde_json::{Value, json};

use super::{
    super::{decide::concerns, outcome::outcome_of, refusal::Refusal, request::ParameterError},
    decide::source,
    outcome::made,
    *,
};
use crate::{
    base::{names::VolumeNameError, secrets::SecretError},
    cluster::source::NoSource,
    csi::proto::{CreateVolumeResponse, Volume, VolumeCapability, volume_capability::AccessType},
};

const OLD_PROVISIONER_NAME: &str = "csiProvisionerSecretName";

enum Expected {
    /// These fields, in what is sent and in the object that follows.
    Made(Vec<(&'static str, Value)>),
    Refused(Refusal),
}
use Expected::{Made, Refused};

/// 100 bytes for claim `testid`, whose volume is called `test-testi`, of a class without parameters.
pub(super) fn lab(change: Change) -> World {
    let mut world = world();
    world.claim.uid = "testid".into();
    world.claim.storage_request = Some("100".into());
    world.policy.name_prefix = "test".into();
    world.policy.uid_length = UidLength::Digits(5);
    world.parameters(&[]);
    change(&mut world);
    world
}

pub(super) fn answer(bytes: i64) -> CreateVolumeResponse {
    CreateVolumeResponse {
        volume: Some(Volume {
            volume_id: "test-volume-id".into(),
            capacity_bytes: bytes,
            ..Volume::default()
        }),
    }
}

/// What is sent, and the object that follows.
pub(super) fn all_of(world: &World) -> Value {
    let plan = world.plan();
    let capability = |capability: &VolumeCapability| {
        let mode = capability.access_mode.expect("a mode").mode().as_str_name();
        match capability.access_type.as_ref().expect("a type") {
            AccessType::Mount(mount) => {
                json!({"mode": mode, "fsType": mount.fs_type, "flags": mount.mount_flags})
            }
            AccessType::Block(_) => json!({"mode": mode, "block": {}}),
        }
    };
    let request = &plan.request;
    json!({
        "request": {
            "name": request.name,
            "bytes": request.capacity_range.map(|range| range.required_bytes),
            "parameters": request.parameters,
            "capabilities": request.volume_capabilities.iter().map(capability).collect::<Vec<_>>(),
        },
        "pv": made(outcome_of(&plan, Ok(answer(100)))),
    })
}

pub(super) fn mount(mode: &str) -> Value {
    json!([{"mode": mode, "fsType": "ext4", "flags": []}])
}

fn half(present: &str, missing: &str) -> Expected {
    let error = SecretError::Half {
        present: present.into(),
        missing: missing.into(),
    };
    Refused(Refusal::Secret("fast".into(), Box::new(error)))
}

/// The places of this secret in the object, all seven of them.
fn secrets(name: &str, namespace: &str) -> Vec<(&'static str, Value)> {
    let reference = json!({"name": name, "namespace": namespace});
    let annotation = "/pv/metadata/annotations/volume.kubernetes.io~1";
    let half = |what: &str, half: &str| -> &'static str { format!("{annotation}{what}-{half}").leak() };
    vec![
        ("/pv/spec/csi/controllerPublishSecretRef", reference.clone()),
        ("/pv/spec/csi/nodeStageSecretRef", reference.clone()),
        ("/pv/spec/csi/nodePublishSecretRef", reference.clone()),
        ("/pv/spec/csi/controllerExpandSecretRef", reference.clone()),
        ("/pv/spec/csi/nodeExpandSecretRef", reference),
        (half("provisioner-deletion-secret", "name"), json!(name)),
        (half("provisioner-deletion-secret", "namespace"), json!(namespace)),
        (half("controller-modify-secret", "name"), json!(name)),
        (half("controller-modify-secret", "namespace"), json!(namespace)),
    ]
}

/// Each case is one of what is made, and one of whether the claim is ours at all.
fn cases() -> Vec<(&'static [&'static str], Change, Expected)> {
    vec![
        (
            &["ctl.Provision.01", "ctl.ShouldProvision.01"],
            |w| w.parameters(&[("fstype", "ext3")]),
            Made(vec![
                ("/request/name", json!("test-testi")),
                ("/request/bytes", json!(100)),
                ("/pv/metadata/name", json!("test-testi")),
                (
                    "/pv/metadata/annotations",
                    json!({
                        "pv.kubernetes.io/provisioned-by": DRIVER,
                        "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                        "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
                    }),
                ),
                ("/pv/spec/capacity/storage", json!("100")),
                ("/pv/spec/csi/fsType", json!("ext3")),
                (
                    "/pv/spec/csi/volumeAttributes",
                    json!({"storage.kubernetes.io/csiProvisionerIdentity": "me"}),
                ),
            ]),
        ),
        (
            &["ctl.Provision.02", "ctl.ShouldProvision.02"],
            |w| {
                w.policy.extra_metadata = true;
                w.parameters(&[("fstype", "ext3")]);
            },
            Made(vec![(
                "/request/parameters",
                json!({
                    "csi.storage.k8s.io/pvc/name": "data",
                    "csi.storage.k8s.io/pvc/namespace": "shop",
                    "csi.storage.k8s.io/pv/name": "test-testi",
                    "fstype": "ext3",
                }),
            )]),
        ),
        (
            &["ctl.Provision.03", "ctl.ShouldProvision.03"],
            |w| w.parameters(&[("fstype", "ext3"), ("csi.storage.k8s.io/fstype", "ext4")]),
            Refused(Refusal::Parameter(
                "fast".into(),
                ParameterError::FsTypeTwice("csi.storage.k8s.io/fstype".into(), "fstype".into()),
            )),
        ),
        (
            &["ctl.Provision.04", "ctl.ShouldProvision.04"],
            |w| w.parameters(&[("csi.storage.k8s.io/fstype", "ext3")]),
            Made(vec![
                ("/pv/spec/csi/fsType", json!("ext3")),
                ("/request/parameters", json!({})),
            ]),
        ),
        (
            &["ctl.Provision.05", "ctl.ShouldProvision.05"],
            |w| w.modes(&["ReadWriteMany"]),
            Made(vec![("/request/capabilities", mount("MULTI_NODE_MULTI_WRITER"))]),
        ),
        (
            &["ctl.Provision.06", "ctl.ShouldProvision.06"],
            |w| w.modes(&["ReadOnlyMany"]),
            Made(vec![
                ("/request/capabilities", mount("MULTI_NODE_READER_ONLY")),
                ("/pv/spec/csi/readOnly", Value::Null),
            ]),
        ),
        (
            &["ctl.Provision.07", "ctl.ShouldProvision.07"],
            |w| {
                w.policy.publish_read_only = true;
                w.modes(&["ReadOnlyMany"]);
            },
            Made(vec![
                ("/request/capabilities", mount("MULTI_NODE_READER_ONLY")),
                ("/pv/spec/csi/readOnly", json!(true)),
            ]),
        ),
        (
            &["ctl.Provision.08", "ctl.ShouldProvision.08"],
            |w| w.modes(&["ReadWriteOnce"]),
            Made(vec![("/request/capabilities", mount("SINGLE_NODE_WRITER"))]),
        ),
        (
            &["ctl.Provision.09", "ctl.ShouldProvision.09"],
            |w| {
                w.driver.single_node_multi_writer = true;
                w.modes(&["ReadWriteOnce"]);
            },
            Made(vec![("/request/capabilities", mount("SINGLE_NODE_MULTI_WRITER"))]),
        ),
        (
            &["ctl.Provision.10", "ctl.ShouldProvision.10"],
            |w| {
                w.driver.single_node_multi_writer = true;
                w.modes(&["ReadWriteOncePod"]);
            },
            Made(vec![(
                "/request/capabilities",
                mount("SINGLE_NODE_SINGLE_WRITER"),
            )]),
        ),
        (
            &["ctl.Provision.11", "ctl.ShouldProvision.11"],
            |w| w.modes(&["ReadOnlyMany", "ReadWriteOnce"]),
            Made(vec![
                ("/request/capabilities/0/mode", json!("MULTI_NODE_READER_ONLY")),
                ("/request/capabilities/1/mode", json!("SINGLE_NODE_WRITER")),
                ("/request/capabilities/2", Value::Null),
                ("/pv/spec/accessModes", json!(["ReadOnlyMany", "ReadWriteOnce"])),
            ]),
        ),
        (
            &["ctl.Provision.12", "ctl.ShouldProvision.12"],
            |w| {
                for old in [
                    "csiProvisionerSecret",
                    "csiControllerPublishSecret",
                    "csiNodeStageSecret",
                ] {
                    w.class().parameters.insert(format!("{old}Name"), "key".into());
                    w.class()
                        .parameters
                        .insert(format!("{old}Namespace"), "vault".into());
                }
                for new in [
                    "node-publish",
                    "controller-expand",
                    "node-expand",
                    "controller-modify",
                ] {
                    let key = |half| format!("csi.storage.k8s.io/{new}-secret-{half}");
                    w.class().parameters.insert(key("name"), "key".into());
                    w.class().parameters.insert(key("namespace"), "vault".into());
                }
            },
            Made(secrets("key", "vault")),
        ),
        (
            &["ctl.Provision.13", "ctl.ShouldProvision.13"],
            |w| {
                w.parameters(&[
                    ("csi.storage.k8s.io/secret-name", "default-secret"),
                    ("csi.storage.k8s.io/secret-namespace", "default-ns"),
                ]);
            },
            Made(secrets("default-secret", "default-ns")),
        ),
        (
            &["ctl.Provision.14", "ctl.ShouldProvision.14"],
            |w| {
                w.parameters(&[
                    ("csi.storage.k8s.io/secret-name", "default-${pvc.name}"),
                    ("csi.storage.k8s.io/secret-namespace", "default-ns"),
                ]);
            },
            Made(secrets("default-data", "default-ns")),
        ),
        (
            &["ctl.Provision.15", "ctl.ShouldProvision.15"],
            |w| w.claim.volume_mode = Some("Filesystem".into()),
            Made(vec![
                ("/pv/spec/volumeMode", json!("Filesystem")),
                ("/pv/spec/csi/fsType", json!("ext4")),
            ]),
        ),
        (
            &["ctl.Provision.16", "ctl.ShouldProvision.16"],
            |w| w.claim.volume_mode = Some("Block".into()),
            Made(vec![
                ("/pv/spec/volumeMode", json!("Block")),
                ("/pv/spec/csi/fsType", Value::Null),
            ]),
        ),
        (
            &["ctl.Provision.17", "ctl.ShouldProvision.17"],
            |w| w.parameters(&[(OLD_PROVISIONER_NAME, "")]),
            half(
                OLD_PROVISIONER_NAME,
                "csi.storage.k8s.io/provisioner-secret-namespace",
            ),
        ),
        (
            &["ctl.Provision.18", "ctl.ShouldProvision.18"],
            |w| w.claim.has_selector = true,
            Refused(Refusal::Selector),
        ),
        (
            &["ctl.Provision.19", "ctl.ShouldProvision.19"],
            |w| w.claim.uid.clear(),
            Refused(Refusal::Name(VolumeNameError::NoUid)),
        ),
        (
            // That the secret is not there shows when it is read: tests/flows/claims.rs.
            &["ctl.ShouldProvision.20"],
            |w| {
                w.parameters(&[
                    ("csi.storage.k8s.io/provisioner-secret-name", "key"),
                    ("csi.storage.k8s.io/provisioner-secret-namespace", "vault"),
                ]);
            },
            Made(vec![]),
        ),
        (
            &["ctl.Provision.21", "ctl.ShouldProvision.21"],
            |w| {
                w.parameters(&[
                    (OLD_PROVISIONER_NAME, ""),
                    ("csi.storage.k8s.io/secret-name", "default-${pvc.name}"),
                    ("csi.storage.k8s.io/secret-namespace", "default-ns"),
                ]);
            },
            half(
                OLD_PROVISIONER_NAME,
                "csi.storage.k8s.io/provisioner-secret-namespace",
            ),
        ),
        (
            &["ctl.Provision.23", "ctl.ShouldProvision.23"],
            |w| w.class().mount_options = vec!["foo=bar".into(), "baz=qux".into()],
            Made(vec![
                ("/request/capabilities/0/flags", json!(["foo=bar", "baz=qux"])),
                ("/pv/spec/mountOptions", json!(["foo=bar", "baz=qux"])),
            ]),
        ),
        // What the driver answers to these: below.
        (
            &[
                "ctl.ShouldProvision.22",
                "ctl.ShouldProvision.24",
                "ctl.ShouldProvision.25",
                "ctl.ShouldProvision.26",
            ],
            |_| {},
            Made(vec![("/request/bytes", json!(100))]),
        ),
        (
            &["ctl.Provision.27", "ctl.ShouldProvision.27"],
            |w| w.claim.data_source_ref = Some(source("MyPopulator")),
            Refused(Refusal::NoSource(NoSource::Populator)),
        ),
        (
            &["ctl.FSTypeProvision.01"],
            |_| {},
            Made(vec![("/pv/spec/csi/fsType", json!("ext4"))]),
        ),
        (
            &["ctl.FSTypeProvision.02"],
            |w| w.parameters(&[("fstype", "xfs")]),
            Made(vec![("/pv/spec/csi/fsType", json!("xfs"))]),
        ),
        (
            &["ctl.FSTypeProvision.03"],
            |w| w.policy.default_fs_type.clear(),
            Made(vec![
                ("/pv/spec/csi/fsType", Value::Null),
                ("/request/capabilities/0/fsType", json!("")),
            ]),
        ),
        (
            &["ctl.FSTypeProvision.04"],
            |w| {
                w.policy.default_fs_type.clear();
                w.parameters(&[("fstype", "xfs")]);
            },
            Made(vec![("/pv/spec/csi/fsType", json!("xfs"))]),
        ),
    ]
}

#[test]
fn a_claim_becomes_the_request_and_the_object_that_upstream_makes_of_it() {
    for (ids, change, expected) in cases() {
        let world = lab(change);
        assert!(concerns(&world.claim, DRIVER), "{ids:?}");
        match expected {
            Refused(refusal) => assert_eq!(world.decide(), Decision::Tell(refusal), "{ids:?}"),
            Made(fields) => {
                let all = all_of(&world);
                for (field, expected) in fields {
                    assert_eq!(
                        all.pointer(field).unwrap_or(&Value::Null),
                        &expected,
                        "{ids:?}: {field}"
                    );
                }
            }
        }
    }
}
