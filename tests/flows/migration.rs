//! A driver that took over from an in-tree plugin: classes and volumes of both names are its own.

use sandbox::{
    World,
    driver::{Capability, Segment, Trouble, Volume},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::{
    capacity::{CAPACITIES, ON, RIGHTS, pods},
    sidecar::{
        CLAIMS, FINALIZER, HOME, Look, MANIFESTS, SECRETS, Sidecar, TOPOLOGY, finalizers, handle, secs, text,
    },
    sources::{cloned, restored},
};

pub(crate) const EBS: &str = "ebs.csi.aws.com";
pub(crate) const PLUGIN: &str = "kubernetes.io/aws-ebs";
pub(crate) const ZONE: &str = "topology.ebs.csi.aws.com/zone";
pub(crate) const CALLS: &str = "csi_sidecar_operations_seconds_count";
const CLASSES: &str = "storageclasses";

/// The driver has a zone and a node there, and a class that names the plugin.
pub(crate) fn migrated() -> World {
    let world = World::new(EBS).namespace(HOME).rbac(MANIFESTS, HOME);
    let world = world.rbac(TOPOLOGY, HOME).class_with("fast", |class| {
        class["provisioner"] = PLUGIN.into();
        class["parameters"] = json!({"type": "gp3", "fsType": "xfs"});
    });
    let zone = [(ZONE, "us-east-1a")];
    world.driver.segment(Segment::new(&zone, None));
    world.node("node-a", &zone)
}

/// The claim's volume is one of the plugin.
fn is_in_tree(world: &World, uid: &str) -> Value {
    let pv = world.volume_of(uid).expect("its volume");
    assert_eq!(
        pv["spec"]["awsElasticBlockStore"],
        json!({"volumeID": handle(&pv), "fsType": "xfs"})
    );
    assert_eq!(pv["spec"]["csi"], Value::Null);
    let labels = &pv["metadata"]["labels"];
    assert_eq!(labels["topology.kubernetes.io/zone"], "us-east-1a");
    assert_eq!(labels["topology.kubernetes.io/region"], "us-east-1");
    pv
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_plugins_class_lives_and_goes_as_a_volume_of_the_plugin() {
    const CLAIMED: [&str; 2] = ["ctl.MarkAsMigrated.01", "ctl.DeleteMigration.01"];
    let world = migrated();
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let pv = is_in_tree(&world, &uid);
    let annotations = &pv["metadata"]["annotations"];
    assert_eq!(annotations["pv.kubernetes.io/provisioned-by"], PLUGIN);
    assert!(finalizers(&pv).contains(&FINALIZER.to_owned()));
    let request = world.driver.creations().pop().unwrap();
    let parameters: Vec<_> = request.parameters.into_iter().collect();
    assert_eq!(parameters, [("type".to_owned(), "gp3".to_owned())]);
    assert!(!sidecar.logged(&["cannot reach"]), "it is where its node is");
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    for (method, migrated) in [
        ("/CreateVolume\"", "true"),
        ("/DeleteVolume\"", "true"),
        ("/GetPluginCapabilities\"", "false"),
    ] {
        let label = format!("migrated=\"{migrated}\"");
        let labelled = sidecar.metric(CALLS, &[method, &label]).await;
        assert!(labelled >= 1.0, "{CLAIMED:?} {method}");
        assert_eq!(sidecar.metric(CALLS, &[method]).await, labelled, "{method}");
    }
    let unknown = sidecar.page("/metrics").await;
    let mut unknown = unknown.lines().filter(|line| line.contains("unknown-driver"));
    assert!(
        unknown.all(|line| !line.contains("migrated")),
        "nobody knew the driver"
    );
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_the_drivers_own_class_beside_it_is_no_matter_of_migration() {
    let world = migrated().class("own", &[]);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let pv = world.volume_of(&uid).unwrap();
    assert_eq!(text(&pv, "/spec/csi/driver"), EBS);
    let calls = ["/CreateVolume\"", "migrated=\"false\""];
    assert_eq!(sidecar.metric(CALLS, &calls).await, 1.0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn another_process_finishes_the_volume_of_the_plugin_by_the_record_alone() {
    let world = migrated();
    let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", 1, busy);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &["ProvisioningFailed", "busy"]).await;
    sidecar.kill();
    assert!(world.api.delete(CLASSES, "", "fast"));
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("data").await;
    is_in_tree(&world, &uid);
    let creations = world.driver.creations();
    assert_eq!(creations[0], creations[1]);
    assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 0.0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_class_that_contradicts_itself_is_named_before_the_driver_is_asked() {
    let world = migrated().class_with("odd", |class| {
        class["provisioner"] = PLUGIN.into();
        class["parameters"] = json!({"zone": "us-east-1a", "zones": "us-east-1a,us-east-1b"});
    });
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    let words = [
        "ProvisioningFailed",
        "storage class \"odd\": parameters zone and zones mean the same",
    ];
    world.is_told("data", &words).await;
    sleep(secs(600)).await;
    assert_eq!(world.driver.count("CreateVolume"), 0);
    // The class is made anew.
    world.api.delete(CLASSES, "", "odd");
    world.api.create(
        CLASSES,
        "",
        json!({"metadata": {"name": "odd"}, "provisioner": PLUGIN, "parameters": {"zone": "us-east-1a"}}),
    );
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

/// A released volume of an in-tree source, from before the sidecar.
fn released(world: &World, name: &str, annotations: Value, source: Value) {
    let mut pv = json!({
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"namespace": "default", "name": "gone", "uid": "gone"},
        },
    });
    let spec = pv["spec"].as_object_mut().unwrap();
    spec.extend(source.as_object().unwrap().clone());
    world.api.create("persistentvolumes", "", pv);
}

fn at_driver(world: &World, id: &str) {
    world.driver.add_volume(Volume {
        id: id.into(),
        name: id.into(),
        bytes: 1 << 30,
        parameters: [].into(),
    });
}

#[tokio::test(start_paused = true)]
async fn volumes_that_the_plugin_has_made_are_deleted_at_the_driver() {
    let by = "pv.kubernetes.io/provisioned-by";
    let to = "pv.kubernetes.io/migrated-to";
    let world = migrated();
    for (name, annotations, id) in [
        ("made", json!({by: PLUGIN, to: EBS}), "aws://us-east-1a/vol-made"),
        ("unmarked", json!({by: PLUGIN}), "vol-unmarked"),
        ("static", json!({to: EBS}), "vol-static"),
    ] {
        at_driver(&world, &format!("vol-{name}"));
        released(
            &world,
            name,
            annotations,
            json!({"awsElasticBlockStore": {"volumeID": id}}),
        );
    }
    let sidecar = Sidecar::start(&world);
    world.becomes_clean().await;
    assert_eq!(world.driver.count("DeleteVolume"), 3);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_in_tree_volume_whose_id_nobody_could_find_is_told_and_one_of_another_plugin_is_not_ours() {
    let world = migrated();
    let by = |plugin: &str| json!({"pv.kubernetes.io/provisioned-by": plugin});
    let odd = json!({"awsElasticBlockStore": {"volumeID": "aws://us-east-1a/disk"}});
    released(&world, "odd", by(PLUGIN), odd);
    let theirs = json!({"gcePersistentDisk": {"pdName": "d"}});
    released(&world, "theirs", by("kubernetes.io/gce-pd"), theirs);
    released(
        &world,
        "unmigrated",
        json!({}),
        json!({"awsElasticBlockStore": {"volumeID": "vol-1"}}),
    );
    let sidecar = Sidecar::start(&world);
    let words = [
        "VolumeFailedDelete",
        "\"aws://us-east-1a/disk\" is not aws://ZONE/vol-ID",
    ];
    world.is_told("odd", &words).await;
    sleep(secs(600)).await;
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    for pv in world.api.list("persistentvolumes") {
        assert!(!finalizers(&pv).contains(&FINALIZER.to_owned()), "{pv}");
        world
            .api
            .delete("persistentvolumes", "", text(&pv, "/metadata/name"));
    }
    assert!(world.events("theirs").is_empty() && world.events("unmigrated").is_empty());
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_from_before_the_annotations_goes_with_the_secret_of_the_plugins_class() {
    const DRIVER: &str = "pxd.portworx.com";
    const PORTWORX: &str = "kubernetes.io/portworx-volume";
    let world = World::new(DRIVER).namespace(HOME).rbac(MANIFESTS, HOME);
    let world = world
        .rbac(SECRETS, HOME)
        .secret("default", "px", &[("token", "hunter2")])
        .class_with("fast", |class| {
            class["provisioner"] = PORTWORX.into();
            class["parameters"] = json!({"repl": "3", "openstorage.io/auth-secret-name": "px",
                "openstorage.io/auth-secret-namespace": "${pvc.namespace}"});
        });
    at_driver(&world, "old");
    released(
        &world,
        "old",
        json!({"pv.kubernetes.io/provisioned-by": PORTWORX}),
        json!({"portworxVolume": {"volumeID": "old"}}),
    );
    let sidecar = Sidecar::start(&world);
    world.becomes_clean().await;
    let calls = world.driver.calls();
    let deletion = calls.iter().find(|call| call.method == "DeleteVolume").unwrap();
    assert_eq!(deletion.secrets["token"], "hunter2");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d38_a_restore_and_a_clone_of_the_plugins_class_are_made() {
    let world = migrated().claim("default", "origin", "1Gi");
    let more = [Capability::CreateDeleteSnapshot, Capability::CloneVolume];
    world
        .driver
        .configure(|identity| identity.capabilities.extend(more));
    world.add_snapshot("default", "backup", |_| {});
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    let copy = world.add_claim("default", "copy", "1Gi", cloned);
    let data = world.add_claim("default", "data", "1Gi", restored);
    world.becomes_bound("copy").await;
    world.becomes_bound("data").await;
    is_in_tree(&world, &copy);
    is_in_tree(&world, &data);
    assert_eq!(world.driver.volumes().len(), 3, "D-38");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d26_the_plugins_class_has_capacity_objects_with_the_drivers_parameters() {
    let world = World::new(EBS)
        .namespace(HOME)
        .rbac(MANIFESTS, HOME)
        .rbac(RIGHTS, HOME);
    let class = |name: &str, parameters: Value| {
        let change = move |class: &mut Value| {
            class["volumeBindingMode"] = "WaitForFirstConsumer".into();
            class["provisioner"] = PLUGIN.into();
            class["parameters"] = parameters;
        };
        (name.to_owned(), change)
    };
    let (fast, change) = class("fast", json!({"type": "gp3", "fsType": "xfs"}));
    let world = world.class_with(&fast, change);
    let (odd, change) = class("odd", json!({"zone": "us-east-1a", "zones": "us-east-1a"}));
    let world = world.class_with(&odd, change);
    let zone = [(ZONE, "us-east-1a")];
    world.driver.segment(Segment::new(&zone, Some(5 << 30)));
    let world = world.rbac(TOPOLOGY, HOME).node("node-a", &zone);
    pods(&world);
    let sidecar = Sidecar::with(&world, &[ON]);
    world
        .eventually("the room is published", |world| world.api.len(CAPACITIES) == 1)
        .await;
    let object = world.api.list(CAPACITIES).pop().unwrap();
    assert_eq!(
        (text(&object, "/storageClassName"), text(&object, "/capacity")),
        ("fast", "5Gi"),
        "D-26"
    );
    let request = world.driver.capacity_requests().pop().unwrap();
    let parameters: Vec<_> = request.parameters.into_iter().collect();
    assert_eq!(parameters, [("type".to_owned(), "gp3".to_owned())]);
    let calls = ["/GetCapacity\"", "migrated=\"true\""];
    assert!(sidecar.metric(CALLS, &calls).await >= 1.0);
    assert!(sidecar.logged(&["class=odd", "parameters zone and zones mean the same"]));
    sidecar.end(&world).await;
}
