//! Pure. From which parts of the cluster a volume that is to be made has to be reachable, and which of them is best.
//!
//! The rules are upstream's, with three differences: the node that the scheduler chose is looked up anew each time, its
//! own part of the cluster is always in the list, and what is sent to the driver is remembered by the record alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    decide::{Decision, Wait, can_reschedule},
    policy::Policy,
    refusal::Refusal,
};
use crate::{
    base::{fnv::fnv1, segment::Segment},
    cluster::{
        objects::{Claim, Class, TopologySelectorTerm},
        topology::{ClusterTopology, NodeProblem, Terms},
    },
    csi::proto,
};

/// More terms than this fit into no request.
const MAX_TERMS: usize = 10_000;

/// Where a volume is to be made, for a driver with topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// What the driver is asked for. `None`: it may choose.
    pub requirement: Option<Requirement>,
    /// The node that the volume is made for.
    pub node: Option<SelectedNode>,
}

/// The node that the scheduler chose for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedNode {
    /// `metadata.name`
    pub name: String,
    /// Where it was when the volume was decided upon.
    pub segment: Segment,
}

/// The `accessibility_requirements` of a request. Claims share one list of terms, and differ in where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The volume has to be reachable from one of these.
    pub requisite: Terms,
    /// Where the preferred order begins: from there to the end, then what comes before.
    pub start: usize,
}

/// Why the allowed topologies of a class cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowedTopologiesError {
    /// An expression without values, or two for one key that contradict each other.
    #[error(
        "its allowedTopologies allow no place at all: each expression needs values, and each key one expression"
    )]
    Nowhere,
    /// Their combinations are too many for a request.
    #[error("its allowedTopologies have more than {MAX_TERMS} combinations: name fewer values")]
    TooMany,
}

impl Requirement {
    /// The requisite terms, the best one first.
    pub fn preferred(&self) -> impl Iterator<Item = &Segment> {
        let (before, from) = self.requisite.split_at(self.start.min(self.requisite.len()));
        from.iter().chain(before)
    }

    fn only(segment: &Segment) -> Self {
        Self {
            requisite: [segment.clone()].into(),
            start: 0,
        }
    }

    /// Spreads claims over the terms. The names of the claims of a StatefulSet end in its name and a number: these go
    /// round, whatever their template is called, so that all volumes of one Pod begin with the same term.
    fn by_name(requisite: Terms, claim: &str) -> Self {
        let numbered = claim.rsplit_once('-');
        let numbered = numbered.and_then(|(base, number)| Some((base, number.parse::<u32>().ok()?)));
        let (base, number) = match numbered {
            Some((base, number)) => (base.rsplit_once('-').map_or(base, |(_, set)| set), number),
            None => (claim, 0),
        };
        let hash = fnv1(base.as_bytes()).wrapping_add(number);
        let hash = usize::try_from(hash).unwrap_or_default();
        Self {
            start: hash.checked_rem(requisite.len()).unwrap_or_default(),
            requisite,
        }
    }
}

impl From<&Requirement> for proto::TopologyRequirement {
    fn from(requirement: &Requirement) -> Self {
        Self {
            requisite: requirement.requisite.iter().map(Into::into).collect(),
            preferred: requirement.preferred().map(Into::into).collect(),
        }
    }
}

