//! Exactly one of several replicas works, and the next one goes on where it was.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use crate::{
    audit,
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Binary, Sidecar, under_test},
    supervisor::{SIGKILL, SIGTERM},
    world::{SOON, World},
};

/// A lease that is lost soon enough for a test.
pub(crate) const SHORT: [&str; 4] = [
    "--leader-election",
    "--leader-election-lease-duration=6s",
    "--leader-election-renew-deadline=4s",
    "--leader-election-retry-period=1s",
];
/// Its duration.
pub(crate) const SHORT_LEASE: Duration = Duration::from_secs(6);
/// A lease that only a release hands over within a test's patience.
pub(crate) const LONG: [&str; 4] = [
    "--leader-election",
    "--leader-election-lease-duration=60s",
    "--leader-election-renew-deadline=40s",
    "--leader-election-retry-period=2s",
];

/// As [`LONG`], but a standby without a watch notices nothing for half a minute.
fn rarely_looking() -> Vec<&'static str> {
    let mut flags = LONG.to_vec();
    flags[3] = "--leader-election-retry-period=30s";
    if under_test() == Binary::Upstream {
        flags.push("--feature-gates=ReleaseLeaderElectionOnExit=true");
    }
    flags
}

pub(crate) async fn killed(cluster: &'static Cluster) {
    let world = World::new(cluster, "killed", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::from_secs(1)).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let first = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &SHORT).await;
    let leader = world.new_leader(&driver.name, None, SOON).await;
    let second = Sidecar::start(&world, under_test(), &driver, "sidecar-1", &SHORT).await;
    if under_test() == Binary::Ours {
        audit::asked(&world, "watch", "leases").await;
    }
    world.claim("before", &class).await;
    world.bound("before", SOON).await;

    // Killed while the driver works: CreateVolume has been called, nobody gets the answer.
    world.many_claims("data", &class, 10).await;
    driver.begins("CreateVolume", 3).await;
    first.process.signal(SIGKILL);
    // Whoever watches the Lease takes it within a second after it has run out.
    let limit = match under_test() {
        Binary::Ours => SHORT_LEASE + Duration::from_secs(1),
        Binary::Upstream => SOON,
    };
    world.new_leader(&driver.name, Some(&leader), limit).await;
    world.all_bound(11, SOON).await;
    second.assert_runs();
    assert_same(&world, &driver).await;
}

/// What the dead leader had asked for may be done or not; nobody got the answer.
pub(crate) async fn killed_in_deletion(cluster: &'static Cluster) {
    let world = World::new(cluster, "deletion", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::from_secs(1)).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let first = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &SHORT).await;
    let leader = world.new_leader(&driver.name, None, SOON).await;
    let second = Sidecar::start(&world, under_test(), &driver, "sidecar-1", &SHORT).await;
    world.many_claims("data", &class, 5).await;
    world.all_bound(5, SOON).await;

    for i in 0..4 {
        world.delete_claim(&format!("data-{i}")).await;
    }
    driver.begins("DeleteVolume", 2).await;
    first.process.signal(SIGKILL);
    world.delete_claim("data-4").await;
    world.new_leader(&driver.name, Some(&leader), SOON).await;
    world.volume_count(&driver.name, 0, SOON).await;
    second.assert_runs();
    assert_eq!(driver.volumes(), BTreeSet::new());
}

/// Under either set of rights the standby may watch the Lease, so it does not wait for its next look at it.
pub(crate) async fn released_under_our_rights(cluster: &'static Cluster) {
    released(World::new(cluster, "released-ours", Rights::Ours).await).await;
}

pub(crate) async fn released_under_upstreams_rights(cluster: &'static Cluster) {
    released(World::new(cluster, "released-theirs", Rights::Upstream).await).await;
}

