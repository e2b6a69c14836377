//! What a template expands to.

use proptest::prelude::*;

use super::*;
use crate::base::names::NameError;

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
