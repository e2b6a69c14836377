//! What upstream would send as accessibility requirements, by its own code (tests/cluster/requirements), for clusters
//! that are generated: ours are the same, term by term.
//!
//! One set of keys in a cluster, and a Node has the labels if and only if its CSINode registers the keys. With several
//! sets upstream draws lots, and 6.3 counts Nodes that no driver is on.

use std::{collections::BTreeMap, iter::zip};

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use volwright::{
    base::names::UidLength,
    cluster::{
        objects::{Claim, Class, PROVISIONER, SELECTED_NODE, TopologySelectorTerm},
        topology::{ClusterTopology, NodeState, Registration, TopologyKeys},
    },
    csi::{DriverInfo, proto::Topology},
    provision::{
        decide::{Decision, Facts, decide},
        policy::Policy,
    },
};

use crate::{driver::Labels, program::answers};

const DRIVER: &str = "csi.example.com";
const CASES: usize = 2000;

/// The program's input; its head says what each field is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Case {
    pub(crate) driver: &'static str,
    pub(crate) claim: &'static str,
    pub(crate) nodes: BTreeMap<String, Labels>,
    /// The keys of each driver, of each node.
    #[serde(rename = "csinodes")]
    pub(crate) csi_nodes: BTreeMap<String, BTreeMap<&'static str, Vec<&'static str>>>,
    /// As a StorageClass has them.
    pub(crate) allowed_topologies: Value,
    /// Empty without one.
    pub(crate) selected_node: String,
    pub(crate) strict: bool,
    pub(crate) immediate: bool,
}

/// `None` for both when no requirement is sent.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Answer {
    pub(crate) requisite: Option<Vec<Labels>>,
    pub(crate) preferred: Option<Vec<Labels>>,
    /// Why the claim is not provisioned.
    pub(crate) error: Option<String>,
}

/// Lays generated cases before upstream, and each with its answer before the judge, who says what is wrong with it.
pub(crate) fn judge(judgement: impl Fn(&Case, &Answer) -> Result<(), String>) {
    let mut runner = TestRunner::default();
    let cases: Vec<_> = (0..CASES)
        .map(|_| case().new_tree(&mut runner).unwrap().current())
        .collect();
    let mut answered = 0;
    for (case, answer) in cases.iter().zip(answers::<_, Answer>("requirements", &cases)) {
        answered += usize::from(answer.preferred.is_some());
        if let Err(wrong) = judgement(case, &answer) {
            let case = serde_json::to_string_pretty(case).unwrap();
            panic!("{wrong}\nof {case}\nupstream: {answer:?}");
        }
    }
    assert!(
        answered > CASES / 4,
        "only {answered} of the cases have a requirement"
    );
}

fn case() -> impl Strategy<Value = Case> {
    let keys = subsequence(vec!["zone", "rack", "host"], 1..=3).prop_shuffle();
    keys.prop_flat_map(|keys| {
        let labels = vec(select(vec!["a", "b", "c"]), keys.len());
        // A node without values has no driver.
        let nodes = vec(option::weighted(0.8, labels), 0..8);
        // As the API server takes them: no key twice in a term, no value twice.
        let values = subsequence(vec!["a", "b", "d"], 1..=3);
        let all = keys.len();
        let term = subsequence(keys.clone(), 1..=all).prop_flat_map(move |keys| {
            vec(values.clone(), keys.len()).prop_map(move |it| zip(keys.clone(), it).collect::<Vec<_>>())
        });
        let allowed = vec(term, 0..3);
        let claims = vec![
            "data",
            "data-0",
            "data-7",
            "www-web-12",
            "007",
            "a-b-c",
            "data-x1",
        ];
        (
            Just(keys),
            nodes,
            option::weighted(0.4, allowed),
            option::of(0..8_usize),
            select(claims),
            any::<(bool, bool)>(),
        )
    })
    .prop_map(|(keys, nodes, allowed, selected, claim, (strict, immediate))| {
        let name = |index: usize| format!("node-{index}");
        let (mut labelled, mut csi_nodes) = (BTreeMap::new(), BTreeMap::new());
        for (index, values) in nodes.iter().enumerate() {
            let values = values.as_deref().unwrap_or_default();
            let labels: Labels = keys
                .iter()
                .zip(values)
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            let drivers = match labels.is_empty() {
                true => BTreeMap::from([("other.example.com", keys.clone())]),
                false => BTreeMap::from([(DRIVER, keys.clone())]),
            };
            labelled.insert(name(index), labels);
            csi_nodes.insert(name(index), drivers);
        }
        let expression = |(key, values)| json!({"key": key, "values": values});
        let terms = allowed.into_iter().flatten().map(|term| {
            let term: Vec<_> = term.into_iter().map(expression).collect();
            json!({"matchLabelExpressions": term})
        });
        Case {
            driver: DRIVER,
            claim,
            nodes: labelled,
            csi_nodes,
            allowed_topologies: terms.collect(),
            selected_node: selected.map(name).unwrap_or_default(),
            strict,
            immediate,
        }
    })
}

