//! What volumes are made from stays until they are made, and goes afterwards.

use std::time::Duration;

use sandbox::{
    World,
    driver::{Capability, Trouble},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::sidecar::{CLAIMS, Look, Sidecar, finalizers, secs, world};

const SNAPSHOTS: &str = "volumesnapshots";
const SNAPSHOT_FINALIZER: &str = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
const CLONE_FINALIZER: &str = "provisioner.storage.kubernetes.io/cloning-protection";
/// Longer than any write takes to follow what led to it.
const SOON: Duration = secs(10);

/// A world whose driver can copy, with the claim `origin` and the snapshot `backup`.
fn copying() -> World {
    let world = world().claim("default", "origin", "1Gi");
    let more = [Capability::CreateDeleteSnapshot, Capability::CloneVolume];
    world
        .driver
        .configure(|identity| identity.capabilities.extend(more));
    world.add_snapshot("default", "backup", |_| {});
    world
}

fn restored(claim: &mut Value) {
    claim["spec"]["dataSource"] =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "backup"});
}

fn cloned(claim: &mut Value) {
    claim["spec"]["dataSourceRef"] = json!({"kind": "PersistentVolumeClaim", "name": "origin"});
}

fn is_on(world: &World, plural: &str, name: &str, finalizer: &str) -> bool {
    let object = world.api.get(plural, "default", name);
    object.is_some_and(|object| finalizers(&object).iter().any(|it| it == finalizer))
}

#[tokio::test(start_paused = true)]
async fn a_source_is_kept_while_the_driver_copies_it_and_freed_when_the_last_one_is_done() {
    type Case = (fn(&mut Value), &'static str, &'static str, &'static str);
    let by_reference: fn(&mut Value) = |claim| {
        restored(claim);
        let source = claim["spec"]["dataSource"].take();
        claim["spec"] = json!({
            "accessModes": claim["spec"]["accessModes"],
            "resources": claim["spec"]["resources"],
            "storageClassName": claim["spec"]["storageClassName"],
            "dataSourceRef": source,
        });
    };
    let id = "sweep.single-case-functions.10";
    let rows: [Case; 3] = [
        (by_reference, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER),
        (restored, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER),
        (cloned, CLAIMS, "origin", CLONE_FINALIZER),
    ];
    for (from, plural, name, finalizer) in rows {
        let world = copying();
        let sidecar = Sidecar::start(&world);
        world.becomes_bound("origin").await;
        let refused = Trouble::Refuse(Code::ResourceExhausted, "full");
        world.driver.upset("CreateVolume", 1000, refused);
        for claim in ["one", "two"] {
            world.add_claim("default", claim, "1Gi", from);
        }
        world
            .eventually("it is kept", |world| is_on(world, plural, name, finalizer))
            .await;
        // A claim that is being deleted is not cloned any more.
        if plural == SNAPSHOTS {
            world.api.delete(plural, "default", name);
        }
        world.api.delete(CLAIMS, "default", "one");
        sleep(SOON).await;
        assert!(
            is_on(&world, plural, name, finalizer),
            "the other claim waits still {id}"
        );
        world.driver.heal();
        world.becomes_bound("two").await;
        world
            .eventually("it is freed", |world| !is_on(world, plural, name, finalizer))
            .await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_has_left_is_freed_by_the_next_one() {
    let world = copying();
    let on = |it: &mut Value| it["metadata"]["finalizers"] = json!([SNAPSHOT_FINALIZER]);
    world.api.edit(SNAPSHOTS, "default", "backup", on);
    let sidecar = Sidecar::start(&world);
    world
        .eventually("it is freed", |world| {
            !is_on(world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER)
        })
        .await;
    world.becomes_bound("origin").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_claim_is_gone_keeps_its_source_to_the_end() {
    let world = copying();
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    world.driver.upset(
        "CreateVolume",
        1000,
        Trouble::Refuse(Code::DeadlineExceeded, "slow"),
    );
    world.add_claim("default", "data", "1Gi", restored);
    world
        .eventually("it is kept", |world| {
            is_on(world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER)
        })
        .await;
    sleep(SOON).await;
    world.api.delete(CLAIMS, "default", "data");
    sleep(secs(400)).await;
    assert!(is_on(&world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER), "D-49");
    world.driver.heal();
    world
        .eventually("it is freed", |world| {
            !is_on(world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER)
        })
        .await;
    sidecar.end(&world).await;
}
