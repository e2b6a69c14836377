//! Every field of the PersistentVolume, as it goes to the API server.

use serde_json::{Value, json};

use super::{super::outcome::outcome_of, outcome::made, *};
use crate::{
    cluster::objects::{CLASS_BETA, SELECTED_NODE},
    csi::proto::{CreateVolumeResponse, Topology, Volume},
};

/// The object that follows when the driver answers with `volume`.
fn object(world: &World, volume: Volume) -> Value {
    let answer = CreateVolumeResponse { volume: Some(volume) };
    serde_json::to_value(made(outcome_of(&world.plan(), Ok(answer)))).expect("JSON")
}

fn volume() -> Volume {
    Volume {
        volume_id: "vol-1".into(),
        ..Volume::default()
    }
}

#[test]
fn the_object_has_these_fields_and_no_others() {
    let expected = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": NAME,
            "annotations": {
                "pv.kubernetes.io/provisioned-by": DRIVER,
                "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
            },
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": "shop",
                "name": "data",
                "uid": UID,
                "resourceVersion": "42",
            },
            "csi": {
                "driver": DRIVER,
                "fsType": "ext4",
                "volumeAttributes": {"storage.kubernetes.io/csiProvisionerIdentity": "me"},
                "volumeHandle": "vol-1",
            },
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "fast",
            "volumeMode": "Filesystem",
        },
    });
    assert_eq!(object(&world(), volume()), expected);
}

#[test]
fn each_field_follows_claim_class_and_operator() {
    let rows: &[(&str, Change, &str, Value)] = &[
        (
            "named like the volume at the driver",
            |w| w.policy.uid_length = UidLength::Digits(5),
            "/metadata/name",
            json!("pvc-01234"),
        ),
        (
            "several access modes, one of them twice",
            |w| w.modes(&["ReadOnlyMany", "ReadWriteOnce", "ReadOnlyMany"]),
            "/spec/accessModes",
            json!(["ReadOnlyMany", "ReadWriteOnce", "ReadOnlyMany"]),
        ),
        (
            "no access mode",
            |w| w.modes(&[]),
            "/spec/accessModes",
            Value::Null,
        ),
        (
            "mount options",
            |w| w.class().mount_options = vec!["ro".into(), "nosuid".into()],
            "/spec/mountOptions",
            json!(["ro", "nosuid"]),
        ),
        (
            "mount options of a block volume",
            |w| {
                w.claim.volume_mode = Some("Block".into());
                w.class().mount_options = vec!["ro".into()];
            },
            "/spec/mountOptions",
            json!(["ro"]),
        ),
        (
            "policy Retain",
            |w| w.class().reclaim_policy = Some("Retain".into()),
            "/spec/persistentVolumeReclaimPolicy",
            json!("Retain"),
        ),
        (
            "no policy",
            |w| w.class().reclaim_policy = None,
            "/spec/persistentVolumeReclaimPolicy",
            Value::Null,
        ),
        (
            "class of the legacy annotation",
            |w| {
                w.claim.class_name = Some("ignored".into());
                w.annotate(CLASS_BETA, "fast");
            },
            "/spec/storageClassName",
            json!("fast"),
        ),
        (
            "block",
            |w| w.claim.volume_mode = Some("Block".into()),
            "/spec/volumeMode",
            json!("Block"),
        ),
        (
            "block has no file system",
            |w| w.claim.volume_mode = Some("Block".into()),
            "/spec/csi/fsType",
            Value::Null,
        ),
        (
            "no volume mode",
            |w| w.claim.volume_mode = None,
            "/spec/volumeMode",
            Value::Null,
        ),
        (
            "no volume mode is a file system",
            |w| w.claim.volume_mode = None,
            "/spec/csi/fsType",
            json!("ext4"),
        ),
        (
            "file system of the class",
            |w| w.parameters(&[("csi.storage.k8s.io/fstype", "xfs")]),
            "/spec/csi/fsType",
            json!("xfs"),
        ),
        (
            "no file system named anywhere",
            |w| w.policy.default_fs_type.clear(),
            "/spec/csi/fsType",
            Value::Null,
        ),
        (
            "attributes class",
            |w| w.claim.attributes_class = Some("silver".into()),
            "/spec/volumeAttributesClassName",
            json!("silver"),
        ),
        (
            "empty name of an attributes class",
            |w| w.claim.attributes_class = Some(String::new()),
            "/spec/volumeAttributesClassName",
            Value::Null,
        ),
        (
            "attributes class behind a closed gate",
            |w| {
                w.claim.attributes_class = Some("silver".into());
                w.policy.attributes_classes = false;
            },
            "/spec/volumeAttributesClassName",
            Value::Null,
        ),
        (
            "read-only, not asked for by the operator",
            |w| w.modes(&["ReadOnlyMany"]),
            "/spec/csi/readOnly",
            Value::Null,
        ),
        (
            "read-only",
            |w| {
                w.policy.publish_read_only = true;
                w.modes(&["ReadOnlyMany"]);
            },
            "/spec/csi/readOnly",
            json!(true),
        ),
        (
            "read-only block",
            |w| {
                w.policy.publish_read_only = true;
                w.claim.volume_mode = Some("Block".into());
                w.modes(&["ReadOnlyMany"]);
            },
            "/spec/csi/readOnly",
            json!(true),
        ),
        (
            "read-only among others",
            |w| {
                w.policy.publish_read_only = true;
                w.modes(&["ReadOnlyMany", "ReadWriteMany"]);
            },
            "/spec/csi/readOnly",
            Value::Null,
        ),
        (
            "read-only twice is not once",
            |w| {
                w.policy.publish_read_only = true;
                w.modes(&["ReadOnlyMany", "ReadOnlyMany"]);
            },
            "/spec/csi/readOnly",
            Value::Null,
        ),
        (
            "writable",
            |w| w.policy.publish_read_only = true,
            "/spec/csi/readOnly",
            Value::Null,
        ),
    ];
    for (name, change, field, expected) in rows {
        let object = object(&World::but(*change), volume());
        assert_eq!(
            object.pointer(field).unwrap_or(&Value::Null),
            expected,
            "{name}: {field}"
        );
    }
}

