//! A claim goes on as soon as its source is ready, and nobody asks for the source meanwhile.

use sandbox::{World, driver::Trouble};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    sidecar::{CLAIMS, HOME, Look, MANIFESTS, Sidecar, USER, secs, text, world},
    sources::{SNAPSHOTS, cloned, copying, restored},
};

const GROUP: &str = "snapshot.storage.k8s.io";
const MINUTES: std::time::Duration = secs(600);

fn not_ready(snapshot: &mut Value) {
    snapshot["status"]["readyToUse"] = false.into();
}

fn becomes_ready(world: &World) {
    let ready = |it: &mut Value| it["status"]["readyToUse"] = true.into();
    world.api.edit(SNAPSHOTS, "default", "backup", ready);
}

/// Requests of the sidecar, but for those of a sweep, which lists all namespaces.
fn asked(world: &World, verb: &str, resource: &str) -> usize {
    let requests = world.api.requests();
    let is_it = |it: &&sandbox::Request| {
        let of_sweep = verb == "list" && it.namespace.is_empty();
        it.user == USER && it.verb.rbac() == verb && it.resource == resource && !of_sweep
    };
    requests.iter().filter(is_it).count()
}

async fn is_bound_at_once(world: &World, claim: &str) {
    let since = Instant::now();
    world.becomes_bound(claim).await;
    assert!(since.elapsed() < secs(1), "{claim}: {:?}", since.elapsed());
}

/// The claim `data` waits for its snapshot.
async fn waiting() -> (World, Sidecar) {
    let world = copying();
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    world.add_snapshot("default", "backup", not_ready);
    world.add_claim("default", "data", "1Gi", restored);
    world
        .is_told("data", &["Provisioning", "not ready to use yet"])
        .await;
    (world, sidecar)
}

