//! Volumes with content: from a snapshot, and from another claim's volume.

use sandbox::{
    World,
    driver::{
        Capability, Trouble,
        proto::{
            VolumeContentSource,
            volume_content_source::{SnapshotSource, Type, VolumeSource},
        },
    },
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

pub(crate) use crate::look::{SNAPSHOTS, restored};
use crate::sidecar::{CLAIMS, DRIVER, HOME, LEASE, Look, MANIFESTS, Sidecar, secs, text, world};

pub(crate) const CONTENTS: &str = "volumesnapshotcontents";

/// A world whose driver can copy, with the claim `origin`.
pub(crate) fn copying() -> World {
    let world = world().claim("default", "origin", "1Gi");
    let more = [Capability::CreateDeleteSnapshot, Capability::CloneVolume];
    world
        .driver
        .configure(|identity| identity.capabilities.extend(more));
    world
}

pub(crate) fn cloned(claim: &mut Value) {
    claim["spec"]["dataSourceRef"] = json!({"kind": "PersistentVolumeClaim", "name": "origin"});
}

pub(crate) fn snapshot(id: &str) -> VolumeContentSource {
    let of = SnapshotSource {
        snapshot_id: id.into(),
    };
    VolumeContentSource {
        r#type: Some(Type::Snapshot(of)),
    }
}

fn volume(id: &str) -> VolumeContentSource {
    let of = VolumeSource { volume_id: id.into() };
    VolumeContentSource {
        r#type: Some(Type::Volume(of)),
    }
}

/// What the driver was asked to copy last.
pub(crate) fn asked(world: &World) -> Option<VolumeContentSource> {
    world.driver.creations().pop()?.volume_content_source
}

fn told(world: &World, words: &[&str]) -> usize {
    let events = world.events("data");
    let is_it = |event: &&String| words.iter().all(|word| event.contains(word));
    events.iter().filter(is_it).count()
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_made_from_a_snapshot_and_from_a_claim() {
    let world = copying();
    world.add_snapshot("default", "backup", |_| {});
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    world.add_claim("default", "data", "1Gi", restored);
    world.becomes_bound("data").await;
    assert_eq!(asked(&world), Some(snapshot("snap-default-backup")));
    let uid = world.add_claim("default", "copy", "2Gi", cloned);
    world.becomes_bound("copy").await;
    let origin = world.api.get(CLAIMS, "default", "origin").unwrap();
    let origin = world.volume_of(text(&origin, "/metadata/uid")).unwrap();
    let handle = text(&origin, "/spec/csi/volumeHandle");
    assert_eq!(asked(&world), Some(volume(handle)));
    let copy = world.volume_of(&uid).unwrap();
    assert_ne!(text(&copy, "/spec/csi/volumeHandle"), handle);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_only_takes_time_is_waited_for_without_a_failure() {
    /// What is not ready, the claim's source, what is told, and what makes it ready.
    type Row = (&'static str, fn(&mut Value), &'static str, fn(&World));
    let rows: [Row; 3] = [
        (
            "a snapshot that is not ready",
            restored,
            "VolumeSnapshot default/backup: the snapshot is not ready to use yet",
            |world| {
                let ready = |it: &mut Value| it["status"]["readyToUse"] = true.into();
                world.api.edit(SNAPSHOTS, "default", "backup", ready);
            },
        ),
        (
            "a snapshot without a content",
            restored,
            "VolumeSnapshot default/backup: it has no VolumeSnapshotContent yet",
            |world| {
                let bind = |it: &mut Value| {
                    it["status"] = json!({
                        "boundVolumeSnapshotContentName": "snapcontent-default-backup", "readyToUse": true});
                };
                world.api.edit(SNAPSHOTS, "default", "backup", bind);
            },
        ),
        (
            "a claim without a volume",
            cloned,
            "PersistentVolumeClaim default/origin: that claim is not Bound yet",
            |world| world.driver.heal(),
        ),
    ];
    for (what, from, why, ready) in rows {
        let world = copying();
        world.add_snapshot("default", "backup", |it| match what {
            "a snapshot that is not ready" => it["status"]["readyToUse"] = false.into(),
            _ => it["status"] = json!({}),
        });
        let origin = world.api.get(CLAIMS, "default", "origin").unwrap();
        let name = format!("pvc-{}", text(&origin, "/metadata/uid"));
        let waits = what == "a claim without a volume";
        if waits {
            world.driver.upset_for("CreateVolume", &name, 1000, Trouble::Hang);
        }
        let sidecar = Sidecar::start(&world);
        if !waits {
            world.becomes_bound("origin").await;
        }
        world.add_claim("default", "data", "1Gi", from);
        world.is_told("data", &["Provisioning", why]).await;
        sleep(secs(60)).await;
        let said = world
            .api
            .filter("events", |event| text(event, "/message").contains(why));
        let [said] = &*said else {
            panic!("{what}: {said:?}");
        };
        assert_eq!(said["count"], 1, "{what}: once is enough");
        assert_eq!(told(&world, &["ProvisioningFailed"]), 0, "{what}");
        assert!(world.api.count("get", SNAPSHOTS) < 2, "{what}");
        let failed = sidecar
            .metric("controller_persistentvolumeclaim_provision_failed_total", &[])
            .await;
        // The source claim's own calls fail.
        assert!(waits || failed == 0.0, "{what}: {failed}");
        let others = world.driver.creations().into_iter().filter(|it| it.name != name);
        assert_eq!(others.count(), 0, "{what}");
        ready(&world);
        world.becomes_bound("data").await;
        assert_eq!(told(&world, &["ProvisioningFailed"]), 0, "{what}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_fit_is_told_and_nothing_is_recorded_before_it_does() {
    let world = copying();
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    world.add_claim("default", "data", "1Gi", restored);
    let of = "cannot take the content of VolumeSnapshot default/backup: ";
    for why in ["it does not exist", "the claim asks for 1073741824 bytes"] {
        world.is_told("data", &["ProvisioningFailed", of, why]).await;
        assert_eq!(world.driver.count("CreateVolume"), 1, "the origin's alone");
        let records = world.api.filter("leases", |lease| {
            text(lease, "/metadata/name").starts_with(&format!("{LEASE}-ledger"))
                && lease["metadata"]["annotations"]
                    .to_string()
                    .contains("default/data")
        });
        assert_eq!(records, [Value::Null; 0]);
        if why.starts_with("it does not") {
            world.add_snapshot("default", "backup", |it| {
                it["status"]["restoreSize"] = "2Gi".into()
            });
        }
    }
    let fit = |it: &mut Value| it["status"]["restoreSize"] = "1Gi".into();
    world.api.edit(SNAPSHOTS, "default", "backup", fit);
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_with_another_content_is_deleted_and_asked_for_again() {
    for (trouble, got) in [
        (Trouble::WithoutSource, "nothing that the driver tells of"),
        (Trouble::OtherSource(snapshot("other")), "snapshot other"),
    ] {
        let world = copying();
        world.add_snapshot("default", "backup", |_| {});
        let sidecar = Sidecar::start(&world);
        world.becomes_bound("origin").await;
        world.driver.upset("CreateVolume", 1, trouble);
        world.add_claim("default", "data", "1Gi", |claim| {
            restored(claim);
            let source = claim["spec"]["dataSource"].take();
            claim["spec"]["dataSourceRef"] = source;
        });
        let words = ["ProvisioningFailed", got, "it was deleted and is asked for again"];
        world.is_told("data", &words).await;
        assert_eq!(world.driver.count("DeleteVolume"), 1);
        world.becomes_bound("data").await;
        assert_eq!(world.driver.volumes().len(), 2);
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_the_driver_repeats_is_its_own_for_the_source_that_it_was_given() {
    for (driver, deletions) in [(DRIVER, 2), ("pd.csi.storage.gke.io", 0)] {
        let world = World::new(driver)
            .namespace(HOME)
            .rbac(MANIFESTS, HOME)
            .class("fast", &[]);
        world
            .driver
            .configure(|identity| identity.capabilities.push(Capability::CreateDeleteSnapshot))
            .upset("CreateVolume", 10, Trouble::OtherSource(snapshot("4711")));
        world.add_snapshot("default", "backup", |_| {});
        let sidecar = Sidecar::start(&world);
        for claim in ["one", "two"] {
            world.add_claim("default", claim, "1Gi", restored);
            world.becomes_bound(claim).await;
        }
        assert_eq!(world.driver.count("DeleteVolume"), deletions, "{driver}");
        assert_eq!(world.driver.volumes().len(), 2);
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_repeated_of_a_volume_that_cannot_be_deleted_is_that_of_another_source() {
    let world = copying();
    world.add_snapshot("default", "backup", |_| {});
    let sidecar = Sidecar::start(&world);
    world.becomes_bound("origin").await;
    world
        .driver
        .upset("CreateVolume", 1000, Trouble::OtherSource(snapshot("other")))
        .upset(
            "DeleteVolume",
            1000,
            Trouble::Refuse(Code::Internal, "it is being copied"),
        );
    world.add_claim("default", "data", "1Gi", restored);
    world
        .is_told(
            "data",
            &["ProvisioningFailed", "snapshot other", "deleting it failed"],
        )
        .await;
    sleep(secs(600)).await;
    assert!(!world.bound("data"));
    world.driver.heal();
    world.becomes_bound("data").await;
    assert_eq!(asked(&world), Some(snapshot("snap-default-backup")));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_finished_with_the_source_that_it_began_with_also_after_refusals() {
    for refusals in [0, usize::MAX] {
        let world = copying();
        let content = world.add_snapshot("default", "backup", |_| {});
        let sidecar = Sidecar::start(&world);
        world.becomes_bound("origin").await;
        let down = Trouble::Refuse(Code::Internal, "the backend is down");
        world
            .driver
            .upset("CreateVolume", 1, Trouble::RefuseAfter(Code::Unavailable, "busy"))
            .upset("CreateVolume", refusals, down);
        world.add_claim("default", "data", "1Gi", restored);
        world.is_told("data", &["ProvisioningFailed", "busy"]).await;
        if refusals > 0 {
            // Two final answers, further apart than --timeout: the claim may get another request.
            sleep(secs(40)).await;
        }
        world.api.delete(SNAPSHOTS, "default", "backup");
        world.api.delete(CONTENTS, "", &content);
        world.driver.heal();
        world.becomes_bound("data").await;
        assert_eq!(asked(&world), Some(snapshot("snap-default-backup")));
        assert_eq!(world.driver.volumes().len(), 2);
        sidecar.end(&world).await;
    }
}
