//! All pairs of keys, all templates, and the text of every error.

use super::{SecretError::*, SecretKind::*, *};

type Parameters<'a> = &'a [(&'a str, &'a str)];
type Found = Result<Option<SecretRef>, SecretError>;

const NAME: &str = "csi.storage.k8s.io/node-publish-secret-name";
const NAMESPACE: &str = "csi.storage.k8s.io/node-publish-secret-namespace";
const OLD_NAME: &str = "csiNodePublishSecretName";
const OLD_NAMESPACE: &str = "csiNodePublishSecretNamespace";
const DEFAULT_NAME: &str = "csi.storage.k8s.io/secret-name";
const DEFAULT_NAMESPACE: &str = "csi.storage.k8s.io/secret-namespace";

fn map(pairs: Parameters<'_>) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

fn annotations() -> BTreeMap<String, String> {
    map(&[
        ("a/b", "noted"),
        ("plain", "x"),
        ("empty", ""),
        ("odd", "Not A Name"),
        ("$", "dollar"),
    ])
}

/// Claim `shop/data` becomes volume `pvc-1`.
fn scope(annotations: Option<&BTreeMap<String, String>>) -> Scope<'_> {
    Scope {
        volume: "pvc-1",
        namespace: "shop",
        claim: "data",
        annotations,
    }
}

fn found(name: &str, namespace: &str) -> Found {
    Ok(Some(SecretRef {
        namespace: namespace.into(),
        name: name.into(),
    }))
}

fn node_publish(parameters: Parameters<'_>) -> Found {
    resolve(&map(parameters), NodePublish, &scope(Some(&annotations())))
}

#[test]
fn the_namespace_is_looked_at_first() {
    let Err(Unresolved { key, .. }) = node_publish(&[(NAME, "${x}"), (NAMESPACE, "${y}")]) else {
        unreachable!("neither token is known");
    };
    assert_eq!(key, NAMESPACE);
}

#[test]
fn a_secret_is_named_as_kubernetes_names_secrets_and_namespaces() {
    let long = "a".repeat(64);
    let rows: &[(&str, &str, bool, bool)] = &[
        ("label", "a-1", true, true),
        ("subdomain", "a.b", true, false),
        ("long", &long, true, false),
        ("blank", "a b", false, false),
        ("capitals", "A", false, false),
        ("slash", "a/b", false, false),
        ("comes to nothing", "${}", false, false),
    ];
    for (name, text, as_name, as_namespace) in rows {
        assert_eq!(
            node_publish(&[(NAME, text), (NAMESPACE, "n")]).is_ok(),
            *as_name,
            "{name}"
        );
        let namespace = node_publish(&[(NAME, "s"), (NAMESPACE, text)]);
        assert_eq!(namespace.is_ok(), *as_namespace, "{name}, as a namespace");
    }
}

#[test]
fn every_error_says_which_parameter_and_why() {
    let text = |parameters: Parameters<'_>| node_publish(parameters).unwrap_err().to_string();
    let rows: &[(Parameters<'_>, &str)] = &[
        (
            &[(NAME, "s"), (OLD_NAME, "s")],
            "parameters csi.storage.k8s.io/node-publish-secret-name and csiNodePublishSecretName mean the same: \
             remove one",
        ),
        (
            &[(OLD_NAME, "s")],
            "parameter csiNodePublishSecretName is there but csi.storage.k8s.io/node-publish-secret-namespace is \
             not: give both or neither",
        ),
        (
            &[(NAME, ""), (NAMESPACE, "n")],
            "parameter csi.storage.k8s.io/node-publish-secret-name is empty: give it a value, or remove the pair",
        ),
        (
            &[(NAME, "${b}-$a"), (NAMESPACE, "n")],
            "parameter csi.storage.k8s.io/node-publish-secret-name: \"${b}-$a\" uses ${a}, ${b}, unknown here: known \
             are pv.name, pvc.name, pvc.namespace, pvc.annotations['KEY'] of annotations that the claim has",
        ),
        (
            &[(NAME, "s"), (NAMESPACE, "${pvc.name}")],
            "parameter csi.storage.k8s.io/node-publish-secret-namespace: \"${pvc.name}\" uses ${pvc.name}, unknown \
             here: known are pv.name, pvc.namespace",
        ),
        (
            &[(NAME, "my secret"), (NAMESPACE, "n")],
            "parameter csi.storage.k8s.io/node-publish-secret-name: \"my secret\" does not give a valid name: name \
             \"my secret\" contains ' ': only lower-case letters, digits and '-' are allowed",
        ),
        (
            &[(NAME, "${pvc.annotations['odd']}"), (NAMESPACE, "n")],
            "parameter csi.storage.k8s.io/node-publish-secret-name: \"${pvc.annotations['odd']}\" does not give a \
             valid name: name \"Not A Name\" contains 'N': only lower-case letters, digits and '-' are allowed",
        ),
    ];
    for (parameters, expected) in rows {
        assert_eq!(text(parameters), *expected);
    }
    let late = resolve(&map(&[(NAME, "$x"), (NAMESPACE, "n")]), NodePublish, &scope(None));
    assert_eq!(
        late.unwrap_err().to_string(),
        "parameter csi.storage.k8s.io/node-publish-secret-name: \"$x\" uses ${x}, unknown here: known are pv.name, \
         pvc.name, pvc.namespace"
    );
}

mod pairs;
mod references;
mod templates;
