//! An API server and a driver on bad days: whatever breaks in between, every claim gets one volume and nothing is left.

use std::time::Duration;

use sandbox::{
    Fault, Harm, World,
    driver::{Identity, Trouble},
};
use tokio::time::Instant;
use tonic::Code;

use crate::sidecar::{CLAIMS, HOME, LEASE, Look, Sidecar, USER, VOLUMES, nothing_is_lost, secs, world};

const CROWD: usize = 30;

fn crowd(world: &World, count: usize) {
    for number in 0..count {
        world.add_claim("default", &format!("data-{number}"), "1Gi", |_| {});
    }
}

async fn all_bound(world: &World, count: usize) {
    world
        .eventually("all claims are bound", |world| {
            world
                .api
                .filter(CLAIMS, |claim| claim["status"]["phase"] == "Bound")
                .len()
                == count
        })
        .await;
    assert_eq!(world.driver.volumes().len(), count, "one volume for each claim");
    nothing_is_lost(world);
}

fn all_deleted(world: &World, count: usize) {
    for number in 0..count {
        world.api.delete(CLAIMS, "default", &format!("data-{number}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_crowd_of_claims_lives_and_dies_through_any_weather() {
    for seed in [1, 2, 3] {
        let world = world();
        world.api.chaos(seed, 200);
        let sidecar = Sidecar::start(&world);
        let storm = async {
            for gust in 0_u64.. {
                tokio::time::sleep(Duration::from_millis(700 + 400 * (gust % 5))).await;
                match gust % 4 {
                    0 => world.api.cut_watches(),
                    1 => world.api.expire(),
                    2 => {
                        world.api.expire();
                        world.api.cut_watches();
                    }
                    _ => {
                        world.driver.stop();
                        tokio::time::sleep(secs(2)).await;
                        world.driver.start();
                    }
                }
            }
        };
        for (code, count) in [(Code::Unavailable, 5), (Code::Aborted, 5), (Code::Internal, 5)] {
            world
                .driver
                .upset_after("CreateVolume", 3, count, Trouble::Refuse(code, "gusty"));
        }
        world.driver.upset_after("CreateVolume", 9, 3, Trouble::LoseReply);
        let work = async {
            crowd(&world, CROWD);
            all_bound(&world, CROWD).await;
            all_deleted(&world, CROWD);
            world.becomes_clean().await;
        };
        tokio::select! {
            () = work => {}
            () = storm => {}
        }
        world.api.heal();
        tokio::time::sleep(secs(60)).await;
        assert!(world.is_clean(), "seed {seed}\n{}", world.print());
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_asks_for_patience_gets_it() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    world
        .api
        .harm(Fault::new(Harm::Throttle(20)).on("create", VOLUMES).times(1));
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let posts = world.api.requests();
    let posts: Vec<_> = posts
        .iter()
        .filter(|request| request.resource == VOLUMES && request.verb.rbac() == "create")
        .map(|request| request.at)
        .collect();
    assert_eq!(posts.len(), 2);
    assert!(posts[1] - posts[0] >= secs(20), "{posts:?}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_without_streaming_lists_serves_as_well() {
    let world = world();
    world.api.streaming_lists(false);
    crowd(&world, CROWD);
    let sidecar = Sidecar::start(&world);
    all_bound(&world, CROWD).await;
    world.api.expire();
    world.api.cut_watches();
    all_deleted(&world, CROWD);
    world.becomes_clean().await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_happened_during_an_outage_is_seen_after_it() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    crowd(&world, 5);
    all_bound(&world, 5).await;
    world.api.outage();
    all_deleted(&world, 5);
    world.add_claim("default", "late", "1Gi", |_| {});
    tokio::time::sleep(secs(120)).await;
    world.api.expire();
    world.api.heal();
    world.becomes_bound("late").await;
    world
        .eventually("only the new volume is left", |world| {
            world.driver.volumes().len() == 1 && world.api.len(VOLUMES) == 1
        })
        .await;
    assert_eq!(world.driver.count("DeleteVolume"), 5);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_restarts_in_the_middle_loses_nothing() {
    let world = world();
    for _ in 0..CROWD {
        world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(2)));
    }
    let sidecar = Sidecar::start(&world);
    crowd(&world, CROWD);
    world
        .eventually("calls run", |world| world.driver.count("CreateVolume") == CROWD)
        .await;
    world.driver.stop();
    tokio::time::sleep(secs(15)).await;
    assert!(
        sidecar.page("/readyz").await.contains("CSI driver"),
        "readiness says what is missing"
    );
    let back = Instant::now();
    world.driver.start();
    all_bound(&world, CROWD).await;
    assert!(back.elapsed() < secs(30), "D-55: {:?}", back.elapsed());
    assert!(sidecar.page("/readyz").await.starts_with("HTTP/1.1 200"));
    all_deleted(&world, CROWD);
    world.becomes_clean().await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_returns_with_other_capabilities_ends_the_process_with_the_reason() {
    type Change = fn(&mut Identity);
    let changes: [Change; 3] = [
        |driver| driver.topology = true,
        |driver| driver.controller = false,
        |driver| driver.capabilities.clear(),
    ];
    for change in changes {
        let world = world();
        let sidecar = Sidecar::start(&world);
        crowd(&world, 1);
        all_bound(&world, 1).await;
        world.driver.stop();
        world.driver.configure(change);
        world.driver.start();
        let fatal = sidecar.ended().await.expect_err("it must begin anew");
        assert!(
            fatal.to_string().contains("come back with other capabilities"),
            "{fatal}"
        );
        // The lease was given back: the next one need not wait for it to run out.
        let lease = world.api.list("leases").remove(0);
        assert_eq!(lease["spec"]["holderIdentity"], "");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_is_not_silent_while_a_driver_hangs_within_a_long_timeout() {
    let world = world();
    world.driver.upset("Probe", 1, Trouble::Hang);
    let sidecar = Sidecar::with(&world, &["--timeout=5m"]);
    tokio::time::sleep(secs(25)).await;
    let said = sidecar
        .log()
        .iter()
        .filter(|line| line.contains("has not answered Probe yet"))
        .count();
    assert_eq!(said, 2, "every ten seconds: {:?}", sidecar.log());
    crowd(&world, 1);
    all_bound(&world, 1).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_claims_costs_one_call_and_few_writes_each() {
    const BURST: usize = 200;
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    world.api.forget_requests();
    crowd(&world, BURST);
    all_bound(&world, BURST).await;
    all_deleted(&world, BURST);
    world.becomes_clean().await;
    // Until the last event is written.
    tokio::time::sleep(secs(120)).await;
    assert_eq!(world.driver.count("CreateVolume"), BURST);
    assert_eq!(world.driver.count("DeleteVolume"), BURST);
    let requests = world.api.requests();
    let writes = requests.iter().filter(|request| {
        request.user == USER
            && ["create", "update", "patch", "delete"].contains(&request.verb.rbac())
            && request.resource != "leases"
            && !request.name.starts_with(LEASE)
    });
    let writes = writes.count();
    let of_shards = requests.iter().filter(|request| {
        request.user == USER
            && ["create", "update"].contains(&request.verb.rbac())
            && request.resource == "leases"
            && request.name.contains("-ledger-")
    });
    let of_shards = of_shards.count();
    assert!(
        of_shards > 0 && of_shards < BURST / 5,
        "{of_shards} writes of the ledger for {BURST} volumes"
    );
    // POST, two events, DELETE, the finalizer.
    assert!(writes <= 5 * BURST, "{writes} writes for {BURST} volumes");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_for_ever_does_not_slow_the_others() {
    let world = world();
    // One worker, so that whatever it is held up by shows.
    let sidecar = Sidecar::with(&world, &["--worker-threads=1"]);
    let uid = world.add_claim("default", "hopeless", "1Gi", |_| {});
    let name = format!("pvc-{uid}");
    world.driver.upset_for(
        "CreateVolume",
        &name,
        10_000,
        Trouble::Refuse(Code::Internal, "no"),
    );
    world.is_told("hopeless", &["Internal"]).await;
    for number in 0..CROWD {
        let asked = Instant::now();
        let claim = format!("data-{number}");
        world.add_claim("default", &claim, "1Gi", |_| {});
        world.becomes_bound(&claim).await;
        assert!(asked.elapsed() < secs(1), "{claim}: {:?}", asked.elapsed());
        tokio::time::sleep(secs(7)).await;
    }
    assert!(!world.bound("hopeless"));
    world.driver.heal();
    world.becomes_bound("hopeless").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c10_the_limit_of_workers_holds_over_claims_and_the_records_of_claims_that_are_gone() {
    let world = world();
    world.driver.upset("CreateVolume", 6, Trouble::Delay(secs(10)));
    // The driver works on when the call has timed out, and is asked again: by the record, when the claim is gone.
    let sidecar = Sidecar::with(&world, &["--worker-threads=2", "--timeout=4s"]);
    sidecar.leads(&world).await;
    crowd(&world, 6);
    let mut deleted = 0;
    while deleted < 6 {
        let calls = world.driver.calls();
        let under_way = calls
            .iter()
            .filter(|call| call.method == "CreateVolume" && call.code.is_none());
        for call in under_way {
            let claims = world.api.filter(CLAIMS, |claim| {
                claim["metadata"]["uid"]
                    .as_str()
                    .is_some_and(|uid| call.target.ends_with(uid))
            });
            for claim in claims {
                let name = claim["metadata"]["name"].as_str().unwrap_or_default();
                deleted += usize::from(world.api.delete(CLAIMS, "default", name));
            }
        }
        tokio::time::sleep(secs(1)).await;
    }
    world
        .eventually("each claim had its call", |world| {
            let calls = world.driver.calls();
            let made = calls
                .iter()
                .filter(|call| call.method == "CreateVolume" && call.code == Some(Code::Ok));
            made.count() >= 6
        })
        .await;
    world.becomes_clean().await;
    assert_eq!(world.driver.peak("CreateVolume"), 2);
    sidecar.end(&world).await;
}

/// What the page of readiness says of the ledger.
async fn said_of_the_ledger(sidecar: &Sidecar) -> Option<String> {
    let page = sidecar.page("/readyz").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    page.lines()
        .find(|line| line.starts_with("ledger:"))
        .map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn where_leases_of_the_ledger_are_forbidden_the_pages_say_so() {
    let world = world();
    for verb in ["get", "create", "update"] {
        let denied = Fault::new(Harm::Status(403)).on(verb, "leases");
        world.api.harm(denied.like("-ledger-"));
    }
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let said = said_of_the_ledger(&sidecar).await.expect("a line");
    assert!(said.contains("in memory only"), "{said}");
    assert_eq!(sidecar.metric("volwright_ledger_durable", &[]).await, 0.0);
    world.api.heal();
    tokio::time::sleep(secs(700)).await;
    assert_eq!(said_of_the_ledger(&sidecar).await, None);
    assert_eq!(sidecar.metric("volwright_ledger_durable", &[]).await, 1.0);
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_held_shows_in_the_pages_and_as_an_event_on_its_lease() {
    let world = world();
    world.driver.upset("CreateVolume", 1, Trouble::LoseReply);
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("the driver has made it", |world| {
            !world.driver.volumes().is_empty()
        })
        .await;
    sidecar.kill();
    world.api.delete(CLAIMS, "default", "data");
    // Copied from elsewhere, as far as anybody can tell.
    world.api.delete("leases", HOME, LEASE);
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let shard = format!("{LEASE}-ledger-0");
    let words = ["VolumeCreationHeld", "default/data", "settle.volwright.dev/"];
    world.is_told(&shard, &words).await;
    let said = said_of_the_ledger(&sidecar).await.expect("a line");
    assert!(said.contains("1 record") && said.contains("held"), "{said}");
    assert_eq!(sidecar.metric("volwright_ledger_held", &[]).await, 1.0);
    assert_eq!(sidecar.metric("volwright_ledger_durable", &[]).await, 1.0);
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}
