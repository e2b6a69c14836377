//! What the ledger costs: writes and bytes of a burst, and what one claim waits for its record, beside a bare PUT of a
//! Lease in the same run. Counted in the audit log, which has the bodies of Leases. Printed beside what is promised. A time
//! that is twice as long as promised fails. Writes and bytes are counts: they must be as promised.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::{authentication::v1::TokenRequest, coordination::v1::Lease, core::v1::ServiceAccount};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    FIGURES,
    audit::{self, LeaseWrite},
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Binary, Sidecar, under_test},
    world::{SOON, World, eventually},
};

const BURST: usize = 1000;
/// One after the other, each when the ledger has nothing to do.
const SINGLE: usize = 8;
const MOST_WRITES: f64 = 0.2;
const MOST_BYTES: f64 = 16.0 * 1024.0;
/// Of the median bare PUT.
const PROMISED: f64 = 1.5;
/// What is a fault and no busy machine: a second PUT, or a wait for other records.
const FAULT: f64 = 3.0;

pub(crate) async fn of_the_ledger(cluster: &'static Cluster) {
    let _quiet = FIGURES.write().await;
    let Single {
        bare,
        served,
        writes,
        waits,
    } = single(cluster).await;
    let (per_volume, bytes, seconds) = burst(cluster).await;

    let millis = |of: Duration| of.as_secs_f64() * 1000.0;
    let row = |what: &str, value: String| println!("  {what:<66}{value:>12}");
    println!("\nthe ledger");
    row(
        "bare PUT of a Lease: as its client sees it, median, ms",
        format!("{:.2}", millis(bare)),
    );
    row(
        "bare PUT of a Lease: the API server's part, median, ms",
        format!("{:.2}", millis(served)),
    );
    row(
        "one claim: the API server's part of the record's PUT, median, ms",
        format!("{:.2}", millis(writes)),
    );
    row(
        "one claim: from its receipt to the driver's CreateVolume, median, ms",
        format!("{:.2}", millis(waits)),
    );
    let over = |put: Duration| waits.as_secs_f64() / put.as_secs_f64();
    let ratio = over(bare);
    row(
        &format!("the same over the bare PUT (promised: {PROMISED}, fails beyond {FAULT})"),
        format!("{ratio:.2}"),
    );
    row(
        "the same over the API server's part of the bare PUT",
        format!("{:.2}", over(served)),
    );
    row(
        &format!("writes a volume, burst of {BURST} (promised: {MOST_WRITES})"),
        format!("{per_volume:.3}"),
    );
    row("bytes a volume (promised: 16384)", format!("{bytes:.0}"));
    row(
        "seconds until all have their PersistentVolume",
        format!("{seconds:.1}"),
    );
    println!();
    assert!(per_volume > 0.0, "no record was written");
    assert!(per_volume < MOST_WRITES, "{per_volume} writes a volume");
    assert!(bytes < MOST_BYTES, "{bytes} bytes a volume");
    assert!(
        ratio < FAULT,
        "{waits:?} for a record, {bare:?} for a bare PUT: {ratio:.2} times as much, promised {PROMISED}, beyond {FAULT} it \
         is a fault"
    );
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort();
    of[of.len() / 2]
}

fn of_shards(world: &World) -> Vec<LeaseWrite> {
    let mut writes = audit::lease_writes(world.cluster, &world.user());
    writes.retain(|write| write.is_of_a_shard);
    writes
}

/// Medians.
struct Single {
    /// Of a PUT of a Lease without annotations, as its client sees it.
    bare: Duration,
    /// What the API server took for that.
    served: Duration,
    /// What the API server took for the write of a record.
    writes: Duration,
    /// From its beginning there to the driver's call.
    waits: Duration,
}

