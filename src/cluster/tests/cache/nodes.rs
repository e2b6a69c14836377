//! Where the driver runs, as Nodes and CSINodes tell.

use http::{Request, header::ACCEPT};
use kube::client::Body;
use sandbox::{Fault, Harm};
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::{
    base::segment::Segment,
    cluster::{
        cache::{NodeSource, Watched},
        client::over,
        topology::NodeProblem,
    },
};

const NODES: &str = "nodes";
const CSI_NODES: &str = "csinodes";

/// The cache of a driver with topology, its reflectors, and how often the topology may have changed.
struct Nodes {
    cache: Arc<Cache>,
    changes: Arc<Mutex<u32>>,
    reflectors: JoinHandle<()>,
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.reflectors.abort();
    }
}

impl Nodes {
    fn watch(api: &Api, need: Need) -> Self {
        Self::with(api, NodeSource::Watched(need))
    }

    fn with(api: &Api, nodes: NodeSource) -> Self {
        Self::over(api.client(ADMIN), nodes)
    }

    fn over(client: kube::Client, nodes: NodeSource) -> Self {
        let changes = Arc::new(Mutex::new(0));
        let seen = changes.clone();
        let on_event = move |event: CacheEvent<'_>| {
            if event == CacheEvent::Topology {
                *seen.lock() += 1;
            }
        };
        let predicates = Predicates {
            claim: |_, _| false,
            volume: |_, _| true,
        };
        let watched = Watched {
            nodes,
            ..Watched::default()
        };
        let cache = Arc::new(Cache::new("drv", predicates, watched, Box::new(on_event)));
        let running = cache.clone();
        let reflectors = tokio::spawn(async move {
            running.run(client).await;
        });
        Self {
            cache,
            changes,
            reflectors,
        }
    }

    async fn synced(&self) {
        let mut status = self.cache.sync_status();
        let complete = status.wait_for(|status| status.has_synced(Need::Capacity));
        timeout(Duration::from_secs(600), complete)
            .await
            .unwrap()
            .unwrap();
    }

    fn terms(&self) -> Vec<String> {
        self.cache
            .topology()
            .terms()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn segment_of(&self, node: &str) -> Result<String, NodeProblem> {
        self.cache
            .topology()
            .segment_of(node)
            .map(|segment| segment.to_string())
    }
}

fn node(api: &Api, name: &str, labels: Value) {
    api.create(NODES, "", json!({"metadata": {"name": name, "labels": labels}}));
}

fn csi_node(api: &Api, name: &str, driver: &str, keys: Value) {
    let drivers = json!([{"name": driver, "nodeID": name, "topologyKeys": keys}]);
    api.create(
        CSI_NODES,
        "",
        json!({"metadata": {"name": name}, "spec": {"drivers": drivers}}),
    );
}

fn register(api: &Api, name: &str, drivers: Value) {
    assert!(api.edit(CSI_NODES, "", name, |object| object["spec"]["drivers"] = drivers));
}