async fn released(world: World) {
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let flags = rarely_looking();
    let first = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &flags).await;
    let leader = world.new_leader(&driver.name, None, SOON).await;
    let second = Sidecar::start(&world, under_test(), &driver, "sidecar-1", &flags).await;
    if under_test() == Binary::Ours {
        audit::asked(&world, "watch", "leases").await;
    }
    world.claim("before", &class).await;
    world.bound("before", SOON).await;

    first.process.signal(SIGTERM);
    first.ended(SOON).await;
    let limit = match under_test() {
        Binary::Ours => Duration::from_secs(3),
        Binary::Upstream => Duration::from_secs(90),
    };
    world.new_leader(&driver.name, Some(&leader), limit).await;
    world.claim("after", &class).await;
    world.bound("after", SOON).await;
    second.assert_runs();
}

/// The same Pod is the same candidate: its lease is not waited for.
pub(crate) async fn container_restarted(cluster: &'static Cluster) {
    let world = World::new(cluster, "container", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &LONG).await;
    let leader = world.new_leader(&driver.name, None, SOON).await;
    sidecar.process.signal(SIGKILL);
    sidecar.ended(SOON).await;
    let sidecar = sidecar.again(&world);
    world.claim("after", &class).await;
    world.bound("after", SOON).await;
    sidecar.assert_runs();
    assert_eq!(world.leader(&driver.name).await, Some(leader));
}

pub(crate) async fn terminated(cluster: &'static Cluster) {
    let world = World::new(cluster, "terminated", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::from_secs(1)).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let mut flags = LONG.to_vec();
    if under_test() == Binary::Upstream {
        flags.push("--feature-gates=ReleaseLeaderElectionOnExit=true");
    }
    let first = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &flags).await;
    let leader = world.new_leader(&driver.name, None, SOON).await;
    let second = Sidecar::start(&world, under_test(), &driver, "sidecar-1", &flags).await;
    world.many_claims("data", &class, 10).await;
    driver.begins("CreateVolume", 2).await;
    first.process.signal(SIGTERM);
    let code = first.ended(Duration::from_secs(20)).await;
    world
        .new_leader(&driver.name, Some(&leader), Duration::from_secs(10))
        .await;
    world.all_bound(10, SOON).await;
    second.assert_runs();
    assert_same(&world, &driver).await;
    if under_test() == Binary::Ours {
        assert_eq!(code, 0, "a stop that was asked for is no failure");
        let creations = driver.calls_of("CreateVolume");
        assert_eq!(
            creations.len(),
            10,
            "what ran was finished, not begun again: {creations:?}"
        );
    }
}

/// The migration is an image swap, and the way back too.
pub(crate) async fn mixed(cluster: &'static Cluster) {
    let world = World::new(cluster, "mixed", Rights::Upstream).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let upstream = Sidecar::start(&world, Binary::Upstream, &driver, "upstream-0", &SHORT).await;
    let theirs = world.new_leader(&driver.name, None, SOON).await;
    world.claim("by-upstream", &class).await;
    let by_upstream = world.bound("by-upstream", SOON).await;

    let ours = Sidecar::start(&world, under_test(), &driver, "ours-0", &SHORT).await;
    upstream.process.signal(SIGTERM);
    upstream.ended(SOON).await;
    let leader = world.new_leader(&driver.name, Some(&theirs), SOON).await;
    world.delete_claim("by-upstream").await;
    world.gone(&by_upstream, SOON).await;
    world.claim("by-us", &class).await;
    let by_us = world.bound("by-us", SOON).await;

    // And back.
    let _again = Sidecar::start(&world, Binary::Upstream, &driver, "upstream-1", &SHORT).await;
    ours.assert_runs();
    ours.process.signal(SIGTERM);
    ours.ended(SOON).await;
    world.new_leader(&driver.name, Some(&leader), SOON).await;
    world.delete_claim("by-us").await;
    world.gone(&by_us, SOON).await;
    assert_eq!(driver.volumes(), BTreeSet::new());
    assert_eq!(
        driver.calls_of("CreateVolume").len(),
        2,
        "nobody worked beside the leader"
    );
}

/// The driver and the API server know the same volumes.
async fn assert_same(world: &World, driver: &Driver) {
    let volumes = world.volumes_of(&driver.name).await.unwrap();
    let handles: BTreeSet<_> = volumes
        .into_iter()
        .map(|volume| volume.spec.unwrap().csi.unwrap().volume_handle)
        .collect();
    assert_eq!(driver.volumes(), handles);
}
