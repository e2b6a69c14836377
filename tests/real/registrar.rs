//! Our registrar beside a real kubelet: what it registers, when it registers anew, and that volumes get mounted.

use k8s_openapi::api::{core::v1::Pod, storage::v1::CSINodeDriver};
use kube::{Api, ResourceExt, api::DeleteParams};

use crate::{
    cluster::{Cluster, Rights},
    driver::{Driver, Labels, NodeInfo, Options, Upset},
    kubelet::{Kubelet, NODE, start_registrar},
    sidecar::{Sidecar, under_test},
    supervisor::SIGTERM,
    topology::{late_class, rights, segment},
    world::{SOON, World, eventually, text},
};

/// One on the real node, which it calls by another name.
fn on_node(world: &World, labels: &Labels, limit: i32) -> Options {
    Options {
        node: Some(NodeInfo {
            id: world.node_name("id"),
            labels: labels.clone(),
            limit,
        }),
        ..Options::default()
    }
}

/// Each comes and goes without the other one.
pub(crate) async fn two_drivers(cluster: &'static Cluster) {
    let kubelet = Kubelet::shared(cluster).await;
    let _turn = kubelet.stays().await;
    let world = World::new(cluster, "registered", Rights::Ours).await;
    let labels = world.labels([("zone", "a"), ("rack", "7")]);
    let first = Driver::with(&world, on_node(&world, &labels, 7)).await;
    let second = Options {
        name: Some("other.csi.example.com"),
        node: Some(NodeInfo {
            id: world.node_name("other"),
            ..NodeInfo::default()
        }),
        ..Options::default()
    };
    let second = Driver::with(&world, second).await;
    let registrar = start_registrar(&world, kubelet, &first);
    let _other = start_registrar(&world, kubelet, &second);

    let seen = kubelet.registers(&first.name).await;
    assert_eq!(seen.node_id, world.node_name("id"));
    assert_eq!(seen.topology_keys, Some(labels.keys().cloned().collect()));
    assert_eq!(count(&seen), Some(7));
    let seen = kubelet.registers(&second.name).await;
    assert_eq!(seen.node_id, world.node_name("other"));
    assert_eq!((seen.topology_keys, seen.allocatable), (None, None));
    let node = kubelet.node().await.unwrap();
    for (key, value) in &labels {
        assert_eq!(node.labels().get(key), Some(value));
    }
    let ids = kubelet.node_ids().await.unwrap();
    assert_eq!(ids[&first.name], world.node_name("id"));
    assert_eq!(ids[&second.name], world.node_name("other"));

    // An update that starts the new one before it ends the old one.
    let surge = start_registrar(&world, kubelet, &first);
    asked(&first, 2).await;
    registrar.signal(SIGTERM);
    assert_eq!(registrar.ended(SOON).await, 0);
    let socket = kubelet.registry().join(format!("{}-reg.sock", first.name));
    assert!(socket.exists(), "the old one took the new one's socket away");
    kubelet.registers(&first.name).await;

    surge.signal(SIGTERM);
    assert_eq!(surge.ended(SOON).await, 0);
    assert!(!socket.exists(), "{}", socket.display());
    kubelet.forgets(&first.name).await;
    kubelet.registers(&second.name).await;
    assert_eq!(
        kubelet.node_ids().await.unwrap()[&second.name],
        world.node_name("other")
    );

    let again = start_registrar(&world, kubelet, &first);
    kubelet.registers(&first.name).await;
    again.assert_runs();
    assert_eq!(
        second.calls_of("NodeGetInfo").len(),
        1,
        "the other one was left alone"
    );
}

/// Waits until the kubelet has asked the driver for its node so often.
async fn asked(driver: &Driver, times: usize) {
    eventually(
        &format!("NodeGetInfo for the {times}th time"),
        SOON,
        async || match driver.calls_of("NodeGetInfo").len() {
            seen if seen >= times => Ok(()),
            seen => Err(format!("{seen} calls")),
        },
    )
    .await;
}

/// The registrar ends, as upstream's does, so that its container's restarts tell of it.
pub(crate) async fn refused(cluster: &'static Cluster) {
    let kubelet = Kubelet::shared(cluster).await;
    let _turn = kubelet.stays().await;
    let world = World::new(cluster, "refused", Rights::Ours).await;
    let mut options = on_node(&world, &Labels::new(), 0);
    options.script = vec![Upset {
        method: "NodeGetInfo".into(),
        code: "INTERNAL".into(),
        message: "the metadata service is away".into(),
        ..Upset::default()
    }];
    let driver = Driver::with(&world, options.clone()).await;
    let registrar = start_registrar(&world, kubelet, &driver);
    assert_eq!(registrar.ended(SOON).await, 1);
    let log = registrar.tail(20);
    assert!(log.contains("the metadata service is away"), "{log}");
    let drivers = kubelet.drivers().await.unwrap();
    assert!(drivers.iter().all(|it| it.name != driver.name), "{drivers:?}");

    options.script.clear();
    driver.configure(&options);
    let registrar = start_registrar(&world, kubelet, &driver);
    kubelet.registers(&driver.name).await;
    registrar.assert_runs();
}

