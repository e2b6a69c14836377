//! Ours beside upstream's on the same control plane in the same run. Printed
//! for people; asserted only where an order of magnitude is promised.

use std::{collections::BTreeMap, time::Duration};

use futures::StreamExt;
use kube::api::ListParams;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    FIGURES, audit,
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{self, Binary, Sidecar, under_test},
    world::{World, eventually, text},
};

const BURST: usize = 200;
/// Volumes whose whole life is counted: with upstream's limit of five requests a second each of them takes one.
const LIVES: usize = 20;

#[derive(Default)]
struct Figures {
    idle: u64,
    foreign: u64,
    per_second: f64,
    deletions: f64,
    writes: BTreeMap<String, f64>,
    reads: f64,
    ledger_bytes: f64,
}

impl Figures {
    /// Writes a volume: those of the ledger, or the others.
    fn sum(&self, ledger: bool) -> f64 {
        let counted = self.writes.iter().filter(|(kind, _)| is_ledger(kind) == ledger);
        // Not `sum`, which begins with -0.
        counted.fold(0.0, |sum, (_, count)| sum + count)
    }
}

/// Shards are written for many volumes at once, and counted apart.
fn is_ledger(kind: &str) -> bool {
    kind.ends_with(audit::LEDGER)
}

pub(crate) async fn side_by_side(cluster: &'static Cluster) {
    // Upstream's limit keeps it slow on any machine: it need not have this one to itself, which saves a minute.
    let theirs = measure(cluster, Binary::Upstream, "figures-theirs").await;
    let _quiet = FIGURES.write().await;
    let ours = measure(cluster, under_test(), "figures-ours").await;
    let foreign = std::env::var("FOREIGN").map_or(20_000, |count| count.parse().unwrap());
    let (ours_foreign, theirs_foreign) = beside_foreign(cluster, foreign).await;
    let (ours, theirs) = (
        Figures {
            foreign: ours_foreign,
            ..ours
        },
        Figures {
            foreign: theirs_foreign,
            ..theirs
        },
    );

    let row = |what: &str, a: f64, b: f64| println!("  {what:<58}{a:>10.2}{b:>10.2}");
    if !sidecar::is_release() {
        println!("\nthe debug build of ours: SIDECARS names the folder of the release build");
    }
    println!(
        "\nfigures{:>63}{:>10}",
        format!("{:?}", under_test()).to_lowercase(),
        "upstream"
    );
    row(
        &format!("PersistentVolumes a second, {BURST} claims, default flags"),
        ours.per_second,
        theirs.per_second,
    );
    row("DeleteVolume calls a volume", ours.deletions, theirs.deletions);
    let mut kinds: Vec<_> = ours.writes.keys().chain(theirs.writes.keys()).collect();
    kinds.sort();
    kinds.dedup();
    kinds.retain(|kind| !is_ledger(kind));
    row("GETs of PersistentVolumes a volume", ours.reads, theirs.reads);
    row("API writes a volume", ours.sum(false), theirs.sum(false));
    for kind in kinds {
        let of = |figures: &Figures| figures.writes.get(kind).copied().unwrap_or_default();
        row(&format!("  {kind}"), of(&ours), of(&theirs));
    }
    row("writes of the ledger a volume", ours.sum(true), theirs.sum(true));
    row("bytes of them a volume", ours.ledger_bytes, theirs.ledger_bytes);
    row("resident memory, idle, MB", mb(ours.idle), mb(theirs.idle));
    row(
        &format!("resident memory, {foreign} foreign claims, volumes and snapshots, MB"),
        mb(ours.foreign),
        mb(theirs.foreign),
    );
    println!();

    if under_test() == Binary::Ours {
        // The pages of a debug build count, and they are many.
        assert!(
            !sidecar::is_release() || ours.foreign < 30_000,
            "{} kB beside {foreign} foreign claims, volumes and snapshots",
            ours.foreign
        );
        assert_eq!(ours.deletions, 1.0, "DeleteVolume calls a volume");
        // The live look before that call, the DELETE after it, and our finalizer.
        assert_eq!(ours.reads, 1.0, "GETs a volume");
        for kind in ["delete persistentvolumes", "patch persistentvolumes"] {
            assert_eq!(ours.writes.get(kind), Some(&1.0), "{kind}: {:?}", ours.writes);
        }
        let writes = ours.sum(false);
        assert!(writes <= 5.0, "{writes} API writes a volume: {:?}", ours.writes);
        assert!(
            ours.per_second > 2.0 * theirs.per_second,
            "not much faster than upstream's fixed limit"
        );
    }
}

fn mb(kilobytes: u64) -> f64 {
    kilobytes as f64 / 1000.0
}

