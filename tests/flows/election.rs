//! Who leads while the API server is slow or the driver is not well, and who follows a leader that is gone.

use std::time::Duration;

use sandbox::{
    Driver, Fault, Harm, World,
    driver::{Identity, Trouble},
};
use tokio::time::Instant;
use tonic::Code;

use crate::sidecar::{DRIVER, HOME, LEASE, Look, MANIFESTS, Sidecar, secs, text, world};

const FOR_EVER: usize = usize::MAX;

fn holder(world: &World) -> String {
    let lease = world.api.get("leases", HOME, LEASE).unwrap_or_default();
    text(&lease, "/spec/holderIdentity").to_owned()
}

fn leads(world: &World, pod: &str) -> bool {
    holder(world).starts_with(pod)
}

fn slow_leases(world: &World, harm: &Harm) {
    for verb in ["get", "create", "update"] {
        world.api.harm(Fault::new(harm.clone()).on(verb, "leases"));
    }
}

#[tokio::test(start_paused = true)]
async fn a1_a_slow_api_server_has_a_leader_all_the_same() {
    for millis in [2_600, 4_000, 6_000] {
        let slow = Duration::from_millis(millis);
        for harm in [Harm::Delay(slow), Harm::DelayReply(slow)] {
            let world = world();
            slow_leases(&world, &harm);
            let sidecar = Sidecar::start(&world);
            let asked = Instant::now();
            world.add_claim("default", "data", "1Gi", |_| {});
            world.becomes_bound("data").await;
            // The Lease, the ledger, and the record of the claim: each takes so long.
            assert!(asked.elapsed() < secs(40), "{harm:?}: {:?}", asked.elapsed());
            tokio::time::sleep(secs(600)).await;
            assert!(!sidecar.logged(&["Stopped leading"]), "{harm:?}");
            world.api.heal();
            sidecar.end(&world).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a1_an_api_server_slower_than_a_renewal_may_take_has_a_leader_now_and_then() {
    let world = world();
    slow_leases(&world, &Harm::DelayReply(secs(9)));
    // What is left of each term is too short for a record.
    let sidecar = Sidecar::with(&world, &["--crash-safe=off"]);
    for number in 0..5 {
        let claim = format!("data-{number}");
        world.add_claim("default", &claim, "1Gi", |_| {});
        world.becomes_bound(&claim).await;
    }
    world.api.heal();
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a1_one_renewal_may_take_almost_the_renew_deadline() {
    let world = world();
    let (first, second) = pair(&world).await;
    for harm in [Harm::Delay, Harm::DelayReply] {
        let slow = Fault::new(harm(Duration::from_millis(9_900))).on("update", "leases");
        world.api.harm(slow.times(1));
        world
            .always("the first leads", secs(60), |world| leads(world, "pod-a_"))
            .await;
    }
    assert!(!first.logged(&["Stopped leading"]));
    first.end(&world).await;
    second.end(&world).await;
}

/// Two replicas, each with a driver of its own, of which the first leads.
async fn apart(world: &World) -> (Sidecar, Sidecar, Driver) {
    let first = Sidecar::start(world);
    first.leads(world).await;
    let other = Driver::new(DRIVER);
    let second = first.beside(world, "pod-b", &other);
    tokio::time::sleep(secs(10)).await;
    (first, second, other)
}

/// Two replicas before one driver, of which the first leads.
async fn pair(world: &World) -> (Sidecar, Sidecar) {
    let first = Sidecar::start(world);
    first.leads(world).await;
    let second = first.beside(world, "pod-b", &world.driver);
    tokio::time::sleep(secs(10)).await;
    (first, second)
}

#[tokio::test(start_paused = true)]
async fn a2_a_driver_that_fails_at_probe_alone_is_worked_with() {
    for trouble in [
        Trouble::Hang,
        Trouble::Refuse(Code::Unavailable, "one of several backends is down"),
        Trouble::Refuse(Code::DeadlineExceeded, "one of several backends is slow"),
        Trouble::Refuse(Code::FailedPrecondition, "not configured"),
    ] {
        let world = world();
        let (first, second, other) = apart(&world).await;
        world.driver.upset("Probe", FOR_EVER, trouble.clone());
        world
            .always("the first leads", secs(600), |world| leads(world, "pod-a_"))
            .await;
        assert!(first.page("/readyz").await.contains("CSI driver"), "{trouble:?}");
        assert!(
            first.logged(&["the CSI driver is there, but not ready"]),
            "{trouble:?}"
        );
        let asked = Instant::now();
        world.add_claim("default", "data", "1Gi", |_| {});
        world.becomes_bound("data").await;
        assert!(asked.elapsed() < secs(1), "{trouble:?}: {:?}", asked.elapsed());
        // What the driver says to the call itself is what the claim is told.
        world
            .driver
            .upset("CreateVolume", 1, Trouble::Refuse(Code::Unavailable, "no path"));
        world.add_claim("default", "late", "1Gi", |_| {});
        world.is_told("late", &["ProvisioningFailed", "no path"]).await;
        world.becomes_bound("late").await;
        world.driver.heal();
        tokio::time::sleep(secs(30)).await;
        assert!(
            first.page("/readyz").await.starts_with("HTTP/1.1 200"),
            "{trouble:?}"
        );
        assert!(other.volumes().is_empty(), "{trouble:?}");
        first.end(&world).await;
        second.stop();
        second.ended().await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn a2_a_driver_that_says_it_is_not_ready_is_worked_with() {
    let world = world();
    let (first, second, _) = apart(&world).await;
    let ready = |ready: Option<bool>| move |identity: &mut Identity| identity.ready = ready;
    world.driver.configure(ready(Some(false)));
    world
        .always("the first leads", secs(600), |world| leads(world, "pod-a_"))
        .await;
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    world.driver.configure(ready(None));
    first.end(&world).await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a2_a_driver_that_is_silent_over_our_own_calls_keeps_its_leader() {
    const CROWD: usize = 20;
    let world = world();
    let (first, second, other) = apart(&world).await;
    // Busy with what it was asked for, it answers nothing for a while, Probe included.
    world.driver.upset("Probe", FOR_EVER, Trouble::Hang);
    world
        .driver
        .upset("CreateVolume", FOR_EVER, Trouble::Delay(secs(40)));
    for number in 0..CROWD {
        world.add_claim("default", &format!("data-{number}"), "1Gi", |_| {});
    }
    world
        .always("the first leads", secs(300), |world| leads(world, "pod-a_"))
        .await;
    world.driver.heal();
    for number in 0..CROWD {
        world.becomes_bound(&format!("data-{number}")).await;
    }
    assert_eq!(
        (world.driver.volumes().len(), other.count("CreateVolume")),
        (CROWD, 0)
    );
    first.end(&world).await;
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn a2_only_the_time_without_a_socket_counts_as_an_absence() {
    let world = world();
    let (first, second, _) = apart(&world).await;
    // Long unwell, and then a restart.
    world
        .driver
        .upset("Probe", FOR_EVER, Trouble::Refuse(Code::Unavailable, "unwell"));
    tokio::time::sleep(secs(300)).await;
    world.driver.stop();
    world
        .always("the first leads", secs(25), |world| leads(world, "pod-a_"))
        .await;
    world.driver.start();
    world
        .always("the first leads", secs(300), |world| leads(world, "pod-a_"))
        .await;
    world.driver.heal();
    // Away for good.
    world.driver.stop();
    let away = Instant::now();
    world
        .eventually("the other leads", |world| leads(world, "pod-b_"))
        .await;
    // Noticed within ten seconds, and waited out for three times `--timeout`.
    assert!(
        (secs(30)..secs(45)).contains(&away.elapsed()),
        "{:?}",
        away.elapsed()
    );
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn c5_a_leader_whose_socket_belongs_to_another_driver_lets_the_other_replica_lead() {
    let world = world();
    let (first, second, other) = apart(&world).await;
    let named = |name: &'static str| move |identity: &mut Identity| name.clone_into(&mut identity.name);
    world.driver.stop();
    world.driver.configure(named("stranger.example.com")).start();
    // A stranger's failing Probe does not make it ours.
    world
        .driver
        .upset_after("Probe", 10, 10, Trouble::Refuse(Code::Internal, "strange"));
    let taken = Instant::now();
    world
        .eventually("the other leads", |world| leads(world, "pod-b_"))
        .await;
    assert!(taken.elapsed() < secs(75), "{:?}", taken.elapsed());
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    assert_eq!(
        (world.driver.count("CreateVolume"), other.volumes().len()),
        (0, 1)
    );
    // With its own driver back it competes again.
    world.driver.stop();
    world.driver.configure(named(DRIVER)).start();
    tokio::time::sleep(secs(30)).await;
    second.stop();
    second.ended().await.expect("a clean end");
    world
        .eventually("it leads again", |world| leads(world, "pod-a_"))
        .await;
    drop(first);
}

#[tokio::test(start_paused = true)]
async fn c3_every_replica_shows_whether_it_leads_from_the_start() {
    let world = world();
    let (first, second) = pair(&world).await;
    let shown = |status: u8| format!("leader_election_master_status{{name=\"{LEASE}\"}} {status}");
    assert!(first.page("/metrics").await.contains(&shown(1)), "D-61");
    assert!(second.page("/metrics").await.contains(&shown(0)));
    first.end(&world).await;
    second.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_other_follows_a_killed_leader_when_the_lease_has_run_out_and_no_later() {
    let rule = "resources: [leases]\n    verbs: [get, watch, create, update]";
    assert_eq!(
        MANIFESTS.matches(rule).count(),
        1,
        "the manifests have changed: {rule}"
    );
    let no_watch = MANIFESTS.replace(rule, "resources: [leases]\n    verbs: [get, create, update]");
    // Without the watch it counts from its last poll, which was up to 2.2 retry periods after the last renewal.
    for (manifests, at_most) in [(MANIFESTS, 16), (&no_watch, 26)] {
        for moment in 0..12 {
            let world = World::new(DRIVER).namespace(HOME).rbac(manifests, HOME);
            let (first, second) = pair(&world).await;
            tokio::time::sleep(Duration::from_millis(moment * 900)).await;
            first.kill();
            let killed = Instant::now();
            world
                .eventually("the other leads", |world| leads(world, "pod-b_"))
                .await;
            let took = killed.elapsed();
            assert!(took <= secs(at_most), "{took:?}, {moment}, at most {at_most}");
            second.end_without_rights(&world).await;
        }
    }
}