#[tokio::test(start_paused = true)]
async fn nodes_are_asked_for_their_metadata_and_keep_their_topology_labels_only() {
    let api = Api::new();
    node(&api, "a", json!({"zone": "1", "hostname": "a"}));
    csi_node(&api, "a", "drv", json!(["zone"]));
    node(&api, "b", json!({"zone": "2"}));
    csi_node(&api, "b", "other", json!(["zone"]));
    let (service, accepted) = (api.service(ADMIN), Arc::new(Mutex::new(Vec::new())));
    let seen = accepted.clone();
    let service = service_fn(move |request: Request<Body>| {
        if request.uri().path().ends_with(NODES) && !request.uri().path().ends_with(CSI_NODES) {
            seen.lock().push(request.headers()[ACCEPT].clone());
        }
        service.clone().oneshot(request)
    });
    let nodes = Nodes::over(over(service, "default"), NodeSource::Watched(Need::Volumes));
    nodes.synced().await;
    assert_eq!(nodes.terms(), ["zone=1"]);
    assert_eq!(nodes.cache.labels_of("a").to_string(), "zone=1");
    assert_eq!(
        nodes.segment_of("b"),
        Err(NodeProblem::NoDriver { node: "b".into() })
    );
    let accepted: Vec<_> = accepted
        .lock()
        .iter()
        .map(|it| it.to_str().unwrap().to_owned())
        .collect();
    assert!(!accepted.is_empty());
    let metadata_only = |accept: &String| accept.contains("as=PartialObjectMetadata");
    assert!(accepted.iter().all(metadata_only), "{accepted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_registered_later_is_read_from_the_nodes_again() {
    let api = Api::new();
    node(&api, "a", json!({"zone": "1", "rack": "x"}));
    csi_node(&api, "a", "drv", json!(["zone"]));
    let nodes = Nodes::watch(&api, Need::Volumes);
    nodes.synced().await;
    assert_eq!(nodes.segment_of("a"), Ok("zone=1".into()));
    register(
        &api,
        "a",
        json!([{"name": "drv", "nodeID": "a", "topologyKeys": ["rack", "zone"]}]),
    );
    until("the rack is known", || {
        let complete = !nodes.cache.topology().is_incomplete();
        assert!(
            !complete || !matches!(nodes.segment_of("a"), Err(NodeProblem::NoLabel { .. })),
            "a label that is being read is not missing"
        );
        nodes.segment_of("a") == Ok("rack=x,zone=1".into())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn d74_a_registration_that_vanishes_counts_for_two_minutes_while_its_node_stands() {
    let api = Api::new();
    for name in ["a", "b", "c"] {
        node(&api, name, json!({"zone": name}));
        csi_node(&api, name, "drv", json!(["zone"]));
    }
    let nodes = Nodes::watch(&api, Need::Volumes);
    nodes.synced().await;
    assert_eq!(nodes.cache.topology_expires(), None);
    // One plugin is replaced, one node loses its CSINode, one is deleted whole.
    register(&api, "a", json!([]));
    remove(&api, CSI_NODES, "", "b");
    remove(&api, CSI_NODES, "", "c");
    remove(&api, NODES, "", "c");
    until("the changes are seen", || nodes.terms() == ["zone=a", "zone=b"]).await;
    assert_eq!(
        nodes.segment_of("a"),
        Err(NodeProblem::NoDriver { node: "a".into() })
    );
    assert_eq!(
        nodes.segment_of("b"),
        Err(NodeProblem::NoCsiNode { node: "b".into() })
    );
    let left = nodes.cache.topology_expires().unwrap();
    assert!(left > Duration::from_secs(100), "{left:?}");
    register(
        &api,
        "a",
        json!([{"name": "drv", "nodeID": "a", "topologyKeys": ["zone"]}]),
    );
    until("a is back", || nodes.segment_of("a") == Ok("zone=a".into())).await;
    sleep(Duration::from_secs(130)).await;
    assert_eq!(nodes.terms(), ["zone=a"]);
    assert_eq!(nodes.cache.topology_expires(), None);
}

#[tokio::test(start_paused = true)]
async fn d20_another_order_of_keys_and_what_is_no_key_of_the_driver_is_no_change() {
    let api = Api::new();
    node(&api, "a", json!({"zone": "1", "host": "a"}));
    csi_node(&api, "a", "drv", json!(["host", "zone"]));
    let nodes = Nodes::watch(&api, Need::Volumes);
    nodes.synced().await;
    let (before, built) = (*nodes.changes.lock(), nodes.cache.topology());
    api.edit(NODES, "", "a", |node| {
        node["metadata"]["labels"]["colour"] = "red".into()
    });
    let drivers = json!([
        {"name": "drv", "nodeID": "a", "topologyKeys": ["zone", "host"]},
        {"name": "other", "nodeID": "a", "topologyKeys": ["rack"]},
    ]);
    register(&api, "a", drivers);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(*nodes.changes.lock(), before, "D-20");
    assert!(Arc::ptr_eq(&built, &nodes.cache.topology()), "built once");
    api.edit(NODES, "", "a", |node| {
        node["metadata"]["labels"]["zone"] = "2".into()
    });
    until("the label is seen", || nodes.terms() == ["host=a,zone=2"]).await;
    assert_eq!(*nodes.changes.lock(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn lists_that_only_capacity_needs_hold_up_nothing_else() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Status(403)).on("list", NODES));
    api.harm(Fault::new(Harm::Status(403)).on("watch", NODES));
    let nodes = Nodes::watch(&api, Need::Capacity);
    let mut status = nodes.cache.sync_status();
    let volumes = status.wait_for(|status| status.has_synced(Need::Volumes));
    timeout(Duration::from_secs(60), volumes).await.unwrap().unwrap();
    until("the refusal is known", || {
        let missing = status.borrow().missing(Need::Capacity);
        missing.iter().any(|text| text.contains("nodes"))
    })
    .await;
    assert!(status.borrow().missing(Need::Volumes).is_empty());
    api.heal();
    nodes.synced().await;
}

#[tokio::test(start_paused = true)]
async fn d68_beside_a_driver_on_one_node_only_the_volumes_that_it_reaches_need_work() {
    let api = Api::new();
    for (name, zone) in [("here", "1"), ("there", "2")] {
        volume(&api, name, "drv", "c", "Released");
        api.edit(VOLUMES, "", name, |object| {
            let zone = json!([{"key": "zone", "operator": "In", "values": [zone]}]);
            object["spec"]["nodeAffinity"] =
                json!({"required": {"nodeSelectorTerms": [{"matchExpressions": zone}]}});
        });
    }
    volume(&api, "anywhere", "drv", "c", "Released");
    let reached = async |segment: Segment, has_topology| {
        let name = "node-1".to_owned();
        let nodes = Nodes::with(
            &api,
            NodeSource::Own {
                name,
                segment,
                has_topology,
            },
        );
        nodes.synced().await;
        let uids = nodes.cache.volume_uids().into_iter();
        let volumes = uids.filter_map(|uid| nodes.cache.volume(&uid));
        let mut names: Vec<_> = volumes.map(|volume| volume.name.clone()).collect();
        names.sort();
        (names, nodes)
    };
    let (names, _) = reached(Segment::default(), true).await;
    assert_eq!(
        names,
        ["anywhere"],
        "what the driver here does not have it would delete with success"
    );
    let (names, _) = reached(Segment::default(), false).await;
    assert_eq!(names, ["anywhere", "here", "there"]);
    let segment: Segment = [("zone", "1")].into_iter().collect();
    let (names, nodes) = reached(segment, true).await;
    assert_eq!(names, ["anywhere", "here"], "D-68");
    assert_eq!(nodes.segment_of("node-1"), Ok("zone=1".into()));
    assert_eq!((api.count("list", NODES), api.count("watch", NODES)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn nodes_are_not_synced_before_they_are_watched() {
    let id = "seg.HasSynced.01";
    let api = Api::new();
    let predicates = Predicates {
        claim: |_, _| false,
        volume: |_, _| true,
    };
    let watched = Watched {
        nodes: NodeSource::Watched(Need::Capacity),
        ..Watched::default()
    };
    let cache = Arc::new(Cache::new("drv", predicates, watched, Box::new(|_| {})));
    let mut status = cache.sync_status();
    let synced = timeout(
        Duration::from_secs(10),
        status.wait_for(|status| status.has_synced(Need::Capacity)),
    );
    assert!(synced.await.is_err(), "{id}: nobody watches");
    let running = cache.clone();
    let reflectors = tokio::spawn(async move { running.run(api.client(ADMIN)).await });
    let synced = timeout(
        Duration::from_secs(10),
        status.wait_for(|status| status.has_synced(Need::Capacity)),
    );
    assert!(synced.await.is_ok(), "{id}: all lists are complete");
    reflectors.abort();
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_csi_node_comes_without_the_driver_waits_for_it() {
    let api = Api::new();
    csi_node(&api, "a", "drv", json!(["zone"]));
    node(&api, "a", json!({"zone": "1"}));
    let nodes = Nodes::watch(&api, Need::Volumes);
    nodes.synced().await;
    node(&api, "b", json!({"zone": "2"}));
    until("the node is seen", || !nodes.cache.labels_of("b").is_empty()).await;
    let absent = NodeProblem::NoCsiNode { node: "b".into() };
    assert_eq!(nodes.segment_of("b"), Err(absent));
    csi_node(&api, "b", "other", json!([]));
    let waits = NodeProblem::NoDriver { node: "b".into() };
    until("its CSINode is seen", || {
        nodes.segment_of("b") == Err(waits.clone())
    })
    .await;
    let drivers = json!([{"name": "drv", "nodeID": "b", "topologyKeys": ["zone"]}]);
    register(&api, "b", drivers);
    until("the driver is seen", || {
        nodes.segment_of("b") == Ok("zone=2".into())
    })
    .await;
}
