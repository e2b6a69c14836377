//! A record that is not trusted, and a cache that lags behind; a request that may not be the one that is stored.

use sandbox::{Fault, Harm, driver::Trouble};
use tokio::time::sleep;
use tonic::Code;

use crate::sidecar::{HOME, LEASE, Look, Sidecar, secs, world};

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
