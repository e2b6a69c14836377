//! What is published about the room that a driver has.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::storage::v1::{CSIStorageCapacity, StorageClass};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{Differences, seen::Seen};
use crate::{
    driver::{Driver, Labels, Options, Segment, Upset},
    sidecar::{Binary, Shape, Sidecar},
    world::{SOON, World, eventually, text},
};

const GIB: i64 = 1 << 30;

/// The pace of a test.
pub(super) const QUICKLY: [&str; 3] = [
    "--enable-capacity",
    "--kube-api-capacity-qps=100",
    "--kube-api-capacity-burst=200",
];

pub(super) fn room(labels: &Labels, gib: i64) -> Segment {
    Segment {
        labels: labels.clone(),
        bytes: Some(gib * GIB),
        volumes: None,
    }
}

async fn classes(world: &World, driver: &Driver, parameters: Value) {
    let late = json!({"volumeBindingMode": "WaitForFirstConsumer", "parameters": parameters});
    world.class("late", &driver.name, late).await;
    world.class("early", &driver.name, json!({})).await;
}

/// With segments, classes and volumes; nothing is seen by polling.
pub(super) async fn follows(world: &World, binary: Binary) -> BTreeSet<String> {
    let [near, far, mid] = ["near", "far", "mid"].map(|zone| world.labels([("region", "r"), ("zone", zone)]));
    let mut options = Options {
        segments: vec![room(&near, 8), room(&far, 4)],
        ..Options::default()
    };
    let driver = Driver::with(world, options.clone()).await;
    let near_node = world.node("near", &driver.name, &near).await;
    world.node("far", &driver.name, &far).await;
    world.node("far2", &driver.name, &far).await;
    classes(world, &driver, json!({"type": "fast"})).await;
    let flags = [
        &QUICKLY[..],
        &["--capacity-poll-interval=1h", "--capacity-ownerref-level=1"],
    ]
    .concat();
    let shape = Shape {
        owner: Some("5b0c2b8e-7d8c-4a53-9f0b-3d3c6a3f0a11"),
        ..Shape::default()
    };
    let sidecar = Sidecar::start_in(world, binary, &driver, "sidecar-0", &flags, shape).await;
    let mut seen = Seen::new(world);
    seen.capacities("at first", &[("late", "r/near", 8192), ("late", "r/far", 4096)])
        .await;

    // A volume takes room, and gives it back.
    seen.claim_on("data", "late", &near_node).await;
    let volume = seen.bound("data").await;
    seen.capacities(
        "beside a volume",
        &[("late", "r/near", 7168), ("late", "r/far", 4096)],
    )
    .await;
    world.delete_claim("data").await;
    world.gone(&volume, SOON).await;
    seen.capacities("after it", &[("late", "r/near", 8192), ("late", "r/far", 4096)])
        .await;

    // A volume that cannot be made says that all figures of its class are old.
    options.segments = vec![room(&near, 16), room(&far, 0)];
    options.script = vec![Upset {
        method: "CreateVolume",
        code: "INTERNAL",
        nth: 1,
        labels: None,
    }];
    driver.configure(&options);
    seen.claim_on("late", "late", &near_node).await;
    seen.bound_and_deleted(&["late"]).await;
    let two = [("late", "r/near", 16384), ("late", "r/far", 0)];
    seen.capacities("after a failure", &two).await;

    // A class and a zone more.
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    let later = world.class("later", &driver.name, waits).await;
    let both = [&two[..], &[("later", "r/near", 16384), ("later", "r/far", 0)]].concat();
    seen.capacities("of another class", &both).await;
    options.segments.push(room(&mid, 2));
    driver.configure(&options);
    let mid_node = world.node("mid", &driver.name, &mid).await;
    let three = [&both[..], &[("late", "r/mid", 2048), ("later", "r/mid", 2048)]].concat();
    seen.capacities("of another zone", &three).await;
    world.delete_node(&mid_node).await;
    seen.capacities("without that zone", &both).await;
    let classes: Api<StorageClass> = Api::all(world.client.clone());
    classes.delete(&later, &DeleteParams::default()).await.unwrap();
    seen.capacities("without that class", &two).await;

    sidecar.assert_runs();
    seen.calls(&driver);
    seen.events(&driver).await;
    seen.lines
}

pub(super) const KEPT: Differences = Differences {
    allowed: &[
        (
            r#"GetCapacity: OK for {"accessible_topology":{"segments":{"<world>.example.com/zone":"near"}},"parameters":{"csi.storage.k8s.io/fstype":"xfs","type":"fast"}}"#,
            "it gets the keys that are the provisioner's own, too (D-3)",
        ),
        (
            r#"GetCapacity: OK for {"accessible_topology":{"segments":{"<world>.example.com/zone":"near"}},"parameters":{"type":"fast"}}"#,
            "it gets what CreateVolume gets (D-3)",
        ),
        (
            r#"GetCapacity: OK for {"accessible_topology":{"segments":{"<world>.example.com/zone":"far"}},"parameters":{"csi.storage.k8s.io/fstype":"xfs","type":"fast"}}"#,
            "it gets the keys that are the provisioner's own, too (D-3)",
        ),
        (
            r#"GetCapacity: OK for {"accessible_topology":{"segments":{"<world>.example.com/zone":"far"}},"parameters":{"type":"fast"}}"#,
            "it gets what CreateVolume gets (D-3)",
        ),
    ],
    peer_6_3: &[],
};

