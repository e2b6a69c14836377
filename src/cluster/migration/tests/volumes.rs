//! The source of a volume, there and back.

use super::*;

/// The source that a volume of this driver gets.
fn in_tree(driver: &str, source: Value) -> Result<Value, String> {
    let volume = csi_volume(driver, source);
    let translated = in_tree_form(&volume).map_err(|error| error.to_string())?;
    let translated = json(&translated.expect("its class names the plugin"));
    let mut spec = translated["spec"].clone();
    let spec = spec.as_object_mut().unwrap();
    assert!(spec.remove("claimRef").is_some() && !spec.contains_key("csi"));
    let annotations = &translated["metadata"]["annotations"];
    if let Some(group) = annotations.get("kubernetes.io/azure-file-resource-group") {
        spec.insert("group".into(), group.clone());
    }
    Ok(Value::Object(spec.clone()))
}

#[test]
fn a_volume_gets_the_source_of_its_plugin() {
    let rows = [
        (
            "plain",
            EBS,
            json!({}),
            json!({"awsElasticBlockStore": {"volumeID": "vol-1"}}),
        ),
        (
            "all that the plugin knows",
            EBS,
            json!({"fsType": "xfs", "readOnly": true, "volumeAttributes": {"partition": "7", "other": "x"}}),
            json!({"awsElasticBlockStore":
                {"volumeID": "vol-1", "fsType": "xfs", "readOnly": true, "partition": 7}}),
        ),
        (
            "no partition",
            EBS,
            json!({"volumeAttributes": {"partition": "0"}}),
            json!({"awsElasticBlockStore": {"volumeID": "vol-1"}}),
        ),
        (
            "a disk in a zone",
            GCE,
            json!({"volumeHandle": "projects/p/zones/us-east1-a/disks/d", "volumeAttributes": {"partition": ""}}),
            json!({"gcePersistentDisk": {"pdName": "d"}}),
        ),
        (
            "a disk of a region, and a partition",
            GCE,
            json!({"volumeHandle": "projects/p/regions/us-east1/disks/d/more", "fsType": "xfs",
                "volumeAttributes": {"partition": "255"}}),
            json!({"gcePersistentDisk": {"pdName": "d", "fsType": "xfs", "partition": 255}}),
        ),
        (
            "Cinder",
            CINDER,
            json!({"fsType": "ext4", "readOnly": true}),
            json!({"cinder": {"volumeID": "vol-1", "fsType": "ext4", "readOnly": true}}),
        ),
        (
            "an Azure disk",
            AZURE_DISK,
            json!({"volumeHandle": DISK, "fsType": "ext4"}),
            json!({"azureDisk": {"diskURI": DISK, "diskName": "d", "kind": "Managed", "fsType": "ext4",
                "readOnly": false}}),
        ),
        (
            "attributes win, unless they are empty",
            AZURE_DISK,
            json!({"volumeHandle": DISK, "fsType": "ext4", "readOnly": true,
                "volumeAttributes": {"FsType": "xfs", "cachingMode": "ReadOnly", "kind": "other"}}),
            json!({"azureDisk": {"diskURI": DISK, "diskName": "d", "kind": "Managed", "fsType": "xfs",
                "readOnly": true, "cachingMode": "ReadOnly"}}),
        ),
        (
            "without any",
            AZURE_DISK,
            json!({"volumeHandle": DISK, "volumeAttributes": {"fstype": "", "cachingmode": ""}}),
            json!({"azureDisk": {"diskURI": DISK, "diskName": "d", "kind": "Managed", "fsType": "",
                "readOnly": false}}),
        ),
        (
            "an Azure share by its attributes",
            AZURE_FILE,
            json!({"volumeHandle": "id", "volumeAttributes":
                {"shareName": "s", "secretName": "key", "secretNamespace": "vault"}}),
            json!({"azureFile": {"shareName": "s", "secretName": "key", "secretNamespace": "vault"}}),
        ),
        (
            "the secret for staging wins",
            AZURE_FILE,
            json!({"volumeHandle": "id", "readOnly": true, "volumeAttributes": {"sharename": "s", "secretname": "x"},
                "nodeStageSecretRef": {"name": "key", "namespace": "vault"}}),
            json!({"azureFile":
                {"shareName": "s", "secretName": "key", "secretNamespace": "vault", "readOnly": true}}),
        ),
        (
            "a share by its id",
            AZURE_FILE,
            json!({"volumeHandle": "rg#acc#s#disk#ns"}),
            json!({"azureFile": {"shareName": "s", "secretName": "azure-storage-account-acc-secret",
                "secretNamespace": "default"}, "group": "rg"}),
        ),
        (
            "its secret by the id only",
            AZURE_FILE,
            json!({"volumeHandle": "#acc#of-id", "volumeAttributes": {"sharename": "s"}}),
            json!({"azureFile": {"shareName": "s", "secretName": "azure-storage-account-acc-secret",
                "secretNamespace": "default"}}),
        ),
        (
            "vSphere",
            VSPHERE,
            json!({"fsType": "ext4", "volumeAttributes": {"initialvolumefilepath": "[ds] kubevols/d.vmdk"}}),
            json!({"vsphereVolume": {"volumePath": "[ds] kubevols/d.vmdk", "fsType": "ext4"}}),
        ),
        (
            "Portworx",
            PORTWORX,
            json!({"fsType": "ext4", "readOnly": true,
                "nodePublishSecretRef": {"name": "px", "namespace": "vault"}}),
            json!({"portworxVolume": {"volumeID": "vol-1", "fsType": "ext4", "readOnly": true}}),
        ),
    ];
    for (name, driver, source, expected) in rows {
        assert_eq!(in_tree(driver, source), Ok(expected), "{driver}: {name}");
    }
}

