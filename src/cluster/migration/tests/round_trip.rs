//! A volume that is written as a plugin's and read again is the same volume in the same places.

use proptest::{
    collection,
    prelude::*,
    sample::{select, subsequence},
};

use super::*;
use crate::cluster::node_selector::terms_of;

/// A driver's key of zones, and some zones.
fn zones_of(driver: &str) -> (&'static str, &'static [&'static str]) {
    match driver {
        EBS => (
            "topology.ebs.csi.aws.com/zone",
            &["us-east-1a", "us-east-1b", "us-west-2-lax-1a"],
        ),
        GCE => ("topology.gke.io/zone", &["us-east1-a", "us-east1-b"]),
        CINDER => ("topology.cinder.csi.openstack.org/zone", &["nova", "a-b"]),
        VSPHERE => ("topology.csi.vmware.com/zone", &["rack-1", "rack-2"]),
        _ => ("topology.kubernetes.io/zone", &["1", "2"]),
    }
}

/// What the driver calls a volume in these zones, what it is called once it has been a plugin's, and its attributes.
fn named(driver: &str, zones: &[&str], word: &str) -> (String, String, Value) {
    let attributes = match driver {
        EBS => json!({"partition": "3"}),
        AZURE_DISK => json!({"cachingMode": "None"}),
        AZURE_FILE => json!({"secretnamespace": "vault"}),
        VSPHERE => json!({"initialvolumefilepath": format!("[ds] {word}.vmdk")}),
        _ => json!({}),
    };
    // A disk of Google that is in two zones is one of the region.
    let place = match zones {
        [] => "zones/UNSPECIFIED".to_owned(),
        [zone] => format!("zones/{zone}"),
        _ => "regions/us-east1".to_owned(),
    };
    let (handle, read) = match driver {
        GCE => (
            format!("projects/p/{place}/disks/{word}"),
            format!("projects/UNSPECIFIED/{place}/disks/{word}"),
        ),
        VSPHERE => (word.to_owned(), format!("[ds] {word}.vmdk")),
        _ => {
            let handle = match driver {
                AZURE_DISK => format!("{DISK}{word}"),
                AZURE_FILE => format!("rg#acc#{word}#pvc-1#vault"),
                _ => format!("vol-{word}"),
            };
            (handle.clone(), handle)
        }
    };
    (handle, read, attributes)
}

fn drivers() -> impl Strategy<Value = &'static str> {
    select(PLUGINS.map(|plugin| plugin.driver).to_vec())
}

/// A volume, and what the driver calls it once it has been a plugin's.
fn volumes() -> impl Strategy<Value = (PersistentVolume, String)> {
    let places = drivers().prop_flat_map(|driver| {
        let (key, zones) = zones_of(driver);
        (Just((driver, key)), subsequence(zones, 0..=zones.len()))
    });
    let volume = (places, "[a-z0-9]{1,12}", "[a-z0-9]{0,4}", any::<bool>());
    volume.prop_map(|(((driver, key), zones), word, fs_type, read_only)| {
        let (handle, read, attributes) = named(driver, &zones, &word);
        let source = json!({"volumeHandle": handle, "fsType": fs_type, "readOnly": read_only,
            "volumeAttributes": attributes});
        let volume = csi_volume(driver, source);
        let places: Vec<_> = zones.iter().map(|zone| format!("{key}={zone}")).collect();
        let places: Vec<_> = places.iter().map(String::as_str).collect();
        match places.is_empty() {
            true => (volume, read),
            false => (in_places(volume, &places), read),
        }
    })
}

proptest! {
    #[test]
    fn a_migrated_volume_there_and_back_is_the_same((volume, read) in volumes()) {
        let written = in_tree_form(&volume).unwrap().unwrap();
        let driver = volume.spec.as_ref().unwrap().csi.as_ref().unwrap().driver.clone();
        prop_assert_eq!(csi_source(&written), Some(Ok(CsiSource { driver: driver.clone(), handle: read })));
        let labels = written.metadata.labels.clone().unwrap_or_default();
        prop_assert_eq!(csi_terms(&driver, &labels, terms_of(&written)), terms_of(&volume));
        // What it says besides is as it was.
        let mut rest = [json(&volume), json(&written)];
        for json in &mut rest {
            let spec = json["spec"].as_object_mut().unwrap();
            spec.retain(|key, _| ["claimRef"].contains(&key.as_str()));
            let meta = json["metadata"].as_object_mut().unwrap();
            meta.remove("labels");
            meta["annotations"].as_object_mut().unwrap().remove("kubernetes.io/azure-file-resource-group");
        }
        prop_assert_eq!(&rest[0], &rest[1]);
    }

    #[test]
    fn whatever_a_driver_says_is_translated_or_refused(
        driver in drivers(),
        handle in "\\PC{0,20}|(a|/|#|:|vhds|http|aws://){0,9}",
        attributes in collection::btree_map(
            select(vec!["partition", "sharename", "secretname", "initialvolumefilepath", "cachingmode"]), "\\PC{0,5}", 0..4),
        zone in "\\PC{0,8}|[a-z-]{0,20}",
    ) {
        let source = json!({"volumeHandle": handle, "volumeAttributes": attributes});
        let mut volume = csi_volume(driver, source);
        let (key, _) = zones_of(driver);
        let affinity = json!({"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": key, "operator": "In", "values": [zone]}]}]}});
        volume.spec.as_mut().unwrap().node_affinity = Some(serde_json::from_value(affinity).unwrap());
        if let Ok(Some(written)) = in_tree_form(&volume) {
            prop_assert!(matches!(csi_source(&written), Some(Ok(source)) if source.driver == driver));
        }
    }
}
