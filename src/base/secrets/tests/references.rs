//! From the parameters of a class to the reference to a secret.

use super::*;

const PROVISIONER_NAME: &str = "csi.storage.k8s.io/provisioner-secret-name";
const PROVISIONER_NAMESPACE: &str = "csi.storage.k8s.io/provisioner-secret-namespace";

/// Name and namespace of the secret, or what the error says.
type Expected = Result<Option<(&'static str, &'static str)>, &'static str>;

const HALF: Expected = Err("give both or neither");
const TWICE: Expected = Err("mean the same");
const UNKNOWN: Expected = Err("unknown here");
const INVALID: Expected = Err("does not give a valid name");

const ROWS: &[(&str, SecretKind, Parameters<'_>, Expected)] = &[
    ("ctl.GetSecretReference.01", NodePublish, &[], Ok(None)),
    (
        "ctl.GetSecretReference.02",
        NodePublish,
        &[(OLD_NAME, ""), (OLD_NAMESPACE, "")],
        Err("give it a value"),
    ),
    (
        "ctl.GetSecretReference.03",
        NodePublish,
        &[(OLD_NAME, "foo")],
        HALF,
    ),
    ("ctl.GetSecretReference.04", NodePublish, &[(NAME, "foo")], HALF),
    (
        "ctl.GetSecretReference.05",
        NodePublish,
        &[(OLD_NAMESPACE, "foo")],
        HALF,
    ),
    (
        "ctl.GetSecretReference.06",
        NodePublish,
        &[(NAMESPACE, "foo")],
        HALF,
    ),
    (
        "ctl.GetSecretReference.07",
        NodePublish,
        &[(OLD_NAME, "name"), (OLD_NAMESPACE, "ns")],
        Ok(Some(("name", "ns"))),
    ),
    (
        "ctl.GetSecretReference.08",
        NodePublish,
        &[
            (OLD_NAME, "name"),
            (OLD_NAMESPACE, "ns"),
            (NAME, "name"),
            (NAMESPACE, "ns"),
        ],
        TWICE,
    ),
    (
        "ctl.GetSecretReference.09",
        NodePublish,
        &[(OLD_NAME, "name"), (OLD_NAMESPACE, "ns"), (NAME, "name")],
        TWICE,
    ),
    (
        "ctl.GetSecretReference.10",
        NodePublish,
        &[(OLD_NAME, "name"), (OLD_NAMESPACE, "ns"), (NAMESPACE, "ns")],
        TWICE,
    ),
    (
        "ctl.GetSecretReference.11",
        NodePublish,
        &[(OLD_NAME, "name"), (NAMESPACE, "ns")],
        Ok(Some(("name", "ns"))),
    ),
    (
        "ctl.GetSecretReference.12",
        NodePublish,
        &[(NAME, "name"), (NAMESPACE, "ns")],
        Ok(Some(("name", "ns"))),
    ),
    (
        "ctl.GetSecretReference.14",
        Provisioner,
        &[(PROVISIONER_NAME, "name"), (PROVISIONER_NAMESPACE, "ns")],
        Ok(Some(("name", "ns"))),
    ),
    (
        "ctl.GetSecretReference.15",
        NodePublish,
        &[(NAME, "bad name"), (NAMESPACE, "ns")],
        INVALID,
    ),
    (
        "ctl.GetSecretReference.16",
        NodePublish,
        &[(NAME, "name"), (NAMESPACE, "bad ns")],
        INVALID,
    ),
    (
        "ctl.GetSecretReference.17",
        Provisioner,
        &[(
            PROVISIONER_NAME,
            "static-${pv.name}-${pvc.namespace}-${pvc.name}-${pvc.annotations['a/b']}",
        )],
        HALF,
    ),
    (
        "ctl.GetSecretReference.18",
        Provisioner,
        &[
            (PROVISIONER_NAME, "static-${pvc.name}-${pvc.annotations['a/b']}"),
            (PROVISIONER_NAMESPACE, "static-${pvc.namespace}"),
        ],
        Ok(Some(("static-data-noted", "static-shop"))),
    ),
    (
        "ctl.GetSecretReference.19",
        NodePublish,
        &[
            (
                NAME,
                "static-${pv.name}-${pvc.namespace}-${pvc.name}-${pvc.annotations['a/b']}",
            ),
            (NAMESPACE, "static-${pv.name}-${pvc.namespace}"),
        ],
        Ok(Some(("static-pvc-1-shop-data-noted", "static-pvc-1-shop"))),
    ),
    (
        "ctl.GetSecretReference.20",
        Provisioner,
        &[
            (PROVISIONER_NAME, "static-${pv.name}-${pvc.namespace}-${pvc.name}"),
            (PROVISIONER_NAMESPACE, "static-${pv.name}-${pvc.namespace}"),
        ],
        Ok(Some(("static-pvc-1-shop-data", "static-pvc-1-shop"))),
    ),
    (
        "ctl.GetSecretReference.21",
        Provisioner,
        &[(PROVISIONER_NAME, "${pvc.name}"), (PROVISIONER_NAMESPACE, "ns")],
        Ok(Some(("data", "ns"))),
    ),
    (
        "ctl.GetSecretReference.22",
        Provisioner,
        &[
            (PROVISIONER_NAME, "${pvc.name}"),
            (PROVISIONER_NAMESPACE, "${pvc.namespace}"),
        ],
        Ok(Some(("data", "shop"))),
    ),
    (
        "ctl.GetSecretReference.23",
        Provisioner,
        &[
            (PROVISIONER_NAME, "name"),
            (PROVISIONER_NAMESPACE, "${pvc.namespace}"),
        ],
        Ok(Some(("name", "shop"))),
    ),
    (
        "ctl.GetSecretReference.24",
        NodePublish,
        &[(NAME, "name"), (NAMESPACE, "ns-${bar}")],
        UNKNOWN,
    ),
    (
        "ctl.GetSecretReference.25",
        NodePublish,
        &[(NAME, "name-${foo}"), (NAMESPACE, "ns")],
        UNKNOWN,
    ),
];

fn check(id: &str, found: Found, expected: Expected) {
    match (found, expected) {
        (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{id}: {error}"),
        (found, expected) => {
            let expected = expected.map(|pair| {
                pair.map(|(name, namespace)| SecretRef {
                    namespace: namespace.into(),
                    name: name.into(),
                })
            });
            assert_eq!(found.map_err(|_| "another error"), expected, "{id}");
        }
    }
}

#[test]
fn a_class_names_a_secret_as_upstream_reads_it() {
    for (id, kind, parameters, expected) in ROWS {
        check(
            id,
            resolve(&map(parameters), *kind, &scope(Some(&annotations()))),
            *expected,
        );
    }
}

#[test]
fn a_literal_reference_needs_no_claim() {
    let nobody = Scope {
        volume: "",
        namespace: "",
        claim: "",
        annotations: None,
    };
    let parameters = map(&[(PROVISIONER_NAME, "name"), (PROVISIONER_NAMESPACE, "ns")]);
    check(
        "ctl.GetSecretReference.13",
        resolve(&parameters, Provisioner, &nobody),
        Ok(Some(("name", "ns"))),
    );
}
