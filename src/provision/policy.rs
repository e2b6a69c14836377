//! Pure. What the operator chose, as far as it concerns volumes.

use std::time::Duration;

use crate::base::names::UidLength;

/// What the operator chose on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `--volume-name-prefix`
    pub name_prefix: String,
    /// `--volume-name-uuid-length`
    pub uid_length: UidLength,
    /// `--default-fstype`
    pub default_fs_type: String,
    /// `--extra-create-metadata`
    pub extra_metadata: bool,
    /// `--controller-publish-readonly`
    pub publish_read_only: bool,
    /// Gate Topology. Off: as if the driver had none.
    pub topology: bool,
    /// `--strict-topology`: only where the selected node is.
    pub strict_topology: bool,
    /// `--immediate-topology`: the driver is told the cluster's topology also when no node is selected.
    pub immediate_topology: bool,
    /// `--prevent-volume-mode-conversion`: snapshots are restored under the mode of their origin only.
    pub prevent_mode_conversion: bool,
    /// Gate VolumeAttributesClass, off where the server does not serve the API.
    pub attributes_classes: bool,
    /// Gate CrossNamespaceVolumeDataSource: sources in other namespaces count, where a ReferenceGrant allows it.
    pub cross_namespace: bool,
    /// `--node-deployment`: the sidecar serves one node. `None`: it serves the cluster.
    pub node: Option<NodePolicy>,
    /// This process's name for itself, a volume attribute of every volume it makes.
    pub identity: String,
}

/// How a sidecar that serves one node takes claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePolicy {
    /// Name of the node.
    pub name: String,
    /// `--node-deployment-immediate-binding`: claims that bind at once are taken.
    pub immediate_binding: bool,
    /// `--node-deployment-base-delay`
    pub base_delay: Duration,
    /// `--node-deployment-max-delay`
    pub max_delay: Duration,
}
