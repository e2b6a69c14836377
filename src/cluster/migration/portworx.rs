//! Pure. Portworx.

use k8s_openapi::{
    api::core::v1::{CSIPersistentVolumeSource, PersistentVolumeSpec, PortworxVolumeSource},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Plugin, VolumeTranslationError, class::Becomes};

/// The plugin had one secret for everything.
const NAMES: [&str; 6] = [
    "csi.storage.k8s.io/provisioner-secret-name",
    "csi.storage.k8s.io/controller-publish-secret-name",
    "csi.storage.k8s.io/node-stage-secret-name",
    "csi.storage.k8s.io/node-publish-secret-name",
    "csi.storage.k8s.io/controller-expand-secret-name",
    "csi.storage.k8s.io/node-expand-secret-name",
];
const NAMESPACES: [&str; 6] = [
    "csi.storage.k8s.io/provisioner-secret-namespace",
    "csi.storage.k8s.io/controller-publish-secret-namespace",
    "csi.storage.k8s.io/node-stage-secret-namespace",
    "csi.storage.k8s.io/node-publish-secret-namespace",
    "csi.storage.k8s.io/controller-expand-secret-namespace",
    "csi.storage.k8s.io/node-expand-secret-namespace",
];

pub(super) const PLUGIN: Plugin = Plugin {
    in_tree: "kubernetes.io/portworx-volume",
    driver: "pxd.portworx.com",
    parameter: |key| match key {
        "openstorage.io/auth-secret-name" => Becomes::Keys(&NAMES),
        "openstorage.io/auth-secret-namespace" => Becomes::Keys(&NAMESPACES),
        _ => Becomes::Same,
    },
    class_zone: None,
    finish_class: |_| {},
    volume_zones: None,
    put_source,
    handle,
};

fn put_source(
    csi: CSIPersistentVolumeSource,
    _: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
) -> Result<(), VolumeTranslationError> {
    spec.portworx_volume = Some(PortworxVolumeSource {
        fs_type: csi.fs_type,
        read_only: csi.read_only,
        volume_id: csi.volume_handle,
    });
    Ok(())
}

fn handle(_: &ObjectMeta, spec: &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>> {
    Some(Ok(spec.portworx_volume.as_ref()?.volume_id.clone()))
}
