//! A volume that the in-tree plugin has no words for: it is not kept, and nothing is lost.

use sandbox::{World, driver::Trouble};
use serde_json::Value;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    migration::{CALLS, EBS, PLUGIN, ZONE, migrated},
    sidecar::{CLAIMS, Look, Sidecar, VOLUMES, secs, text},
};

/// The driver says of this many volumes that they are where no region is known.
fn astray(world: &World, times: usize) {
    let outpost = [(ZONE.to_owned(), "outpost".to_owned())];
    let trouble = Trouble::Topology(vec![outpost.into()]);
    world.driver.upset("CreateVolume", times, trouble);
}

const WORDS: [&str; 4] = [
    "ProvisioningFailed",
    "infeasible error. Retries will be delayed.",
    "cannot be a volume of kubernetes.io/aws-ebs, which its class asks for: the zone \"outpost\" has no region",
    "it was deleted and is asked for again",
];

#[tokio::test(start_paused = true)]
async fn d14_while_its_claim_waits_it_is_deleted_again_and_held_off() {
    let world = migrated();
    astray(&world, 1);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &WORDS).await;
    assert!(world.is_clean());
    assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 0.0);
    world.api.edit(CLAIMS, "default", "data", |claim| {
        claim["metadata"]["annotations"]["example.com/round"] = "2".into();
    });
    sleep(secs(280)).await;
    let calls = || {
        (
            world.driver.count("CreateVolume"),
            world.driver.count("DeleteVolume"),
        )
    };
    assert_eq!(calls(), (1, 1), "D-14: it would be the same again");
    sleep(secs(30)).await;
    world.becomes_bound("data").await;
    assert_eq!(calls(), (2, 1));
    let pv = world.volume_of(&uid).unwrap();
    assert!(pv["spec"]["csi"].is_null());
    let deletions = ["/DeleteVolume\"", "migrated=\"true\""];
    assert_eq!(sidecar.metric(CALLS, &deletions).await, 1.0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d14_a_class_that_is_made_anew_for_the_driver_itself_ends_the_wait() {
    let world = migrated();
    // The first call leaves a doubt: the record stays while it is held off.
    let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", 1, busy);
    astray(&world, usize::MAX);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &WORDS).await;
    let creations = world.driver.count("CreateVolume");
    sleep(secs(100)).await;
    assert_eq!(world.driver.count("CreateVolume"), creations);
    assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 1.0);
    world.api.delete("storageclasses", "", "fast");
    let world = world.class("fast", &[]);
    world.becomes_bound("data").await;
    let pv = world.volume_of(&uid).unwrap();
    assert_eq!(text(&pv, "/spec/csi/driver"), EBS);
    assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 0.0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d14_a_deletion_that_fails_is_repeated_until_nothing_is_left() {
    let world = migrated();
    astray(&world, 2);
    let refusal = Trouble::Refuse(Code::Internal, "not now");
    world.driver.upset("DeleteVolume", 5, refusal);
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .is_told(
            "data",
            &["ProvisioningFailed", "may be left at the driver", "not now"],
        )
        .await;
    assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 1.0);
    world.is_told("data", &WORDS).await;
    assert!(world.is_clean());
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d14_when_its_claim_is_gone_it_is_written_as_it_is_and_reclaimed() {
    for is_restarted in [false, true] {
        let world = migrated();
        let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
        world.driver.upset("CreateVolume", 1, busy);
        astray(&world, usize::MAX);
        let mut sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.is_told("data", &["ProvisioningFailed", "busy"]).await;
        if is_restarted {
            sidecar.kill();
            world.api.delete(CLAIMS, "default", "data");
            sidecar = Sidecar::start(&world);
        } else {
            world.api.delete(CLAIMS, "default", "data");
        }
        world
            .eventually("its object stands for a while", |world| {
                world.api.len(VOLUMES) == 1
            })
            .await;
        let pv = world.api.list(VOLUMES).pop().unwrap();
        assert_eq!(text(&pv, "/spec/csi/driver"), EBS);
        let annotations = &pv["metadata"]["annotations"];
        assert_eq!(annotations["pv.kubernetes.io/provisioned-by"], PLUGIN);
        assert_eq!(pv["spec"]["awsElasticBlockStore"], Value::Null);
        world.becomes_clean().await;
        assert_eq!(world.driver.count("DeleteVolume"), 1);
        assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 0.0);
        sidecar.end(&world).await;
    }
}