/// A client with the sidecar's account: what it sends is in the audit log.
async fn client(world: &World) -> Client {
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
    let token = accounts
        .create_token_request(&world.account, &PostParams::default(), &TokenRequest::default())
        .await
        .unwrap();
    let kubeconfig = Kubeconfig::read_from(&world.cluster.kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    config.auth_info = AuthInfo {
        token: Some(token.status.unwrap().token.into()),
        ..AuthInfo::default()
    };
    Client::try_from(config).unwrap()
}

async fn single(cluster: &'static Cluster) -> Single {
    let world = World::new(cluster, "one-claim", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &[]).await;
    let [made, leases]: [Api<Lease>; 2] =
        [world.client.clone(), client(&world).await].map(|client| Api::namespaced(client, &world.namespace));
    let lease = json!({"metadata": {"name": "bare"}, "spec": {"holderIdentity": "me"}});
    let lease: Lease = serde_json::from_value(lease).unwrap();
    let mut lease = made.create(&PostParams::default(), &lease).await.unwrap();
    let (mut bare, mut writes, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    // The first one makes the shard.
    for number in 0..=SINGLE {
        // After the same quiet time as the record's: one PUT right after another takes half of that.
        lease.spec.as_mut().unwrap().lease_transitions = Some(number as i32);
        let start = Instant::now();
        lease = leases
            .replace("bare", &PostParams::default(), &lease)
            .await
            .unwrap();
        bare.push(start.elapsed());
        let before = SystemTime::now();
        let name = format!("data-{number}");
        world.claim(&name, &class).await;
        world.bound(&name, SOON).await;
        // Its erasure is written, and the audit log has that.
        eventually("the record is gone", SOON, async || {
            let ledger = world.ledger().await?;
            let since = of_shards(&world)
                .iter()
                .filter(|write| write.received >= before)
                .count();
            match ledger.records.is_empty() && since >= 2 {
                true => Ok(()),
                false => Err(format!("{since} writes, {ledger:?}")),
            }
        })
        .await;
        if number == 0 {
            continue;
        }
        let written = of_shards(&world);
        let opened = written.iter().find(|write| write.received >= before).unwrap();
        let calls = driver.begun_since(0, "CreateVolume");
        let called = SystemTime::UNIX_EPOCH + Duration::from_micros(calls.last().unwrap().at);
        writes.push(opened.took);
        waits.push(called.duration_since(opened.received).unwrap());
    }
    let mut served = audit::lease_writes(cluster, &world.user());
    served.retain(|write| write.name == "bare");
    assert_eq!(served.len(), SINGLE + 1, "bare PUTs in the audit log");
    Single {
        bare: median(bare),
        served: median(served.iter().map(|write| write.took).collect()),
        writes: median(writes),
        waits: median(waits),
    }
}

/// Writes and bytes of the ledger for each volume, when all claims are there before the sidecar is.
async fn burst(cluster: &'static Cluster) -> (f64, f64, f64) {
    let world = World::new(cluster, "ledger-burst", Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    world.many_claims("data", &class, BURST).await;
    let start = Instant::now();
    let _sidecar = Sidecar::start(&world, under_test(), &driver, "sidecar-0", &[]).await;
    let limit = Duration::from_secs(120);
    eventually("all have their volume", limit, async || {
        // Not from the API server, which has enough to do.
        match driver.volumes().len() {
            BURST => Ok(()),
            seen => Err(format!("{seen} have")),
        }
    })
    .await;
    world.volume_count(&driver.name, BURST, limit).await;
    let seconds = start.elapsed().as_secs_f64();
    if under_test() == Binary::Ours {
        eventually("the records are gone", SOON, async || {
            let ledger = world.ledger().await?;
            match ledger.is_empty() {
                true => Ok(()),
                false => Err(format!("{} are open", ledger.records.len())),
            }
        })
        .await;
    }
    let mut written = Vec::new();
    eventually("the audit log has them all", SOON, async || {
        let before = written.len();
        written = of_shards(&world);
        match before == written.len() && before > 0 {
            true => Ok(()),
            false => Err(format!("{before} writes, then {}", written.len())),
        }
    })
    .await;
    let bytes: usize = written.iter().map(|write| write.bytes).sum();
    let per_volume = |count: usize| count as f64 / BURST as f64;
    (per_volume(written.len()), per_volume(bytes), seconds)
}
