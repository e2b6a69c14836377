//! Pure. Amazon's Elastic Block Store.

use k8s_openapi::{
    api::core::v1::{AWSElasticBlockStoreVolumeSource, CSIPersistentVolumeSource, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    Plugin, VolumeTranslationError,
    class::{Becomes, FS_TYPE},
    partition,
    topology::{Region, Zones},
};
use crate::cluster::objects::Class;

const ZONE: &str = "topology.ebs.csi.aws.com/zone";
/// Before the zone and the id, in what old volumes have for an id.
const SCHEME: &str = "aws://";

pub(super) const PLUGIN: Plugin = Plugin {
    in_tree: "kubernetes.io/aws-ebs",
    driver: "ebs.csi.aws.com",
    parameter: |key| match key {
        "fstype" => FS_TYPE,
        "zone" => Becomes::Zone,
        "zones" => Becomes::Zones,
        _ => Becomes::Same,
    },
    class_zone: Some(ZONE),
    finish_class,
    volume_zones: Some(Zones {
        zone: ZONE,
        region: Region::OfZone(region_of, "a zone like us-east-1a"),
    }),
    put_source,
    handle,
};

/// The plugin raised the IOPS of small volumes to what Amazon gives at least.
fn finish_class(class: &mut Class) {
    let parameters = &mut class.parameters;
    if parameters.keys().any(|key| key.eq_ignore_ascii_case("iopspergb")) {
        let key = "allowautoiopspergbincrease".to_owned();
        parameters.entry(key).or_insert_with(|| "true".to_owned());
    }
}

/// `us-east-1a` and `us-gov-east-1a` are a region and a letter; local zones and those at the edge of a mobile network,
/// `us-west-2-lax-1a` and `us-east-1-wl1-bos-wlz-1`, begin with their region.
fn region_of(zone: &str) -> Option<String> {
    let parts: Vec<_> = zone.split('-').collect();
    match parts.as_slice() {
        [_, _, last] | [_, _, _, last] if last.len() == 2 => Some(zone.get(..zone.len() - 1)?.to_owned()),
        [_, _, _, _, _] | [_, _, _, _, _, _, _] => Some(parts[..3].join("-")),
        _ => None,
    }
}

fn put_source(
    csi: CSIPersistentVolumeSource,
    _: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
) -> Result<(), VolumeTranslationError> {
    let attributes = csi.volume_attributes.unwrap_or_default();
    let attribute = attributes.get("partition");
    spec.aws_elastic_block_store = Some(AWSElasticBlockStoreVolumeSource {
        fs_type: csi.fs_type,
        partition: attribute.map_or(Ok(None), |attribute| partition(attribute))?,
        read_only: csi.read_only,
        volume_id: csi.volume_handle,
    });
    Ok(())
}

fn handle(_: &ObjectMeta, spec: &PersistentVolumeSpec) -> Option<Result<String, VolumeTranslationError>> {
    let id = &spec.aws_elastic_block_store.as_ref()?.volume_id;
    let Some(path) = id.strip_prefix(SCHEME) else {
        return Some(Ok(id.clone()));
    };
    let volume = path
        .split_once('/')
        .map(|(_zone, volume)| volume.trim_matches('/'));
    let volume = volume.filter(|volume| volume.starts_with("vol-") && !volume.contains('/'));
    Some(
        volume
            .map(str::to_owned)
            .ok_or_else(|| VolumeTranslationError::Id {
                id: id.clone(),
                expected: "aws://ZONE/vol-ID",
            }),
    )
}