pub(crate) fn are_the_same() {
    judge(|case, theirs| {
        let ours = ours(case);
        let refused = |answer: &Answer| answer.error.is_some();
        let lists = |answer: &Answer| (answer.requisite.clone(), answer.preferred.clone());
        match refused(&ours) == refused(theirs) && lists(&ours) == lists(theirs) {
            true => Ok(()),
            false => Err(format!("ours: {ours:?}")),
        }
    });
}

/// What our sidecar makes of the same, in its own words where it refuses.
fn ours(case: &Case) -> Answer {
    let topology = ClusterTopology::new(case.nodes.iter().map(|node| state(case, node)), false);
    let policy = Policy {
        name_prefix: "pvc".into(),
        uid_length: UidLength::Whole,
        default_fs_type: String::new(),
        extra_metadata: false,
        publish_read_only: false,
        topology: true,
        strict_topology: case.strict,
        immediate_topology: case.immediate,
        prevent_mode_conversion: true,
        attributes_classes: true,
        cross_namespace: false,
        node: None,
        identity: "ours".into(),
    };
    let driver = DriverInfo {
        name: case.driver.into(),
        controller_service: true,
        topology: true,
        create_delete_volume: true,
        ..DriverInfo::default()
    };
    let class = Class {
        name: "fast".into(),
        uid: "class".into(),
        provisioner: case.driver.into(),
        allowed_topologies: allowed(&case.allowed_topologies),
        ..Class::default()
    };
    let mut claim = Claim {
        uid: "uid".into(),
        namespace: "shop".into(),
        name: case.claim.into(),
        annotations: [(PROVISIONER.to_owned(), case.driver.to_owned())].into(),
        class_name: Some(class.name.clone()),
        access_modes: vec!["ReadWriteOnce".into()],
        storage_request: Some("1Gi".into()),
        ..Claim::default()
    };
    if !case.selected_node.is_empty() {
        let node = (SELECTED_NODE.to_owned(), case.selected_node.clone());
        claim.annotations.extend([node]);
    }
    let decision = decide(Facts {
        claim: &claim,
        class: Some(&class),
        class_lag: None,
        driver: &driver,
        policy: &policy,
        topology: Some(&topology),
        in_progress: false,
        infeasible: None,
        name: Ok("pvc-uid"),
        name_used_by: None,
        saved: None,
        rescheduled: None,
    });
    let plan = match decision {
        Decision::Provision(plan) => plan,
        other => {
            return Answer {
                requisite: None,
                preferred: None,
                error: Some(format!("{other:?}")),
            };
        }
    };
    let sent = plan.request_with(BTreeMap::new()).accessibility_requirements;
    let lists = sent.map(|sent| [sent.requisite, sent.preferred].map(labels));
    let (requisite, preferred) = lists.map(|[requisite, preferred]| (requisite, preferred)).unzip();
    Answer {
        requisite,
        preferred,
        error: None,
    }
}

fn state(case: &Case, (name, labels): (&String, &Labels)) -> NodeState {
    let registration = match case.csi_nodes.get(name).map(|drivers| drivers.get(case.driver)) {
        None => Registration::NoCsiNode,
        Some(None) => Registration::NoDriver,
        Some(Some(keys)) => {
            let keys: TopologyKeys = keys.iter().map(|key| (*key).to_owned()).collect();
            Registration::Keys(keys.into())
        }
    };
    NodeState {
        name: name.clone(),
        labels: Some(labels.clone().into()),
        registration,
        vanished: None,
    }
}

/// From the terms of a StorageClass.
fn allowed(terms: &Value) -> Vec<TopologySelectorTerm> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let expression = |it: &Value| {
        let values = it["values"].as_array().unwrap();
        (text(&it["key"]), values.iter().map(text).collect())
    };
    let terms = terms.as_array().unwrap().iter();
    terms
        .map(|term| {
            let expressions = term["matchLabelExpressions"].as_array().unwrap();
            expressions.iter().map(expression).collect()
        })
        .collect()
}

fn labels(terms: Vec<Topology>) -> Vec<Labels> {
    terms.into_iter().map(|term| term.segments).collect()
}
