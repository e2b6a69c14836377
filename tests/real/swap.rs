//! An image swap with claims in flight, to upstream's binary and back: both on one Lease.
//!
//! Upstream forgets a volume when it is stopped between CreateVolume and the PersistentVolume and the claim is deleted
//! before anybody asks again. Such a volume is told from one that we forget by who called CreateVolume for it: the
//! driver notes the process of each call. Of what a process of ours has asked for, nothing may be forgotten, also when
//! upstream has asked for it too.

use std::{collections::BTreeSet, time::Duration};

use kube::ResourceExt as _;
use serde_json::json;

use crate::{
    cluster::{Cluster, Rights},
    driver::Driver,
    replicas::SHORT,
    rest::{Rest, makers},
    sidecar::{Binary, Sidecar, under_test},
    supervisor::{SIGKILL, SIGTERM},
    world::{SOON, World, eventually},
};

/// Beside those of a short lease.
const FLAGS: [&str; 3] = [
    "--retry-interval-max=2s",
    "--kube-api-qps=2000",
    "--kube-api-burst=4000",
];
/// So late does the driver answer that a swap falls between its calls and their answers.
const LATE: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(90);
/// Claims in flight at each swap, and how many of them are deleted while nobody leads.
const CLAIMS: usize = 12;
const DELETED: usize = 4;

struct Swap {
    world: World,
    driver: Driver,
    class: String,
    /// Processes of ours so far.
    ours: BTreeSet<u32>,
}

impl Swap {
    async fn new(cluster: &'static Cluster, name: &str) -> Self {
        // The rights that the migration starts from.
        let world = World::new(cluster, name, Rights::Upstream).await;
        let driver = Driver::start(&world, LATE).await;
        let class = world.class("standard", &driver.name, json!({})).await;
        let ours = BTreeSet::new();
        Self {
            world,
            driver,
            class,
            ours,
        }
    }

    async fn start(&mut self, binary: Binary, pod: &str) -> Sidecar {
        let flags: Vec<_> = SHORT.into_iter().chain(FLAGS).collect();
        let sidecar = Sidecar::start(&self.world, binary, &self.driver, pod, &flags).await;
        if binary == under_test() {
            self.ours.insert(sidecar.process.pid);
        }
        sidecar
    }

    /// Claims whose CreateVolume the leader has called, when it gets this signal and ends; some are deleted right after.
    async fn in_flight(&self, round: &str, leader: Sidecar, signal: i32) {
        let line = self.driver.line_count();
        self.world.many_claims(round, &self.class, CLAIMS).await;
        eventually("the claims are in flight", SOON, async || {
            let begun = self.driver.begun_since(line, "CreateVolume").len();
            if begun >= CLAIMS {
                Ok(())
            } else {
                Err(format!("{begun} are"))
            }
        })
        .await;
        leader.process.signal(signal);
        for i in 0..DELETED {
            self.world.delete_claim(&format!("{round}-{i}")).await;
        }
        leader.ended(SOON).await;
    }

    /// All that stands is Bound to a volume that is there, and what is forgotten is upstream's; returns how many.
    async fn at_rest(&self, claims: usize) -> (Rest, usize) {
        self.world.all_bound(claims, REST).await;
        let rest = Rest::wait(&self.world, &self.driver, REST).await;
        assert_eq!(rest.bound.len(), claims, "{rest:#?}");
        assert!(rest.objects.is_subset(&rest.volumes), "deleted in use: {rest:#?}");
        assert_eq!(rest.object_count, claims, "{rest:#?}");
        let makers = makers(&self.driver);
        let forgotten = rest.forgotten();
        let by_us: Vec<_> = forgotten
            .iter()
            .filter(|handle| !makers[*handle].is_disjoint(&self.ours))
            .collect();
        assert!(by_us.is_empty(), "we have forgotten {by_us:?}: {rest:#?}");
        let count = forgotten.len();
        (rest, count)
    }
}

/// From upstream to ours: what stands is finished by ours.
pub(crate) async fn to_ours(cluster: &'static Cluster) {
    let mut swap = Swap::new(cluster, "swap-to-ours").await;
    let upstream = swap.start(Binary::Upstream, "upstream-0").await;
    let theirs = swap.world.new_leader(&swap.driver.name, None, SOON).await;
    let ours = swap.start(under_test(), "ours-0").await;
    swap.in_flight("data", upstream, SIGTERM).await;
    swap.world
        .new_leader(&swap.driver.name, Some(&theirs), SOON)
        .await;
    let (rest, forgotten) = swap.at_rest(CLAIMS - DELETED).await;
    assert!(rest.ledger.is_empty(), "{:?}", rest.ledger);
    ours.assert_runs();
    println!(
        "upstream, stopped for ours, has forgotten {forgotten} of {DELETED} volumes whose claims were deleted"
    );
}

/// From ours to upstream, stopped and killed, and back: what upstream does not know stands in our shards, which it
/// leaves alone.
pub(crate) async fn to_upstream_and_back(cluster: &'static Cluster) {
    let mut swap = Swap::new(cluster, "swap-to-theirs").await;
    let mut left = 0;
    for (round, signal) in [("stopped", SIGTERM), ("killed", SIGKILL)] {
        let ours = swap.start(under_test(), &format!("ours-{round}")).await;
        let leader = swap.world.new_leader(&swap.driver.name, None, SOON).await;
        let upstream = swap.start(Binary::Upstream, &format!("upstream-{round}")).await;
        swap.in_flight(round, ours, signal).await;
        let theirs = swap
            .world
            .new_leader(&swap.driver.name, Some(&leader), SOON)
            .await;
        left += CLAIMS - DELETED;
        swap.world.all_bound(left, REST).await;

        // Upstream works alone beside our shards.
        let shards = swap.world.ledger().await.unwrap();
        swap.world.claim("theirs", &swap.class).await;
        let volume = swap.world.bound("theirs", SOON).await;
        swap.world.delete_claim("theirs").await;
        swap.world.gone(&volume, SOON).await;
        assert_eq!(
            swap.world.ledger().await.unwrap(),
            shards,
            "upstream leaves them alone"
        );
        if signal == SIGKILL && under_test() == Binary::Ours {
            assert!(
                !shards.records.is_empty(),
                "what was in flight is recorded: {shards:?}"
            );
        }

        // And back, with nothing in flight. Upstream does not release the lease.
        upstream.process.signal(SIGTERM);
        upstream.ended(SOON).await;
        let back = swap.start(under_test(), &format!("back-{round}")).await;
        swap.world
            .new_leader(&swap.driver.name, Some(&theirs), SOON)
            .await;
        let (rest, forgotten) = swap.at_rest(left).await;
        assert!(rest.ledger.is_empty(), "{:?}", rest.ledger);
        assert_eq!(
            forgotten, 0,
            "nothing was in flight when upstream was stopped: {rest:#?}"
        );
        // The next round begins with nobody leading.
        back.process.signal(SIGTERM);
        back.ended(SOON).await;
    }
    let names: BTreeSet<_> = swap
        .world
        .volumes_of(&swap.driver.name)
        .await
        .unwrap()
        .iter()
        .map(|volume| volume.name_any())
        .collect();
    assert_eq!(names.len(), left);
}
