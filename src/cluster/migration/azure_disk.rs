//! Pure. Azure's managed disks.

use k8s_openapi::{
    api::core::v1::{AzureDiskVolumeSource, CSIPersistentVolumeSource, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Plugin, VolumeTranslationError, class::Becomes};
use crate::cluster::objects::Class;

const ZONE: &str = "topology.disk.csi.azure.com/zone";
/// The other kinds were disks without an object of their own at Azure, which the driver has never known.
const MANAGED: &str = "Managed";

pub(super) const PLUGIN: Plugin = Plugin {
    in_tree: "kubernetes.io/azure-disk",
    driver: "disk.csi.azure.com",
    // The driver reads `fstype` itself.
    parameter: |key| match key {
        "zone" => Becomes::Zone,
        "zones" => Becomes::Zones,
        _ => Becomes::Same,
    },
    class_zone: Some(ZONE),
    finish_class,
    volume_zones: None,
    put_source,
    handle,
};

/// In a region without zones the nodes have numbers for zones, and the driver has an empty name.
fn finish_class(class: &mut Class) {
    let expressions = class.allowed_topologies.iter_mut().flatten();
    let values = expressions
        .filter(|(key, _)| key == ZONE)
        .flat_map(|(_, values)| values);
    let is_number = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    values.filter(|value| is_number(value)).for_each(String::clear);
}

fn put_source(
    csi: CSIPersistentVolumeSource,
    _: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
) -> Result<(), VolumeTranslationError> {
    let (mut fs_type, mut caching_mode) = (csi.fs_type.unwrap_or_default(), None);
    for (key, value) in csi.volume_attributes.unwrap_or_default() {
        match key.to_lowercase().as_str() {
            _ if value.is_empty() => {}
            "fstype" => fs_type = value,
            "cachingmode" => caching_mode = Some(value),
            _ => {}
        }
    }
    if let Some(mode) = caching_mode
        .as_ref()
        .filter(|mode| !["None", "ReadOnly", "ReadWrite"].contains(&mode.as_str()))
    {
        return Err(VolumeTranslationError::Attribute {
            key: "cachingmode",
            value: mode.clone(),
            expected: "None, ReadOnly or ReadWrite",
        });
    }
    let name = name_of(&csi.volume_handle).ok_or_else(|| VolumeTranslationError::Id {
        id: csi.volume_handle.clone(),
        expected: "/subscriptions/ID/resourceGroups/GROUP/providers/Microsoft.Compute/disks/NAME",
    })?;
    spec.azure_disk = Some(AzureDiskVolumeSource {
        caching_mode,
        disk_name: name.to_owned(),
        fs_type: Some(fs_type),
        kind: Some(MANAGED.to_owned()),
        read_only: Some(csi.read_only.unwrap_or_default()),
        disk_uri: csi.volume_handle,
    });
    Ok(())
}

fn name_of(uri: &str) -> Option<&str> {
    let (_, group) = uri
        .strip_prefix("/subscriptions/")?
        .split_once("/resourceGroups/")?;
    let (_, name) = group.rsplit_once("/providers/Microsoft.Compute/disks/")?;
    (!name.is_empty()).then_some(name)
}

fn handle(_: &ObjectMeta, spec: &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>> {
    let source = spec.azure_disk.as_ref()?;
    let kind = source.kind.as_ref();
    Some(match kind.filter(|kind| !kind.eq_ignore_ascii_case(MANAGED)) {
        None => Ok(source.disk_uri.clone()),
        Some(_) => Err(VolumeTranslationError::Id {
            id: source.disk_uri.clone(),
            expected: "that of a managed disk",
        }),
    })
}
