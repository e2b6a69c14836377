//! A claim becomes a volume, and the volume goes away or stays.

use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};

use crate::{
    audit,
    cluster::{self, Cluster, Rights},
    driver::Driver,
    sidecar::{Binary, Sidecar, under_test},
    world::{SOON, World, eventually, text},
};

pub(crate) async fn life_under_our_rights(cluster: &'static Cluster) {
    let rights = Rights::OursWith(&["secrets"]);
    let world = World::new(cluster, "life-ours", rights).await;
    let (driver, _sidecar) = life(&world, true).await;
    waits_for_its_secret(&world, &driver).await;
    gets_its_attributes(&world, &driver).await;
    // One who waits for the lease watches it.
    let flags = ["--leader-election"];
    let _standby = Sidecar::start(&world, under_test(), &driver, "sidecar-1", &flags).await;
    if under_test() == Binary::Ours {
        sources_are_read_and_protected(&world, &driver).await;
        audit::all_rights_are_used(&world, rights).await;
    }
    audit::assert_nothing_denied(&world);
}

/// Upstream's example grants no secrets unless its user adds them.
pub(crate) async fn life_under_upstreams_rights(cluster: &'static Cluster) {
    let world = World::new(cluster, "life-theirs", Rights::Upstream).await;
    let (_driver, _sidecar) = life(&world, false).await;
    audit::assert_nothing_denied(&world);
}

async fn life(world: &World, secrets: bool) -> (Driver, Sidecar) {
    let driver = Driver::start(world, Duration::ZERO).await;
    let flags = [
        "--leader-election",
        "--extra-create-metadata",
        "--default-fstype=ext4",
    ];
    let sidecar = Sidecar::start(world, under_test(), &driver, "sidecar-0", &flags).await;

    let mut parameters = json!({"tier": "gold", "csi.storage.k8s.io/fstype": "xfs"});
    if secrets {
        world
            .secret("data-access", json!({"user": "admin", "key": "wont-tell"}))
            .await;
        for purpose in ["provisioner", "node-publish"] {
            parameters[format!("csi.storage.k8s.io/{purpose}-secret-name")] = json!("${pvc.name}-access");
            parameters[format!("csi.storage.k8s.io/{purpose}-secret-namespace")] = json!("${pvc.namespace}");
        }
    }
    let class = world
        .class(
            "gold",
            &driver.name,
            json!({"parameters": parameters, "mountOptions": ["noatime"]}),
        )
        .await;
    let claim = world.claim("data", &class).await;
    let volume = world.bound("data", SOON).await;
    assert_eq!(
        as_written(&volume),
        expected(world, &driver, &class, &claim, secrets)
    );

    let keys = if secrets {
        json!(["key", "user"])
    } else {
        json!(null)
    };
    let creations = driver.calls_of("CreateVolume");
    assert_eq!(creations.len(), 1, "{creations:?}");
    let creation = &creations[0];
    assert_eq!(
        (creation.code.as_str(), &creation.request["name"]),
        ("OK", &json!(volume.name_any()))
    );
    assert_eq!(creation.request["secrets"], keys);
    assert_eq!(
        creation.request["parameters"],
        json!({
            "tier": "gold",
            "csi.storage.k8s.io/pvc/name": "data",
            "csi.storage.k8s.io/pvc/namespace": world.namespace,
            "csi.storage.k8s.io/pv/name": volume.name_any(),
        })
    );

    let name = volume.name_any();
    world
        .event(
            "data",
            "Provisioning",
            1,
            "External provisioner is provisioning volume for claim",
        )
        .await;
    world
        .event(
            "data",
            "ProvisioningSucceeded",
            1,
            &format!("Successfully provisioned volume {name}"),
        )
        .await;

    if under_test() == Binary::Ours {
        // The stock rights are enough for the ledger: nothing of it was in memory only.
        audit::asked(world, "update", audit::LEDGER).await;
    }
    world.delete_claim("data").await;
    world.gone(&volume, SOON).await;
    assert_eq!(driver.volumes(), BTreeSet::new());
    let deletions = driver.calls_of("DeleteVolume");
    assert!(
        deletions.iter().all(|call| call.request["secrets"] == keys),
        "{deletions:?}"
    );
    if under_test() == Binary::Ours {
        assert_eq!(deletions.len(), 1, "one call for one volume: {deletions:?}");
    }
    (driver, sidecar)
}

