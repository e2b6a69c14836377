//! The end of a leader within the grace period of the shipped Deployment, and of who only waits to lead.

use sandbox::{Fault, Harm, World, driver::Trouble};
use tokio::time::Instant;

use crate::sidecar::{HOME, LEASE, Look, Sidecar, VOLUMES, secs, world};

const DEPLOYMENT: &str = include_str!("../../manifests/deployment.yaml");

#[tokio::test(start_paused = true)]
async fn c21_a_leader_stops_in_time_while_the_api_server_hangs_and_a_call_runs() {
    let grace = DEPLOYMENT.lines().find_map(|line| {
        line.trim()
            .strip_prefix("terminationGracePeriodSeconds: ")?
            .parse()
            .ok()
    });
    let grace = secs(grace.expect("a grace period"));
    let slow = [
        "--leader-election-lease-duration=90s",
        "--leader-election-renew-deadline=60s",
    ];
    for (name, flags) in [("as shipped", &[][..]), ("a long renew deadline", &slow)] {
        let world = world();
        let sidecar = Sidecar::with(&world, flags);
        sidecar.leads(&world).await;
        world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(5)));
        world.add_claim("default", "made", "1Gi", |_| {});
        world
            .eventually("the driver is asked", |world| {
                world.driver.count("CreateVolume") == 1
            })
            .await;
        world.driver.upset("CreateVolume", 1, Trouble::Hang);
        world.add_claim("default", "under-way", "1Gi", |_| {});
        world
            .eventually("and again", |world| world.driver.count("CreateVolume") == 2)
            .await;
        world.api.harm(Fault::new(Harm::Hang));
        let stopped = Instant::now();
        let log = sidecar.shared.clone();
        sidecar.stop();
        sidecar.ended().await.expect("a clean end");
        let took = stopped.elapsed();
        assert!(took + secs(1) <= grace, "{name}: {took:?} of {grace:?}");
        assert!(!world.bound("made"), "{name}: there was something left to save");
        for claim in ["default/made", "default/under-way"] {
            let words = ["stopping with this creation unfinished", claim];
            let mut lines = log.0.lines().into_iter();
            assert!(
                lines.any(|line| words.iter().all(|word| line.contains(word))),
                "{name}: {claim}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_replica_ends_when_it_is_asked_for_the_first_time() {
    let world = world();
    let leader = Sidecar::start(&world);
    leader.leads(&world).await;
    for hangs in [false, true] {
        let waiting = leader.beside(&world, "pod-b", &world.driver);
        tokio::time::sleep(secs(10)).await;
        if hangs {
            world.api.harm(Fault::new(Harm::Hang));
        }
        let stopped = Instant::now();
        waiting.stop();
        waiting.ended().await.expect("a clean end");
        let took = stopped.elapsed();
        assert!(took < secs(3), "D-10: {took:?}, the API server hangs: {hangs}");
        world.api.heal();
    }
    leader.end(&world).await;
}

/// How many records the shards have.
fn records(world: &World) -> usize {
    let shards = world.api.list("leases");
    let keys = shards
        .iter()
        .filter_map(|shard| shard["metadata"]["annotations"].as_object());
    let keys = keys.flat_map(|notes| notes.keys());
    keys.filter(|key| key.starts_with("ledger.volwright.dev/") && !key.ends_with("/leaders"))
        .count()
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_volume_that_was_just_saved_is_erased_before_the_lease_is_released() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it is saved", |world| world.api.len(VOLUMES) == 1)
        .await;
    assert_eq!(records(&world), 1, "its erasure is not written yet");
    world.api.forget_requests();
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
    assert_eq!(records(&world), 0);
    let requests = world.api.requests();
    let written = |is_meant: &dyn Fn(&str) -> bool| {
        requests.iter().rposition(|request| {
            request.resource == "leases" && request.verb.rbac() == "update" && is_meant(&request.name)
        })
    };
    let erased = written(&|name| name.contains("-ledger-")).expect("a write of the shard");
    let released = written(&|name| name == LEASE).expect("a write of the lease");
    assert!(erased < released, "{requests:#?}");
    let lease = world.api.get("leases", HOME, LEASE).expect("the lease");
    assert_eq!(lease["spec"]["holderIdentity"], "");
}