/// Where to make the volume of a claim.
///
/// # Errors
/// What to do instead.
pub(super) fn placement(
    claim: &Claim,
    class: &Class,
    policy: &Policy,
    topology: &ClusterTopology,
    node: Option<&str>,
) -> Result<Placement, Decision> {
    let asks_what_is_unread = match node {
        Some(node) => matches!(topology.segment_of(node), Err(NodeProblem::NoLabel { .. })),
        None => class.allowed_topologies.is_empty() && policy.immediate_topology,
    };
    if asks_what_is_unread && topology.is_incomplete() {
        return Err(Decision::Wait(Wait::Nodes, Wait::FOR_NODES));
    }
    let allowed = allowed_terms(class)?;
    let node = match node {
        Some(name) => Some(selected_node(claim, name, topology)?),
        None => None,
    };
    let requirement = match (&node, allowed) {
        (Some(node), allowed) if policy.strict_topology => {
            if let Some(allowed) = allowed.filter(|allowed| !allowed.is_empty()) {
                first_allowed(&allowed, node, class)?;
            }
            Some(Requirement::only(&node.segment))
        }
        (_, Some(allowed)) if allowed.is_empty() => None,
        (Some(node), Some(allowed)) => Some(Requirement {
            start: first_allowed(&allowed, node, class)?,
            requisite: allowed,
        }),
        (Some(node), None) => {
            let terms = topology.terms_like(&node.name);
            Some(match terms.binary_search(&node.segment) {
                Ok(start) => Requirement {
                    requisite: terms,
                    start,
                },
                Err(_) => Requirement::only(&node.segment),
            })
        }
        (None, Some(allowed)) => Some(Requirement::by_name(allowed, &claim.name)),
        (None, None) if policy.immediate_topology => {
            let terms = topology.terms();
            if terms.is_empty() {
                return Err(Refusal::NoTopology.into());
            }
            Some(Requirement::by_name(terms, &claim.name))
        }
        (None, None) => None,
    };
    Ok(Placement { requirement, node })
}

fn selected_node(claim: &Claim, name: &str, topology: &ClusterTopology) -> Result<SelectedNode, Decision> {
    match topology.segment_of(name) {
        Ok(segment) => Ok(SelectedNode {
            name: name.to_owned(),
            segment,
        }),
        Err(problem @ NodeProblem::NoCsiNode { .. }) if can_reschedule(claim) => {
            Err(Decision::Reschedule(name.to_owned(), problem))
        }
        Err(problem) => Err(Refusal::Node(problem).into()),
    }
}

/// The first of the allowed terms that the node is in.
fn first_allowed(allowed: &Terms, node: &SelectedNode, class: &Class) -> Result<usize, Refusal> {
    let is_in = |term: &Segment| term.is_subset_of(&node.segment);
    allowed.iter().position(is_in).ok_or_else(|| Refusal::NotAllowed {
        node: node.name.clone(),
        segment: node.segment.to_string(),
        class: class.name.clone(),
    })
}

/// What the class allows, term by term. `None` if it says nothing about it; no term if it has only terms that say
/// nothing.
fn allowed_terms(class: &Class) -> Result<Option<Terms>, Refusal> {
    if class.allowed_topologies.is_empty() {
        return Ok(None);
    }
    let refuse = |error| Refusal::AllowedTopologies(class.name.clone(), error);
    let mut terms = BTreeSet::new();
    for term in &class.allowed_topologies {
        let Some(combinations) = combinations(term) else {
            return Err(refuse(AllowedTopologiesError::TooMany));
        };
        terms.extend(combinations.into_iter().map(Segment::from));
        if terms.len() > MAX_TERMS {
            return Err(refuse(AllowedTopologiesError::TooMany));
        }
    }
    if terms.is_empty() {
        return Err(refuse(AllowedTopologiesError::Nowhere));
    }
    terms.remove(&Segment::default());
    Ok(Some(terms.into_iter().collect()))
}

/// One value for each key, in every way. `None` if these are too many.
fn combinations(term: &TopologySelectorTerm) -> Option<Vec<BTreeMap<String, String>>> {
    let mut combinations = vec![BTreeMap::new()];
    for (key, values) in term {
        if combinations.len().saturating_mul(values.len()) > MAX_TERMS {
            return None;
        }
        let with = |combination: &BTreeMap<String, String>, value: &String| {
            let mut combination = combination.clone();
            let before = combination.insert(key.clone(), value.clone());
            before
                .is_none_or(|before| before == *value)
                .then_some(combination)
        };
        let longer = combinations
            .iter()
            .flat_map(|combination| values.iter().filter_map(move |value| with(combination, value)));
        combinations = longer.collect();
    }
    Some(combinations)
}
