//! Pure. The PersistentVolume that goes with a volume.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{
    api::core::v1::{
        CSIPersistentVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, ObjectReference,
        PersistentVolume, PersistentVolumeSpec, SecretReference, VolumeNodeAffinity,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::{attributes::attributes_class, policy::Policy, topology::SelectedNode};
use crate::{
    base::{
        quantity,
        secrets::{SecretKind, SecretRef, Secrets},
    },
    cluster::{
        migration::{csi_source, in_tree_form},
        node_selector::terms_of,
        objects::{
            Claim, Class, CsiSource, DELETION_SECRET_NAME, DELETION_SECRET_NAMESPACE, PROVISIONED_BY,
            VOLUME_FINALIZER,
        },
    },
    csi::{
        DriverInfo,
        proto::{CreateVolumeRequest, Topology, Volume, volume_capability::access_mode::Mode},
    },
};

/// A volume attribute that names the process which made the volume. A driver may override it.
const IDENTITY: &str = "storage.kubernetes.io/csiProvisionerIdentity";
/// Read by the resizer when it modifies the volume.
const MODIFY_SECRET_NAME: &str = "volume.kubernetes.io/controller-modify-secret-name";
const MODIFY_SECRET_NAMESPACE: &str = "volume.kubernetes.io/controller-modify-secret-namespace";

/// Everything about the object that is known before the driver has answered.
pub fn draft(
    claim: &Claim,
    class: &Class,
    driver: &DriverInfo,
    policy: &Policy,
    secrets: &Secrets,
    request: &CreateVolumeRequest,
    fs_type: String,
) -> PersistentVolume {
    let reference = |kind| {
        secrets
            .get(kind)
            .map(|SecretRef { namespace, name }| SecretReference {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
            })
    };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(request.name.clone()),
            annotations: Some(annotations(class, secrets)),
            finalizers: Some(vec![VOLUME_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: some(&claim.access_modes),
            claim_ref: Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("PersistentVolumeClaim".to_owned()),
                namespace: Some(claim.namespace.clone()),
                name: Some(claim.name.clone()),
                uid: Some(claim.uid.clone()),
                resource_version: Some(claim.resource_version.clone()),
                ..ObjectReference::default()
            }),
            csi: Some(CSIPersistentVolumeSource {
                driver: driver.name.clone(),
                fs_type: (!claim.is_block() && !fs_type.is_empty()).then_some(fs_type),
                read_only: (policy.publish_read_only && is_read_only(request)).then_some(true),
                volume_attributes: Some(BTreeMap::from([(IDENTITY.to_owned(), policy.identity.clone())])),
                controller_publish_secret_ref: reference(SecretKind::ControllerPublish),
                node_stage_secret_ref: reference(SecretKind::NodeStage),
                node_publish_secret_ref: reference(SecretKind::NodePublish),
                controller_expand_secret_ref: reference(SecretKind::ControllerExpand),
                node_expand_secret_ref: reference(SecretKind::NodeExpand),
                ..CSIPersistentVolumeSource::default()
            }),
            mount_options: some(&class.mount_options),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
            storage_class_name: Some(claim.class().to_owned()),
            volume_attributes_class_name: attributes_class(claim, policy).map(str::to_owned),
            volume_mode: claim.volume_mode.clone(),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// Upstream leaves empty lists out.
fn some(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

fn annotations(class: &Class, secrets: &Secrets) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(PROVISIONED_BY.to_owned(), class.provisioner.clone())]);
    // Deletion must find the secret even when the class is gone, and must know when there is none: upstream always
    // writes both keys.
    let provisioner = secrets.get(SecretKind::Provisioner).cloned();
    let SecretRef { namespace, name } = provisioner.unwrap_or(SecretRef {
        namespace: String::new(),
        name: String::new(),
    });
    annotations.insert(DELETION_SECRET_NAME.to_owned(), name);
    annotations.insert(DELETION_SECRET_NAMESPACE.to_owned(), namespace);
    if let Some(SecretRef { namespace, name }) = secrets.get(SecretKind::ControllerModify).cloned() {
        annotations.insert(MODIFY_SECRET_NAME.to_owned(), name);
        annotations.insert(MODIFY_SECRET_NAMESPACE.to_owned(), namespace);
    }
    annotations
}

