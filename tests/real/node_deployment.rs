//! A sidecar and a driver on each of two nodes: whose claim is whose, and where there is room.

use std::collections::BTreeSet;

use kube::ResourceExt;
use serde_json::json;

use crate::{
    cluster::Cluster,
    driver::{Driver, Labels, NodeInfo, Options},
    sidecar::{Binary, Shape, Sidecar, under_test},
    topology::{late_class, rights, rights_fit, segment, zone},
    world::{SOON, World, eventually, text},
};

const GIB: i64 = 1 << 30;
const NODES: &[&str] = &["node-deployment"];
const CAPACITY: &[&str] = &["node-deployment", "node-deployment/capacity"];

/// Each node has volumes of its own.
pub(crate) async fn share_claims(cluster: &'static Cluster) {
    let world = World::new(cluster, "two-nodes", rights(NODES)).await;
    let flags = ["--node-deployment", "--node-deployment-base-delay=200ms"];
    let (mut options, drivers, _sidecars) = two_nodes(&world, [None, None], &flags).await;
    let class = late_class(&world, &drivers[0].1).await;
    for (name, (labels, _)) in ["a", "b"].iter().zip(&drivers) {
        world.claim(name, &class).await;
        world.pod(name, &[name], labels).await;
    }
    let mut all = BTreeSet::new();
    for (name, (labels, driver)) in ["a", "b"].iter().zip(&drivers) {
        let volume = world.bound(name, SOON).await;
        assert_eq!(zone(&volume), *labels);
        let handle = volume.spec.unwrap().csi.unwrap().volume_handle;
        assert_eq!(driver.volumes(), BTreeSet::from([handle.clone()]));
        all.insert(handle);
    }
    assert_eq!(all.len(), 2);

    // What no scheduler decides, the sidecars settle among themselves.
    let early = world
        .class(
            "early",
            &drivers[0].1.name,
            json!({"volumeBindingMode": "Immediate"}),
        )
        .await;
    world.many_claims("early", &early, 6).await;
    world.all_bound(8, SOON).await;
    let made = || drivers.iter().map(|(_, driver)| driver.volumes().len());
    assert_eq!(made().sum::<usize>(), 8, "one owner each");

    for index in 0..6 {
        world.delete_claim(&format!("early-{index}")).await;
    }
    eventually("the volumes are gone", SOON, async || {
        let left = world.volumes_of(&drivers[0].1.name).await.map_err(text)?.len();
        let made: Vec<_> = made().collect();
        match (left, made.as_slice()) {
            (2, [1, 1]) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    for (_, driver) in &drivers {
        // Each deletion went to the node that has the volume.
        let own = driver.node.as_deref().unwrap();
        let deletions = driver.calls_of("DeleteVolume");
        assert!(
            deletions.iter().all(|call| call.volume_id.starts_with(own)),
            "{deletions:?}"
        );
    }

    // Full, the two of them.
    for (options, (_, driver)) in options.iter_mut().zip(&drivers) {
        options.segments[0].bytes = Some(0);
        driver.configure(options);
    }
    world.claim("homeless", &early).await;
    if under_test() == Binary::Ours {
        let text = "no other node has taken the claim";
        world.event("homeless", "ProvisioningFailed", 1, text).await;
    }
    options[1].segments[0].bytes = None;
    drivers[1].1.configure(&options[1]);
    assert_eq!(zone(&world.bound("homeless", SOON).await), drivers[1].0);
    rights_fit(&world, NODES).await;
}

/// Each in its own place, which has so much room; `a` and `b`.
async fn two_nodes(
    world: &World,
    room: [Option<i64>; 2],
    flags: &[&str],
) -> (Vec<Options>, Vec<(Labels, Driver)>, Vec<Sidecar>) {
    let (mut all, mut drivers, mut sidecars) = (Vec::new(), Vec::new(), Vec::new());
    for (name, bytes) in ["a", "b"].into_iter().zip(room) {
        let labels = world.labels([("host", name)]);
        let options = Options {
            segments: vec![segment(&labels, bytes)],
            node: Some(NodeInfo {
                id: world.node_name(name),
                labels: labels.clone(),
                ..NodeInfo::default()
            }),
            ..Options::default()
        };
        let driver = Driver::with(world, options.clone()).await;
        world.node(name, &driver.name, &labels).await;
        let pod = format!("sidecar-{name}");
        let shape = Shape {
            owner: Some("7e0e4ed5-2f6f-4a3b-8c55-0f2f0c1c2a11"),
            ..Shape::default()
        };
        sidecars.push(Sidecar::start_in(world, under_test(), &driver, &pod, flags, shape).await);
        drivers.push((labels, driver));
        all.push(options);
    }
    (all, drivers, sidecars)
}

pub(crate) async fn capacity_is_published(cluster: &'static Cluster) {
    let world = World::new(cluster, "room-on-nodes", rights(CAPACITY)).await;
    let flags = [
        "--node-deployment",
        "--enable-capacity",
        "--capacity-poll-interval=1s",
    ];
    let room = [Some(GIB / 2), Some(GIB + GIB / 2)];
    let (_, drivers, _sidecars) = two_nodes(&world, room, &flags).await;
    world.csi_driver(&drivers[0].1, true).await;
    let class = late_class(&world, &drivers[0].1).await;
    world.claim("data", &class).await;
    world.pod("consumer", &["data"], &Labels::new()).await;
    assert_eq!(zone(&world.bound("data", SOON).await), drivers[1].0);
    assert_eq!(drivers[0].1.calls_of("CreateVolume").len(), 0);

    world.claim("more", &class).await;
    world.pod("more", &["more"], &Labels::new()).await;
    world
        .unschedulable("more", "did not have enough free storage")
        .await;
    let objects = eventually("each node publishes its own capacity", SOON, async || {
        let objects = world.capacities().await.map_err(text)?;
        match objects.len() {
            2 => Ok(objects),
            _ => Err(format!("{objects:?}")),
        }
    })
    .await;
    for object in &objects {
        let owners = object.owner_references();
        // As the Pod says it, one level above.
        assert_eq!((owners.len(), owners[0].name.as_str()), (1, "owner"));
    }
    world.delete_class(&class).await;
    world.no_capacities().await;
    rights_fit(&world, CAPACITY).await;
}