/// Without its secret a claim waits, says so on the claim, and goes on when the secret is there.
async fn waits_for_its_secret(world: &World, driver: &Driver) {
    let parameters = json!({
        "csi.storage.k8s.io/provisioner-secret-name": "late",
        "csi.storage.k8s.io/provisioner-secret-namespace": "${pvc.namespace}",
    });
    let class = world
        .class("late", &driver.name, json!({"parameters": parameters}))
        .await;
    world.claim("waiting", &class).await;
    world.event("waiting", "ProvisioningFailed", 2, "not found").await;
    world.secret("late", json!({"key": "wont-tell"})).await;
    world.bound("waiting", SOON).await;
}

/// What the claim's VolumeAttributesClass says reaches the driver, and its name the volume.
async fn gets_its_attributes(world: &World, driver: &Driver) {
    let class = world.class("plain", &driver.name, json!({})).await;
    let attributes = world
        .attributes_class("silver", &driver.name, json!({"iops": "1000"}))
        .await;
    let more = json!({"volumeAttributesClassName": attributes});
    world.claim_with("modified", &class, more).await;
    let volume = world.bound("modified", SOON).await;
    let named = volume
        .spec
        .as_ref()
        .unwrap()
        .volume_attributes_class_name
        .as_ref();
    assert_eq!(named, Some(&attributes));
    let name = volume.name_any();
    let creations = driver.calls_of("CreateVolume");
    let creation = creations.iter().find(|call| call.request["name"] == name);
    let creation = creation.unwrap_or_else(|| panic!("no call for {name}: {creations:?}"));
    assert_eq!(creation.request["mutable_parameters"], json!({"iops": "1000"}));
}

/// A snapshot and its content are read, and protected; and so is the source of a clone. The driver does not know the
/// snapshot.
async fn sources_are_read_and_protected(world: &World, driver: &Driver) {
    if cluster::is_given() {
        return;
    }
    const GROUP: &str = "snapshot.storage.k8s.io";
    let kind = |kind: &str| ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, "v1", kind));
    let (snapshots, contents) = (kind("VolumeSnapshot"), kind("VolumeSnapshotContent"));
    let (client, namespace) = (world.client.clone(), &world.namespace);
    let snapshots = (
        Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &snapshots),
        snapshots,
    );
    let contents = (Api::<DynamicObject>::all_with(client, &contents), contents);
    let create = async |(api, kind): &(Api<DynamicObject>, ApiResource), name: &str, spec: Value| {
        let object = DynamicObject::new(name, kind).data(json!({"spec": spec}));
        api.create(&PostParams::default(), &object).await.unwrap()
    };
    let name = format!("{namespace}-content");
    let source = json!({"source": {"volumeSnapshotContentName": name}});
    let snapshot = create(&snapshots, "origin", source).await;
    let content = json!({
        "deletionPolicy": "Retain", "driver": driver.name, "source": {"snapshotHandle": "snap-1"},
        "volumeSnapshotRef": {"namespace": namespace, "name": "origin", "uid": snapshot.uid()},
    });
    create(&contents, &name, content).await;
    let is_ready = async |(api, _): &(Api<DynamicObject>, ApiResource), name: &str, status: Value| {
        let status = Patch::Merge(json!({"status": status}));
        api.patch_status(name, &PatchParams::default(), &status)
            .await
            .unwrap()
    };
    is_ready(
        &contents,
        &name,
        json!({"snapshotHandle": "snap-1", "readyToUse": true}),
    )
    .await;
    let status = json!({"boundVolumeSnapshotContentName": name, "readyToUse": true});
    is_ready(&snapshots, "origin", status).await;
    let class = world.class("restored", &driver.name, json!({})).await;
    let source = json!({"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": "origin"});
    world
        .claim_with("restored", &class, json!({"dataSource": source}))
        .await;
    let words = "source snapshot snap-1 not found";
    world.event("restored", "ProvisioningFailed", 1, words).await;
    world.delete_claim("restored").await;
    let source = json!({"kind": "PersistentVolumeClaim", "name": "modified"});
    world
        .claim_with("copied", &class, json!({"dataSource": source}))
        .await;
    let copy = world.bound("copied", SOON).await;
    world.delete_claim("copied").await;
    world.gone(&copy, SOON).await;
    contents.0.delete(&name, &DeleteParams::default()).await.unwrap();
}

