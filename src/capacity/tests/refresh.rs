//! Which items are asked for again when a volume came or went.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{World, segment};
use crate::{
    base::segment::Segment,
    cluster::node_selector::{NodeSelectorRequirement, NodeSelectorTerm, TermError, terms_of},
};

#[test]
fn a_refresh_concerns_the_items_of_one_class_or_of_exactly_one_segment() {
    let flat = World::new(&[("layer0=foo", 1), ("layer0=bar", 2)], &["direct", "triple"]).desired();
    let (a, b) = ("layer0=foo,layer1=X,layer2=A", "layer0=foo,layer1=X,layer2=B");
    let deep = World::new(&[(a, 1), (b, 2)], &["direct", "triple"]).desired();
    for (id, count) in [
        ("cap.Refresh.01", flat.of_class("direct").count()),
        ("cap.Refresh.02", flat.in_segment(&segment("layer0=bar")).count()),
        ("cap.Refresh.03", deep.in_segment(&segment(a)).count()),
    ] {
        assert_eq!(count, 2, "{id}");
    }
    for (id, count) in [
        (
            "cap.Refresh.04",
            deep.in_segment(&segment("layer0=foo,layer1=X,layer2=BBB"))
                .count(),
        ),
        ("cap.Refresh.05", flat.of_class("no-such").count()),
        ("cap.Refresh.06", deep.in_segment(&segment("layer0=foo")).count()),
    ] {
        assert_eq!(count, 0, "{id}");
    }
}

fn term(expressions: &[(&str, &str, &[&str])]) -> NodeSelectorTerm {
    let requirement = |(key, operator, values): &(&str, &str, &[&str])| NodeSelectorRequirement {
        key: (*key).to_owned(),
        operator: (*operator).to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    NodeSelectorTerm {
        expressions: expressions.iter().map(requirement).collect(),
        fields: Vec::new(),
    }
}

#[test]
fn a_term_is_a_segment_if_each_key_has_one_value() {
    let fields = NodeSelectorTerm {
        fields: vec![NodeSelectorRequirement::default()],
        ..NodeSelectorTerm::default()
    };
    let operator = TermError::Operator {
        key: "segment".into(),
        operator: "NotIn".into(),
    };
    let values = TermError::Values {
        key: "segment".into(),
        count: 2,
    };
    let rows: [(&str, NodeSelectorTerm, Result<Segment, TermError>); 6] = [
        ("cap.TermToSegment.01", fields, Err(TermError::Fields)),
        (
            "cap.TermToSegment.02",
            term(&[("segment", "NotIn", &["a"])]),
            Err(operator),
        ),
        (
            "cap.TermToSegment.03",
            term(&[("segment", "In", &["a", "b"])]),
            Err(values),
        ),
        (
            "cap.TermToSegment.04",
            term(&[("segment", "In", &["a"])]),
            Ok(segment("segment=a")),
        ),
        (
            "cap.TermToSegment.05",
            term(&[("segment", "In", &["a"]), ("zone", "In", &["X"])]),
            Ok(segment("segment=a,zone=X")),
        ),
        (
            "cap.TermToSegment.06",
            term(&[("zone", "In", &["X"]), ("segment", "In", &["a"])]),
            Ok(segment("segment=a,zone=X")),
        ),
    ];
    for (id, term, expected) in rows {
        assert_eq!(term.segment(), expected, "{id}");
    }
}

#[test]
fn a_volume_that_was_made_says_from_where_it_can_be_reached() {
    let volume = |affinity: serde_json::Value| -> PersistentVolume {
        let spec = serde_json::json!({"storageClassName": "direct", "nodeAffinity": affinity});
        serde_json::from_value(serde_json::json!({"spec": spec})).unwrap()
    };
    let expression = serde_json::json!({"key": "zone", "operator": "In", "values": ["a"]});
    let required = serde_json::json!([
        {"matchExpressions": [expression]},
        {"matchExpressions": [expression], "matchFields": [expression]},
    ]);
    let terms = terms_of(&volume(
        serde_json::json!({"required": {"nodeSelectorTerms": required}}),
    ))
    .unwrap();
    let segments: Vec<_> = terms.iter().map(NodeSelectorTerm::segment).collect();
    assert_eq!(segments, [Ok(segment("zone=a")), Err(TermError::Fields)]);
    assert_eq!(terms_of(&volume(serde_json::Value::Null)), None);
}

#[test]
fn d21_the_order_of_the_keys_of_a_segment_decides_nothing() {
    let desired = World::new(&[("zone=a,host=1", 1)], &["direct"]).desired();
    let affinity = term(&[("zone", "In", &["a"]), ("host", "In", &["1"])]);
    let segment = affinity.segment().unwrap();
    assert_eq!(desired.in_segment(&segment).count(), 1, "D-21");
}