fn is_read_only(request: &CreateVolumeRequest) -> bool {
    match request.volume_capabilities.as_slice() {
        [only] => only
            .access_mode
            .is_some_and(|mode| mode.mode() == Mode::MultiNodeReaderOnly),
        _ => false,
    }
}

/// Fills in what the driver answered.
pub fn complete(mut draft: PersistentVolume, made: &Volume, requested: i64) -> PersistentVolume {
    let Some(spec) = &mut draft.spec else { return draft };
    // CSI: 0 means the driver does not know the size; then it is what was asked for. A negative one means nothing.
    let bytes = if made.capacity_bytes <= 0 {
        requested
    } else {
        made.capacity_bytes
    };
    spec.capacity = Some(BTreeMap::from([(
        "storage".to_owned(),
        Quantity(quantity::from_bytes(bytes)),
    )]));
    if let Some(csi) = &mut spec.csi {
        csi.volume_handle.clone_from(&made.volume_id);
        let context = made
            .volume_context
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()));
        csi.volume_attributes.get_or_insert_default().extend(context);
    }
    draft
}

/// The object as it is written: where the class names an in-tree plugin, with the source of that. A volume that the plugin
/// has no words for, and that nobody waits for, keeps its CSI source: it is deleted all the same.
pub fn written(object: &PersistentVolume) -> Cow<'_, PersistentVolume> {
    match in_tree_form(object) {
        Ok(Some(in_tree)) => Cow::Owned(in_tree),
        Ok(None) | Err(_) => Cow::Borrowed(object),
    }
}

/// The source by which the object is known once it is written. Not each driver's id survives the translation.
pub fn written_source(object: &PersistentVolume) -> Option<CsiSource> {
    csi_source(&written(object))?.ok()
}

/// From which nodes a volume can be reached: any of these topologies. Those that say nothing are left out, and `None`
/// is left if all do: the API server refuses a list without terms.
pub fn node_affinity(accessible: &[Topology]) -> Option<VolumeNodeAffinity> {
    let is = |(key, value): (&String, &String)| NodeSelectorRequirement {
        key: key.clone(),
        operator: "In".to_owned(),
        values: Some(vec![value.clone()]),
    };
    let terms: Vec<_> = accessible
        .iter()
        .filter(|topology| !topology.segments.is_empty())
        .map(|topology| NodeSelectorTerm {
            match_expressions: Some(topology.segments.iter().map(is).collect()),
            match_fields: None,
        })
        .collect();
    (!terms.is_empty()).then_some(VolumeNodeAffinity {
        required: Some(NodeSelector {
            node_selector_terms: terms,
        }),
    })
}

/// What the claim's owner should know of a volume that was made where the selected node cannot reach it, if it was.
pub fn out_of_reach(volume: &PersistentVolume, node: &SelectedNode) -> Option<String> {
    let places = terms_of(volume)?;
    let places: Vec<_> = places.iter().filter_map(|place| place.segment().ok()).collect();
    // CSI: the node is where the driver's node plugin says, by the keys that it has registered and no others.
    if places.iter().any(|place| place.is_subset_of(&node.segment)) {
        return None;
    }
    let places: Vec<_> = places.iter().map(ToString::to_string).collect();
    Some(format!(
        "volume {} was made in {}, which the selected node {} in {} cannot reach: the Pod can run only where the volume is",
        volume.metadata.name.as_deref().unwrap_or_default(),
        places.join(" or "),
        node.name,
        node.segment,
    ))
}
