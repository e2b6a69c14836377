//! Pure. OpenStack's Cinder.

use k8s_openapi::{
    api::core::v1::{CSIPersistentVolumeSource, CinderPersistentVolumeSource, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Plugin, VolumeTranslationError,
    class::{Becomes, FS_TYPE},
    topology::{Region, Zones},
};

const ZONE: &str = "topology.cinder.csi.openstack.org/zone";

pub(super) const PLUGIN: Plugin = Plugin {
    in_tree: "kubernetes.io/cinder",
    driver: "cinder.csi.openstack.org",
    // The driver knows `availability`, and what else the plugin knew.
    parameter: |key| match key {
        "fstype" => FS_TYPE,
        _ => Becomes::Same,
    },
    class_zone: Some(ZONE),
    finish_class: |_| {},
    volume_zones: Some(Zones {
        zone: ZONE,
        region: Region::Unknown,
    }),
    put_source,
    handle,
};

fn put_source(
    csi: CSIPersistentVolumeSource,
    _: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
) -> Result<(), VolumeTranslationError> {
    spec.cinder = Some(CinderPersistentVolumeSource {
        fs_type: csi.fs_type,
        read_only: csi.read_only,
        secret_ref: None,
        volume_id: csi.volume_handle,
    });
    Ok(())
}

fn handle(_: &ObjectMeta, spec: &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>> {
    Some(Ok(spec.cinder.as_ref()?.volume_id.clone()))
}
