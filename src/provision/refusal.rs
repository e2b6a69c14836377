//! Pure. Why a claim cannot get a volume as things stand.

use std::fmt;

use super::{request::ParameterError, topology::AllowedTopologiesError};
use crate::{
    base::{names::VolumeNameError, quantity::QuantityError, secrets::SecretError},
    cluster::{
        objects::SELECTED_NODE_ALPHA,
        source::{NoSource, Source, SourceKind},
        topology::NodeProblem,
    },
};

/// Why a claim cannot get a volume as things stand. The text is what the claim's owner reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The class does not exist.
    NoClass(String),
    /// `spec.selector` is set.
    Selector,
    /// The claim or its class names an in-tree plugin, and the driver took over from that.
    Migration(String),
    /// The driver cannot make a volume with the content of this.
    CannotCopy(Source),
    /// No driver can take content from there.
    NoSource(NoSource),
    /// A VolumeAttributesClass is asked for.
    AttributesClass(String),
    /// No name for the volume.
    Name(VolumeNameError),
    /// The name is taken by another claim's volume.
    NameTaken(String),
    /// The size makes no sense.
    Size(QuantityError),
    /// The class's parameters make no sense.
    Parameter(String, ParameterError),
    /// An access mode that CSI does not know.
    AccessMode(String),
    /// The selected node's part of the cluster is not known.
    Node(NodeProblem),
    /// No node's part of the cluster is known.
    NoTopology,
    /// The selected node is where the class allows no volume.
    NotAllowed {
        /// The node.
        node: String,
        /// Where it is.
        segment: String,
        /// The class.
        class: String,
    },
    /// The class's allowed topologies make no sense.
    AllowedTopologies(String, AllowedTopologiesError),
    /// The secrets' parameters make no sense.
    Secret(String, Box<SecretError>),
}

impl Refusal {
    /// Some refusals are the normal course of things.
    pub const fn is_warning(&self) -> bool {
        !matches!(self, Self::NoSource(NoSource::Populator))
    }

    /// A change of nodes may be the remedy.
    pub const fn is_about_nodes(&self) -> bool {
        matches!(self, Self::Node(_) | Self::NoTopology | Self::NotAllowed { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClass(name) if name.is_empty() => {
                f.write_str("the claim names no storage class: set spec.storageClassName")
            }
            Self::NoClass(name) => write!(
                f,
                "storage class {name:?} not found: create it, or name another one"
            ),
            Self::Selector => f.write_str(
                "claim.spec.selector is set: a selector chooses among volumes that exist, make the claim without it",
            ),
            Self::Migration(plugin) => write!(
                f,
                "the claim is for the in-tree plugin {plugin}: this version of the provisioner does not translate \
                 that, use a class whose provisioner is the CSI driver"
            ),
            Self::CannotCopy(source) => {
                let capability = match source.kind {
                    SourceKind::Snapshot => "CREATE_DELETE_SNAPSHOT",
                    SourceKind::Claim => "CLONE_VOLUME",
                };
                write!(
                    f,
                    "the claim asks for the content of {source}, and the driver does not have the capability \
                     {capability}: make the claim without a data source"
                )
            }
            Self::NoSource(why) => why.fmt(f),
            Self::AttributesClass(name) => write!(
                f,
                "the claim asks for VolumeAttributesClass {name:?}: this version of the provisioner does not apply \
                 them, make the claim without spec.volumeAttributesClassName"
            ),
            Self::Name(error) => error.fmt(f),
            Self::NameTaken(name) => write!(
                f,
                "volume {name} exists already and is for another claim: raise --volume-name-uuid-length of the \
                 provisioner"
            ),
            Self::Size(error) => write!(f, "the claim's storage request: {error}"),
            Self::Parameter(class, error) => write!(f, "storage class {class:?}: {error}"),
            Self::AccessMode(mode) => write!(
                f,
                "access mode {mode:?} of the claim is unknown: use ReadWriteOnce, ReadWriteOncePod, ReadWriteMany or \
                 ReadOnlyMany"
            ),
            Self::Node(gone @ NodeProblem::NoCsiNode { .. }) => write!(
                f,
                "{gone}: remove the annotation {SELECTED_NODE_ALPHA} from the claim, which keeps the scheduler from \
                 choosing another node"
            ),
            Self::Node(problem) => problem.fmt(f),
            Self::NoTopology => f.write_str(
                "no node has the driver registered with topology keys and a label for each: check that its node \
                 plugin runs, and that NodeGetInfo answers with accessible_topology",
            ),
            Self::NotAllowed { node, segment, class } => write!(
                f,
                "the selected node {node} is in {segment}, and storage class {class:?} does not allow volumes there: \
                 correct the class's allowedTopologies or the labels of the node"
            ),
            Self::AllowedTopologies(class, error) => write!(f, "storage class {class:?}: {error}"),
            Self::Secret(class, error) => write!(f, "storage class {class:?}: {error}"),
        }
    }
}
