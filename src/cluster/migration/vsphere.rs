//! Pure. VMware's vSphere.

use k8s_openapi::{
    api::core::v1::{CSIPersistentVolumeSource, PersistentVolumeSpec, VsphereVirtualDiskVolumeSource},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Plugin, VolumeTranslationError,
    class::{Becomes, FS_TYPE},
    topology::{Region, Zones},
};

const ZONE: &str = "topology.csi.vmware.com/zone";
/// Where the driver has put the volume: the plugin knows volumes by their paths only.
const PATH: &str = "initialvolumefilepath";

pub(super) const PLUGIN: Plugin = Plugin {
    in_tree: "kubernetes.io/vsphere-volume",
    driver: "csi.vsphere.vmware.com",
    parameter: |key| match key {
        "fstype" => FS_TYPE,
        "storagepolicyname" => Becomes::Keys(&["storagepolicyname"]),
        "datastore" => Becomes::Keys(&["datastore-migrationparam"]),
        "diskformat" => Becomes::Keys(&["diskformat-migrationparam"]),
        "hostfailurestotolerate" => Becomes::Keys(&["hostfailurestotolerate-migrationparam"]),
        "forceprovisioning" => Becomes::Keys(&["forceprovisioning-migrationparam"]),
        "cachereservation" => Becomes::Keys(&["cachereservation-migrationparam"]),
        "diskstripes" => Becomes::Keys(&["diskstripes-migrationparam"]),
        "objectspacereservation" => Becomes::Keys(&["objectspacereservation-migrationparam"]),
        "iopslimit" => Becomes::Keys(&["iopslimit-migrationparam"]),
        _ => Becomes::Nothing,
    },
    class_zone: Some(ZONE),
    // Without it the driver does not say where it has put the volume.
    finish_class: |class| {
        let parameters = &mut class.parameters;
        parameters.insert("csimigration".to_owned(), "true".to_owned());
    },
    volume_zones: Some(Zones {
        zone: ZONE,
        region: Region::Key("topology.csi.vmware.com/region"),
    }),
    put_source,
    handle,
};

fn put_source(
    csi: CSIPersistentVolumeSource,
    _: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
) -> Result<(), VolumeTranslationError> {
    let path = csi.volume_attributes.unwrap_or_default().remove(PATH);
    let path = path.filter(|path| !path.is_empty());
    spec.vsphere_volume = Some(VsphereVirtualDiskVolumeSource {
        fs_type: csi.fs_type,
        volume_path: path.ok_or(VolumeTranslationError::Attribute {
            key: PATH,
            value: String::new(),
            expected: "a path",
        })?,
        ..VsphereVirtualDiskVolumeSource::default()
    });
    Ok(())
}

fn handle(_: &ObjectMeta, spec: &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>> {
    Some(Ok(spec.vsphere_volume.as_ref()?.volume_path.clone()))
}
