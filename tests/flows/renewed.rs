//! A claim whose class was replaced gets another request after two refusals in doubt, and the first one may have made
//! its volume all the same.

use sandbox::{Fault, Harm, World, driver::Trouble};
use tokio::time::sleep;
use tonic::Code;

use crate::{
    restarts::records,
    sidecar::{CLAIMS, Look, Sidecar, empty_world, secs, text},
    topology::{pod, preferred, zones},
};

const FOR_EVER: usize = usize::MAX;

/// The tier that the driver was asked for last.
fn tier(world: &World) -> String {
    let last = world.driver.creations().pop();
    last.map(|request| request.parameters["tier"].clone())
        .unwrap_or_default()
}

/// The volume of the claim `data` is made as its class says, tier gold, and nobody hears of it. Then the driver refuses,
/// the class asks for tier lead, and so does the sidecar, which hears `answer` for that.
async fn renewed(answer: Code) -> (World, Sidecar, String) {
    let world = empty_world().class("fast", &[("tier", "gold")]);
    let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", 1, busy);
    let down = Trouble::Refuse(Code::Internal, "the backend is down");
    world.driver.upset("CreateVolume", FOR_EVER, down);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    // Two final answers, further apart than --timeout.
    sleep(secs(40)).await;
    world.driver.heal();
    world
        .driver
        .upset("CreateVolume", FOR_EVER, Trouble::Refuse(answer, "not so"));
    world.api.delete("storageclasses", "", "fast");
    let world = world.class("fast", &[("tier", "lead")]);
    world
        .eventually("another request is sent", |world| tier(world) == "lead")
        .await;
    (world, sidecar, uid)
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_the_first_request_has_made_is_found_by_it_when_the_next_one_is_in_its_way() {
    let (world, sidecar, uid) = renewed(Code::AlreadyExists).await;
    world
        .is_told("data", &["ProvisioningFailed", "not so", "an earlier request"])
        .await;
    world.driver.heal();
    world.becomes_bound("data").await;
    assert_eq!(
        tier(&world),
        "gold",
        "its request is repeated, whatever the class says"
    );
    let [volume] = &*world.driver.volumes() else {
        panic!("one volume: {}", world.print());
    };
    let pv = world.volume_of(&uid).expect("its object");
    assert_eq!(text(&pv, "/spec/csi/volumeHandle"), volume.id);
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_volume_that_may_exist_is_never_changed() {
    let world = empty_world().class("fast", &[("tier", "gold")]);
    let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", 1, busy);
    let down = Trouble::Refuse(Code::Internal, "the backend is down");
    world.driver.upset("CreateVolume", FOR_EVER, down);
    let alone = ["--leader-election=false"];
    let first = Sidecar::with(&world, &alone);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it is refused", |world| world.driver.count("CreateVolume") == 2)
        .await;
    first.kill();
    world.api.delete("storageclasses", "", "fast");
    let world = world.class("fast", &[("tier", "lead")]);
    let sidecar = Sidecar::with(&world, &[alone[0], "--volume-name-prefix=other"]);
    // Two final answers, further apart than --timeout, and more.
    sleep(secs(120)).await;
    let names: Vec<_> = world.driver.creations().into_iter().map(|it| it.name).collect();
    assert!(
        names.len() > 4 && names.iter().all(|name| *name == format!("pvc-{uid}")),
        "{names:?}"
    );
    world.driver.heal();
    world.becomes_bound("data").await;
    assert_eq!(world.driver.volumes().len(), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_the_first_request_has_made_is_not_lost_when_the_next_one_is_refused_for_good() {
    for (code, goes) in [
        (Code::InvalidArgument, false),
        (Code::InvalidArgument, true),
        (Code::OutOfRange, true),
    ] {
        let (world, sidecar, uid) = renewed(code).await;
        world
            .is_told("data", &["ProvisioningFailed", "not so", "an earlier request"])
            .await;
        assert_eq!(records(&sidecar).await, (1.0, 0.0), "{code:?}");
        if goes {
            world.api.delete(CLAIMS, "default", "data");
        }
        world.driver.heal();
        if goes {
            world
                .eventually("its object is written", |world| world.volume_of(&uid).is_some())
                .await;
            world.becomes_clean().await;
        } else {
            world.becomes_bound("data").await;
        }
        assert_eq!(tier(&world), "gold", "{code:?}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_next_knows_both_requests() {
    let (world, first, _) = renewed(Code::Internal).await;
    first.kill();
    world.driver.heal();
    let taken = Trouble::Refuse(Code::AlreadyExists, "not so");
    world.driver.upset("CreateVolume", 1, taken);
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("data").await;
    assert_eq!(tier(&world), "gold");
    assert_eq!(world.driver.volumes().len(), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn requests_that_take_turns_do_so_at_the_pace_of_failures() {
    for answer in [Code::AlreadyExists, Code::InvalidArgument, Code::Internal] {
        let (world, sidecar, _) = renewed(answer).await;
        let asked = world.driver.count("CreateVolume");
        sleep(secs(3600)).await;
        let asked = world.driver.count("CreateVolume") - asked;
        // Some while the pause doubles, then one in five minutes.
        assert!((6..=24).contains(&asked), "{answer:?}: {asked}");
        assert_eq!(
            records(&sidecar).await,
            (f64::from(u8::from(answer != Code::InvalidArgument)), 0.0)
        );
        world.driver.heal();
        sidecar.stop();
        sidecar.ended().await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_fallen_back_to_is_stored_before_it_is_sent() {
    let (world, sidecar, _) = renewed(Code::Internal).await;
    world.driver.heal();
    let taken = Trouble::Refuse(Code::AlreadyExists, "taken");
    world.driver.upset("CreateVolume", FOR_EVER, taken.clone());
    let ledger = Fault::new(Harm::Status(500)).on("update", "leases");
    world.api.harm(ledger.like("-ledger-"));
    world.is_told("data", &["cannot be recorded"]).await;
    let lead = |world: &World| tier(world) == "lead";
    world.always("gold is not asked for", secs(600), lead).await;
    world.driver.heal();
    world.driver.upset("CreateVolume", 1, taken);
    world.api.heal();
    world.becomes_bound("data").await;
    assert_eq!(tier(&world), "gold");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_does_not_go_back_to_the_scheduler_while_the_request_for_another_node_is_to_be_repeated() {
    let world = zones([10, 10]);
    let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
    let full = Trouble::Refuse(Code::ResourceExhausted, "full");
    let down = Trouble::Refuse(Code::Internal, "the backend is down");
    world.driver.upset("CreateVolume", 1, busy);
    // After 1, 3, 7 and 15 s. Then there is no room, and the claim goes to the other node, where there is none, either.
    world.driver.upset("CreateVolume", 4, down);
    world.driver.upset("CreateVolume", FOR_EVER, full);
    let sidecar = Sidecar::start(&world);
    let uid = pod(&world, "data");
    world.is_told("data", &["full", "an earlier request"]).await;
    world.driver.heal();
    world.becomes_bound("data").await;
    let sent = preferred(&world);
    assert!(sent.iter().any(|terms| terms == "zone=b zone=a"), "{sent:?}");
    assert_eq!(sent.last().map(String::as_str), Some("zone=a zone=b"));
    let back = world
        .events("data")
        .into_iter()
        .filter(|event| event.contains("choose again"));
    assert_eq!(back.count(), 1, "{}", world.print());
    assert_eq!(world.driver.volumes().len(), 1);
    assert!(world.volume_of(&uid).is_some());
    sidecar.end(&world).await;
}