#[tokio::test(start_paused = true)]
async fn a_claim_goes_on_when_its_snapshot_is_ready_and_reads_it_once_until_then() {
    let (world, sidecar) = waiting().await;
    sleep(MINUTES).await;
    // What others do is nobody's business.
    for name in 0..100 {
        world.add_snapshot("default", &format!("other-{name}"), |_| {});
    }
    world.api.cut_watches();
    sleep(secs(60)).await;
    assert_eq!(asked(&world, "get", SNAPSHOTS), 1);
    becomes_ready(&world);
    is_bound_at_once(&world, "data").await;
    let read = asked(&world, "get", SNAPSHOTS);
    assert!(read <= 4, "{read}: its content, its finalizer on and off");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_snapshot_is_missing_goes_on_when_it_is_made_however_long_it_has_failed() {
    let world = copying();
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    world.add_claim("default", "data", "1Gi", restored);
    world
        .is_told("data", &["ProvisioningFailed", "it does not exist"])
        .await;
    sleep(MINUTES).await;
    world.add_snapshot("default", "backup", |_| {});
    is_bound_at_once(&world, "data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_clone_goes_on_when_its_source_is_bound_and_hears_of_its_end() {
    let world = copying();
    let origin = world.api.get(CLAIMS, "default", "origin").unwrap();
    let name = format!("pvc-{}", text(&origin, "/metadata/uid"));
    world.driver.upset_for("CreateVolume", &name, 1000, Trouble::Hang);
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", cloned);
    world.is_told("data", &["Provisioning", "not Bound yet"]).await;
    let lists = asked(&world, "list", CLAIMS);
    sleep(MINUTES).await;
    assert_eq!(asked(&world, "list", CLAIMS), lists);
    world.driver.heal();
    world.becomes_bound("origin").await;
    is_bound_at_once(&world, "data").await;

    // Another driver's, so that nobody makes a volume.
    world.add_claim("default", "late", "1Gi", |claim| {
        claim["spec"]["storageClassName"] = "elsewhere".into();
    });
    world.add_claim("default", "orphan", "1Gi", |claim| {
        cloned(claim);
        claim["spec"]["dataSourceRef"]["name"] = "late".into();
    });
    world.is_told("orphan", &["Provisioning", "not Bound yet"]).await;
    world.api.delete(CLAIMS, "default", "late");
    let since = Instant::now();
    world
        .is_told("orphan", &["ProvisioningFailed", "it does not exist"])
        .await;
    assert!(since.elapsed() < secs(1), "{:?}", since.elapsed());
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn where_snapshots_cannot_be_watched_one_line_says_so_and_they_are_looked_at() {
    type Change = fn(&World);
    let rows: [(&str, &str, Change, Change); 2] = [
        (
            "no right",
            "verbs: [\"watch\"]",
            |world| world.api.withdraw("watch", GROUP, SNAPSHOTS),
            |world| world.api.load_rbac(MANIFESTS, HOME).expect("the manifests"),
        ),
        (
            "not served",
            "watch volumesnapshots",
            |world| world.api.hide(GROUP),
            |world| world.api.reveal(GROUP),
        ),
    ];
    for (what, words, break_it, mend) in rows {
        let world = copying();
        break_it(&world);
        let sidecar = Sidecar::start(&world);
        world.becomes_bound("origin").await;
        let ready = sidecar.page("/readyz").await;
        assert!(!ready.contains("snapshots"), "{what}: {ready}");
        sleep(secs(3600)).await;
        let watches = asked(&world, "watch", SNAPSHOTS);
        assert!(watches < 30, "{what}: {watches} watches in an hour");
        let lines = sidecar.log();
        let lines = lines.iter().filter(|line| line.contains("are not watched"));
        assert_eq!(lines.count(), 1, "{what}:\n{}", sidecar.log().join("\n"));
        assert!(
            sidecar.logged(&["VolumeSnapshots are not watched", words]),
            "{what}"
        );
        if what == "no right" {
            world.add_snapshot("default", "backup", not_ready);
            world.add_claim("default", "data", "1Gi", restored);
            world
                .is_told("data", &["Provisioning", "not ready to use yet"])
                .await;
            sleep(secs(60)).await;
            becomes_ready(&world);
            let since = Instant::now();
            world.becomes_bound("data").await;
            assert!(since.elapsed() < secs(6), "{:?}", since.elapsed());
        }
        mend(&world);
        // It is asked for seldom by now.
        sleep(secs(400)).await;
        world.add_snapshot("default", "later", not_ready);
        world.add_claim("default", "last", "1Gi", |claim| {
            restored(claim);
            claim["spec"]["dataSource"]["name"] = "later".into();
        });
        world
            .is_told("last", &["Provisioning", "not ready to use yet"])
            .await;
        sleep(secs(20)).await;
        let before = asked(&world, "get", SNAPSHOTS);
        sleep(MINUTES).await;
        // Every claim is looked at now and then.
        let gets = asked(&world, "get", SNAPSHOTS) - before;
        assert!(gets < 2, "{what}: it is watched now, {gets} times looked at");
        let ready = |it: &mut Value| it["status"]["readyToUse"] = true.into();
        world.api.edit(SNAPSHOTS, "default", "later", ready);
        is_bound_at_once(&world, "last").await;
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_watch_while_it_waits_looks_from_then_on() {
    let (world, sidecar) = waiting().await;
    world.api.withdraw("watch", GROUP, SNAPSHOTS);
    world.api.cut_watches();
    sleep(secs(30)).await;
    becomes_ready(&world);
    let since = Instant::now();
    world.becomes_bound("data").await;
    assert!(since.elapsed() < secs(6), "{:?}", since.elapsed());
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_makes_no_snapshots_watches_none() {
    let world = world().claim("default", "data", "1Gi");
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("data").await;
    sleep(secs(60)).await;
    assert_eq!(asked(&world, "watch", SNAPSHOTS), 0);
    sidecar.end(&world).await;
}
