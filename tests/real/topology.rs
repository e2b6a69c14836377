//! Volumes that only some nodes can reach: the scheduler, the sidecar and the driver agree on where they are.

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt;
use serde_json::json;

use crate::{
    audit,
    cluster::{Cluster, Rights},
    driver::{Driver, Labels, Options, Segment, Upset},
    sidecar::{Binary, Shape, Sidecar, under_test},
    world::{SOON, World},
};

const GIB: i64 = 1 << 30;
const TOPOLOGY: &[&str] = &["topology"];
const CAPACITY: &[&str] = &["topology", "capacity"];
const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// The only zone from which the volume is reached.
pub(crate) fn zone(volume: &PersistentVolume) -> Labels {
    let affinity = volume.spec.as_ref().unwrap().node_affinity.as_ref().unwrap();
    let [term] = affinity.required.as_ref().unwrap().node_selector_terms.as_slice() else {
        panic!("{affinity:?}");
    };
    let expressions = term.match_expressions.iter().flatten();
    expressions
        .map(|it| {
            let [value] = it.values.as_deref().unwrap() else {
                panic!("{it:?}");
            };
            assert_eq!(it.operator, "In");
            (it.key.clone(), value.clone())
        })
        .collect()
}

pub(crate) fn segment(labels: &Labels, bytes: Option<i64>) -> Segment {
    Segment {
        labels: labels.clone(),
        bytes,
        volumes: None,
    }
}

/// What the manifests grant in this shape; upstream needs its own.
pub(crate) fn rights(components: &'static [&'static str]) -> Rights {
    match under_test() {
        Binary::Ours => Rights::OursWith(components),
        Binary::Upstream => Rights::Upstream,
    }
}

/// Nothing was denied, and no right of the last component is idle.
pub(crate) async fn rights_fit(world: &World, components: &'static [&'static str]) {
    audit::assert_nothing_denied(world);
    if under_test() == Binary::Ours {
        audit::component_is_used(world, components).await;
    }
}

pub(crate) async fn late_class(world: &World, driver: &Driver) -> String {
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    world.class("late", &driver.name, waits).await
}

pub(crate) async fn follows_the_scheduler(cluster: &'static Cluster) {
    let world = World::new(cluster, "topology", rights(TOPOLOGY)).await;
    let zones = ["a", "b", "c"].map(|zone| world.labels([("zone", zone)]));
    let options = Options {
        segments: zones.iter().map(|zone| segment(zone, None)).collect(),
        ..Options::default()
    };
    let driver = Driver::with(&world, options).await;
    for (name, labels) in ["a", "b", "c"].iter().zip(&zones) {
        world.node(name, &driver.name, labels).await;
    }
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    let class = late_class(&world, &driver).await;
    for (name, labels) in ["a", "b", "c"].iter().zip(&zones) {
        world.claim(name, &class).await;
        world.pod(name, &[name], labels).await;
    }
    for (name, labels) in ["a", "b", "c"].iter().zip(&zones) {
        let volume = world.bound(name, SOON).await;
        assert_eq!(zone(&volume), *labels);
        assert_eq!(world.placed(name).await, world.node_name(name));
        let calls = driver.calls_of("CreateVolume");
        let call = calls
            .iter()
            .find(|call| call.request["name"] == json!(volume.name_any()))
            .unwrap();
        let terms = &call.request["accessibility_requirements"];
        assert_eq!(terms["preferred"][0], json!({"segments": labels}), "{terms}");
        assert_eq!(terms["requisite"].as_array().unwrap().len(), 3, "{terms}");
    }

    // Without a consumer and in one zone by the class.
    let [key] = zones[1].keys().collect::<Vec<_>>()[..] else {
        panic!("one key each");
    };
    let allowed = json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": key, "values": ["b"]}]}]});
    let early = world.class("early", &driver.name, allowed).await;
    world.claim("early", &early).await;
    assert_eq!(zone(&world.bound("early", SOON).await), zones[1]);
    audit::assert_nothing_denied(&world);
}

