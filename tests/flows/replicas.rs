//! Two replicas: one works, the other takes over, and nothing is done twice.

use std::time::Duration;

use sandbox::{Fault, Harm, World, driver::Trouble};
use serde_json::json;
use tokio::time::Instant;

use crate::sidecar::{
    CLAIMS, DRIVER, HOME, LEASE, Look, SECRETS, Sidecar, VOLUMES, empty_world, secs, text, world,
};

/// Who has the lease, "" if nobody does.
pub(crate) fn holder(world: &World) -> String {
    let lease = world.api.get("leases", HOME, LEASE).unwrap_or_default();
    text(&lease, "/spec/holderIdentity").to_owned()
}

/// Two replicas, of which the first leads and the second waits.
async fn pair(world: &World) -> (Sidecar, Sidecar) {
    let first = Sidecar::start(world);
    first.leads(world).await;
    let second = first.beside(world, "pod-b", &world.driver);
    tokio::time::sleep(secs(10)).await;
    assert!(holder(world).starts_with("pod-a_"), "{}", holder(world));
    (first, second)
}

/// From now until a new claim has its volume.
async fn served(world: &World, claim: &str) -> Duration {
    let asked = Instant::now();
    world.add_claim("default", claim, "1Gi", |_| {});
    world.becomes_bound(claim).await;
    asked.elapsed()
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_works() {
    let world = world();
    let (first, second) = pair(&world).await;
    for number in 0..20 {
        served(&world, &format!("data-{number}")).await;
    }
    assert_eq!(world.driver.count("CreateVolume"), 20);
    let works = "controller_persistentvolumeclaim_provision_total";
    assert_eq!(
        (first.metric(works, &[]).await, second.metric(works, &[]).await),
        (20.0, 0.0)
    );
    assert!(
        first
            .page("/healthz/leader-election")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        second
            .page("/healthz/leader-election")
            .await
            .starts_with("HTTP/1.1 200")
    );
    first.end(&world).await;
    second.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_other_takes_over_at_once_when_the_leader_stops() {
    let world = world();
    let (first, second) = pair(&world).await;
    // From SIGTERM, not from the end of the process.
    first.stop();
    let took = served(&world, "data").await;
    assert!(took < secs(1), "D-54: {took:?}");
    assert!(holder(&world).starts_with("pod-b_"));
    first.ended().await.expect("a clean end");
    second.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_other_takes_over_after_the_lease_when_the_leader_is_killed() {
    let world = world();
    let (first, second) = pair(&world).await;
    // In the middle of a call.
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(3)));
    world.add_claim("default", "torn", "1Gi", |_| {});
    world
        .eventually("it runs", |world| world.driver.count("CreateVolume") == 1)
        .await;
    first.kill();
    let took = served(&world, "data").await;
    // The lease duration and a second.
    assert!((secs(10)..secs(16)).contains(&took), "{took:?}");
    world.becomes_bound("torn").await;
    assert_eq!(world.driver.volumes().len(), 2);
    second.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_restarted_leads_again_at_once() {
    let world = world();
    let first = Sidecar::start(&world);
    first.leads(&world).await;
    served(&world, "before").await;
    first.kill();
    let again = Sidecar::start(&world);
    let took = served(&world, "after").await;
    assert!(took < secs(1), "{took:?}");
    assert!(holder(&world).starts_with("pod-a_"));
    again.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_runs_when_the_process_is_asked_to_stop_is_brought_home() {
    let world = world();
    let (first, second) = pair(&world).await;
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(8)));
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it runs", |world| world.driver.count("CreateVolume") == 1)
        .await;
    first.stop();
    // New work is not begun by who is about to go.
    world.add_claim("default", "late", "1Gi", |_| {});
    first.ended().await.expect("a clean end");
    assert!(
        world.volume_of(&uid).is_some(),
        "D-53: its volume is written down before the end"
    );
    assert_ne!(
        holder(&world).split('_').next(),
        Some("pod-a"),
        "the lease is given up"
    );
    world.becomes_bound("late").await;
    assert_eq!(world.driver.count("CreateVolume"), 2);
    second.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_driver_is_away_for_long_lets_the_other_lead() {
    let world = world();
    let first = Sidecar::start(&world);
    first.leads(&world).await;
    // Each replica has a driver beside it, in front of the same storage; here only the way to the first one breaks.
    let storage = world.driver.clone();
    let away = sandbox::Driver::new(crate::sidecar::DRIVER);
    let second = first.beside(&world, "pod-b", &away);
    tokio::time::sleep(secs(10)).await;
    storage.stop();
    world
        .eventually("the other leads", |world| holder(world).starts_with("pod-b_"))
        .await;
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    assert_eq!((storage.volumes().len(), away.volumes().len()), (0, 1));
    // Back again it waits for the lease, and gets it when the other one goes.
    storage.start();
    tokio::time::sleep(secs(30)).await;
    assert!(holder(&world).starts_with("pod-b_"));
    second.stop();
    second.ended().await.expect("a clean end");
    world
        .eventually("it leads again", |world| holder(world).starts_with("pod-a_"))
        .await;
    assert_eq!(first.metric("volwright_panics_total", &[]).await, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_leaders_in_the_middle_of_a_crowd_does_nothing_twice() {
    const CROWD: usize = 40;
    let world = world();
    let (first, second) = pair(&world).await;
    for skip in 0..CROWD {
        world
            .driver
            .upset_after("CreateVolume", skip / 2, 1, Trouble::Delay(secs(2)));
    }
    for number in 0..CROWD {
        world.add_claim("default", &format!("data-{number}"), "1Gi", |_| {});
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.stop();
    let third = second.beside(&world, "pod-c", &world.driver);
    let all = |world: &World| {
        world
            .api
            .filter(CLAIMS, |claim| claim["status"]["phase"] == "Bound")
            .len()
            == CROWD
    };
    world.eventually("all are bound", all).await;
    first.ended().await.expect("a clean end");
    for number in 0..CROWD {
        world.api.delete(CLAIMS, "default", &format!("data-{number}"));
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    second.stop();
    world.becomes_clean().await;
    second.ended().await.expect("a clean end");
    assert_eq!(world.api.len(VOLUMES), 0);
    third.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_had_under_way_ends_with_it_and_the_next_one_begins_again() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(3)));
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it runs", |world| world.driver.count("CreateVolume") == 1)
        .await;
    sidecar.kill();
    let written = |world: &World| world.api.requests().iter().filter(|it| it.verb.writes()).count();
    let before = written(&world);
    // The call had arrived, so the driver goes on.
    world
        .eventually("the driver has made it", |world| {
            world.driver.volumes().len() == 1
        })
        .await;
    world
        .always("nobody writes", secs(60), |world| {
            world.api.len(VOLUMES) == 0 && written(world) == before
        })
        .await;
    let next = Sidecar::start(&world);
    world.becomes_bound("data").await;
    assert_eq!(world.driver.volumes().len(), 1, "the same one");
    next.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_stopped_beyond_its_lease_and_continues_sends_nothing() {
    let world = empty_world().rbac(SECRETS, HOME).class(
        "fast",
        &[
            ("csi.storage.k8s.io/provisioner-secret-name", "key"),
            ("csi.storage.k8s.io/provisioner-secret-namespace", HOME),
        ],
    );
    let key = json!({"metadata": {"name": "key"}, "data": {"token": "dG9rZW4="}});
    world.api.create("secrets", HOME, key);
    let first = Sidecar::start(&world);
    first.leads(&world).await;
    let away = sandbox::Driver::new(DRIVER);
    let second = first.beside(&world, "pod-b", &away);
    tokio::time::sleep(secs(10)).await;
    // It is stopped in the middle of a reconcile, before the driver is called.
    world
        .api
        .harm(Fault::new(Harm::Delay(secs(2))).on("get", "secrets").times(1));
    world.add_claim("default", "data", "1Gi", |_| {});
    tokio::time::sleep(secs(1)).await;
    first.pause();
    world.becomes_bound("data").await;
    assert!(holder(&world).starts_with("pod-b_"));
    world.add_claim("default", "more", "1Gi", |_| {});
    first.resume();
    world.becomes_bound("more").await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(world.driver.count("CreateVolume"), 0, "the first one's driver");
    assert_eq!(away.count("CreateVolume"), 2);
    assert_eq!(world.api.len(VOLUMES), 2);
    drop((first, second));
}
