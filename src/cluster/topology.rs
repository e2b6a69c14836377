//! Pure. Which nodes run the driver, and in which segments of the cluster they are.
//!
//! A driver registers its topology keys with each kubelet, which lists them in the node's CSINode object; the values
//! are labels of the Node. Upstream 6.4 counts a Node for a set of keys only if its own CSINode registers them all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
};

use crate::base::segment::Segment;

/// Sorted, without duplicates.
pub type TopologyKeys = BTreeSet<String>;

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// `metadata.name` of Node and CSINode.
    pub name: String,
    /// Labels of the Node as far as they are topology keys, `None` if there is no Node.
    pub labels: Option<Segment>,
    /// What its CSINode says.
    pub registration: Registration,
    /// What the driver had registered until a moment ago: a node plugin that is being replaced is absent for a while.
    pub vanished: Option<Arc<TopologyKeys>>,
}

/// What the CSINode object of a node says about the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Registration {
    /// There is no CSINode.
    #[default]
    NoCsiNode,
    /// The driver does not run there.
    NoDriver,
    /// The driver runs there and has these topology keys.
    Keys(Arc<TopologyKeys>),
}

/// Why the segment of one node is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeProblem {
    /// It is deleted, or no kubelet has registered it.
    #[error("node {node} has no CSINode object")]
    NoCsiNode {
        /// The node.
        node: String,
    },
    /// Its CSINode does not list the driver.
    #[error("the driver is not registered on node {node}: check that its node plugin runs there")]
    NoDriver {
        /// The node.
        node: String,
    },
    /// The driver is registered there without a key.
    #[error(
        "the driver has registered no topology keys on node {node}: its NodeGetInfo must answer with \
         accessible_topology"
    )]
    NoKeys {
        /// The node.
        node: String,
    },
    /// There is a CSINode, and no Node.
    #[error("node {node} does not exist")]
    NoNode {
        /// The node.
        node: String,
    },
    /// The Node lacks a label that the driver has registered.
    #[error(
        "node {node} has no label {key}, which the driver has registered as a topology key: set the label"
    )]
    NoLabel {
        /// The node.
        node: String,
        /// The label.
        key: String,
    },
}

/// A list of terms that requests share: any claim's list is a rotation of it.
pub type Terms = Arc<[Segment]>;

/// The nodes that run the driver, as of one moment.
#[derive(Debug, Default)]
pub struct ClusterTopology {
    nodes: BTreeMap<String, NodeState>,
    /// Labels of some nodes are still being read.
    incomplete: bool,
    /// Registered now.
    current: KeySets,
    /// Registered now or a moment ago.
    recent: KeySets,
}

/// The sets of keys that nodes have registered, and the segments of these nodes.
#[derive(Debug, Default)]
struct KeySets {
    /// Each distinct set, with its terms once somebody has asked for them.
    sets: BTreeMap<Arc<TopologyKeys>, OnceLock<Terms>>,
    /// The registered keys of a node that its labels give values to, each combination once.
    known: BTreeSet<Segment>,
    /// The same by each of their keys: a driver with other keys on each node must not cost its square.
    known_by_key: BTreeMap<String, Vec<Segment>>,
    /// The segments of nodes that have labels for all their keys.
    whole: BTreeSet<Segment>,
    all: OnceLock<Terms>,
}

impl ClusterTopology {
    /// `incomplete` says that labels of these nodes are still being read.
    pub fn new(nodes: impl IntoIterator<Item = NodeState>, incomplete: bool) -> Self {
        let mut topology = Self {
            incomplete,
            ..Self::default()
        };
        for node in nodes {
            if let Registration::Keys(keys) = &node.registration {
                topology.current.insert(keys, node.labels.as_ref());
                topology.recent.insert(keys, node.labels.as_ref());
            }
            if let (Some(keys), Some(labels)) = (&node.vanished, &node.labels) {
                topology.recent.insert(keys, Some(labels));
            }
            topology.nodes.insert(node.name.clone(), node);
        }
        topology
    }

    /// The topology of a sidecar that serves one node: what the driver's NodeGetInfo says.
    pub fn of_one_node(name: &str, segment: Segment) -> Self {
        let keys: TopologyKeys = segment.iter().map(|(key, _)| key.to_owned()).collect();
        let node = NodeState {
            name: name.to_owned(),
            labels: Some(segment),
            registration: Registration::Keys(keys.into()),
            vanished: None,
        };
        Self::new([node], false)
    }