#[test]
fn each_secret_has_its_place_and_the_default_fills_all() {
    const FIELDS: [(&str, &str); 5] = [
        ("controller-publish", "controllerPublishSecretRef"),
        ("node-stage", "nodeStageSecretRef"),
        ("node-publish", "nodePublishSecretRef"),
        ("controller-expand", "controllerExpandSecretRef"),
        ("node-expand", "nodeExpandSecretRef"),
    ];
    const ANNOTATIONS: [(&str, &str); 2] = [
        ("provisioner", "volume.kubernetes.io/provisioner-deletion-secret"),
        (
            "controller-modify",
            "volume.kubernetes.io/controller-modify-secret",
        ),
    ];
    let with = |pairs: &[(String, &str)]| {
        let mut world = world();
        world.class().parameters = pairs
            .iter()
            .map(|(key, value)| (key.clone(), (*value).into()))
            .collect();
        object(&world, volume())
    };
    let pair = |purpose: &str| {
        let key = |half| format!("csi.storage.k8s.io/{purpose}secret-{half}");
        [(key("name"), "${pvc.name}-key"), (key("namespace"), "vault")]
    };
    let default = with(&pair(""));
    for (purpose, field) in FIELDS {
        let reference = json!({"name": "data-key", "namespace": "vault"});
        let own = with(&pair(&format!("{purpose}-")));
        assert_eq!(own["spec"]["csi"][field], reference, "{purpose}");
        assert_eq!(default["spec"]["csi"][field], reference, "{purpose}, by default");
        for (other, field) in FIELDS.into_iter().filter(|(other, _)| *other != purpose) {
            assert!(
                own["spec"]["csi"].get(field).is_none(),
                "{purpose} is not for {other}"
            );
        }
    }
    for (purpose, annotation) in ANNOTATIONS {
        let own = with(&pair(&format!("{purpose}-")));
        for object in [&own, &default] {
            let annotations = &object["metadata"]["annotations"];
            assert_eq!(annotations[format!("{annotation}-name")], "data-key", "{purpose}");
            assert_eq!(
                annotations[format!("{annotation}-namespace")],
                "vault",
                "{purpose}"
            );
        }
        let [deletion, modify] = ANNOTATIONS.map(|(_, annotation)| {
            let key = format!("{annotation}-name");
            own["metadata"]["annotations"].get(key).cloned()
        });
        if purpose == "provisioner" {
            assert_eq!((deletion, modify), (Some(json!("data-key")), None));
        } else {
            assert_eq!((deletion, modify), (Some(json!("")), Some(json!("data-key"))));
        }
    }
}

#[test]
fn what_the_driver_says_about_a_volume_stands_over_what_we_say() {
    const IDENTITY: &str = "storage.kubernetes.io/csiProvisionerIdentity";
    let rows: &[(&str, Pairs, Value)] = &[
        ("nothing", &[], json!({IDENTITY: "me"})),
        (
            "something",
            &[("pool", "p1")],
            json!({IDENTITY: "me", "pool": "p1"}),
        ),
        (
            "D-35: our own key",
            &[(IDENTITY, "driver")],
            json!({IDENTITY: "driver"}),
        ),
    ];
    for (name, context, expected) in rows {
        let volume = Volume {
            volume_context: map(context).into_iter().collect(),
            ..volume()
        };
        assert_eq!(
            object(&world(), volume)["spec"]["csi"]["volumeAttributes"],
            *expected,
            "{name}"
        );
    }
}

#[test]
fn a_volume_handle_is_kept_to_the_letter() {
    let volume = Volume {
        volume_id: " Pool/\u{fc}#1 ".into(),
        ..volume()
    };
    assert_eq!(
        object(&world(), volume)["spec"]["csi"]["volumeHandle"],
        " Pool/\u{fc}#1 "
    );
}

#[test]
fn topology_that_a_driver_without_topology_answers_binds_the_volume_to_no_node() {
    let here = Topology {
        segments: [("zone".to_owned(), "a".to_owned())].into(),
    };
    for topology in [vec![here], vec![Topology::default()]] {
        let volume = Volume {
            accessible_topology: topology,
            ..volume()
        };
        let world = World::but(|w| w.annotate(SELECTED_NODE, "node-1"));
        assert!(object(&world, volume)["spec"].get("nodeAffinity").is_none());
    }
}
