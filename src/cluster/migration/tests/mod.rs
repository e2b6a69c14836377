//! What the plugins called things, and what the drivers call them.

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::{Value, json};

use super::*;

mod classes;
mod places;
mod round_trip;
mod volumes;

const EBS: &str = "ebs.csi.aws.com";
const GCE: &str = "pd.csi.storage.gke.io";
const CINDER: &str = "cinder.csi.openstack.org";
const AZURE_DISK: &str = "disk.csi.azure.com";
const AZURE_FILE: &str = "file.csi.azure.com";
const VSPHERE: &str = "csi.vsphere.vmware.com";
const PORTWORX: &str = "pxd.portworx.com";
const DISK: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/disks/d";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

/// A volume as it is written for a driver, from a class of the plugin that it took over from.
fn csi_volume(driver: &str, source: Value) -> PersistentVolume {
    let mut csi = json!({"driver": driver, "volumeHandle": "vol-1"});
    csi.as_object_mut()
        .unwrap()
        .extend(source.as_object().unwrap().clone());
    volume(json!({
        "metadata": {
            "name": "pvc-1",
            "annotations": {"pv.kubernetes.io/provisioned-by": in_tree_name(driver)},
        },
        "spec": {"csi": csi, "claimRef": {"namespace": "shop", "name": "data", "uid": "u"}},
    }))
}

fn volume(json: Value) -> PersistentVolume {
    serde_json::from_value(json).unwrap()
}

fn json(volume: &PersistentVolume) -> Value {
    serde_json::to_value(volume).unwrap()
}

/// With these places in its node affinity, each as `key=value,…`.
fn in_places(mut volume: PersistentVolume, places: &[&str]) -> PersistentVolume {
    let expression = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        let values: Vec<_> = value.split('|').filter(|value| !value.is_empty()).collect();
        json!({"key": key, "operator": "In", "values": values})
    };
    let term = |place: &&str| {
        let pairs = place.split(',').filter(|pair| !pair.is_empty());
        json!({"matchExpressions": pairs.map(expression).collect::<Vec<_>>()})
    };
    let terms: Vec<_> = places.iter().map(term).collect();
    let affinity = json!({"required": {"nodeSelectorTerms": terms}});
    volume.spec.as_mut().unwrap().node_affinity = Some(serde_json::from_value(affinity).unwrap());
    volume
}

/// The other way round.
fn places(terms: &[NodeSelectorTerm]) -> Vec<String> {
    let place = |term: &NodeSelectorTerm| {
        let expressions = term.expressions.iter();
        let pairs = expressions.map(|it| format!("{}={}", it.key, it.values.join("|")));
        pairs.collect::<Vec<_>>().join(",")
    };
    terms.iter().map(place).collect()
}

#[test]
fn seven_drivers_answer_to_the_name_of_a_plugin() {
    let rows = [
        (EBS, "kubernetes.io/aws-ebs"),
        (GCE, "kubernetes.io/gce-pd"),
        (CINDER, "kubernetes.io/cinder"),
        (AZURE_DISK, "kubernetes.io/azure-disk"),
        (AZURE_FILE, "kubernetes.io/azure-file"),
        (VSPHERE, "kubernetes.io/vsphere-volume"),
        (PORTWORX, "kubernetes.io/portworx-volume"),
    ];
    assert_eq!(rows.len(), PLUGINS.len());
    for (driver, plugin) in rows {
        assert_eq!(in_tree_name(driver), Some(plugin));
        assert!(is_name_of(driver, driver) && is_name_of(driver, plugin));
        assert!(!is_name_of("lab.csi.example.com", plugin));
    }
    assert_eq!(in_tree_name("lab.csi.example.com"), None);
    assert!(!is_name_of(EBS, "kubernetes.io/gce-pd") && !is_name_of(EBS, ""));
}

#[test]
fn what_asks_for_the_driver_itself_stays_as_it_is() {
    let class = Class {
        provisioner: EBS.into(),
        parameters: map(&[("zone", "a"), ("zones", "b")]),
        ..Class::default()
    };
    assert!(matches!(class_for_driver(&class, EBS), Ok(Cow::Borrowed(same)) if *same == class));
    let foreign = Class {
        provisioner: "kubernetes.io/gce-pd".into(),
        ..class
    };
    assert!(matches!(class_for_driver(&foreign, EBS), Ok(Cow::Borrowed(_))));
    for by in [EBS, "kubernetes.io/gce-pd", "kubernetes.io/no-such"] {
        let mut volume = csi_volume(EBS, json!({}));
        let annotations = volume.metadata.annotations.get_or_insert_default();
        annotations.insert(PROVISIONED_BY.into(), by.into());
        assert_eq!(in_tree_form(&volume), Ok(None), "{by}");
        assert_eq!(wanted_plugin(&volume), None, "{by}");
    }
    let other = volume(json!({"metadata": {"name": "nas"}, "spec": {"nfs": {"server": "nas", "path": "/"}}}));
    assert_eq!((in_tree_form(&other), csi_source(&other)), (Ok(None), None));
}