    /// Whether labels are still being read: what is missing may be there.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Where a node is, by what is registered on it now.
    ///
    /// # Errors
    /// [`NodeProblem`]
    pub fn segment_of(&self, node: &str) -> Result<Segment, NodeProblem> {
        let name = || node.to_owned();
        let Some(state) = self.nodes.get(node) else {
            return Err(NodeProblem::NoCsiNode { node: name() });
        };
        let keys = match &state.registration {
            Registration::NoCsiNode => return Err(NodeProblem::NoCsiNode { node: name() }),
            Registration::NoDriver => return Err(NodeProblem::NoDriver { node: name() }),
            Registration::Keys(keys) if keys.is_empty() => {
                return Err(NodeProblem::NoKeys { node: name() });
            }
            Registration::Keys(keys) => keys,
        };
        let Some(labels) = &state.labels else {
            return Err(NodeProblem::NoNode { node: name() });
        };
        labels.with_keys(&**keys).ok_or_else(|| NodeProblem::NoLabel {
            node: name(),
            key: keys
                .iter()
                .find(|key| labels.get(key).is_none())
                .cloned()
                .unwrap_or_default(),
        })
    }

    /// The segments, by the keys of `node`, of all nodes that have them registered now. Empty if that node has none.
    pub fn terms_like(&self, node: &str) -> Terms {
        match self.nodes.get(node).map(|state| &state.registration) {
            Some(Registration::Keys(keys)) => self.current.terms(keys),
            _ => Terms::default(),
        }
    }

    /// The segments of all nodes, for each distinct set of keys, registered now or a moment ago: sorted, each once. A
    /// node with more keys than a set counts for that set, too.
    pub fn terms(&self) -> Terms {
        self.recent.all_terms()
    }

    /// The segments of the nodes that run the driver now or did a moment ago, by all their keys: sorted, each once.
    /// Where the driver has no keys, the empty segment. (Upstream's capacity segments.)
    pub fn segments(&self) -> &BTreeSet<Segment> {
        &self.recent.whole
    }
}

impl KeySets {
    fn insert(&mut self, keys: &Arc<TopologyKeys>, labels: Option<&Segment>) {
        if !keys.is_empty() && !self.sets.contains_key(keys) {
            self.sets.insert(keys.clone(), OnceLock::new());
        }
        let Some(mut known) = labels.cloned() else { return };
        known.retain(|key| keys.contains(key));
        if known.len() == keys.len() && !self.whole.contains(&known) {
            self.whole.insert(known.clone());
        }
        if !self.known.insert(known.clone()) {
            return;
        }
        for (key, _) in known.iter() {
            let same_key = self.known_by_key.entry(key.to_owned()).or_default();
            same_key.push(known.clone());
        }
    }

    fn terms(&self, keys: &TopologyKeys) -> Terms {
        let Some(terms) = self.sets.get(keys) else {
            return Terms::default();
        };
        let collect = || {
            let with_key = keys.iter().map(|key| self.known_by_key.get(key));
            let rarest = with_key.min_by_key(|known| known.map_or(0, Vec::len)).flatten();
            let terms = rarest
                .into_iter()
                .flatten()
                .filter_map(|known| known.with_keys(keys));
            terms.collect::<BTreeSet<_>>().into_iter().collect()
        };
        terms.get_or_init(collect).clone()
    }