#[test]
fn what_the_plugin_has_no_words_for_is_named() {
    let partition = |text: &str| json!({"volumeAttributes": {"partition": text}});
    let rows = [
        (
            EBS,
            partition("boot"),
            "partition is \"boot\", not a number from 0 to 255",
        ),
        (EBS, partition(""), "partition is \"\""),
        (EBS, partition("256"), "partition is \"256\""),
        (
            EBS,
            json!({"volumeHandle": "aws:///"}),
            "\"aws:///\" is not aws://ZONE/vol-ID",
        ),
        (
            GCE,
            json!({"volumeHandle": "projects/p/zones/us-east1-a/disks/d", "volumeAttributes": {"partition": "-1"}}),
            "partition is \"-1\"",
        ),
        (
            GCE,
            json!({"volumeHandle": "projects/p/zones/z/disks"}),
            "is not projects/PROJECT/zones/ZONE/disks/NAME",
        ),
        (
            GCE,
            json!({"volumeHandle": "projects/p/zones/z/disks/"}),
            "is not projects/",
        ),
        (
            AZURE_DISK,
            json!({"volumeHandle": "vol-1"}),
            "\"vol-1\" is not /subscriptions/ID/resourceGroups/",
        ),
        (
            AZURE_DISK,
            json!({"volumeHandle": "https://acc.blob.core.windows.net/vhds/d.vhd"}),
            "is not /subscriptions/",
        ),
        (
            AZURE_DISK,
            json!({"volumeHandle": DISK, "volumeAttributes": {"cachingmode": "Write"}}),
            "cachingmode is \"Write\", not None, ReadOnly or ReadWrite",
        ),
        (
            AZURE_FILE,
            json!({"volumeHandle": "rg#acc"}),
            "\"rg#acc\" is not GROUP#ACCOUNT#SHARE",
        ),
        (
            AZURE_FILE,
            json!({"volumeHandle": "rg#acc#"}),
            "is not GROUP#ACCOUNT#SHARE",
        ),
        (
            AZURE_FILE,
            json!({"volumeHandle": "rg#acc#s", "nodeStageSecretRef": {"name": "key"}}),
            "secret key has no namespace",
        ),
        (VSPHERE, json!({}), "initialvolumefilepath is \"\", not a path"),
    ];
    for (driver, source, words) in rows {
        let error = in_tree(driver, source).unwrap_err();
        assert!(error.contains(words), "{driver}: {error}");
    }
}

