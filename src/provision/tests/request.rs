//! Every field of a CreateVolume request.

use super::{super::request::fs_type, *};
use crate::{
    base::secrets::SecretRef,
    csi::proto::{
        CapacityRange, CreateVolumeRequest, VolumeCapability,
        volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
    },
};

fn mount(mode: Mode, fs_type: &str, flags: &[&str]) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: fs_type.into(),
            mount_flags: flags.iter().map(ToString::to_string).collect(),
            volume_mount_group: String::new(),
        })),
    }
}

fn block(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Block(BlockVolume {})),
    }
}

/// What is sent for the world that is in order.
fn usual() -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: NAME.into(),
        capacity_range: Some(CapacityRange {
            required_bytes: 1 << 30,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![mount(Mode::SingleNodeWriter, "ext4", &[])],
        parameters: map(&[("tier", "gold")]).into_iter().collect(),
        secrets: Default::default(),
        volume_content_source: None,
        accessibility_requirements: None,
        mutable_parameters: Default::default(),
    }
}

#[test]
fn the_request_says_what_claim_and_class_say_and_nothing_else() {
    type Expect = fn(&mut CreateVolumeRequest);
    let rows: &[(&str, Change, Expect)] = &[
        ("all in order", |_| {}, |_| {}),
        (
            "name of another prefix and so many digits",
            |w| {
                w.policy.name_prefix = "vol".into();
                w.policy.uid_length = UidLength::Digits(10);
            },
            |r| r.name = "vol-0123456789".into(),
        ),
        (
            "no size: a range all the same",
            |w| w.claim.storage_request = None,
            |r| r.capacity_range = Some(CapacityRange::default()),
        ),
        (
            "size 0",
            |w| w.claim.storage_request = Some("0".into()),
            |r| r.capacity_range = Some(CapacityRange::default()),
        ),
        (
            "size rounded up to whole bytes",
            |w| w.claim.storage_request = Some("1500m".into()),
            |r| r.capacity_range.as_mut().unwrap().required_bytes = 2,
        ),
        (
            "the largest size",
            |w| w.claim.storage_request = Some("9223372036854775807".into()),
            |r| r.capacity_range.as_mut().unwrap().required_bytes = i64::MAX,
        ),
        (
            "mount options",
            |w| w.class().mount_options = vec!["ro".into(), "nosuid".into()],
            |r| r.volume_capabilities = vec![mount(Mode::SingleNodeWriter, "ext4", &["ro", "nosuid"])],
        ),
        (
            "no volume mode is a file system",
            |w| w.claim.volume_mode = None,
            |_| {},
        ),
        (
            "block has neither file system nor mount options",
            |w| {
                w.claim.volume_mode = Some("Block".into());
                w.class().mount_options = vec!["ro".into()];
                w.parameters(&[("csi.storage.k8s.io/fstype", "xfs"), ("tier", "gold")]);
            },
            |r| r.volume_capabilities = vec![block(Mode::SingleNodeWriter)],
        ),
        (
            "no access mode",
            |w| w.modes(&[]),
            |r| r.volume_capabilities.clear(),
        ),
        (
            "file system type, not passed on",
            |w| w.parameters(&[("csi.storage.k8s.io/fstype", "xfs")]),
            |r| {
                r.volume_capabilities = vec![mount(Mode::SingleNodeWriter, "xfs", &[])];
                r.parameters.clear();
            },
        ),
        (
            "file system type under its old key, passed on",
            |w| w.parameters(&[("fsType", "xfs")]),
            |r| {
                r.volume_capabilities = vec![mount(Mode::SingleNodeWriter, "xfs", &[])];
                r.parameters = [("fsType".into(), "xfs".into())].into();
            },
        ),
        (
            "extra metadata",
            |w| w.policy.extra_metadata = true,
            |r| {
                for (key, value) in [("pvc/name", "data"), ("pvc/namespace", "shop"), ("pv/name", NAME)] {
                    r.parameters
                        .insert(format!("csi.storage.k8s.io/{key}"), value.into());
                }
            },
        ),
        (
            "secrets are named in the plan and not filled in yet",
            |w| {
                let secret = map(&[
                    ("csi.storage.k8s.io/provisioner-secret-name", "s"),
                    ("csi.storage.k8s.io/provisioner-secret-namespace", "ns"),
                ]);
                w.class().parameters.extend(secret);
            },
            |_| {},
        ),
        (
            "attributes class behind a closed gate",
            |w| {
                w.claim.attributes_class = Some("silver".into());
                w.policy.attributes_classes = false;
            },
            |_| {},
        ),
        (
            "a node is selected, and the driver has no topology",
            |w| w.annotate(crate::cluster::objects::SELECTED_NODE, "node-1"),
            |_| {},
        ),
    ];
    for (name, change, expect) in rows {
        let mut expected = usual();
        expect(&mut expected);
        assert_eq!(World::but(*change).plan().request, expected, "{name}");
    }
}

