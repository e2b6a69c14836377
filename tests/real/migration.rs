//! The in-tree plugin of EBS is gone, and its classes and volumes are the driver's.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{ResourceExt as _, api::PostParams};
use serde_json::{Value, json};

use crate::{
    audit,
    cluster::{Cluster, Rights},
    driver::{Driver, Labels, Options},
    sidecar::{Binary, Sidecar, under_test},
    topology::segment,
    world::{SOON, World, eventually},
};

const EBS: &str = "ebs.csi.aws.com";
const PLUGIN: &str = "kubernetes.io/aws-ebs";
const DRIVERS_ZONE: &str = "topology.ebs.csi.aws.com/zone";
const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// The driver has only one name, so ours and upstream take turns; the same has to become of all.
pub(crate) async fn of_ebs(cluster: &'static Cluster) {
    life(cluster, "ebs", under_test()).await;
    life(cluster, "ebs-upstream", Binary::Upstream).await;
}

async fn life(cluster: &'static Cluster, name: &str, binary: Binary) {
    let rights = match binary {
        Binary::Ours => Rights::OursWith(&["topology"]),
        Binary::Upstream => Rights::Upstream,
    };
    let world = World::new(cluster, name, rights).await;
    let place = Labels::from([(DRIVERS_ZONE.to_owned(), "us-east-1a".to_owned())]);
    let options = Options {
        name: Some(EBS),
        segments: vec![segment(&place, None)],
        ..Options::default()
    };
    let driver = Driver::with(&world, options).await;
    let mut labels = place.clone();
    labels.extend([(ZONE, "us-east-1a"), (REGION, "us-east-1")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let node = world.bare_node("a", &labels).await;
    world.register(&node, EBS, &[DRIVERS_ZONE]).await;
    let _sidecar = Sidecar::start(&world, binary, &driver, "sidecar-0", &["--leader-election"]).await;

    let parameters = json!({"parameters": {"type": "gp3", "fsType": "xfs", "zone": "us-east-1a"}});
    let now = world.class("now", PLUGIN, parameters).await;
    let waits =
        json!({"parameters": {"type": "gp3", "fsType": "xfs"}, "volumeBindingMode": "WaitForFirstConsumer"});
    let late = world.class("late", PLUGIN, waits).await;
    world.claim("now", &now).await;
    world.claim("late", &late).await;
    world.pod("late", &["late"], &labels).await;
    is_of_the_plugin(&world.bound("late", SOON).await, &driver);
    assert_eq!(world.placed("late").await, node);
    let volume = world.bound("now", SOON).await;
    is_of_the_plugin(&volume, &driver);
    world.delete_claim("now").await;
    world.gone(&volume, SOON).await;
    assert_eq!(driver.volumes().len(), 1, "that of the Pod");
    of_before(&world, &driver).await;
    audit::assert_nothing_denied(&world);
}

fn is_of_the_plugin(volume: &PersistentVolume, driver: &Driver) {
    let name = volume.name_any();
    let calls = driver.calls_of("CreateVolume");
    let call = calls
        .iter()
        .find(|call| call.request["name"] == json!(name))
        .unwrap();
    assert_eq!(call.request["parameters"], json!({"type": "gp3"}));
    let terms = &call.request["accessibility_requirements"]["preferred"];
    assert_eq!(terms, &json!([{"segments": {DRIVERS_ZONE: "us-east-1a"}}]));
    let json = serde_json::to_value(volume).unwrap();
    let spec = &json["spec"];
    assert_eq!(
        spec["awsElasticBlockStore"],
        json!({"volumeID": call.volume_id, "fsType": "xfs"}),
        "{json:#}"
    );
    assert_eq!(spec["csi"], Value::Null);
    assert_eq!(
        json["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"],
        PLUGIN
    );
    let labels = &json["metadata"]["labels"];
    assert_eq!(
        (&labels[ZONE], &labels[REGION]),
        (&json!("us-east-1a"), &json!("us-east-1"))
    );
    let terms = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
        .as_array()
        .unwrap();
    let [term] = terms.as_slice() else {
        panic!("{terms:?}");
    };
    let pairs = term["matchExpressions"].as_array().unwrap().iter();
    let pairs: Vec<_> = pairs.map(|it| (&it["key"], &it["values"])).collect();
    let expected = [
        (&json!(ZONE), &json!(["us-east-1a"])),
        (&json!(REGION), &json!(["us-east-1"])),
    ];
    assert_eq!(pairs, expected);
}

/// A volume from before the driver, whose claim is gone, and one whose claim has it.
async fn of_before(world: &World, driver: &Driver) {
    let volume = |name: &str, id: &str| -> PersistentVolume {
        let name = format!("{}-{name}", world.namespace);
        let annotations = json!({"pv.kubernetes.io/provisioned-by": PLUGIN});
        serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": annotations},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Delete",
                "awsElasticBlockStore": {"volumeID": id},
                "claimRef": {"namespace": world.namespace, "name": "before"},
            },
        }))
        .unwrap()
    };
    let bound = volume("before", "aws://us-east-1a/vol-before");
    world
        .volumes
        .create(&PostParams::default(), &bound)
        .await
        .unwrap();
    world.claim("before", "").await;
    let volume = world.bound("before", SOON).await;
    let name = volume.name_any();
    eventually("the volume has our finalizer", SOON, async || {
        let finalizers = world.volumes.get(&name).await.unwrap().metadata.finalizers;
        match finalizers
            .iter()
            .flatten()
            .any(|finalizer| finalizer == FINALIZER)
        {
            true => Ok(()),
            false => Err(format!("{finalizers:?}")),
        }
    })
    .await;
    world.delete_claim("before").await;
    world.gone(&volume, SOON).await;
    let deletions = driver.calls_of("DeleteVolume");
    assert!(
        deletions.iter().any(|call| call.volume_id == "vol-before"),
        "{deletions:?}"
    );
}
