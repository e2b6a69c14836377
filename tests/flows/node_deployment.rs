//! One sidecar beside the driver of each node: whose claim is whose, and which volumes are deleted where.

use std::collections::{BTreeMap, BTreeSet};

use sandbox::{
    Driver, World,
    driver::{Segment, Trouble},
};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::sidecar::{CLAIMS, DRIVER, HOME, Look, Sidecar, USER, VOLUMES, empty_world, secs, text};

pub(crate) const RIGHTS: &str = include_str!("../../manifests/components/node-deployment/rbac.yaml");
pub(crate) const FLAGS: &[&str] = &[
    "--leader-election=false",
    "--node-deployment",
    "--node-deployment-base-delay=2s",
    "--node-deployment-max-delay=8s",
];
pub(crate) const SELECTED: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const GIB: i64 = 1 << 30;
/// The harness calls its first pod so; here each pod is named after its node.
pub(crate) const FIRST: &str = "pod-a";

/// So many nodes with room for so many GiB each; the first one's driver is the world's.
pub(crate) struct Nodes {
    pub(crate) world: World,
    pub(crate) drivers: BTreeMap<String, Driver>,
    pub(crate) sidecars: BTreeMap<String, Sidecar>,
}

pub(crate) fn world(mode: &str) -> World {
    let mode = mode.to_owned();
    empty_world()
        .rbac(RIGHTS, HOME)
        .class_with("fast", |class| class["volumeBindingMode"] = mode.into())
}

impl Nodes {
    pub(crate) fn start(world: World, rooms: &[(&str, i64)], flags: &[&str]) -> Self {
        let flags = [FLAGS, flags].concat();
        let mut nodes = Self {
            world,
            drivers: BTreeMap::new(),
            sidecars: BTreeMap::new(),
        };
        for (node, room) in rooms {
            let segment = Segment::new(&[("node", node)], Some(room * GIB));
            let driver = match nodes.drivers.is_empty() {
                true => {
                    assert_eq!(*node, FIRST);
                    nodes.world.driver.clone()
                }
                false => Driver::on_node(DRIVER, node, segment.clone()),
            };
            if nodes.drivers.is_empty() {
                let topology = segment.topology.clone();
                driver.segment(segment);
                driver.configure(|identity| {
                    identity.node_id = (*node).to_owned();
                    identity.node_topology = Some(topology);
                });
            }
            let sidecar = match nodes.sidecars.values().next() {
                None => Sidecar::with(&nodes.world, &flags),
                Some(first) => first.beside_with(&nodes.world, node, &driver, &flags),
            };
            nodes.drivers.insert((*node).to_owned(), driver);
            nodes.sidecars.insert((*node).to_owned(), sidecar);
        }
        nodes
    }

    /// The node whose driver has the volume of this claim, if one has.
    pub(crate) fn home(&self, uid: &str) -> Option<&str> {
        let has = |driver: &Driver| driver.volumes().iter().any(|volume| volume.name.ends_with(uid));
        let mut homes = self.drivers.iter().filter(|(_, driver)| has(driver));
        let home = homes.next();
        assert!(homes.next().is_none(), "one claim, one volume");
        home.map(|(node, _)| node.as_str())
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.drivers.values().map(|driver| driver.count(method)).sum()
    }

