//! Storage capacity when something is missing or wrong: it is said, it heals, and volumes notice nothing.

use std::time::Duration;

use sandbox::{
    Fault, Harm, World,
    driver::{Capability, Trouble, Volume, proto::GetCapacityResponse},
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::{
    capacity::{CAPACITIES, ON, RIGHTS, USUAL, becomes, pods, published, room_in_a, writes, zones},
    sidecar::{DRIVER, HOME, Look, Sidecar, USER, VOLUMES, secs},
};

const MANY: usize = 1_000_000;

async fn a_volume_is_made(world: &World, name: &str) {
    world.add_claim("default", name, "1Mi", |claim| {
        claim["spec"]["storageClassName"] = "now".into()
    });
    let bound = timeout(secs(10), world.becomes_bound(name)).await;
    assert!(bound.is_ok(), "volumes wait for capacity\n{}", world.print());
}

pub(crate) fn answer(capacity: i64, maximum: Option<i64>) -> Trouble {
    Trouble::Capacity(GetCapacityResponse {
        available_capacity: capacity,
        maximum_volume_size: maximum,
        minimum_volume_size: None,
    })
}

#[tokio::test(start_paused = true)]
async fn d1_a_driver_that_fails_has_one_retry_chain_for_each_item_however_often_it_is_polled() {
    let world = zones();
    world
        .driver
        .upset("GetCapacity", MANY, Trouble::Refuse(Code::Internal, "no idea"));
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-poll-interval=3s"]);
    sidecar.leads(&world).await;
    tokio::time::sleep(secs(60)).await;
    let mut windows = Vec::new();
    for _ in 0..10 {
        let before = world.driver.count("GetCapacity");
        tokio::time::sleep(secs(60)).await;
        windows.push(world.driver.count("GetCapacity") - before);
    }
    assert!(
        windows.iter().all(|calls| *calls <= 44),
        "D-1: 20 polls of two items: {windows:?}"
    );
    assert!(sidecar.logged(&["storage capacity cannot be published", "no idea"]));
    assert_eq!(sidecar.metric("volwright_capacity_failing", &[]).await, 2.0);
    assert_eq!(writes(&world), 0);
    world.driver.heal();
    becomes(&world, USUAL).await;
    assert_eq!(sidecar.metric("volwright_capacity_failing", &[]).await, 0.0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_call_leaves_the_object_as_it_is() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    world
        .driver
        .upset("GetCapacity", MANY, Trouble::Refuse(Code::Unavailable, "away"));
    let written = writes(&world);
    tokio::time::sleep(secs(900)).await;
    assert_eq!((writes(&world), published(&world).len()), (written, 2));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn get_capacity_that_hangs_delays_no_volume_and_is_called_once_at_a_time() {
    let world = zones();
    world.driver.upset("GetCapacity", MANY, Trouble::Hang);
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-poll-interval=1s"]);
    sidecar.leads(&world).await;
    for number in 0..20 {
        a_volume_is_made(&world, &format!("data-{number}")).await;
        tokio::time::sleep(secs(10)).await;
    }
    assert_eq!(world.driver.peak("GetCapacity"), 1, "--capacity-threads=1");
    world.driver.heal();
    becomes(&world, USUAL).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn odd_answers_are_published_or_named() {
    let world = zones();
    let script = |trouble: Trouble| {
        world.driver.heal();
        world.driver.upset("GetCapacity", MANY, trouble);
    };
    script(answer(i64::MAX, Some(i64::MAX)));
    let sidecar = Sidecar::with(&world, &[ON]);
    let largest = "9223372036854775807";
    becomes(
        &world,
        &[
            &format!("fast zone=a {largest}"),
            &format!("fast zone=b {largest}"),
        ],
    )
    .await;
    assert_eq!(world.api.list(CAPACITIES)[0]["maximumVolumeSize"], largest);
    script(answer(0, None));
    becomes(&world, &["fast zone=a 0", "fast zone=b 0"]).await;
    assert_eq!(world.api.list(CAPACITIES)[0]["maximumVolumeSize"], json!(null));
    for (capacity, maximum, words) in [
        (-5, None, "available_capacity -5, which is below zero"),
        (
            1,
            Some(i64::MIN),
            "maximum_volume_size -9223372036854775808, which is below zero",
        ),
    ] {
        script(answer(capacity, maximum));
        world
            .eventually("it is named", |_| sidecar.logged(&[words]))
            .await;
        assert_eq!(
            published(&world),
            ["fast zone=a 0", "fast zone=b 0"],
            "what was published stays"
        );
    }
    world.driver.heal();
    becomes(&world, USUAL).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d76_a_server_without_the_api_is_named_once_and_healed_when_it_serves_it() {
    let world = zones();
    world.api.hide(CAPACITIES);
    let sidecar = Sidecar::with(&world, &[ON]);
    sidecar.leads(&world).await;
    a_volume_is_made(&world, "data").await;
    tokio::time::sleep(secs(3600)).await;
    let lines = sidecar.log();
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("no storage capacity is published"))
        .collect();
    assert_eq!(lines.len(), 1, "D-76: {lines:#?}");
    assert!(
        lines[0].contains("does not serve csistoragecapacities of storage.k8s.io/v1"),
        "{lines:?}"
    );
    assert_eq!(sidecar.metric("volwright_capacity_ready", &[]).await, 0.0);
    assert!(sidecar.page("/readyz").await.starts_with("HTTP/1.1 200"));
    world.api.reveal(CAPACITIES);
    becomes(&world, USUAL).await;
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn each_missing_right_is_named_delays_no_volume_and_heals_when_it_is_granted() {
    let storage = "storage.k8s.io";
    for (verb, group, resource) in [
        ("watch", storage, CAPACITIES),
        ("create", storage, CAPACITIES),
        ("update", storage, CAPACITIES),
        ("delete", storage, CAPACITIES),
        ("watch", "", "nodes"),
        ("watch", storage, "csinodes"),
        ("get", "", "pods"),
        ("get", "apps", "replicasets"),
    ] {
        let world = zones();
        world.api.withdraw(verb, group, resource);
        let obsolete = json!({"metadata": {"name": "old", "labels": {
            "csi.storage.k8s.io/drivername": DRIVER,
            "csi.storage.k8s.io/managed-by": "external-provisioner"}},
            "storageClassName": "gone", "nodeTopology": {"matchLabels": {"zone": "a"}}, "capacity": "7Gi"});
        world.api.create(CAPACITIES, HOME, obsolete);
        let sidecar = Sidecar::with(&world, &[ON, "--capacity-ownerref-level=2"]);
        sidecar.leads(&world).await;
        a_volume_is_made(&world, "data").await;
        if verb == "update" {
            becomes(&world, USUAL).await;
            room_in_a(&world, 1);
        }
        let rule = format!("apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]");
        world
            .eventually(&format!("{verb} {resource} is named"), |_| {
                sidecar.logged(&["storage capacity", "published", &rule])
            })
            .await;
        world.api.load_rbac(RIGHTS, HOME).expect("the component");
        room_in_a(&world, 5 << 30);
        becomes(&world, USUAL).await;
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_be_found_is_named_and_waited_for() {
    for (level, words) in [
        (0, "pods \"pod-a\" not found"),
        (
            9,
            "Deployment csi-system/sidecar, which is 2 levels above the pod, belongs to no controller",
        ),
    ] {
        let world = zones();
        if level == 0 {
            world.api.delete("pods", HOME, "pod-a");
        }
        world
            .api
            .load_rbac(&RIGHTS.replace("replicasets", "replicasets, deployments"), HOME)
            .expect("more rights");
        let level = format!("--capacity-ownerref-level={level}");
        let sidecar = Sidecar::with(&world, &[ON, &level]);
        world
            .eventually("it is named", |_| {
                sidecar.logged(&["no storage capacity is published", &level, words])
            })
            .await;
        a_volume_is_made(&world, "data").await;
        assert_eq!(
            (
                writes(&world),
                sidecar.metric("volwright_capacity_ready", &[]).await
            ),
            (0, 0.0)
        );
        if level.ends_with('0') {
            for plural in ["pods", "replicasets", "deployments"] {
                for name in ["pod-b", "sidecar-1", "sidecar"] {
                    world.api.delete(plural, HOME, name);
                }
            }
            pods(&world);
            becomes(&world, USUAL).await;
        }
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn d24_capacity_has_a_pace_of_its_own() {
    let world = zones();
    let flags = [
        ON,
        "--kube-api-capacity-qps=0.1",
        "--kube-api-capacity-burst=1",
        "--capacity-ownerref-level=-1",
    ];
    let sidecar = Sidecar::with(&world, &flags);
    sidecar.leads(&world).await;
    let begun = Instant::now();
    for number in 0..5 {
        a_volume_is_made(&world, &format!("data-{number}")).await;
    }
    let volumes = begun.elapsed();
    becomes(&world, USUAL).await;
    assert!(
        begun.elapsed() > volumes && begun.elapsed() >= secs(9),
        "one request in ten seconds"
    );
    // 429 for capacity objects stops nothing else.
    let busy = Harm::Throttle(60);
    world.api.harm(Fault::new(busy).on("update", CAPACITIES).times(1));
    room_in_a(&world, 0);
    tokio::time::sleep(secs(70)).await;
    a_volume_is_made(&world, "data-5").await;
    becomes(&world, &["fast zone=a 0", "fast zone=b 10Gi"]).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_leave_one_object_for_each_item() {
    let world = zones();
    world
        .api
        .harm(Fault::new(Harm::LoseReply).on("create", CAPACITIES).times(2));
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    tokio::time::sleep(secs(300)).await;
    assert_eq!(published(&world), USUAL);
    world
        .api
        .harm(Fault::new(Harm::LoseReply).on("delete", CAPACITIES).times(2));
    world.api.delete("storageclasses", "", "fast");
    becomes(&world, &[]).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_without_get_capacity_is_served_without() {
    let world = zones();
    world
        .driver
        .configure(|identity| identity.capabilities.retain(|it| *it != Capability::GetCapacity));
    world.driver.upset("GetCapacity", 1, Trouble::Hang);
    let sidecar = Sidecar::with(&world, &[ON]);
    world.add_claim("default", "data", "1Gi", |claim| {
        claim["spec"]["storageClassName"] = "now".into()
    });
    world.becomes_bound("data").await;
    assert!(sidecar.logged(&["--enable-capacity has no effect", "GET_CAPACITY"]));
    assert_eq!((writes(&world), world.driver.count("GetCapacity")), (0, 0));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_volume_is_a_reason_to_ask_where_it_was_and_nowhere_else() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-poll-interval=10h"]);
    becomes(&world, USUAL).await;
    room_in_a(&world, 7 << 30);
    let asked = world.driver.capacity_requests().len();
    world.driver.add_volume(Volume {
        id: "h".into(),
        name: "pvc-gone".into(),
        bytes: 1,
        parameters: Default::default(),
    });
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]});
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": "pvc-gone", "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete", "storageClassName": "fast",
                "csi": {"driver": DRIVER, "volumeHandle": "h"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}},
                "claimRef": {"namespace": "default", "name": "gone", "uid": "gone"},
            },
        }),
    );
    becomes(&world, &["fast zone=a 7Gi", "fast zone=b 10Gi"]).await;
    world.becomes_clean().await;
    let requests = world.driver.capacity_requests();
    assert_eq!(
        requests.len() - asked,
        1,
        "only for zone a: {:?}",
        &requests[asked..]
    );
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn publishing_needs_every_right_of_its_component_but_those_for_older_servers() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-ownerref-level=2"]);
    becomes(&world, USUAL).await;
    room_in_a(&world, 0);
    becomes(&world, &["fast zone=a 0", "fast zone=b 10Gi"]).await;
    world.api.delete("storageclasses", "", "fast");
    becomes(&world, &[]).await;
    let alone = World::new(DRIVER).namespace(HOME).rbac(RIGHTS, HOME);
    let used = world.api.used(USER);
    let spare: Vec<_> = alone
        .api
        .granted(USER)
        .into_iter()
        .filter(|right| !used.contains(right))
        .collect();
    assert!(
        !spare.is_empty() && spare.iter().all(|(verb, ..)| verb == "list"),
        "never used: {spare:?}"
    );
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_lags_behind_for_minutes_costs_no_second_object() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-poll-interval=1s"]);
    becomes(&world, USUAL).await;
    let world = world.class_with("late", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into()
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    world.api.freeze_cache();
    tokio::time::sleep(secs(300)).await;
    assert_eq!(world.api.len(CAPACITIES), 4, "{:?}", published(&world));
    world.api.thaw_cache();
    tokio::time::sleep(secs(60)).await;
    assert_eq!((world.api.len(CAPACITIES), writes(&world)), (4, 4));
    sidecar.end(&world).await;
}
