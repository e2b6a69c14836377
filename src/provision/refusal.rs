//! Pure. Why a claim cannot get a volume as things stand.

use std::fmt;

use super::{request::ParameterError, topology::AllowedTopologiesError};
use crate::{
    base::{names::VolumeNameError, quantity::QuantityError, secrets::SecretError},
    cluster::{
        migration::ClassTranslationError,
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
    /// The class names the in-tree plugin that the driver took over from, and cannot be translated.
    Class(String, ClassTranslationError),
    /// The driver cannot make a volume with the content of this.
    CannotCopy(Source),
    /// No driver can take content from there.
    NoSource(NoSource),
    /// A VolumeAttributesClass is asked for, and the driver applies none.
    CannotModify(String),
    /// The VolumeAttributesClass does not exist.
    NoAttributesClass(String),
    /// The VolumeAttributesClass is another driver's.
    ForeignAttributesClass {
        /// The class.
        name: String,
        /// Whose it is.
        driver: String,
    },
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
            Self::Class(class, error) => write!(f, "storage class {class:?}: {error}"),
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
            // The API server lets nobody change the name before the claim is bound.
            Self::CannotModify(name) => write!(
                f,
                "the claim asks for VolumeAttributesClass {name:?}, and the driver applies none: it lacks the \
                 capability MODIFY_VOLUME, make the claim anew without spec.volumeAttributesClassName"
            ),
            Self::NoAttributesClass(name) => write!(
                f,
                "VolumeAttributesClass {name:?} not found: create it, or make the claim anew with another one"
            ),
            Self::ForeignAttributesClass { name, driver } => write!(
                f,
                "VolumeAttributesClass {name:?} is for the driver {driver:?}, which is not the one that makes the \
                 volume: make the claim anew with another one"
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
