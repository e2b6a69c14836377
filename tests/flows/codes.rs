//! What becomes of a claim when the driver refuses to create its volume, code by code.

use sandbox::{World, driver::Trouble};
use tonic::Code;

use crate::sidecar::{CLAIMS, DRIVER, Look, Sidecar, VOLUMES, secs, text, world};

/// Every code but OK, with its name in Go, which users look for in events and metrics.
const CODES: [(Code, &str); 16] = [
    (Code::Cancelled, "Canceled"),
    (Code::Unknown, "Unknown"),
    (Code::InvalidArgument, "InvalidArgument"),
    (Code::DeadlineExceeded, "DeadlineExceeded"),
    (Code::NotFound, "NotFound"),
    (Code::AlreadyExists, "AlreadyExists"),
    (Code::PermissionDenied, "PermissionDenied"),
    (Code::ResourceExhausted, "ResourceExhausted"),
    (Code::FailedPrecondition, "FailedPrecondition"),
    (Code::Aborted, "Aborted"),
    (Code::OutOfRange, "OutOfRange"),
    (Code::Unimplemented, "Unimplemented"),
    (Code::Internal, "Internal"),
    (Code::Unavailable, "Unavailable"),
    (Code::DataLoss, "DataLoss"),
    (Code::Unauthenticated, "Unauthenticated"),
];

/// After these the volume may exist: the claim's end is not the end of the attempts.
const PERHAPS: [Code; 4] = [
    Code::Cancelled,
    Code::DeadlineExceeded,
    Code::Aborted,
    Code::Unavailable,
];

/// When CreateVolume was called, in seconds since the first time.
fn calls(world: &World) -> Vec<u64> {
    let calls = world.driver.calls();
    let mut at = calls
        .iter()
        .filter(|call| call.method == "CreateVolume")
        .map(|call| call.at);
    let Some(first) = at.next() else { return Vec::new() };
    std::iter::once(0)
        .chain(at.map(|at| (at - first).as_secs()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn after_each_code_the_claim_says_why_and_gets_its_volume_by_the_backoff() {
    for (code, name) in CODES {
        let world = world();
        world
            .driver
            .upset("CreateVolume", 3, Trouble::Refuse(code, "not now"));
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.becomes_bound("data").await;
        let said = format!("rpc error: code = {name} desc = not now");
        let (text, times) = match code {
            Code::InvalidArgument => (
                format!(
                    "ProvisioningFailed: Volume provisioning failed with infeasible error. Retries will be delayed. {said}"
                ),
                vec![0, 300, 600, 900],
            ),
            _ => (format!("ProvisioningFailed: {said}"), vec![0, 1, 3, 7]),
        };
        assert!(
            world.events("data").contains(&text),
            "{name}: {:?}",
            world.events("data")
        );
        assert_eq!(calls(&world), times, "{name}: seconds of the calls");
        let failed = sidecar
            .metric(
                "controller_persistentvolumeclaim_provision_failed_total",
                &["class=\"fast\""],
            )
            .await;
        assert_eq!(failed, 3.0, "{name}: failures counted");
        let label = format!("grpc_status_code=\"{name}\"");
        let labels = ["method_name=\"/csi.v1.Controller/CreateVolume\"", &label, DRIVER];
        let counted = sidecar
            .metric("csi_sidecar_operations_seconds_count", &labels)
            .await;
        assert_eq!(counted, 3.0, "{name}: calls counted");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_goes_away_is_followed_up_exactly_when_a_volume_may_exist() {
    for (code, name) in CODES {
        let world = world();
        // Made, whatever the driver says.
        let first = match PERHAPS.contains(&code) {
            true => Trouble::RefuseAfter(code, "not now"),
            false => Trouble::Refuse(code, "not now"),
        };
        world.driver.upset("CreateVolume", 1, first);
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.is_told("data", &[name]).await;
        world.api.delete(CLAIMS, "default", "data");
        tokio::time::sleep(secs(60)).await;
        let calls = calls(&world).len();
        assert_eq!(
            calls,
            if PERHAPS.contains(&code) { 2 } else { 1 },
            "{name}: calls"
        );
        assert!(world.is_clean(), "{name}: nothing stays");
        assert_eq!(
            sidecar.metric("volwright_ledger_records", &[]).await,
            0.0,
            "{name}"
        );
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_infeasible_claim_is_tried_every_five_minutes_however_often_it_changes() {
    let world = world();
    world.driver.upset(
        "CreateVolume",
        99,
        Trouble::Refuse(Code::InvalidArgument, "never"),
    );
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    for round in 0..59_u64 {
        tokio::time::sleep(secs(20)).await;
        world.api.edit(CLAIMS, "default", "data", |claim| {
            claim["metadata"]["annotations"]["example.com/round"] = round.to_string().into();
        });
    }
    assert_eq!(calls(&world), [0, 300, 600, 900]);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_made_anew_ends_the_wait_of_an_infeasible_claim() {
    let world = world();
    world.driver.upset(
        "CreateVolume",
        1,
        Trouble::Refuse(Code::InvalidArgument, "tier unknown"),
    );
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &["infeasible", "tier unknown"]).await;
    world.api.delete("storageclasses", "", "fast");
    let again = tokio::time::Instant::now();
    let world = world.class("fast", &[("tier", "gold")]);
    world.becomes_bound("data").await;
    assert!(again.elapsed() < secs(1), "{:?}", again.elapsed());
    assert_eq!(world.driver.volumes()[0].parameters["tier"], "gold");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_reply_was_lost_gets_its_object_although_the_claim_is_gone() {
    let world = world();
    world.driver.upset("CreateVolume", 1, Trouble::LoseReply);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it is made", |world| world.driver.volumes().len() == 1)
        .await;
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("its object is written", |world| world.volume_of(&uid).is_some())
        .await;
    world.becomes_clean().await;
    let phases: Vec<_> = world.api.history(VOLUMES);
    assert!(phases.iter().any(|pv| text(pv, "/status/phase") == "Released"));
    assert_eq!(world.driver.count("DeleteVolume"), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_driver_that_is_still_at_work_is_asked_until_it_is_done() {
    let world = world();
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(45)));
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    assert!(world.told("data", &["DeadlineExceeded", "context deadline exceeded"]));
    assert!(world.told("data", &["Aborted", "is pending"]));
    sidecar.end(&world).await;
}
