//! Pure. Google's Persistent Disk.

use k8s_openapi::{
    api::core::v1::{CSIPersistentVolumeSource, GCEPersistentDiskVolumeSource, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Plugin, VolumeTranslationError,
    class::{Becomes, FS_TYPE},
    partition,
    topology::{self, Region, Zones},
};

const ZONE: &str = "topology.gke.io/zone";
/// In place of a project or a zone that is not known: the driver finds out.
const UNSPECIFIED: &str = "UNSPECIFIED";
const ODD_ZONE: &str = "a zone like us-central1-a";

pub(super) const PLUGIN: Plugin = Plugin {
    in_tree: "kubernetes.io/gce-pd",
    driver: "pd.csi.storage.gke.io",
    parameter: |key| match key {
        "fstype" => FS_TYPE,
        "zone" => Becomes::Zone,
        "zones" => Becomes::Zones,
        _ => Becomes::Same,
    },
    class_zone: Some(ZONE),
    finish_class: |_| {},
    volume_zones: Some(Zones {
        zone: ZONE,
        region: Region::OfZone(region_of, ODD_ZONE),
    }),
    put_source,
    handle,
};

fn region_of(zone: &str) -> Option<String> {
    match zone.split('-').collect::<Vec<_>>().as_slice() {
        [place, number, _] => Some(format!("{place}-{number}")),
        _ => None,
    }
}

fn put_source(
    csi: CSIPersistentVolumeSource,
    _: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
) -> Result<(), VolumeTranslationError> {
    let attributes = csi.volume_attributes.unwrap_or_default();
    let attribute = attributes.get("partition").filter(|it| !it.is_empty());
    let name = csi
        .volume_handle
        .split('/')
        .nth(5)
        .filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| VolumeTranslationError::Id {
        id: csi.volume_handle.clone(),
        expected: "projects/PROJECT/zones/ZONE/disks/NAME, nor the same with regions/REGION",
    })?;
    spec.gce_persistent_disk = Some(GCEPersistentDiskVolumeSource {
        fs_type: csi.fs_type,
        partition: attribute.map_or(Ok(None), |attribute| partition(attribute))?,
        pd_name: name.to_owned(),
        read_only: csi.read_only,
    });
    Ok(())
}

/// A disk in several zones is a regional one. The labels tell, and nothing else.
fn handle(meta: &ObjectMeta, spec: &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>> {
    let name = &spec.gce_persistent_disk.as_ref()?.pd_name;
    let label = topology::zone_label(meta.labels.as_ref());
    let zones: Vec<_> = label.split(topology::SEPARATOR).collect();
    let place = match zones.as_slice() {
        [""] => Ok(format!("zones/{UNSPECIFIED}")),
        [zone] => Ok(format!("zones/{zone}")),
        zones => topology::region_of_zones(zones.iter().copied(), region_of, ODD_ZONE)
            .map(|region| format!("regions/{}", region.unwrap_or_default())),
    };
    Some(place.map(|place| format!("projects/{UNSPECIFIED}/{place}/disks/{name}")))
}
