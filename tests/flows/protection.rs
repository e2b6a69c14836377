//! What volumes are made from stays until they are made, and goes afterwards.

use std::time::Duration;

use sandbox::{Fault, Harm, World, driver::Trouble};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::{
    sidecar::{CLAIMS, Look, Sidecar, finalizers, secs},
    sources::{self, SNAPSHOTS, cloned, restored},
};

const SNAPSHOT_FINALIZER: &str = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
const CLONE_FINALIZER: &str = "provisioner.storage.kubernetes.io/cloning-protection";
/// Longer than any write takes to follow what led to it.
const SOON: Duration = secs(10);

/// As in the other flows of sources, and with the snapshot `backup`.
fn copying() -> World {
    let world = sources::copying();
    world.add_snapshot("default", "backup", |_| {});
    world
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
        // Another driver's claim waits for good.
        let others = json!({"metadata": {"name": "others"}, "provisioner": "others.example.com"});
        world.api.create("storageclasses", "", others);
        world.add_claim("default", "theirs", "1Gi", |claim| {
            from(claim);
            claim["spec"]["storageClassName"] = "others".into();
        });
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
            "D-11: the other claim waits still {id}"
        );
        world.driver.heal();
        world.becomes_bound("two").await;
        world
            .eventually("D-19: it is freed", |world| {
                !is_on(world, plural, name, finalizer)
            })
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
async fn while_claims_cannot_be_listed_nothing_comes_off() {
    let world = copying();
    let on = |it: &mut Value| it["metadata"]["finalizers"] = json!([SNAPSHOT_FINALIZER]);
    world.api.edit(SNAPSHOTS, "default", "backup", on);
    world.add_claim("default", "data", "1Gi", restored);
    for verb in ["list", "watch"] {
        world.api.harm(Fault::new(Harm::Status(500)).on(verb, CLAIMS));
    }
    let refused = Trouble::Refuse(Code::ResourceExhausted, "full");
    world.driver.upset("CreateVolume", usize::MAX, refused);
    let sidecar = Sidecar::start(&world);
    for round in ["no list of claims", "the claim waits"] {
        world
            .always(&format!("D-50: {round}"), secs(900), |world| {
                is_on(world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER)
            })
            .await;
        world.api.heal();
    }
    world.driver.heal();
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_watch_snapshots_they_are_freed_all_the_same() {
    let world = copying();
    let forbidden = Fault::new(Harm::Status(403)).on("watch", SNAPSHOTS);
    world.api.harm(forbidden);
    let on = |it: &mut Value| it["metadata"]["finalizers"] = json!([SNAPSHOT_FINALIZER]);
    world.api.edit(SNAPSHOTS, "default", "backup", on);
    let sidecar = Sidecar::start(&world);
    world
        .eventually("D-51: it is freed", |world| {
            !is_on(world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER)
        })
        .await;
    world.becomes_bound("origin").await;
    sidecar.end_without_rights(&world).await;
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
    let next = sidecar.beside(&world, "pod-b", &world.driver);
    sidecar.kill();
    // Its first sweep, and then some.
    sleep(secs(700)).await;
    assert!(
        is_on(&world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER),
        "of a record"
    );
    world.driver.heal();
    world
        .eventually("it is freed", |world| {
            !is_on(world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER)
        })
        .await;
    next.stop();
    next.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn five_hundred_restores_from_one_snapshot_write_its_finalizer_once_on_and_once_off() {
    let world = copying();
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    let before = world.api.count("update", SNAPSHOTS);
    for n in 0..500 {
        world.add_claim("default", &format!("data-{n}"), "1Gi", restored);
    }
    world
        .eventually("all are bound", |world| {
            let bound = |claim: &Value| claim["status"]["phase"] == "Bound";
            world.api.filter(CLAIMS, bound).len() == 501
        })
        .await;
    sleep(SOON).await;
    assert!(!is_on(&world, SNAPSHOTS, "backup", SNAPSHOT_FINALIZER));
    assert_eq!(world.api.count("update", SNAPSHOTS) - before, 2);
    sidecar.end(&world).await;
}
