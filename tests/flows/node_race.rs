//! How the nodes race for a claim, where one sidecar runs on each: conflicts, nothing done before it is won, claims
//! that nobody can win.

use sandbox::{
    Fault, Harm,
    driver::{Capability, Trouble},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    node_deployment::{FIRST, Nodes, RIGHTS, SELECTED, world},
    sidecar::{CLAIMS, HOME, Look, SECRETS, USER, secs},
    sources::{SNAPSHOTS, restored},
};

#[tokio::test(start_paused = true)]
async fn d65_conflicts_lead_to_tries_at_a_growing_distance_and_at_last_to_the_volume() {
    let nodes = Nodes::start(world("Immediate"), &[(FIRST, 100)], &[]);
    let world = &nodes.world;
    world
        .api
        .harm(Fault::new(Harm::Status(409)).on("update", CLAIMS).times(6));
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let requests = world.api.requests();
    let tries = requests
        .iter()
        .filter(|it| it.resource == CLAIMS && it.verb.rbac() == "update" && it.user == USER);
    let tries: Vec<_> = tries.map(|it| it.at).collect();
    assert_eq!(tries.len(), 7);
    let pauses: Vec<_> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // The longest delay is 8 s, less up to 2 s.
    assert!(pauses[3..].iter().all(|pause| *pause >= secs(6)), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause < secs(9)), "D-65: {pauses:?}");
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn d67_before_a_claim_is_won_neither_secret_nor_source_is_read_and_nothing_is_said() {
    let world = world("Immediate")
        .rbac(SECRETS, HOME)
        .secret("default", "key", &[("k", "v")])
        .class_with("secret", |class| {
            class["parameters"] = json!({"csi.storage.k8s.io/provisioner-secret-name": "key",
                "csi.storage.k8s.io/provisioner-secret-namespace": "default"});
        });
    world.add_snapshot("default", "backup", |_| {});
    let nodes = Nodes::start(world, &[(FIRST, 100), ("node-b", 100), ("node-c", 100)], &[]);
    for driver in nodes.drivers.values() {
        driver.add_snapshot("snap-default-backup");
        driver.configure(|identity| identity.capabilities.push(Capability::CreateDeleteSnapshot));
    }
    let world = &nodes.world;
    let asked = Instant::now();
    world.add_claim("default", "data", "1Gi", restored);
    world
        .eventually("a node has won", |world| world.api.count("update", CLAIMS) == 1)
        .await;
    assert!(asked.elapsed() < secs(5));
    let reads = || ["secrets", SNAPSHOTS].map(|plural| world.api.count("get", plural));
    assert_eq!(reads(), [0, 0], "D-67");
    assert_eq!(world.events("data"), [""; 0]);
    world.becomes_bound("data").await;
    assert_eq!(world.api.count("get", "secrets"), 1, "by the winner alone");
    world
        .eventually("the snapshot is free again", |world| {
            world.api.count("update", SNAPSHOTS) == 2
        })
        .await;
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn d69_a_claim_whose_selected_node_is_gone_for_good_stays_as_it_is() {
    let nodes = Nodes::start(
        world("WaitForFirstConsumer"),
        &[(FIRST, 100), ("node-b", 100)],
        &[],
    );
    let world = &nodes.world;
    world.add_claim("default", "data", "1Gi", |claim| {
        claim["metadata"]["annotations"] = json!({SELECTED: "gone"});
    });
    sleep(secs(900)).await;
    assert_eq!(world.selected_node("default", "data"), "gone", "D-69");
    assert_eq!(
        (nodes.count("CreateVolume"), world.api.count("update", CLAIMS)),
        (0, 0)
    );
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn delays_of_zero_or_above_the_maximum_are_a_pace_too() {
    for delays in [
        ["--node-deployment-base-delay=0", "--node-deployment-max-delay=0"],
        [
            "--node-deployment-base-delay=5m",
            "--node-deployment-max-delay=10s",
        ],
    ] {
        let nodes = Nodes::start(world("Immediate"), &[(FIRST, 1), ("node-b", 1)], &delays);
        let world = &nodes.world;
        world.add_claim("default", "small", "1Gi", |_| {});
        world.becomes_bound("small").await;
        world.add_claim("default", "large", "50Gi", |_| {});
        sleep(secs(600)).await;
        let asked = nodes.count("GetCapacity");
        // Two nodes, at most once a second.
        assert!((10..1300).contains(&asked), "{asked} with {delays:?}");
        world.api.delete(CLAIMS, "default", "large");
        world
            .eventually("the claim is gone", |world| {
                world.api.get(CLAIMS, "default", "large").is_none()
            })
            .await;
        sleep(secs(60)).await;
        let asked = nodes.count("GetCapacity");
        sleep(secs(600)).await;
        assert_eq!(
            nodes.count("GetCapacity"),
            asked,
            "a claim that is gone is forgotten"
        );
        nodes.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_missing_right_of_a_node_is_named_or_done_without_and_heals() {
    let nodes = Nodes::start(world("Immediate"), &[(FIRST, 100)], &[]);
    let world = &nodes.world;
    world.api.withdraw("update", "", CLAIMS);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .is_told(
            "data",
            &["ProvisioningFailed", "persistentvolumeclaims", "update"],
        )
        .await;
    world.api.load_rbac(RIGHTS, HOME).expect("rights");
    world.becomes_bound("data").await;
    // Whether another node has told cannot be seen: then this one does.
    world.api.withdraw("list", "", "events");
    world.add_claim("default", "large", "500Gi", |_| {});
    world
        .is_told("large", &["no other node has taken the claim"])
        .await;
    for sidecar in nodes.sidecars.into_values() {
        sidecar.end_without_rights(&nodes.world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_full_and_does_not_say_so_leaves_the_claim_to_another_one() {
    let nodes = Nodes::start(
        world("Immediate"),
        &[(FIRST, 100), ("node-b", 100), ("node-c", 100)],
        &[],
    );
    let world = &nodes.world;
    for driver in nodes.drivers.values() {
        driver.configure(|identity| {
            identity.capabilities.retain(|it| *it != Capability::GetCapacity);
        });
    }
    for full in [FIRST, "node-c"] {
        nodes.drivers[full].upset(
            "CreateVolume",
            1000,
            Trouble::Refuse(Code::ResourceExhausted, "full"),
        );
    }
    let claims: Vec<_> = (0..8)
        .map(|n| world.add_claim("default", &format!("data-{n}"), "1Gi", |_| {}))
        .collect();
    let asked = Instant::now();
    for n in 0..8 {
        world.becomes_bound(&format!("data-{n}")).await;
    }
    assert!(claims.iter().all(|uid| nodes.home(uid) == Some("node-b")));
    assert!(asked.elapsed() < secs(300), "{:?}", asked.elapsed());
    let tries = nodes.count("CreateVolume");
    assert!(tries < 8 * 8, "{tries}: the full nodes try less and less often");
    nodes.end().await;
}

#[tokio::test(start_paused = true)]
async fn d64_a_claim_that_waits_for_its_turn_holds_no_worker() {
    let slow = [
        "--worker-threads=1",
        "--node-deployment-base-delay=10m",
        "--node-deployment-max-delay=10m",
    ];
    let nodes = Nodes::start(world("Immediate"), &[(FIRST, 100)], &slow);
    let world = &nodes.world;
    for n in 0..20 {
        world.add_claim("default", &format!("open-{n}"), "1Gi", |_| {});
    }
    sleep(secs(1)).await;
    let asked = Instant::now();
    world.add_claim("default", "ours", "1Gi", |claim| {
        claim["metadata"]["annotations"] = json!({SELECTED: FIRST});
    });
    world.becomes_bound("ours").await;
    assert!(asked.elapsed() < secs(5), "D-64: {:?}", asked.elapsed());
    let waiting = (0..20).filter(|n| !world.bound(&format!("open-{n}"))).count();
    assert!(waiting > 15, "{waiting} of 20 wait still");
    nodes.end().await;
}