/// What the lives of a few volumes cost, then a burst, by a sidecar with default
/// flags and without the writes of an election.
async fn measure(cluster: &'static Cluster, binary: Binary, name: &str) -> Figures {
    let world = World::new(cluster, name, Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let sidecar = Sidecar::start(&world, binary, &driver, "sidecar-0", &[]).await;
    let written = || audit::writes(cluster, &world.user());

    world.many_claims("life", &class, LIVES).await;
    world.all_bound(LIVES, Duration::from_secs(30)).await;
    // Upstream's events queue up behind its volumes, for seconds.
    quiet("writes", || written().values().sum()).await;
    let idle = sidecar.process.resident();
    futures::stream::iter(0..LIVES)
        .for_each_concurrent(8, async |i| world.delete_claim(&format!("life-{i}")).await)
        .await;
    world.volume_count(&driver.name, 0, Duration::from_secs(60)).await;
    // A second call for a volume that is gone, where it is made, comes right after.
    quiet("writes and calls", || {
        written().values().sum::<usize>() + driver.calls().len()
    })
    .await;
    let per_volume = |count: usize| count as f64 / LIVES as f64;
    let writes = written()
        .into_iter()
        .map(|(what, count)| (what, per_volume(count)))
        .collect();
    let ledger = audit::lease_writes(cluster, &world.user());
    let ledger = ledger.iter().filter(|write| write.is_of_a_shard);
    let ledger_bytes = per_volume(ledger.map(|write| write.bytes).sum());
    let deletions = per_volume(driver.calls_of("DeleteVolume").len());
    let reads = audit::reads(cluster, &world.user());
    let reads = per_volume(reads.get("get persistentvolumes").copied().unwrap_or_default());

    let start = Instant::now();
    let claims = world.many_claims("burst", &class, BURST);
    let volumes = world.volume_count(&driver.name, BURST, Duration::from_secs(120));
    futures::join!(claims, volumes);
    let per_second = BURST as f64 / start.elapsed().as_secs_f64();
    Figures {
        idle,
        per_second,
        ledger_bytes,
        deletions,
        writes,
        reads,
        foreign: 0,
    }
}

/// Waits until a count has not moved for two seconds.
async fn quiet(what: &str, count: impl Fn() -> usize) {
    let mut seen = (count(), Instant::now());
    eventually(
        &format!("there are no more {what}"),
        Duration::from_secs(60),
        async || {
            let now = count();
            if now != seen.0 {
                seen = (now, Instant::now());
            }
            if seen.1.elapsed() > Duration::from_secs(2) {
                Ok(())
            } else {
                Err(format!("{now}, and counting"))
            }
        },
    )
    .await;
}

/// Resident memory of a sidecar each, in kB, that started beside this many claims, volumes and snapshots of another driver.
async fn beside_foreign(cluster: &'static Cluster, count: usize) -> (u64, u64) {
    // They are bound and stay so; the controller manager would only use the time.
    cluster.supervisor.plane("stop", "kube-controller-manager");
    cluster.supervisor.foreign(count);
    let mut resident = Vec::new();
    for (binary, name) in [
        (under_test(), "foreign-ours"),
        (Binary::Upstream, "foreign-theirs"),
    ] {
        let world = World::new(cluster, name, Rights::Ours).await;
        let driver = Driver::start(&world, Duration::ZERO).await;
        let class = world.class("standard", &driver.name, json!({})).await;
        let sidecar = Sidecar::start(&world, binary, &driver, "sidecar-0", &[]).await;
        // Nobody marks it for its provisioner now, as the controller manager would.
        let claim =
            json!({"metadata": {"annotations": {"volume.kubernetes.io/storage-provisioner": driver.name}}});
        world.claim("first", &class).await;
        let patch = kube::api::Patch::Merge(&claim);
        world
            .claims
            .patch("first", &Default::default(), &patch)
            .await
            .unwrap();
        eventually(
            "the first claim has its volume",
            Duration::from_secs(60),
            async || {
                // One by one: a list would hold all the foreign ones.
                let claim = world.claims.get("first").await.map_err(text)?;
                let name = format!("pvc-{}", claim.metadata.uid.unwrap());
                world
                    .volumes
                    .get_opt(&name)
                    .await
                    .map_err(text)?
                    .map(drop)
                    .ok_or("none".to_owned())
            },
        )
        .await;
        resident.push(sidecar.process.resident());
    }
    let seen = World::new(cluster, "foreign-count", Rights::Ours).await;
    let page = seen.volumes.list(&ListParams::default().limit(1)).await.unwrap();
    let rest = page.metadata.remaining_item_count.unwrap_or_default();
    assert!(
        rest as usize >= count - 1,
        "the API server knows only {rest} more volumes"
    );
    cluster.supervisor.foreign(0);
    cluster.supervisor.plane("start", "kube-controller-manager");
    (resident[0], resident[1])
}