/// What the sidecar wrote: without what the API server and the binder add.
fn as_written(volume: &PersistentVolume) -> Value {
    let mut value = serde_json::to_value(volume).unwrap();
    value.as_object_mut().unwrap().remove("status");
    let metadata = value["metadata"].as_object_mut().unwrap();
    for added in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        metadata.remove(added).unwrap();
    }
    let finalizers = metadata["finalizers"].as_array_mut().unwrap();
    finalizers.sort_by_key(ToString::to_string);

    // Of the claim as the sidecar saw it, which the controller manager had annotated.
    let version = value["spec"]["claimRef"]["resourceVersion"].take();
    assert!(version.as_str().unwrap().parse::<u64>().is_ok(), "{version}");

    // Differs from start to start: <milliseconds>-<random>-<driver>.
    let identity =
        value["spec"]["csi"]["volumeAttributes"]["storage.kubernetes.io/csiProvisionerIdentity"].take();
    let driver = value["spec"]["csi"]["driver"].as_str().unwrap();
    let parts: Vec<_> = identity.as_str().unwrap().splitn(3, '-').collect();
    assert!(
        parts[0].parse::<u64>().is_ok() && parts[1].parse::<u64>().is_ok() && parts[2] == driver,
        "{identity}"
    );
    value
}

fn expected(
    world: &World,
    driver: &Driver,
    class: &str,
    claim: &PersistentVolumeClaim,
    secrets: bool,
) -> Value {
    let name = format!("pvc-{}", claim.uid().unwrap());
    let (secret, namespace) = if secrets {
        ("data-access", world.namespace.as_str())
    } else {
        ("", "")
    };
    let handle = driver.calls_of("CreateVolume")[0].volume_id.clone();
    let mut expected = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {
                "pv.kubernetes.io/provisioned-by": driver.name,
                "volume.kubernetes.io/provisioner-deletion-secret-name": secret,
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": namespace,
            },
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer", "kubernetes.io/pv-protection"],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": world.namespace,
                "name": "data",
                "uid": claim.uid().unwrap(),
                "resourceVersion": null,
            },
            "csi": {
                "driver": driver.name,
                "volumeHandle": handle,
                "fsType": "xfs",
                "volumeAttributes": {"name": name, "storage.kubernetes.io/csiProvisionerIdentity": null},
            },
            "mountOptions": ["noatime"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": class,
            "volumeMode": "Filesystem",
        },
    });
    if secrets {
        expected["spec"]["csi"]["nodePublishSecretRef"] = json!({"name": secret, "namespace": namespace});
    }
    expected
}

pub(crate) async fn retained(cluster: &'static Cluster) {
    let world = World::new(cluster, "retained", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    let keep = world
        .class("keep", &driver.name, json!({"reclaimPolicy": "Retain"}))
        .await;
    let drop = world.class("drop", &driver.name, json!({})).await;
    world.claim("kept", &keep).await;
    let kept = world.bound("kept", SOON).await;
    world.delete_claim("kept").await;
    eventually("the kept volume is Released", SOON, async || {
        let seen = world.volumes.get(&kept.name_any()).await.map_err(text)?;
        match seen.status.and_then(|status| status.phase).as_deref() {
            Some("Released") => Ok(()),
            phase => Err(format!("phase {phase:?}")),
        }
    })
    .await;

    // A later volume that comes and goes shows that the sidecar had its chance.
    world.claim("dropped", &drop).await;
    let dropped = world.bound("dropped", SOON).await;
    world.delete_claim("dropped").await;
    world.gone(&dropped, SOON).await;
    let handle = kept
        .spec
        .as_ref()
        .unwrap()
        .csi
        .as_ref()
        .unwrap()
        .volume_handle
        .clone();
    assert_eq!(driver.volumes(), BTreeSet::from([handle]));
    let seen = world.volumes.get(&kept.name_any()).await.unwrap();
    // Upstream takes its finalizer off a volume that it is not to delete.
    let ours = "external-provisioner.volume.kubernetes.io/finalizer";
    assert!(
        !seen.finalizers().iter().any(|finalizer| finalizer == ours),
        "{:?}",
        seen.finalizers()
    );
}

pub(crate) async fn burst(cluster: &'static Cluster) {
    let world = World::new(cluster, "burst", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::from_millis(20)).await;
    // Upstream's defaults would need minutes.
    let flags: &[&str] = match under_test() {
        Binary::Ours => &["--leader-election"],
        Binary::Upstream => &["--leader-election", "--kube-api-qps=500", "--kube-api-burst=1000"],
    };
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", flags).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    world.many_claims("data", &class, 200).await;
    world.all_bound(200, Duration::from_secs(90)).await;

    // Each volume at the driver has its PersistentVolume, and the other way round.
    let handles: BTreeSet<_> = world
        .volumes_of(&driver.name)
        .await
        .unwrap()
        .into_iter()
        .map(|volume| volume.spec.unwrap().csi.unwrap().volume_handle)
        .collect();
    assert_eq!(handles.len(), 200);
    assert_eq!(driver.volumes(), handles);
    assert_eq!(
        driver.calls_of("CreateVolume").len(),
        200,
        "one call for one claim"
    );
}
