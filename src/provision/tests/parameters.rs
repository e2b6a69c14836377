//! Which parameters of a class are for the sidecars, and which for the driver.

use proptest::{collection::btree_map, prelude::*};

use super::{
    super::request::{ParameterError, parameters},
    *,
};

/// All reserved keys, without their prefix.
const RESERVED: [&str; 17] = [
    "fstype",
    "secret-name",
    "secret-namespace",
    "provisioner-secret-name",
    "provisioner-secret-namespace",
    "controller-publish-secret-name",
    "controller-publish-secret-namespace",
    "node-stage-secret-name",
    "node-stage-secret-namespace",
    "node-publish-secret-name",
    "node-publish-secret-namespace",
    "controller-expand-secret-name",
    "controller-expand-secret-namespace",
    "node-expand-secret-name",
    "node-expand-secret-namespace",
    "controller-modify-secret-name",
    "controller-modify-secret-namespace",
];

#[test]
fn reserved_parameters_stay_here_and_all_others_go_to_the_driver() {
    let reserved: BTreeMap<_, _> = RESERVED
        .iter()
        .map(|key| (format!("csi.storage.k8s.io/{key}"), "v".to_owned()))
        .collect();
    assert_eq!(
        parameters(&reserved),
        Ok(map(&[])),
        "ctl.StripPrefixedCSIParams.04"
    );
    let one = map(&[
        ("csi.storage.k8s.io/controller-publish-secret-name", "bar"),
        ("bim", "baz"),
    ]);
    assert_eq!(
        parameters(&one),
        Ok(map(&[("bim", "baz")])),
        "ctl.StripPrefixedCSIParams.02"
    );

    let kept: &[(&str, Pairs)] = &[
        ("ctl.StripPrefixedCSIParams.07", &[]),
        (
            "ctl.StripPrefixedCSIParams.01",
            &[("csiFoo", "bar"), ("bim", "baz")],
        ),
        (
            "ctl.StripPrefixedCSIParams.03",
            &[("foo", "csi.storage.k8s.io/secret-name")],
        ),
        ("prefix not at the front", &[("my.csi.storage.k8s.io/bim", "x")]),
        ("prefix without its slash", &[("csi.storage.k8s.io", "x")]),
        ("prefix in capitals", &[("CSI.storage.k8s.io/bim", "x")]),
        (
            "reserved keys without prefix",
            &[("secret-name", "x"), ("node-stage-secret-name", "y")],
        ),
        (
            "ctl.StripPrefixedCSIParams.05",
            &[
                ("fstype", "a"),
                ("csiProvisionerSecretName", "b"),
                ("csiProvisionerSecretNamespace", "c"),
                ("csiControllerPublishSecretName", "d"),
                ("csiControllerPublishSecretNamespace", "e"),
                ("csiNodeStageSecretName", "f"),
                ("csiNodeStageSecretNamespace", "g"),
                ("csiNodePublishSecretName", "h"),
                ("csiNodePublishSecretNamespace", "i"),
            ],
        ),
    ];
    for (name, pairs) in kept {
        assert_eq!(parameters(&map(pairs)), Ok(map(pairs)), "{name}");
        let mut mixed = reserved.clone();
        mixed.extend(map(pairs));
        assert_eq!(parameters(&mixed), Ok(map(pairs)), "{name}, among reserved keys");
    }

    let bim = map(&[("csi.storage.k8s.io/bim", "baz")]);
    let unknown = ParameterError::Unknown("csi.storage.k8s.io/bim".into());
    assert_eq!(parameters(&bim), Err(unknown), "ctl.StripPrefixedCSIParams.06");
    for unknown in [
        "",
        "-name",
        "secret",
        "fsType",
        "Secret-name",
        "secret-names",
        "node-secret-name",
        "provisioner-secret-",
        "pvc/name",
    ] {
        let key = format!("csi.storage.k8s.io/{unknown}");
        let refused = parameters(&map(&[("plain", "x"), (&key, "x")]));
        assert_eq!(refused, Err(ParameterError::Unknown(key)));
    }
}

proptest! {
    #[test]
    fn the_driver_gets_exactly_what_is_not_reserved(
        plain in btree_map(".{0,20}", ".{0,8}", 0..6),
        reserved in btree_map(proptest::sample::select(&RESERVED[..]), ".{0,8}", 0..6),
    ) {
        prop_assume!(plain.keys().all(|key| !key.starts_with("csi.storage.k8s.io/")));
        let reserved = reserved.into_iter().map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value));
        let all = plain.clone().into_iter().chain(reserved).collect();
        prop_assert_eq!(parameters(&all), Ok(plain));
    }
}
