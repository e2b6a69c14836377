//! What is watched besides claims, volumes and classes: it depends on the driver and the flags.

use crate::{base::segment::Segment, cluster::objects::Volume};

/// What is watched besides claims, volumes and classes.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// VolumeAttachments: only drivers that attach have any.
    pub attachments: bool,
    /// VolumeSnapshots: only drivers that make snapshots restore any. Nothing waits for their list, which may be refused.
    pub snapshots: bool,
    /// Where the driver runs.
    pub nodes: NodeSource,
    /// Where a volume can be reached from is kept with each volume that needs work.
    pub node_affinity: bool,
    /// The CSIStorageCapacities of a namespace that have these labels, as `key=value,key=value`.
    pub capacities: Option<(String, String)>,
}

/// From where it is known on which nodes the driver runs.
#[derive(Clone, Debug, Default)]
pub enum NodeSource {
    /// It is not.
    #[default]
    Unwatched,
    /// From Nodes and CSINodes.
    Watched(Need),
    /// The sidecar serves this node only, and the driver has said where that is.
    Own {
        /// Name of the node.
        name: String,
        /// From the driver's NodeGetInfo; empty if it does not say.
        segment: Segment,
        /// The driver has topology: a node of which it does not say where it is reaches no volume that is somewhere.
        /// Without topology it reaches all (behaviour of the upstream sidecar).
        has_topology: bool,
    },
}

impl NodeSource {
    pub(super) const fn watched(&self) -> Option<Need> {
        match self {
            Self::Watched(need) => Some(*need),
            Self::Unwatched | Self::Own { .. } => None,
        }
    }

    /// Beside a driver on one node, the volumes that other nodes reach are the business of the sidecars there.
    pub(super) fn reaches(&self, volume: &Volume) -> bool {
        match self {
            Self::Own {
                name,
                segment,
                has_topology,
            } => segment.is_empty() && !has_topology || volume.is_reachable_from(name, segment),
            Self::Unwatched | Self::Watched(_) => true,
        }
    }
}

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Volumes cannot be made without it: work begins when it is complete.
    Volumes,
    /// Only capacity needs it, so nothing else waits for it.
    Capacity,
}