    fn all_terms(&self) -> Terms {
        let collect = || {
            let terms = self.sets.keys().map(|keys| self.terms(keys));
            let terms: BTreeSet<_> = terms.flat_map(|terms| terms.to_vec()).collect();
            terms.into_iter().collect()
        };
        self.all.get_or_init(collect).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Segment {
        pairs.iter().copied().collect()
    }

    fn keys(keys: &[&str]) -> Arc<TopologyKeys> {
        let keys: TopologyKeys = keys.iter().map(|key| (*key).to_owned()).collect();
        keys.into()
    }

    fn node(name: &str, labels: &[(&str, &str)], registered: &[&str]) -> NodeState {
        NodeState {
            name: name.to_owned(),
            labels: Some(map(labels)),
            registration: Registration::Keys(keys(registered)),
            vanished: None,
        }
    }

    fn texts<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Vec<String> {
        segments.into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_counts_for_each_set_of_keys_that_its_own_registration_covers() {
        let topology = ClusterTopology::new(
            [
                node("a", &[("zone", "1"), ("rack", "x")], &["zone", "rack"]),
                node("b", &[("zone", "2"), ("rack", "y")], &["zone"]),
                node("c", &[("zone", "3"), ("rack", "z")], &["rack"]),
                node("d", &[("zone", "4")], &["zone", "rack"]),
                node("e", &[("zone", "1")], &[]),
                NodeState {
                    name: "f".into(),
                    labels: Some(map(&[("zone", "5")])),
                    registration: Registration::NoDriver,
                    vanished: None,
                },
            ],
            false,
        );
        assert_eq!(texts(&*topology.terms_like("b")), ["zone=1", "zone=2", "zone=4"]);
        assert_eq!(texts(&*topology.terms_like("a")), ["rack=x,zone=1"]);
        let [once, again] = [topology.terms_like("a"), topology.terms_like("a")];
        assert!(Arc::ptr_eq(&once, &again), "D-75: built once and shared");
        assert_eq!(
            texts(&*topology.terms()),
            ["rack=x", "rack=z", "zone=1", "zone=2", "zone=4", "rack=x,zone=1"]
        );
        assert_eq!(
            texts(topology.segments()),
            ["", "rack=z", "zone=2", "rack=x,zone=1"],
            "d lacks a label; e has no keys"
        );
        assert!(topology.terms_like("e").is_empty() && topology.terms_like("f").is_empty());
    }

    #[test]
    fn d74_what_vanished_a_moment_ago_counts_where_no_node_is_selected() {
        let mut gone = node("a", &[("zone", "1")], &[]);
        (gone.registration, gone.vanished) = (Registration::NoDriver, Some(keys(&["zone"])));
        let mut deleted = gone.clone();
        (deleted.name, deleted.labels) = ("b".into(), None);
        let topology = ClusterTopology::new([gone, deleted, node("c", &[("zone", "2")], &["zone"])], false);
        assert_eq!(texts(&*topology.terms()), ["zone=1", "zone=2"]);
        assert_eq!(texts(topology.segments()), ["zone=1", "zone=2"]);
        assert_eq!(texts(&*topology.terms_like("c")), ["zone=2"]);
        let node = "a".to_owned();
        assert_eq!(topology.segment_of("a"), Err(NodeProblem::NoDriver { node }));
    }

    #[test]
    fn a_node_whose_segment_is_unknown_says_what_is_missing() {
        let bare = |name: &str, registration| NodeState {
            name: name.to_owned(),
            registration,
            ..NodeState::default()
        };
        let topology = ClusterTopology::new(
            [
                node("whole", &[("zone", "1"), ("other", "x")], &["zone"]),
                node("unlabelled", &[("zone", "1")], &["rack", "zone"]),
                node("keyless", &[], &[]),
                bare("nodeless", Registration::Keys(keys(&["zone"]))),
                bare("foreign", Registration::NoDriver),
            ],
            false,
        );
        let problem = |name: &str| topology.segment_of(name).map_err(|problem| problem.to_string());
        assert_eq!(
            problem("whole").map(|segment| segment.to_string()),
            Ok("zone=1".into())
        );
        for (name, words) in [
            ("unlabelled", "no label rack"),
            ("keyless", "no topology keys on node keyless"),
            ("nodeless", "node nodeless does not exist"),
            ("foreign", "not registered on node foreign"),
            ("absent", "node absent has no CSINode"),
        ] {
            let text = problem(name).err().unwrap_or_default();
            assert!(text.contains(words), "{name}: {text}");
        }
    }

    #[test]
    fn one_node_alone_is_a_topology() {
        let topology =
            ClusterTopology::of_one_node("a", [("zone", "1"), ("host", "a")].into_iter().collect());
        assert_eq!(texts(&*topology.terms_like("a")), ["host=a,zone=1"]);
        assert_eq!(texts(topology.segments()), ["host=a,zone=1"]);
        assert_eq!(
            topology.segment_of("a").map(|it| it.to_string()),
            Ok("host=a,zone=1".into())
        );
    }
}
