//! All pairs of keys, all templates.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use proptest::prelude::*;

use super::{SecretError::*, SecretKind::*, *};
use crate::base::names::NameError;

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

/// What a template comes to, or the tokens that nobody knows.
fn expanded(template: &str, scope: &Scope<'_>, is_name: bool) -> Result<String, Vec<String>> {
    match expand("key", template, scope, is_name) {
        Ok(text) => Ok(text),
        Err(Unresolved { tokens, .. }) => Err(tokens),
        // What was expanded is in the complaint about it.
        Err(Invalid { cause, .. }) => match cause {
            NameError::Empty(name) | NameError::Edge(name) => Ok(name),
            NameError::TooLong { name, .. } | NameError::Character { name, .. } => Ok(name),
        },
        Err(other) => unreachable!("{other}"),
    }
}

#[test]
fn templates_expand_as_go_expands_them() {
    // What it comes to as a name, and as a namespace; what is not known there stands in brackets.
    let rows: &[(&str, &str, &str)] = &[
        ("plain", "plain", "plain"),
        ("${pv.name}", "pvc-1", "pvc-1"),
        ("${pvc.namespace}", "shop", "shop"),
        ("${pvc.name}", "data", "[${pvc.name}]"),
        (
            "${pvc.annotations['a/b']}",
            "noted",
            "[${pvc.annotations['a/b']}]",
        ),
        (
            "${pvc.annotations['plain']}",
            "x",
            "[${pvc.annotations['plain']}]",
        ),
        ("${pvc.annotations['empty']}", "", "[${pvc.annotations['empty']}]"),
        ("${pvc.annotations['$']}", "dollar", "[${pvc.annotations['$']}]"),
        (
            "${pvc.annotations['absent']}",
            "[${pvc.annotations['absent']}]",
            "[${pvc.annotations['absent']}]",
        ),
        (
            "${pvc.annotations[\"plain\"]}",
            "[${pvc.annotations[\"plain\"]}]",
            "[${pvc.annotations[\"plain\"]}]",
        ),
        (
            "${pvc.annotations['']}",
            "[${pvc.annotations['']}]",
            "[${pvc.annotations['']}]",
        ),
        (
            "${pvc.annotations[']}",
            "[${pvc.annotations[']}]",
            "[${pvc.annotations[']}]",
        ),
        ("a${pvc.namespace}b${pv.name}c", "ashopbpvc-1c", "ashopbpvc-1c"),
        ("${pvc.namespace}${pvc.namespace}", "shopshop", "shopshop"),
        ("${PVC.NAMESPACE}", "[${PVC.NAMESPACE}]", "[${PVC.NAMESPACE}]"),
        ("${ pv.name }", "[${ pv.name }]", "[${ pv.name }]"),
        ("${z}${a}${z}$m", "[${a} ${m} ${z}]", "[${a} ${m} ${z}]"),
        // Without braces a token ends at the first dot, so none of the known ones can be meant.
        ("$pv.name", "[${pv}]", "[${pv}]"),
        ("$pvc_name-x", "[${pvc_name}]", "[${pvc_name}]"),
        ("$12", "[${1}]", "[${1}]"),
        ("$1a", "[${1}]", "[${1}]"),
        ("$*", "[${*}]", "[${*}]"),
        ("${*}", "[${*}]", "[${*}]"),
        ("$-a", "[${-}]", "[${-}]"),
        ("$$", "[${$}]", "[${$}]"),
        ("$$$", "[${$}]", "[${$}]"),
        ("$${pv.name}", "[${$}]", "[${$}]"),
        ("${${pv.name}}", "[${${pv.name}]", "[${${pv.name}]"),
        // A dollar that begins nothing is itself; what is no token counts for nothing.
        ("$", "$", "$"),
        ("a$", "a$", "a$"),
        ("a$.b", "a$.b", "a$.b"),
        ("a$\u{fc}", "a$\u{fc}", "a$\u{fc}"),
        ("$ ", "$ ", "$ "),
        ("$}", "$}", "$}"),
        ("a${}b", "ab", "ab"),
        ("${}", "", ""),
        ("${", "", ""),
        ("a${", "a", "a"),
        ("${pvc.name", "pvc.name", "pvc.name"),
        (
            "${pv.name${pvc.namespace}",
            "[${pv.name${pvc.namespace}]",
            "[${pv.name${pvc.namespace}]",
        ),
        ("a}b{c", "a}b{c", "a}b{c"),
    ];
    let annotations = annotations();
    for (template, name, namespace) in rows {
        for (is_name, expected) in [(true, name), (false, namespace)] {
            let got = expanded(template, &scope(Some(&annotations)), is_name);
            let got = got.unwrap_or_else(|tokens| format!("[{}]", tokens.join(" ")));
            assert_eq!(got, *expected, "{template:?}, as a name: {is_name}");
        }
    }
}

#[test]
fn annotations_are_not_known_any_more_when_a_volume_is_deleted() {
    let rows = [
        ("${pv.name}", Ok("pvc-1")),
        ("${pvc.name}", Ok("data")),
        ("${pvc.namespace}", Ok("shop")),
        ("${pvc.annotations['plain']}", Err("${pvc.annotations['plain']}")),
    ];
    for (template, expected) in rows {
        let expected = expected
            .map(str::to_owned)
            .map_err(|token| vec![token.to_owned()]);
        assert_eq!(expanded(template, &scope(None), true), expected, "{template}");
    }
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

proptest! {
    #[test]
    fn no_template_panics_and_what_it_gives_is_a_valid_name(
        template in r"(\$|\$\{|\}|pv\.name|pvc\.namespace|pvc\.annotations\['|'\]|a/b|[a-z-]|.){0,12}",
        is_name: bool,
    ) {
        let annotations = annotations();
        if let Ok(name) = expand("key", &template, &scope(Some(&annotations)), is_name) {
            let check = if is_name { names::check_subdomain } else { names::check_label };
            prop_assert_eq!(check(&name), Ok(()));
        }
    }

    #[test]
    fn text_without_a_dollar_is_itself(text in "[^$]{0,40}") {
        prop_assert_eq!(expanded(&text, &scope(None), true), Ok(text));
    }

    #[test]
    fn a_namespace_never_depends_on_what_the_claims_owner_writes(
        template in r"(\$\{|\}|pv\.name|pvc\.namespace|pvc\.name|pvc\.annotations\['k'\]|[a-z]){0,8}",
        name in "[a-z]{1,8}",
        value in "[a-z]{1,8}",
    ) {
        let noted = map(&[("k", &value)]);
        let one = Scope { claim: &name, annotations: Some(&noted), ..scope(None) };
        let namespace = |scope| expand("key", &template, scope, false).ok();
        prop_assert_eq!(namespace(&one), namespace(&scope(None)));
    }
}
