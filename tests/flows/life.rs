//! The main job: a claim becomes a volume, and a released volume goes away.

use serde_json::{Value, json};

use crate::sidecar::{CLAIMS, DRIVER, FINALIZER, Look, Sidecar, VOLUMES, empty_world, secs, text, world};

#[tokio::test(start_paused = true)]
async fn a_claim_becomes_a_volume_and_goes_away_without_a_trace() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    world
        .is_told("data", &["ProvisioningSucceeded: Successfully provisioned volume pvc-"])
        .await;
    assert!(world.told(
        "data",
        &["Provisioning: External provisioner is provisioning volume for claim \"default/data\""]
    ));
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    assert_eq!(world.driver.count("DeleteVolume"), 1);
    sidecar.end(&world).await;
}
