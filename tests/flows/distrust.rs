//! A record that is not trusted, and a cache that lags behind; a request that may not be the one that is stored.

use sandbox::{Fault, Harm, World, driver::Trouble};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    restarts::{records, settled},
    sidecar::{CLAIMS, HOME, LEASE, Look, Sidecar, secs, world},
};

#[tokio::test(start_paused = true)]
async fn a_record_is_not_held_because_the_cache_does_not_show_its_claim_yet() {
    let world = world();
    let busy = Trouble::Refuse(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", usize::MAX, busy);
    let lags = Sidecar::start(&world);
    lags.leads(&world).await;
    world.api.freeze_cache();
    world.add_claim("default", "data", "1Gi", |_| {});
    // The first list of another one shows the claim.
    let other = lags.beside(&world, "pod-b", &world.driver);
    lags.pause();
    world
        .eventually("the other one asks", |world| {
            world.driver.count("CreateVolume") > 0
        })
        .await;
    other.kill();
    // Made anew, so that the record was opened under another one.
    world.api.delete("leases", HOME, LEASE);
    world.driver.heal();
    lags.resume();
    world
        .eventually("it leads again", |world| {
            world.api.get("leases", HOME, LEASE).is_some()
        })
        .await;
    sleep(secs(20)).await;
    let seen = [
        lags.metric("volwright_ledger_records", &[]).await,
        lags.metric("volwright_ledger_held", &[]).await,
    ];
    assert_eq!(seen, [1.0, 0.0], "{:?}", lags.log());
    world.api.thaw_cache();
    world.becomes_bound("data").await;
    assert_eq!(lags.metric("volwright_ledger_records", &[]).await, 0.0);
    lags.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_not_repeated_while_another_one_may_stand_in_its_place_in_the_ledger() {
    let world = world();
    let failing = Trouble::Refuse(Code::Internal, "no memory");
    let busy = Trouble::Refuse(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", 1, busy);
    world.driver.upset("CreateVolume", usize::MAX, failing);
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    // Two final answers, further apart than --timeout.
    sleep(secs(35)).await;
    let ledger = |harm| Fault::new(harm).on("update", "leases").like("-ledger-");
    world.api.harm(ledger(Harm::LoseReply).times(1));
    world.api.harm(ledger(Harm::Status(500)));
    world.api.delete("storageclasses", "", "fast");
    let world = world.class("fast", &[("tier", "gold")]);
    world.is_told("data", &["cannot be recorded"]).await;
    let asked = world.driver.count("CreateVolume");
    world.driver.heal();
    sleep(secs(600)).await;
    assert_eq!(world.driver.count("CreateVolume"), asked);
    world.api.heal();
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

/// The name of the volume has eight digits of the claim's UID, so that its record is not trusted.
const SHORT: &[&str] = &["--leader-election=false", "--volume-name-uuid-length=8"];

async fn killed_with_a_short_name() -> World {
    let world = world();
    world.driver.upset("CreateVolume", 1, Trouble::LoseReply);
    let sidecar = Sidecar::with(&world, SHORT);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("the driver has made it", |world| {
            !world.driver.volumes().is_empty()
        })
        .await;
    sidecar.kill();
    world
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_held_when_the_ledger_is_taken_over_is_counted() {
    let world = killed_with_a_short_name().await;
    world.api.delete(CLAIMS, "default", "data");
    let sidecar = Sidecar::with(&world, SHORT);
    world
        .eventually("it is held", |_| sidecar.logged(&["held", "default/data"]))
        .await;
    assert_eq!(records(&sidecar).await, (0.0, 1.0));
    assert_eq!(settled(&sidecar, "held").await, 1.0);
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn one_claim_that_cannot_be_read_holds_up_nothing_but_its_own_record() {
    for forbidden in [false, true] {
        let world = killed_with_a_short_name().await;
        if forbidden {
            let no = Fault::new(Harm::Status(403));
            world.api.harm(no.on("list", CLAIMS).named("data"));
        } else {
            world.api.edit(CLAIMS, "default", "data", |claim| {
                claim["spec"]["accessModes"] = json!(5);
            });
        }
        let sidecar = Sidecar::with(&world, SHORT);
        world.add_claim("default", "next", "1Gi", |_| {});
        world.becomes_bound("next").await;
        sleep(secs(60)).await;
        let seen = (records(&sidecar).await, world.claim_phase("default", "data"));
        match forbidden {
            true => assert_eq!(
                seen,
                ((0.0, 0.0), "Bound".to_owned()),
                "the watch shows that it waits"
            ),
            false => assert_eq!(seen.0, (1.0, 0.0), "{:?}", sidecar.log()),
        }
        sidecar.stop();
        sidecar.ended().await.expect("a clean end");
    }
}