#[test]
fn each_access_mode_becomes_one_capability_in_order() {
    use Mode::*;
    let rows: &[(&[&str], bool, &[Mode])] = &[
        (&["ReadWriteMany"], false, &[MultiNodeMultiWriter]),
        (&["ReadWriteMany"], true, &[MultiNodeMultiWriter]),
        (&["ReadOnlyMany"], false, &[MultiNodeReaderOnly]),
        (&["ReadOnlyMany"], true, &[MultiNodeReaderOnly]),
        (&["ReadWriteOnce"], false, &[SingleNodeWriter]),
        (&["ReadWriteOnce"], true, &[SingleNodeMultiWriter]),
        (&["ReadWriteOncePod"], false, &[SingleNodeWriter]),
        (&["ReadWriteOncePod"], true, &[SingleNodeSingleWriter]),
        (
            &["ReadOnlyMany", "ReadWriteOnce"],
            false,
            &[MultiNodeReaderOnly, SingleNodeWriter],
        ),
        (
            &["ReadWriteOnce", "ReadWriteOnce"],
            false,
            &[SingleNodeWriter, SingleNodeWriter],
        ),
    ];
    for (modes, fine, expected) in rows {
        for is_block in [false, true] {
            let mut world = world();
            world.modes(modes);
            world.driver.single_node_multi_writer = *fine;
            if is_block {
                world.claim.volume_mode = Some("Block".into());
            }
            let expected: Vec<_> = expected
                .iter()
                .map(|mode| {
                    if is_block {
                        block(*mode)
                    } else {
                        mount(*mode, "ext4", &[])
                    }
                })
                .collect();
            let capabilities = world.plan().request.volume_capabilities;
            assert_eq!(
                capabilities, expected,
                "{modes:?}, fine: {fine}, block: {is_block}"
            );
        }
    }
}

#[test]
fn the_file_system_type_has_one_key_and_a_default() {
    const NEW: &str = "csi.storage.k8s.io/fstype";
    type Row = (&'static str, Pairs, &'static str, Option<&'static str>);
    let rows: &[Row] = &[
        ("default", &[], "ext4", Some("ext4")),
        ("no default", &[], "", Some("")),
        ("new key", &[(NEW, "xfs")], "ext4", Some("xfs")),
        ("new key without default", &[(NEW, "xfs")], "", Some("xfs")),
        ("old key", &[("fstype", "xfs")], "ext4", Some("xfs")),
        ("old key in capitals", &[("FSTYPE", "xfs")], "ext4", Some("xfs")),
        ("empty value", &[(NEW, "")], "ext4", Some("ext4")),
        ("empty value, old key", &[("fsType", "")], "ext4", Some("ext4")),
        (
            "new key in other case is another key",
            &[("csi.storage.k8s.io/fsType", "xfs")],
            "ext4",
            Some("ext4"),
        ),
        (
            "longer key",
            &[("fstypes", "xfs"), ("my/fstype", "xfs")],
            "ext4",
            Some("ext4"),
        ),
        ("old and new", &[(NEW, "xfs"), ("fstype", "xfs")], "ext4", None),
        ("old twice", &[("fstype", "xfs"), ("fsType", "xfs")], "ext4", None),
        (
            "twice, though one is empty",
            &[(NEW, ""), ("fstype", "xfs")],
            "ext4",
            None,
        ),
    ];
    for (name, parameters, default, expected) in rows {
        let found = fs_type(&map(parameters), default).ok();
        assert_eq!(found.as_deref(), *expected, "{name}");
    }
    let unreadable = World::but(|w| w.parameters(&[("csi.storage.k8s.io/fsType", "xfs")]));
    assert!(
        matches!(unreadable.decide(), Decision::Tell(_)),
        "the other key is not passed over in silence"
    );
}

#[test]
fn the_plan_keeps_what_metrics_and_retries_need() {
    let plan = World::but(|w| {
        w.parameters(&[
            ("csi.storage.k8s.io/provisioner-secret-name", "${pvc.name}-key"),
            (
                "csi.storage.k8s.io/provisioner-secret-namespace",
                "${pvc.namespace}",
            ),
        ]);
    })
    .plan();
    let secret = SecretRef {
        namespace: "shop".into(),
        name: "data-key".into(),
    };
    assert_eq!(plan.secret, Some(secret));
    assert_eq!(plan.class_uid, "class-uid");
    assert_eq!(
        (plan.class_label.as_str(), plan.source_label.as_str()),
        ("fast", "")
    );
    assert_eq!(world().plan().secret, None);

    let legacy = World::but(|w| {
        w.claim.class_name = None;
        w.annotate(crate::cluster::objects::CLASS_BETA, "fast");
    });
    assert_eq!(
        legacy.plan().class_label,
        "",
        "the label is spec.storageClassName, as upstream's"
    );
}
