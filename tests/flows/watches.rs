//! What the watches and the answers of the API server do not say, or say to one object only.

use std::time::Duration;

use sandbox::{Fault, Harm};
use serde_json::json;
use tokio::time::Instant;

use crate::sidecar::{CLAIMS, DRIVER, Look, Sidecar, USER, VOLUMES, secs, world};

#[tokio::test(start_paused = true)]
async fn b7_watches_that_end_at_once_do_not_keep_the_api_server_busy() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let watched = [CLAIMS, VOLUMES, "storageclasses", "volumeattachments"];
    for resource in watched {
        world
            .api
            .harm(Fault::new(Harm::End(0)).on("watch", resource).by(USER));
    }
    world.api.cut_watches();
    world.api.forget_requests();
    tokio::time::sleep(secs(30)).await;
    let requests = world.api.requests();
    let watches = requests.iter().filter(|request| request.verb.rbac() == "watch");
    let watches = watches.count();
    assert!(watches < 40, "{watches} watches in half a minute");
    world.api.heal();
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b8_a_release_that_was_told_in_an_unreadable_line_is_seen_all_the_same() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    tokio::time::sleep(secs(10)).await;
    world.api.garble(VOLUMES);
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c15_a_webhook_that_denies_one_object_delays_that_one_only() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let uid = world.add_claim("default", "denied", "1Gi", |_| {});
    let denied = Fault::new(Harm::Deny(60)).named(&format!("pvc-{uid}"));
    world.api.harm(denied.on("create", VOLUMES));
    world
        .is_told(
            "denied",
            &["ProvisioningFailed", "admission webhook", "come back later"],
        )
        .await;
    for number in 0..10 {
        let asked = Instant::now();
        let claim = format!("data-{number}");
        world.add_claim("default", &claim, "1Gi", |_| {});
        world.becomes_bound(&claim).await;
        assert!(asked.elapsed() < secs(1), "{claim}: {:?}", asked.elapsed());
        tokio::time::sleep(secs(3)).await;
    }
    world.api.heal();
    world.becomes_bound("denied").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_heard_of_after_its_claim_is_not_called_missing() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let add = |claim: &str, class: &str| {
        world.add_claim("default", claim, "1Gi", |claim| {
            claim["spec"]["storageClassName"] = class.into();
            claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] = DRIVER.into();
        });
    };
    add("early", "late");
    add("hopeless", "absent");
    tokio::time::sleep(Duration::from_millis(900)).await;
    let class = json!({"metadata": {"name": "late"}, "provisioner": DRIVER});
    world.api.create("storageclasses", "", class);
    world.becomes_bound("early").await;
    world
        .is_told("hopeless", &["ProvisioningFailed", "\"absent\" not found"])
        .await;
    let events = world.events("early");
    assert!(
        !events.iter().any(|event| event.contains("ProvisioningFailed")),
        "{events:?}"
    );
    sidecar.end(&world).await;
}