    /// No volume is lost, no rule of CSI broken, no right missing; then the processes end well.
    pub(crate) async fn end(self) {
        let known: BTreeSet<_> = self
            .world
            .api
            .list(VOLUMES)
            .iter()
            .map(|volume| text(volume, "/spec/csi/volumeHandle").to_owned())
            .collect();
        let drivers = self.drivers.values();
        let real: BTreeSet<_> = drivers
            .clone()
            .flat_map(Driver::volumes)
            .map(|it| it.id)
            .collect();
        assert_eq!(real, known, "{}", self.world.print());
        let breaches: Vec<_> = drivers.flat_map(Driver::breaches).collect();
        assert!(breaches.is_empty(), "{breaches:?}");
        let denied = |code: u16| [403, 405, 501].contains(&code);
        let requests = self.world.api.requests().into_iter();
        let denied: Vec<_> = requests.filter(|it| it.user == USER && denied(it.code)).collect();
        assert!(denied.is_empty(), "{denied:?}");
        for sidecar in self.sidecars.into_values() {
            assert_eq!(sidecar.metric("volwright_panics_total", &[]).await, 0.0);
            sidecar.stop();
            sidecar.ended().await.expect("a good end");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_claim_that_binds_at_once_becomes_one_nodes() {
    let nodes = Nodes::start(
        world("Immediate"),
        &[(FIRST, 100), ("node-b", 100), ("node-c", 100)],
        &[],
    );
    let world = &nodes.world;
    let claims: Vec<_> = (0..6)
        .map(|n| world.add_claim("default", &format!("data-{n}"), "1Gi", |_| {}))
        .collect();
    for n in 0..6 {
        world.becomes_bound(&format!("data-{n}")).await;
    }
    for (n, uid) in claims.iter().enumerate() {
        let home = nodes.home(uid).expect("a volume");
        assert_eq!(world.selected_node("default", &format!("data-{n}")), home);
        let volume = world.volume_of(uid).expect("an object");
        let term = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0];
        assert_eq!(term["matchExpressions"][0]["values"], json!([home]));
        let attributes = &volume["spec"]["csi"]["volumeAttributes"];
        let identity = text(attributes, "/storage.kubernetes.io~1csiProvisionerIdentity");
        assert!(identity.ends_with(&format!("{DRIVER}-{home}")), "{identity}");
    }
    assert_eq!(
        (nodes.count("CreateVolume"), world.api.count("update", CLAIMS)),
        (6, 6)
    );
    assert_eq!(
        (
            world.api.count("list", "nodes"),
            world.api.count("watch", "csinodes")
        ),
        (0, 0)
    );
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_follows_its_selected_node_and_its_volume_is_deleted_there() {
    let nodes = Nodes::start(
        world("WaitForFirstConsumer"),
        &[(FIRST, 100), ("node-b", 100)],
        &[],
    );
    let world = &nodes.world;
    let uid = world.add_claim("default", "data", "1Gi", |claim| {
        claim["metadata"]["annotations"] = json!({SELECTED: "node-b"});
    });
    let waiting = world.add_claim("default", "waiting", "1Gi", |_| {});
    world.becomes_bound("data").await;
    assert_eq!((nodes.home(&uid), nodes.home(&waiting)), (Some("node-b"), None));
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("the volume is gone everywhere", |world| {
            world.api.len(VOLUMES) == 0 && nodes.home(&uid).is_none()
        })
        .await;
    assert_eq!(nodes.drivers[FIRST].count("DeleteVolume"), 0);
    let deleted = "controller_persistentvolume_delete_total";
    assert_eq!(nodes.sidecars[FIRST].metric(deleted, &[]).await, 0.0, "D-17");
    assert_eq!(nodes.sidecars["node-b"].metric(deleted, &[]).await, 1.0);
    assert_eq!(world.api.count("delete", VOLUMES), 1, "by one node only");
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn d16_a_driver_that_hangs_on_getcapacity_holds_up_nothing_else() {
    let nodes = Nodes::start(
        world("Immediate"),
        &[(FIRST, 100)],
        &["--worker-threads=2", "--timeout=5s"],
    );
    let world = &nodes.world;
    world.driver.upset("GetCapacity", 3, Trouble::Hang);
    for n in 0..10 {
        world.add_claim("default", &format!("data-{n}"), "1Gi", |_| {});
    }
    for n in 0..10 {
        world.becomes_bound(&format!("data-{n}")).await;
    }
    assert_eq!(nodes.count("CreateVolume"), 10, "D-16");
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_room_leaves_the_claim_to_one_that_has_it() {
    let nodes = Nodes::start(
        world("Immediate"),
        &[(FIRST, 1), ("node-b", 100), ("node-c", 1)],
        &[],
    );
    let world = &nodes.world;
    let uid = world.add_claim("default", "large", "50Gi", |_| {});
    world.becomes_bound("large").await;
    assert_eq!(nodes.home(&uid), Some("node-b"));
    assert_eq!(
        (nodes.count("CreateVolume"), world.api.count("update", CLAIMS)),
        (1, 1)
    );
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn d66_a_claim_that_no_node_can_take_says_so_once() {
    let rooms: Vec<_> = (0..8).map(|n| format!("node-{n}")).collect();
    let rooms: Vec<_> = [(FIRST, 1)]
        .into_iter()
        .chain(rooms.iter().map(|node| (node.as_str(), 1)))
        .collect();
    let nodes = Nodes::start(world("Immediate"), &rooms, &[]);
    let world = &nodes.world;
    let uid = world.add_claim("default", "large", "50Gi", |_| {});
    world
        .is_told(
            "large",
            &[
                "ProvisioningFailed",
                "room for 1073741824 bytes",
                "no other node has taken",
            ],
        )
        .await;
    sleep(secs(300)).await;
    let events = world.events("large");
    assert_eq!(events.len(), 1, "D-66: {events:?}");
    assert_eq!(
        world.api.count("update", CLAIMS),
        0,
        "not a write from every node"
    );
    // It is not forgotten.
    nodes.drivers["node-7"].configure(|identity| identity.segments[0].room = Some(100 * GIB));
    world.becomes_bound("large").await;
    assert_eq!(nodes.home(&uid), Some("node-7"));
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn d22_a_claim_whose_class_is_missing_or_named_the_old_way_stops_no_node() {
    let nodes = Nodes::start(world("Immediate"), &[(FIRST, 100), ("node-b", 100)], &[]);
    let world = &nodes.world;
    world.add_claim("default", "old", "1Gi", |claim| {
        claim["metadata"]["annotations"] =
            json!({"volume.beta.kubernetes.io/storage-class": "fast", PROVISIONER: DRIVER});
        claim["spec"]
            .as_object_mut()
            .expect("a spec")
            .remove("storageClassName");
    });
    world.becomes_bound("old").await;
    world.add_claim("default", "lost", "1Gi", |claim| {
        claim["spec"]["storageClassName"] = "absent".into();
        claim["metadata"]["annotations"] = json!({PROVISIONER: DRIVER});
    });
    world
        .is_told(
            "lost",
            &["ProvisioningFailed", "storage class \"absent\" not found"],
        )
        .await;
    sleep(secs(600)).await;
    assert_eq!(world.events("lost").len(), 1, "D-22: {:?}", world.events("lost"));
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_turns_out_to_be_full_gives_the_claim_back() {
    let nodes = Nodes::start(world("Immediate"), &[(FIRST, 100), ("node-b", 100)], &[]);
    let world = &nodes.world;
    for driver in nodes.drivers.values() {
        driver.upset(
            "CreateVolume",
            1,
            Trouble::Refuse(Code::ResourceExhausted, "full"),
        );
    }
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let tries = nodes.count("CreateVolume");
    assert!((2..=3).contains(&tries), "{tries}");
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn fifty_nodes_racing_for_twenty_claims_make_one_volume_each() {
    let names: Vec<_> = (1..50).map(|n| format!("node-{n}")).collect();
    let rooms: Vec<_> = [(FIRST, 100)]
        .into_iter()
        .chain(names.iter().map(|node| (node.as_str(), 100)))
        .collect();
    let nodes = Nodes::start(world("Immediate"), &rooms, &[]);
    let world = &nodes.world;
    let claims: Vec<_> = (0..20)
        .map(|n| world.add_claim("default", &format!("data-{n}"), "1Gi", |_| {}))
        .collect();
    for n in 0..20 {
        world.becomes_bound(&format!("data-{n}")).await;
    }
    assert!(claims.iter().all(|uid| nodes.home(uid).is_some()));
    assert_eq!(nodes.count("CreateVolume"), 20);
    let requests = world.api.requests();
    let took = requests
        .iter()
        .filter(|it| it.resource == CLAIMS && it.verb.rbac() == "update" && it.user == USER);
    let won = took.clone().filter(|it| it.code == 200).count();
    assert_eq!(won, 20, "one owner each");
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_whose_node_moves_to_another_segment_begins_anew() {
    let mut nodes = Nodes::start(world("Immediate"), &[(FIRST, 100)], &[]);
    let world = &nodes.world;
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    world.driver.stop();
    world.driver.configure(|identity| {
        identity.node_topology = Some(BTreeMap::from([("node".to_owned(), "elsewhere".to_owned())]));
    });
    world.driver.start();
    let ended = nodes.sidecars.remove(FIRST).expect("a sidecar").ended().await;
    let text = ended.expect_err("a new beginning").to_string();
    assert!(text.contains("other capabilities"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_does_not_say_where_its_node_is_is_told_of() {
    let nodes = Nodes::start(world("WaitForFirstConsumer"), &[(FIRST, 100)], &[]);
    let world = &nodes.world;
    world.driver.configure(|identity| identity.node_topology = None);
    world.add_claim("default", "data", "1Gi", |claim| {
        claim["metadata"]["annotations"] = json!({SELECTED: FIRST});
    });
    world
        .is_told(
            "data",
            &[
                "ProvisioningFailed",
                "no topology keys on node pod-a",
                "NodeGetInfo",
            ],
        )
        .await;
    assert_eq!(nodes.count("CreateVolume"), 0);
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn node_get_info_that_fails_is_waited_out_and_without_it_the_process_ends() {
    let mut nodes = Nodes::start(world("Immediate"), &[(FIRST, 100)], &[]);
    let world = &nodes.world;
    world
        .driver
        .upset("NodeGetInfo", 5, Trouble::Refuse(Code::Unavailable, "not yet"));
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    assert!(world.driver.count("NodeGetInfo") > 5);
    nodes.end().await;

    nodes = Nodes::start(crate::node_deployment::world("Immediate"), &[(FIRST, 100)], &[]);
    let driver = &nodes.world.driver;
    driver.upset("NodeGetInfo", 1, Trouble::Refuse(Code::Unimplemented, "no node"));
    let ended = nodes.sidecars.remove(FIRST).expect("a sidecar").ended().await;
    let text = ended.expect_err("nothing to wait for").to_string();
    assert!(
        text.contains("NodeGetInfo") && text.contains("node plugin"),
        "{text}"
    );
}
