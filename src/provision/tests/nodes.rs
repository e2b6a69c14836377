//! Clusters and what is asked of the driver there, as short texts.

use std::sync::Arc;

use super::{
    super::{decide::Decision, topology::Requirement},
    *,
};
use crate::{
    base::segment::Segment,
    cluster::{
        objects::{SELECTED_NODE, TopologySelectorTerm},
        topology::{NodeState, Registration},
    },
};

/// Labels of a Node, `-` where there is none; and what its CSINode registers: keys, `no keys`, `no driver`, or `-` where
/// there is no CSINode.
pub(super) type NodeText = (&'static str, &'static str);

/// From `zone=a,rack=7`.
pub(super) fn segment(text: &str) -> Segment {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.collect()
}

/// Their names are node-0, node-1 and so on.
pub(super) fn node_states(nodes: &[NodeText]) -> Vec<NodeState> {
    let state = |(n, (labels, registered)): (usize, &NodeText)| NodeState {
        name: format!("node-{n}"),
        labels: (*labels != "-").then(|| segment(labels)),
        registration: match *registered {
            "-" => Registration::NoCsiNode,
            "no driver" => Registration::NoDriver,
            "no keys" => Registration::Keys(Arc::default()),
            keys => Registration::Keys(Arc::new(keys.split(',').map(str::to_owned).collect())),
        },
        vanished: None,
    };
    nodes.iter().enumerate().map(state).collect()
}

pub(super) fn cluster(nodes: &[NodeText]) -> ClusterTopology {
    ClusterTopology::new(node_states(nodes), false)
}

/// From `zone in a b, rack in 7`.
pub(super) fn allowed(text: &str) -> TopologySelectorTerm {
    let expression = |text: &str| {
        let (key, values) = text.trim().split_once(" in").expect("an expression");
        (
            key.to_owned(),
            values.split_whitespace().map(str::to_owned).collect(),
        )
    };
    text.split(',')
        .filter(|text| !text.is_empty())
        .map(expression)
        .collect()
}

impl World {
    /// A driver with topology on these nodes.
    pub(super) fn on(nodes: &[NodeText]) -> Self {
        Self::but(|w| w.driver.topology = true).with_nodes(nodes)
    }

    pub(super) fn with_nodes(mut self, nodes: &[NodeText]) -> Self {
        self.nodes = Some(cluster(nodes));
        self
    }

    /// The class allows any of these terms.
    pub(super) fn allowing(mut self, terms: &[&str]) -> Self {
        self.class().allowed_topologies = terms.iter().map(|term| allowed(term)).collect();
        self
    }

    pub(super) fn named(mut self, claim: &str) -> Self {
        self.claim.name = claim.to_owned();
        self
    }

    pub(super) fn selecting(mut self, node: &str) -> Self {
        self.annotate(SELECTED_NODE, node);
        self
    }

    /// Under each setting of --strict-topology and --immediate-topology.
    pub(super) fn settings(mut self, mut check: impl FnMut(&Self, bool, bool)) {
        for (strict, immediate) in [(false, false), (false, true), (true, false), (true, true)] {
            (self.policy.strict_topology, self.policy.immediate_topology) = (strict, immediate);
            check(&self, strict, immediate);
        }
    }

    pub(super) fn requirement(&self) -> Option<Requirement> {
        self.plan().placement.expect("topology").requirement
    }

    /// The terms in preferred order, `none`, `reschedule: …` or `err: …`.
    pub(super) fn preferred(&self) -> String {
        self.asked(|requirement| texts(requirement.preferred()))
    }

    /// As [`World::preferred`], in the order of the requisite terms.
    pub(super) fn requisite(&self) -> String {
        self.asked(|requirement| texts(requirement.requisite.iter()))
    }

    fn asked(&self, show: impl Fn(&Requirement) -> String) -> String {
        match self.decide() {
            Decision::Provision(plan) => match plan.placement.expect("topology").requirement {
                Some(requirement) => show(&requirement),
                None => "none".to_owned(),
            },
            Decision::Tell(refusal) => format!("err: {refusal}"),
            Decision::Reschedule(node, problem) => format!("reschedule: {node}: {problem}"),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn texts<'a>(segments: impl Iterator<Item = &'a Segment>) -> String {
    segments.map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// An expected text that ends in `…` is how the found one has to begin.
pub(super) fn agrees(found: &str, expected: &str) -> bool {
    match expected.strip_suffix('…') {
        Some(begin) => found.starts_with(begin),
        None => found == expected,
    }
}