/// By polling: what somebody else did to the objects is undone, and what is right is left alone.
pub(super) async fn kept(world: &World, binary: Binary) -> BTreeSet<String> {
    let [near, far] = ["near", "far"].map(|zone| world.labels([("zone", zone)]));
    let options = Options {
        segments: vec![room(&near, 8), room(&far, 4)],
        ..Options::default()
    };
    let driver = Driver::with(world, options).await;
    world.node("near", &driver.name, &near).await;
    world.node("far", &driver.name, &far).await;
    classes(
        world,
        &driver,
        json!({"type": "fast", "csi.storage.k8s.io/fstype": "xfs"}),
    )
    .await;
    let flags = [
        &QUICKLY[..],
        &[
            "--capacity-poll-interval=1s",
            "--capacity-ownerref-level=-1",
            "--capacity-for-immediate-binding",
        ],
    ]
    .concat();
    let shape = Shape {
        without: &["POD_NAME"],
        ..Shape::default()
    };
    let sidecar = Sidecar::start_in(world, binary, &driver, "sidecar-0", &flags, shape).await;
    let objects: Api<CSIStorageCapacity> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut seen = Seen::new(world);
    let four = [
        ("late", "near", 8192),
        ("late", "far", 4096),
        ("early", "near", 8192),
        ("early", "far", 4096),
    ];
    seen.capacities("at first", &four).await;
    // Upstream writes some twice at start, and takes them back.
    let mut before = versions(world).await;
    for _ in 0..5 {
        polled(&driver).await;
        let now = versions(world).await;
        if std::mem::replace(&mut before, now.clone()) == now {
            break;
        }
    }
    assert_eq!(before.len(), 4);
    polled(&driver).await;
    assert_eq!(
        versions(world).await,
        before,
        "a poll that brings nothing new writes nothing"
    );

    // Of another provisioner, and none of ours for a class that is not there.
    let object = |managed_by: &str, class: &str| -> CSIStorageCapacity {
        serde_json::from_value(json!({
            "metadata": {"generateName": "csisc-", "labels": {
                "csi.storage.k8s.io/drivername": driver.name,
                "csi.storage.k8s.io/managed-by": managed_by,
            }},
            "storageClassName": format!("{}-{class}", world.namespace),
            "nodeTopology": {"matchLabels": near},
            "capacity": "1Mi",
        }))
        .unwrap()
    };
    let create = async |object| {
        objects
            .create(&PostParams::default(), &object)
            .await
            .unwrap()
            .name_any()
    };
    let foreign = create(object("somebody-else", "late")).await;
    create(object("external-provisioner", "gone")).await;
    seen.capacities("without the obsolete", &four).await;
    create(object("external-provisioner", "late")).await;
    seen.capacities("without the double", &four).await;
    // Which of two equal ones stays is open: upstream keeps the one it saw first, ours the one that any replica would.
    let before = versions(world).await;

    let names: Vec<_> = before.keys().cloned().collect();
    let edit = async |name: &str, patch: Value| {
        let patch = Patch::Merge(patch);
        objects
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    };
    edit(&names[0], json!({"capacity": "3Mi"})).await;
    seen.capacities("after an edit", &four).await;
    assert!(
        versions(world).await.contains_key(&names[0]),
        "it is the same object"
    );
    objects.delete(&names[1], &DeleteParams::default()).await.unwrap();
    seen.capacities("after a deletion", &four).await;
    // Whoever takes the label off takes the object over.
    let unlabelled = json!({"metadata": {"labels": {"csi.storage.k8s.io/managed-by": null}}});
    edit(&names[2], unlabelled).await;
    seen.capacities("beside one that was taken over", &four).await;
    polled(&driver).await;
    for name in [&foreign, &names[2]] {
        objects.get(name).await.unwrap();
    }

    sidecar.assert_runs();
    seen.calls(&driver);
    seen.events(&driver).await;
    seen.lines
}

/// Waits for two polls of four objects.
async fn polled(driver: &Driver) {
    let count = || driver.calls_of("GetCapacity").len();
    let wanted = count() + 8;
    eventually("the driver is polled twice", SOON, async || {
        let now = count();
        if now >= wanted { Ok(()) } else { Err(text(now)) }
    })
    .await;
}

/// The managed objects' versions by name.
async fn versions(world: &World) -> BTreeMap<String, String> {
    let objects = world.capacities().await.unwrap();
    let version = |object: &CSIStorageCapacity| (object.name_any(), object.resource_version().unwrap());
    objects.iter().map(version).collect()
}