#[test]
fn an_in_tree_volume_is_found_under_the_drivers_id() {
    let zone = |label: &str, zone: &str| json!({ label: zone });
    let (ga, beta) = (
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/zone",
    );
    let ebs = |id: &str| json!({"awsElasticBlockStore": {"volumeID": id}});
    let gce = || json!({"gcePersistentDisk": {"pdName": "d"}});
    let file = |secret: &str, namespace: Option<&str>| json!({"azureFile": {"shareName": "s", "secretName": secret, "secretNamespace": namespace}});
    let none = || json!({});
    let rows = [
        (EBS, ebs("vol-1"), none(), "vol-1"),
        (EBS, ebs("whatever"), none(), "whatever"),
        (EBS, ebs("aws://us-east-1a/vol-1"), none(), "vol-1"),
        (EBS, ebs("aws:///vol-1"), none(), "vol-1"),
        (
            GCE,
            gce(),
            zone(ga, "us-east1-a"),
            "projects/UNSPECIFIED/zones/us-east1-a/disks/d",
        ),
        (
            GCE,
            gce(),
            zone(beta, "us-east1-b"),
            "projects/UNSPECIFIED/zones/us-east1-b/disks/d",
        ),
        (
            GCE,
            gce(),
            zone(ga, "us-east1-a__us-east1-b"),
            "projects/UNSPECIFIED/regions/us-east1/disks/d",
        ),
        (
            GCE,
            gce(),
            none(),
            "projects/UNSPECIFIED/zones/UNSPECIFIED/disks/d",
        ),
        (CINDER, json!({"cinder": {"volumeID": "c"}}), none(), "c"),
        (
            AZURE_DISK,
            json!({"azureDisk": {"diskName": "d", "diskURI": DISK}}),
            none(),
            DISK,
        ),
        (
            AZURE_DISK,
            json!({"azureDisk": {"diskName": "d", "diskURI": DISK, "kind": "managed"}}),
            none(),
            DISK,
        ),
        (
            AZURE_FILE,
            file("azure-storage-account-acc-secret", Some("vault")),
            none(),
            "#acc#s#pv#vault",
        ),
        (AZURE_FILE, file("key", None), none(), "#key#s#pv#shop"),
        (
            VSPHERE,
            json!({"vsphereVolume": {"volumePath": "[ds] d.vmdk"}}),
            none(),
            "[ds] d.vmdk",
        ),
        (
            PORTWORX,
            json!({"portworxVolume": {"volumeID": "p"}}),
            none(),
            "p",
        ),
    ];
    for (driver, source, labels, handle) in rows {
        let mut pv = json!({"metadata": {"name": "pv", "labels": labels}, "spec": source});
        pv["spec"]["claimRef"] = json!({"namespace": "shop", "name": "data"});
        let expected = CsiSource {
            driver: driver.into(),
            handle: handle.into(),
        };
        assert_eq!(csi_source(&volume(pv)), Some(Ok(expected)), "{driver}: {handle}");
    }
}

#[test]
fn an_in_tree_volume_that_no_driver_could_find_says_why() {
    let rows = [
        (
            json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/disk-1"}}),
            "is not aws://ZONE/vol-ID",
        ),
        (
            json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/a/vol-1"}}),
            "is not aws://ZONE/vol-ID",
        ),
        (
            json!({"awsElasticBlockStore": {"volumeID": "aws://vol-1"}}),
            "is not aws://ZONE/vol-ID",
        ),
        (
            json!({"gcePersistentDisk": {"pdName": "d"}}),
            "\"here\" has no region",
        ),
        (
            json!({"azureDisk": {"diskName": "d", "diskURI": "https://x/d.vhd", "kind": "Dedicated"}}),
            "is not that of a managed disk",
        ),
        (
            json!({"azureFile": {"shareName": "s", "secretName": "key"}}),
            "names the namespace of its secret",
        ),
    ];
    for (source, words) in rows {
        let labels = json!({"topology.kubernetes.io/zone": "here__there"});
        let pv = volume(json!({"metadata": {"name": "pv", "labels": labels}, "spec": source}));
        let error = csi_source(&pv).unwrap().unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
