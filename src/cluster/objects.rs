//! Pure. What the sidecar remembers of each kind of object: the fields it reads, under the names Kubernetes gives them.
//!
//! An object here is a fact as of the last watch event. Nothing of it is ever written back: a write that started from
//! it would drop every field that it does not know.

use std::collections::BTreeMap;

use super::{
    migration::{VolumeTranslationError, is_name_of},
    node_selector::NodeSelectorTerm,
    topology::TopologyKeys,
};
use crate::base::segment::Segment;

/// A PersistentVolumeClaim that may need a volume from us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// `metadata.uid`: a claim recreated under its old name is another claim.
    pub uid: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.annotations`
    pub annotations: BTreeMap<String, String>,
    /// `spec.storageClassName`
    pub class_name: Option<String>,
    /// `spec.accessModes`, in order, duplicates kept.
    pub access_modes: Vec<String>,
    /// `spec.resources.requests.storage`, as written.
    pub storage_request: Option<String>,
    /// `spec.volumeMode`
    pub volume_mode: Option<String>,
    /// `spec.volumeName` is not empty: a volume is chosen already.
    pub has_volume: bool,
    /// `status.phase` is Bound.
    pub is_bound: bool,
    /// `spec.dataSource`
    pub data_source: Option<SourceRef>,
    /// `spec.dataSourceRef`
    pub data_source_ref: Option<SourceRef>,
    /// `spec.selector` is present, even if empty.
    pub has_selector: bool,
    /// `spec.volumeAttributesClassName`
    pub attributes_class: Option<String>,
}

/// `spec.dataSource` or `spec.dataSourceRef`, see [`super::source::Source`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceRef {
    /// `apiGroup`
    pub api_group: Option<String>,
    /// `kind`
    pub kind: String,
    /// `name`
    pub name: String,
    /// `namespace`
    pub namespace: Option<String>,
}

/// Set by the PersistentVolume controller: who is to provision.
pub const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same under its beta name, read only where the other one is absent.
pub const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Names the CSI driver that took over an in-tree plugin's object.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// Set by the scheduler: the node the claim's first pod will run on.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The same under its alpha name, read only where the other one is absent.
pub const SELECTED_NODE_ALPHA: &str = "volume.alpha.kubernetes.io/selected-node";
/// The class name of claims and volumes from before `spec.storageClassName`. Wins where present, even if empty.
pub const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";
/// On a volume: the provisioner that made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a volume: the secret DeleteVolume needs. Both halves are always written, possibly empty.
pub const DELETION_SECRET_NAME: &str = "volume.kubernetes.io/provisioner-deletion-secret-name";
/// The other half of [`DELETION_SECRET_NAME`].
pub const DELETION_SECRET_NAMESPACE: &str = "volume.kubernetes.io/provisioner-deletion-secret-namespace";
/// Keeps a volume whose policy is Delete until the driver has deleted what is behind it.
pub const VOLUME_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

impl Claim {
    /// The class the claim asks for: the legacy annotation where present, else the spec field, else "".
    pub fn class(&self) -> &str {
        class_of(&self.annotations, self.class_name.as_deref())
    }

    /// Who is asked to provision this claim.
    pub fn provisioner(&self) -> Option<&str> {
        let gotten = self
            .annotations
            .get(PROVISIONER)
            .or_else(|| self.annotations.get(PROVISIONER_BETA));
        gotten.map(String::as_str)
    }

    /// The driver that a migrated claim was handed to.
    pub fn migrated_to(&self) -> Option<&str> {
        self.annotations.get(MIGRATED_TO).map(String::as_str)
    }

    /// The node the scheduler chose, if it did.
    pub fn selected_node(&self) -> Option<&str> {
        let node = self.annotations.get(SELECTED_NODE);
        node.or_else(|| self.annotations.get(SELECTED_NODE_ALPHA))
            .map(String::as_str)
            .filter(|node| !node.is_empty())
    }

    /// A block device is asked for, not a file system.
    pub fn is_block(&self) -> bool {
        self.volume_mode.as_deref() == Some("Block")
    }

    /// `namespace/name`, as kubectl users write it.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The metric label `source`: kind of `spec.dataSource`, or "".
    pub fn source_kind(&self) -> &str {
        self.data_source.as_ref().map_or("", |source| &source.kind)
    }
}

/// A StorageClass. Those of other provisioners keep only the first three fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `provisioner`
    pub provisioner: String,
    /// `parameters`
    pub parameters: BTreeMap<String, String>,
    /// `mountOptions`
    pub mount_options: Vec<String>,
    /// `reclaimPolicy`
    pub reclaim_policy: Option<String>,
    /// `volumeBindingMode`. Unset, or unknown to us, means Immediate to the PersistentVolume controller; but capacity
    /// and node deployment look at Immediate alone (behaviour of the upstream sidecar).
    pub binding_mode: Option<BindingMode>,
    /// `allowedTopologies`: any of these terms.
    pub allowed_topologies: Vec<TopologySelectorTerm>,
}

impl Class {
    /// Volumes wait for the scheduler to choose a node.
    pub fn waits_for_consumer(&self) -> bool {
        self.binding_mode == Some(BindingMode::WaitForFirstConsumer)
    }
}

/// A VolumeAttributesClass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributesClass {
    /// `driverName`
    pub driver_name: String,
    /// `parameters`
    pub parameters: BTreeMap<String, String>,
}

/// When a claim of a class gets its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingMode {
    /// At once.
    Immediate,
    /// When the scheduler has chosen a node for the claim's first pod.
    WaitForFirstConsumer,
}

/// `matchLabelExpressions` of one of a class's allowed topologies: each key with the values it may have.
pub type TopologySelectorTerm = Vec<(String, Vec<String>)>;

/// A PersistentVolume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// `metadata.finalizers`
    pub finalizers: Vec<String>,
    /// `metadata.annotations`
    pub annotations: BTreeMap<String, String>,
    /// `status.phase`
    pub phase: String,
    /// `spec.persistentVolumeReclaimPolicy`
    pub reclaim_policy: String,
    /// `spec.storageClassName`
    pub class_name: Option<String>,
    /// `spec.claimRef`
    pub claim: Option<ClaimRef>,
    /// `spec.csi`, or what the source of an in-tree plugin stands for whose driver took over.
    pub csi: Option<CsiSource>,
    /// The source is such a plugin's.
    pub in_tree: Option<InTreeSource>,
    /// `spec.volumeMode` is Block.
    pub is_block: bool,
    /// `spec.nodeAffinity.required`: any of these terms. `None` if any node will do. In the words of the driver, also where
    /// the source is in-tree.
    pub node_affinity: Option<Vec<NodeSelectorTerm>>,
}

impl Volume {
    /// The class the volume was made from: annotation first, as for claims.
    pub fn class(&self) -> &str {
        class_of(&self.annotations, self.class_name.as_deref())
    }

    /// Our finalizer is on the object.
    pub fn is_protected(&self) -> bool {
        self.finalizers
            .iter()
            .any(|finalizer| finalizer == VOLUME_FINALIZER)
    }

    /// Its claim is gone.
    pub fn is_released(&self) -> bool {
        self.phase == "Released"
    }

    /// Nobody wants what is behind it. One that is released and retained may be kept for its data.
    pub fn is_unwanted(&self) -> bool {
        self.is_released() && self.reclaim_policy == "Delete"
    }

    /// Whether `driver` is responsible for deleting this volume.
    ///
    /// A volume that says who provisioned it belongs to that one or to whom it migrated; one that does not, a
    /// statically provisioned one, belongs to the driver of its CSI source, or to whom it migrated where it has none.
    /// (Behaviour of the upstream sidecar.)
    pub fn belongs_to(&self, driver: &str) -> bool {
        let names_it = |key| self.annotations.get(key).map(|name| is_name_of(driver, name));
        let migrated = || names_it(MIGRATED_TO) == Some(true);
        match (names_it(PROVISIONED_BY), &self.csi) {
            (Some(by), _) => by || migrated(),
            (None, Some(csi)) if self.in_tree.is_none() => csi.driver == driver,
            (None, _) => migrated(),
        }
    }

    /// Whether the node of this name, which has these labels, can reach the volume.
    pub fn is_reachable_from(&self, node: &str, segment: &Segment) -> bool {
        let selects = |terms: &Vec<NodeSelectorTerm>| terms.iter().any(|term| term.selects(node, segment));
        self.node_affinity.as_ref().is_none_or(selects)
    }
}

/// The claim that a volume is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRef {
    /// Empty where an administrator bound the volume beforehand by name only.
    pub uid: String,
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub name: String,
}

/// The CSI source of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiSource {
    /// Driver name.
    pub driver: String,
    /// The driver's own id of the volume.
    pub handle: String,
}

/// What the source of an in-tree plugin comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InTreeSource {
    /// [`Volume::csi`].
    Translated,
    /// Nothing that the driver knows.
    Odd(Box<VolumeTranslationError>),
}

/// A VolumeAttachment: as long as it stands, a node may be using the volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// `metadata.name`
    pub name: String,
    /// `spec.attacher`
    pub attacher: String,
    /// `spec.source.persistentVolumeName`
    pub volume: String,
    /// `spec.nodeName`
    pub node: String,
}

/// A Node: its name, and those labels that are topology keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: Segment,
}

/// A CSINode: what the kubelet of a node says of the drivers there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CsiNode {
    /// `metadata.name`, the node's.
    pub name: String,
    /// Topology keys by the name of the driver.
    pub drivers: BTreeMap<String, TopologyKeys>,
}

/// What a capacity object says, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityValues {
    /// `capacity`, for all volumes together. Zero is worth publishing: there is no room.
    pub capacity: i64,
    /// `maximumVolumeSize`, if the driver knows.
    pub maximum_volume_size: Option<i64>,
}

/// A CSIStorageCapacity: how much room there is for volumes of one class in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageCapacity {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// `storageClassName`
    pub class: String,
    /// `nodeTopology`: empty means everywhere. `None` if it is absent, which means nowhere, or more than labels.
    pub segment: Option<Segment>,
    /// `capacity`, as written.
    pub capacity: Option<String>,
    /// `maximumVolumeSize`, as written.
    pub maximum_volume_size: Option<String>,
    /// UIDs of `metadata.ownerReferences`.
    pub owners: Vec<String>,
}

fn class_of<'a>(annotations: &'a BTreeMap<String, String>, spec: Option<&'a str>) -> &'a str {
    annotations
        .get(CLASS_BETA)
        .map(String::as_str)
        .or(spec)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn the_legacy_class_annotation_wins_even_when_empty() {
        let claim = |annotations| Claim {
            annotations,
            class_name: Some("spec".into()),
            ..Claim::default()
        };
        assert_eq!(claim(notes(&[])).class(), "spec");
        assert_eq!(claim(notes(&[(CLASS_BETA, "old")])).class(), "old");
        assert_eq!(claim(notes(&[(CLASS_BETA, "")])).class(), "");
        assert_eq!(Claim::default().class(), "");
    }

    #[test]
    fn the_beta_provisioner_annotation_is_read_only_without_the_other() {
        let claim = |annotations| Claim {
            annotations,
            ..Claim::default()
        };
        assert_eq!(claim(notes(&[(PROVISIONER_BETA, "a")])).provisioner(), Some("a"));
        assert_eq!(
            claim(notes(&[(PROVISIONER_BETA, "a"), (PROVISIONER, "b")])).provisioner(),
            Some("b")
        );
        assert_eq!(claim(notes(&[])).provisioner(), None);
    }

    #[test]
    fn a_volume_belongs_to_whom_its_annotations_or_its_source_name() {
        let csi = |driver: &str| {
            Some(CsiSource {
                driver: driver.into(),
                handle: "h".into(),
            })
        };
        type Object = (
            &'static str,
            &'static [(&'static str, &'static str)],
            Option<CsiSource>,
            bool,
        );
        let cases: &[Object] = &[
            ("made by us", &[(PROVISIONED_BY, "us")], csi("us"), true),
            (
                "made by another for our driver",
                &[(PROVISIONED_BY, "them")],
                csi("us"),
                false,
            ),
            (
                "made in-tree, migrated to us",
                &[(PROVISIONED_BY, "in-tree"), (MIGRATED_TO, "us")],
                None,
                true,
            ),
            ("static, our driver", &[], csi("us"), true),
            ("static, another driver", &[], csi("them"), false),
            (
                "static in-tree, migrated to us",
                &[(MIGRATED_TO, "us")],
                None,
                true,
            ),
            ("static in-tree", &[], None, false),
        ];
        for (name, annotations, csi, expected) in cases {
            let volume = Volume {
                annotations: notes(annotations),
                csi: csi.clone(),
                ..Volume::default()
            };
            assert_eq!(volume.belongs_to("us"), *expected, "{name}");
        }
    }
}
