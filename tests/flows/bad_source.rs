//! Sources that make no sense: the claim says so, nothing is made, and a mended source is taken.

use sandbox::World;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    sidecar::{CLAIMS, Look, Sidecar, secs, text},
    sources::{CONTENTS, SNAPSHOTS, cloned, copying, restored},
};

/// What is wrong, how it comes to be, and what the claim is told.
type Row = (&'static str, fn(&World), fn(&mut Value), &'static [&'static str]);

fn snapshot(world: &World, edit: fn(&mut Value)) {
    world.api.edit(SNAPSHOTS, "default", "backup", edit);
}

fn content(world: &World, edit: fn(&mut Value)) {
    world.api.edit(CONTENTS, "", "snapcontent-default-backup", edit);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_makes_no_sense_is_told_at_the_pace_of_failures_and_can_be_mended() {
    let rows: [Row; 10] = [
        (
            "a snapshot without a name",
            |_| {},
            |claim| {
                restored(claim);
                claim["spec"]["dataSource"]["name"] = "".into();
            },
            &["VolumeSnapshot without a name"],
        ),
        (
            "a snapshot of another API group",
            |_| {},
            |claim| {
                restored(claim);
                claim["spec"]["dataSource"]["apiGroup"] = "snapshots.example.com".into();
            },
            &["set apiGroup to snapshot.storage.k8s.io"],
        ),
        (
            "the claim itself",
            |_| {},
            |claim| {
                cloned(claim);
                claim["spec"]["dataSourceRef"]["name"] = "data".into();
            },
            &["PersistentVolumeClaim default/data", "that is the claim itself"],
        ),
        (
            "a content without a handle",
            |world| content(world, |it| it["status"] = json!({"readyToUse": true})),
            restored,
            &["VolumeSnapshot default/backup", "has no status.snapshotHandle"],
        ),
        (
            "a restoreSize above the claim's",
            |world| snapshot(world, |it| it["status"]["restoreSize"] = "1025Mi".into()),
            restored,
            &["asks for 1073741824 bytes and 1074790400 are needed"],
        ),
        (
            "a negative restoreSize",
            |world| snapshot(world, |it| it["status"]["restoreSize"] = "-1".into()),
            restored,
            &["volumesnapshots", "it is not what the API promises"],
        ),
        (
            "a restoreSize that is no number",
            |world| snapshot(world, |it| it["status"]["restoreSize"] = "much".into()),
            restored,
            &["volumesnapshots", "it is not what the API promises"],
        ),
        (
            "another mode, allowed by what is no boolean",
            |world| {
                content(world, |it| {
                    it["spec"]["sourceVolumeMode"] = "Block".into();
                    let key = "snapshot.storage.kubernetes.io/allow-volume-mode-change";
                    it["metadata"]["annotations"][key] = "yes".into();
                });
            },
            restored,
            &["does not allow with \"yes\""],
        ),
        (
            "a content of another snapshot",
            |world| {
                content(world, |it| {
                    it["spec"]["volumeSnapshotRef"]["uid"] = "other".into()
                })
            },
            restored,
            &["snapcontent-default-backup is for the snapshot"],
        ),
        (
            "a content that does not exist",
            |world| {
                snapshot(world, |it| {
                    it["status"]["boundVolumeSnapshotContentName"] = "gone".into()
                })
            },
            restored,
            &["VolumeSnapshotContent gone does not exist"],
        ),
    ];
    for (what, harm, from, words) in rows {
        let world = copying();
        world.add_snapshot("default", "backup", |_| {});
        harm(&world);
        let sidecar = Sidecar::start(&world);
        world.becomes_bound("origin").await;
        world.add_claim("default", "data", "1Gi", from);
        let words = [&["ProvisioningFailed"], words].concat();
        world.is_told("data", &words).await;
        let read = |world: &World| {
            let verbs = ["get", "list", "watch"];
            verbs
                .map(|verb| world.api.count(verb, SNAPSHOTS))
                .iter()
                .sum::<usize>()
        };
        let asked = read(&world);
        sleep(secs(600)).await;
        let asked = read(&world) - asked;
        assert!(asked < 20, "{what}: read {asked} times within ten minutes");
        assert_eq!(
            world.driver.count("CreateVolume"),
            1,
            "{what}: the origin's alone"
        );
        // A claim's source cannot be changed.
        world.api.delete(CLAIMS, "default", "data");
        let backup = world.api.get(SNAPSHOTS, "default", "backup").expect("it stands");
        assert_eq!(
            backup["metadata"]["finalizers"],
            Value::Null,
            "{what}: {}",
            text(&backup, "/kind")
        );
        world.add_claim("default", "another", "1Gi", |_| {});
        world.becomes_bound("another").await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_class_that_goes_or_changes_while_a_claim_waits_for_its_source_counts_as_it_is_then() {
    for (what, again) in [("gone and back", true), ("edited", false)] {
        let world = copying();
        world.add_snapshot("default", "backup", |it| {
            it["status"]["readyToUse"] = false.into()
        });
        let sidecar = Sidecar::start(&world);
        world.becomes_bound("origin").await;
        world.add_claim("default", "data", "1Gi", restored);
        world
            .is_told("data", &["Provisioning", "not ready to use yet"])
            .await;
        let mut class = world.api.get("storageclasses", "", "fast").expect("it stands");
        if again {
            world.api.delete("storageclasses", "", "fast");
            world
                .is_told("data", &["ProvisioningFailed", "\"fast\" not found"])
                .await;
        }
        let made = json!({"name": "fast"});
        class["metadata"] = made;
        class["parameters"] = json!({"tier": "slow"});
        world.api.delete("storageclasses", "", "fast");
        world.api.create("storageclasses", "", class);
        snapshot(&world, |it| it["status"]["readyToUse"] = true.into());
        world.becomes_bound("data").await;
        let asked = world.driver.creations().pop().expect("a request");
        assert_eq!(asked.parameters["tier"], "slow", "{what}");
        sidecar.end(&world).await;
    }
}
