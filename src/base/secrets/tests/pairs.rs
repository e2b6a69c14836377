//! Which parameters make a pair, and for which purpose.

use super::*;

#[test]
fn a_pair_is_whole_unambiguous_and_not_empty_or_it_is_an_error() {
    let half = |present: &str, missing: &str| {
        Err(Half {
            present: present.into(),
            missing: missing.into(),
        })
    };
    let twice = |new: &str, old: &str| Err(Twice(new.into(), old.into()));
    let empty = |key: &str| Err(Empty(key.into()));
    let rows: &[(&str, Parameters<'_>, Found)] = &[
        ("none", &[], Ok(None)),
        (
            "other parameters",
            &[("secret-name", "s"), ("secret-namespace", "n")],
            Ok(None),
        ),
        ("new pair", &[(NAME, "s"), (NAMESPACE, "n")], found("s", "n")),
        (
            "old pair",
            &[(OLD_NAME, "s"), (OLD_NAMESPACE, "n")],
            found("s", "n"),
        ),
        (
            "old name, new namespace",
            &[(OLD_NAME, "s"), (NAMESPACE, "n")],
            found("s", "n"),
        ),
        (
            "new name, old namespace",
            &[(NAME, "s"), (OLD_NAMESPACE, "n")],
            found("s", "n"),
        ),
        ("name only", &[(NAME, "s")], half(NAME, NAMESPACE)),
        ("namespace only", &[(NAMESPACE, "n")], half(NAMESPACE, NAME)),
        ("old name only", &[(OLD_NAME, "s")], half(OLD_NAME, NAMESPACE)),
        (
            "old namespace only",
            &[(OLD_NAMESPACE, "n")],
            half(OLD_NAMESPACE, NAME),
        ),
        ("half a pair, empty", &[(NAME, "")], half(NAME, NAMESPACE)),
        (
            "both pairs",
            &[
                (NAME, "s"),
                (NAMESPACE, "n"),
                (OLD_NAME, "s"),
                (OLD_NAMESPACE, "n"),
            ],
            twice(NAME, OLD_NAME),
        ),
        (
            "both names",
            &[(NAME, "s"), (OLD_NAME, "s"), (OLD_NAMESPACE, "n")],
            twice(NAME, OLD_NAME),
        ),
        (
            "both namespaces",
            &[(NAMESPACE, "n"), (OLD_NAME, "s"), (OLD_NAMESPACE, "n")],
            twice(NAMESPACE, OLD_NAMESPACE),
        ),
        (
            "both names, no namespace",
            &[(NAME, "s"), (OLD_NAME, "s")],
            twice(NAME, OLD_NAME),
        ),
        ("empty name", &[(NAME, ""), (NAMESPACE, "n")], empty(NAME)),
        (
            "empty namespace",
            &[(NAME, "s"), (NAMESPACE, "")],
            empty(NAMESPACE),
        ),
        ("both empty", &[(NAME, ""), (NAMESPACE, "")], empty(NAME)),
        (
            "old pair, both empty",
            &[(OLD_NAME, ""), (OLD_NAMESPACE, "")],
            empty(OLD_NAME),
        ),
        (
            "default pair",
            &[(DEFAULT_NAME, "d"), (DEFAULT_NAMESPACE, "n")],
            found("d", "n"),
        ),
        (
            "own pair before the default",
            &[
                (NAME, "s"),
                (NAMESPACE, "n"),
                (DEFAULT_NAME, "d"),
                (DEFAULT_NAMESPACE, "m"),
            ],
            found("s", "n"),
        ),
        (
            "old pair before the default",
            &[
                (OLD_NAME, "s"),
                (OLD_NAMESPACE, "n"),
                (DEFAULT_NAME, "d"),
                (DEFAULT_NAMESPACE, "m"),
            ],
            found("s", "n"),
        ),
        (
            "own pair before half a default",
            &[(NAME, "s"), (NAMESPACE, "n"), (DEFAULT_NAME, "d")],
            found("s", "n"),
        ),
        (
            "the default does not complete a pair",
            &[(NAME, "s"), (DEFAULT_NAME, "d"), (DEFAULT_NAMESPACE, "n")],
            half(NAME, NAMESPACE),
        ),
        (
            "the default does not stand in for what is empty",
            &[
                (NAME, ""),
                (NAMESPACE, ""),
                (DEFAULT_NAME, "d"),
                (DEFAULT_NAMESPACE, "n"),
            ],
            empty(NAME),
        ),
        (
            "half a default",
            &[(DEFAULT_NAMESPACE, "n")],
            half(DEFAULT_NAMESPACE, DEFAULT_NAME),
        ),
        (
            "empty default",
            &[(DEFAULT_NAME, ""), (DEFAULT_NAMESPACE, "")],
            empty(DEFAULT_NAME),
        ),
    ];
    for (name, parameters, expected) in rows {
        assert_eq!(&node_publish(parameters), expected, "{name}");
    }
}

#[test]
fn each_purpose_has_keys_of_its_own() {
    let rows: [(SecretKind, &str, Option<&str>); 7] = [
        (Provisioner, "provisioner", Some("csiProvisionerSecret")),
        (
            ControllerPublish,
            "controller-publish",
            Some("csiControllerPublishSecret"),
        ),
        (NodeStage, "node-stage", Some("csiNodeStageSecret")),
        (NodePublish, "node-publish", Some("csiNodePublishSecret")),
        (ControllerExpand, "controller-expand", None),
        (NodeExpand, "node-expand", None),
        (ControllerModify, "controller-modify", None),
    ];
    assert_eq!(rows.map(|(kind, ..)| kind), SecretKind::ALL);
    for (kind, new, old) in rows {
        let new = [
            (format!("csi.storage.k8s.io/{new}-secret-name"), "s".to_owned()),
            (
                format!("csi.storage.k8s.io/{new}-secret-namespace"),
                "n".to_owned(),
            ),
        ];
        let old = old.map(|old| {
            [
                (format!("{old}Name"), "s".into()),
                (format!("{old}Namespace"), "n".into()),
            ]
        });
        for pair in [Some(new), old].into_iter().flatten() {
            let secrets = Secrets::of(&pair.into(), &scope(None)).unwrap();
            for other in SecretKind::ALL {
                assert_eq!(secrets.get(other).is_some(), other == kind, "{kind:?}: {other:?}");
            }
        }
    }
    let all = Secrets::of(
        &map(&[(DEFAULT_NAME, "s"), (DEFAULT_NAMESPACE, "n")]),
        &scope(None),
    )
    .unwrap();
    assert!(
        SecretKind::ALL.iter().all(|kind| all.get(*kind).is_some()),
        "the default is for all"
    );
}

#[test]
fn of_several_bad_pairs_the_first_purpose_is_told() {
    let parameters = map(&[
        ("csi.storage.k8s.io/controller-modify-secret-name", "s"),
        (NAME, "s"),
        ("csiProvisionerSecretNamespace", ""),
    ]);
    let Err(Half { present, .. }) = Secrets::of(&parameters, &scope(None)) else {
        unreachable!("half a pair is an error");
    };
    assert_eq!(present, "csiProvisionerSecretNamespace");
}
