//! What the owner of a claim is told, over hours.

use sandbox::{World, driver::Trouble};
use serde_json::Value;
use tokio::time::sleep;
use tonic::Code;

use crate::sidecar::{HOME, Look, SECRETS, Sidecar, empty_world, secs, text, world};

/// How often events of this reason were told, those that were counted up included.
fn times(world: &World, reason: &str) -> u64 {
    let events = world.api.filter("events", |event| event["reason"] == reason);
    events.iter().filter_map(|event| event["count"].as_u64()).sum()
}

#[tokio::test(start_paused = true)]
async fn b1_after_three_hours_of_failures_an_event_names_the_reason_of_the_last_one() {
    let world = world();
    let refuse = |text| {
        world.driver.heal();
        let trouble = Trouble::Refuse(Code::Internal, text);
        world.driver.upset("CreateVolume", usize::MAX, trouble);
    };
    refuse("no space");
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    sleep(secs(2 * 3600)).await;
    refuse("login refused");
    // The API server forgets an event an hour after its last change.
    for event in world.api.list("events") {
        let (namespace, name) = (
            text(&event, "/metadata/namespace"),
            text(&event, "/metadata/name"),
        );
        world.api.delete("events", namespace, name);
    }
    sleep(secs(3600)).await;
    assert!(
        world.told("data", &["ProvisioningFailed: ", "login refused"]),
        "{}",
        world.print()
    );
    world.driver.heal();
    world.becomes_bound("data").await;
    world.is_told("data", &["ProvisioningSucceeded: "]).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b1_provisioning_is_told_once_for_each_claim() {
    for code in [Code::Internal, Code::Unavailable] {
        let world = world();
        let trouble = Trouble::Refuse(code, "not now");
        world.driver.upset("CreateVolume", 9, trouble);
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.becomes_bound("data").await;
        world.add_claim("default", "more", "1Gi", |_| {});
        world.is_told("more", &["ProvisioningSucceeded: "]).await;
        let told = ["Provisioning", "ProvisioningFailed"].map(|reason| times(&world, reason));
        assert_eq!(told, [2, 9], "{code:?}\n{}", world.print());
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn b1_provisioning_is_told_once_while_the_secret_is_missing() {
    let world = empty_world()
        .rbac(SECRETS, HOME)
        .class_with("locked", |class: &mut Value| {
            class["parameters"] = serde_json::json!({
                "csi.storage.k8s.io/provisioner-secret-name": "login",
                "csi.storage.k8s.io/provisioner-secret-namespace": "default",
            });
        });
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    sleep(secs(3600)).await;
    assert!(times(&world, "ProvisioningFailed") > 9, "{}", world.print());
    let world = world.secret("default", "login", &[("user", "joe")]);
    world.becomes_bound("data").await;
    assert_eq!(times(&world, "Provisioning"), 1, "{}", world.print());
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b2_a_text_of_kilobytes_is_told_to_its_end() {
    let world = world();
    let cause = "see the cause: ".repeat(200) + "quota exceeded";
    let cause: &'static str = Box::leak(cause.into_boxed_str());
    world
        .driver
        .upset("CreateVolume", 1, Trouble::Refuse(Code::Internal, cause));
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .is_told("data", &["ProvisioningFailed: ", "quota exceeded"])
        .await;
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}