pub(crate) async fn capacity_is_published(cluster: &'static Cluster) {
    let world = World::new(cluster, "published", rights(CAPACITY)).await;
    let [near, far] = ["near", "far"].map(|zone| world.labels([("zone", zone)]));
    let mut options = Options {
        segments: vec![segment(&near, Some(GIB / 2)), segment(&far, Some(GIB + GIB / 2))],
        ..Options::default()
    };
    let driver = Driver::with(&world, options.clone()).await;
    world.csi_driver(&driver, true).await;
    world.node("near", &driver.name, &near).await;
    world.node("far", &driver.name, &far).await;
    let flags = [
        "--leader-election",
        "--enable-capacity",
        "--capacity-ownerref-level=2",
        "--capacity-poll-interval=1s",
        "--kube-api-capacity-qps=100",
        "--kube-api-capacity-burst=200",
    ];
    let above = world.replica_set().await;
    let shape = Shape {
        owner: Some(&above),
        ..Shape::default()
    };
    let _sidecar = Sidecar::start_in(&world, under_test(), &driver, "sidecar-0", &flags, shape).await;
    let class = late_class(&world, &driver).await;
    world.claim("first", &class).await;
    world.pod("first", &["first"], &Labels::new()).await;
    assert_eq!(zone(&world.bound("first", SOON).await), far);

    // The first one took what was there.
    world.claim("second", &class).await;
    world.pod("second", &["second"], &Labels::new()).await;
    world
        .unschedulable("second", "did not have enough free storage")
        .await;
    options.segments[0].bytes = Some(4 * GIB);
    driver.configure(&options);
    assert_eq!(zone(&world.bound("second", SOON).await), near);
    assert_eq!(
        driver.calls_of("CreateVolume").len(),
        2,
        "nothing was tried in vain"
    );
    for object in world.capacities().await.unwrap() {
        let owners = object.owner_references();
        assert_eq!((owners.len(), owners[0].kind.as_str()), (1, "Deployment"));
    }
    world.delete_class(&class).await;
    world.no_capacities().await;
    rights_fit(&world, CAPACITY).await;
}

/// The only node there is is full, by what the driver says; then it is closed, and there is another one.
pub(crate) async fn exhausted(cluster: &'static Cluster) {
    let world = World::new(cluster, "exhausted", rights(TOPOLOGY)).await;
    let [near, far] = ["near", "far"].map(|zone| world.labels([("zone", zone)]));
    let options = Options {
        segments: vec![segment(&near, Some(0)), segment(&far, None)],
        ..Options::default()
    };
    let driver = Driver::with(&world, options).await;
    let full = world.node("near", &driver.name, &near).await;
    let flags = ["--leader-election", "--strict-topology"];
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &flags).await;
    let class = late_class(&world, &driver).await;
    world.claim("data", &class).await;
    world.pod("consumer", &["data"], &Labels::new()).await;
    world
        .event("data", "ProvisioningFailed", 1, "ResourceExhausted")
        .await;
    cluster.kubectl(&["cordon", &full]).unwrap();
    let roomy = world.node("far", &driver.name, &far).await;
    assert_eq!(zone(&world.bound("data", 2 * SOON).await), far);
    assert_eq!(world.placed("consumer").await, roomy);
    rights_fit(&world, TOPOLOGY).await;
}

pub(crate) async fn node_deleted(cluster: &'static Cluster) {
    let world = World::new(cluster, "deleted", rights(TOPOLOGY)).await;
    let [near, far] = ["near", "far"].map(|zone| world.labels([("zone", zone)]));
    let options = Options {
        segments: vec![segment(&near, None), segment(&far, None)],
        script: vec![Upset {
            method: "CreateVolume".into(),
            code: "INTERNAL".into(),
            when: Some(Upset::in_place(&near)),
            ..Upset::default()
        }],
        ..Options::default()
    };
    let driver = Driver::with(&world, options).await;
    let doomed = world.node("near", &driver.name, &near).await;
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    let class = late_class(&world, &driver).await;
    world.claim("data", &class).await;
    world.pod("consumer", &["data"], &Labels::new()).await;
    world.event("data", "ProvisioningFailed", 1, "Internal").await;
    let claim = world.claims.get("data").await.unwrap();
    assert_eq!(
        claim.annotations()[SELECTED],
        doomed,
        "a final error leaves it there"
    );
    world.delete_node(&doomed).await;
    let other = world.node("far", &driver.name, &far).await;
    assert_eq!(zone(&world.bound("data", 2 * SOON).await), far);
    assert_eq!(world.placed("consumer").await, other);
    rights_fit(&world, TOPOLOGY).await;
}