/// An upgrade may bring another name, and the registrar is not restarted with the driver.
pub(crate) async fn renamed(cluster: &'static Cluster) {
    const RENAMED: &str = "renamed.csi.example.com";
    let kubelet = Kubelet::shared(cluster).await;
    let _turn = kubelet.stays().await;
    let world = World::new(cluster, "to-rename", Rights::Ours).await;
    let mut options = on_node(&world, &Labels::new(), 0);
    let driver = Driver::with(&world, options.clone()).await;
    let registrar = start_registrar(&world, kubelet, &driver);
    kubelet.registers(&driver.name).await;

    options.name = Some(RENAMED);
    driver.configure(&options);
    driver.restart().await;
    kubelet.registers(RENAMED).await;
    kubelet.forgets(&driver.name).await;
    assert_eq!(kubelet.node_ids().await.unwrap()[RENAMED], world.node_name("id"));
    let socket = kubelet.registry().join(format!("{}-reg.sock", driver.name));
    assert!(!socket.exists(), "{}", socket.display());
    registrar.assert_runs();
}

/// Sockets that were there before it are found, whoever was there first.
pub(crate) async fn kubelet_restarted(cluster: &'static Cluster) {
    let kubelet = Kubelet::shared(cluster).await;
    let _turn = kubelet.may_stop().await;
    let world = World::new(cluster, "kubelet-gone", Rights::Ours).await;
    let mut options = on_node(&world, &Labels::new(), 3);
    let driver = Driver::with(&world, options.clone()).await;
    let registrar = start_registrar(&world, kubelet, &driver);
    kubelet.registers(&driver.name).await;

    kubelet.stop();
    // What it knows from before, it must ask again.
    options.node.as_mut().unwrap().limit = 4;
    driver.configure(&options);
    let late = Options {
        name: Some("late.csi.example.com"),
        node: Some(NodeInfo {
            id: world.node_name("late"),
            ..NodeInfo::default()
        }),
        ..Options::default()
    };
    let late = Driver::with(&world, late).await;
    let second = start_registrar(&world, kubelet, &late);
    kubelet.start();
    kubelet
        .registers_with(&driver.name, |it| count(it) == Some(4))
        .await;
    kubelet.registers(&late.name).await;
    registrar.assert_runs();
    second.assert_runs();
}

/// How many volumes the scheduler may put there.
fn count(driver: &CSINodeDriver) -> Option<i32> {
    driver.allocatable.as_ref()?.count
}

/// The whole way: what the registrar told is where the scheduler puts the Pod and the provisioner makes the volume.
pub(crate) async fn mounted(cluster: &'static Cluster) {
    let kubelet = Kubelet::shared(cluster).await;
    let _turn = kubelet.stays().await;
    let world = World::new(cluster, "mounted", rights(&["topology"])).await;
    let labels = world.labels([("zone", "a")]);
    let mut options = on_node(&world, &labels, 0);
    options.segments = vec![segment(&labels, None)];
    let driver = Driver::with(&world, options).await;
    world.csi_driver(&driver, false).await;
    let _registrar = start_registrar(&world, kubelet, &driver);
    kubelet.registers(&driver.name).await;
    world.adopt(NODE).await;

    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &["--leader-election"]).await;
    let class = late_class(&world, &driver).await;
    world.claim("data", &class).await;
    world.pod("consumer", &["data"], &labels).await;
    assert_eq!(world.placed("consumer").await, NODE);
    let volume = world.bound("data", SOON).await;
    let handle = volume
        .spec
        .as_ref()
        .unwrap()
        .csi
        .as_ref()
        .unwrap()
        .volume_handle
        .clone();
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    eventually("the Pod runs", SOON, async || {
        let status = pods.get("consumer").await.map_err(text)?.status.unwrap();
        match status.phase.as_deref() {
            Some("Running") => Ok(()),
            _ => Err(format!("{status:?}")),
        }
    })
    .await;
    let answered = |method: &str| {
        let calls = driver.calls_of(method);
        let mut calls = calls.iter().filter(|call| call.code == "OK");
        calls.any(|call| call.volume_id == handle)
    };
    assert!(
        answered("NodeStageVolume") && answered("NodePublishVolume"),
        "{:#?}",
        driver.calls()
    );

    pods.delete("consumer", &DeleteParams::default()).await.unwrap();
    eventually("the volume is unmounted", 2 * SOON, async || {
        match answered("NodeUnpublishVolume") && answered("NodeUnstageVolume") {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        }
    })
    .await;
    world.delete_claim("data").await;
    world.gone(&volume, SOON).await;
    assert!(driver.volumes().is_empty());
}
