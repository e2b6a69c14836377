//! Upstream's own cases of its controller: what becomes of released volumes, and what is counted.

use sandbox::{
    Fault, Harm, World,
    driver::{Capability, Trouble, Volume},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::sidecar::{
    CLAIMS, DRIVER, FINALIZER, HOME, Look, SECRETS, Sidecar, VOLUMES, finalizers, secs, world,
};

/// A claim that is bound, and the name of its volume.
async fn bound(world: &World) -> String {
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    format!("pvc-{uid}")
}

/// How many volumes were deleted, and how many attempts failed.
async fn counted(sidecar: &Sidecar) -> (f64, f64) {
    let count = async |name| sidecar.metric(name, &[]).await;
    (
        count("controller_persistentvolume_delete_total").await,
        count("controller_persistentvolume_delete_failed_total").await,
    )
}

/// A volume that the driver has, and its object, for a claim that is gone.
fn released(world: &World, name: &str, change: impl FnOnce(&mut Value)) {
    world.driver.add_volume(Volume {
        id: name.to_owned(),
        name: name.to_owned(),
        bytes: 1 << 30,
        parameters: Default::default(),
    });
    let mut pv = json!({
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": DRIVER, "volumeHandle": name},
            "claimRef": {"namespace": "default", "name": "gone", "uid": "gone"},
        },
    });
    change(&mut pv);
    world.api.create(VOLUMES, "", pv);
}

#[tokio::test(start_paused = true)]
async fn a_released_volume_that_we_provisioned_is_deleted_and_anothers_is_not() {
    let ids = ["lib.Controller.05", "lib.ControllerSharedInformers.02"];
    let world = world();
    let sidecar = Sidecar::start(&world);
    released(&world, "volume-1", |_| {});
    released(&world, "volume-2", |pv| {
        pv["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] = "abc.def/ghi".into();
    });
    sleep(secs(60)).await;
    assert!(world.api.get(VOLUMES, "", "volume-1").is_none(), "{ids:?}");
    assert!(world.api.get(VOLUMES, "", "volume-2").is_some(), "{ids:?}");
    assert_eq!(world.driver.count("DeleteVolume"), 1, "{ids:?}");
    assert_eq!(counted(&sidecar).await, (1.0, 0.0), "{ids:?}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_bound_or_to_be_kept_is_kept() {
    for (id, release) in [("lib.Controller.08", false), ("lib.Controller.09", true)] {
        let world = world();
        let sidecar = Sidecar::start(&world);
        let name = bound(&world).await;
        if release {
            world.api.edit(VOLUMES, "", &name, |pv| {
                pv["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
            });
            world.api.delete(CLAIMS, "default", "data");
        }
        sleep(secs(600)).await;
        assert!(world.api.get(VOLUMES, "", &name).is_some(), "{id}");
        assert_eq!(world.driver.count("DeleteVolume"), 0, "{id}");
        assert_eq!(counted(&sidecar).await, (0.0, 0.0), "{id}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_is_counted_and_the_object_stays() {
    type Row = (&'static [&'static str], fn(&World));
    let rows: [Row; 2] = [
        (&["lib.Controller.11", "lib.Controller.37"], |world| {
            let trouble = Trouble::Refuse(Code::Internal, "no luck");
            world.driver.upset("DeleteVolume", 1, trouble);
        }),
        (&["lib.Controller.13", "lib.Controller.38"], |world| {
            let harm = Fault::new(Harm::Status(500)).on("delete", VOLUMES);
            world.api.harm(harm.times(1));
        }),
    ];
    for (ids, trouble) in rows {
        let world = world();
        trouble(&world);
        let sidecar = Sidecar::start(&world);
        let name = bound(&world).await;
        world.api.delete(CLAIMS, "default", "data");
        world.is_told(&name, &["VolumeFailedDelete"]).await;
        let pv = world.api.get(VOLUMES, "", &name).expect("it stays");
        assert!(finalizers(&pv).contains(&FINALIZER.to_owned()), "{ids:?}");
        world.becomes_clean().await;
        sleep(secs(10)).await;
        assert_eq!(counted(&sidecar).await, (1.0, 1.0), "{ids:?}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_can_do_without_our_finalizer() {
    let id = "lib.Controller.32: feature gates that were once known are accepted with a warning";
    let world = world();
    let sidecar = Sidecar::with(&world, &["--feature-gates=HonorPVReclaimPolicy=false"]);
    let name = bound(&world).await;
    sleep(secs(60)).await;
    let pv = world.api.get(VOLUMES, "", &name).expect("the volume");
    assert!(finalizers(&pv).contains(&FINALIZER.to_owned()), "{id}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_without_an_object_is_not_deleted() {
    let id = "ctl.Delete.01";
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    let later = Trouble::Refuse(Code::Unavailable, "later");
    world.driver.upset("DeleteVolume", 1, later);
    world.api.delete(CLAIMS, "default", "data");
    world.is_told(&name, &["VolumeFailedDelete", "later"]).await;
    // Somebody tears the object out: nothing says any more that the volume may go.
    world
        .api
        .edit(VOLUMES, "", &name, |pv| pv["metadata"]["finalizers"] = json!([]));
    world.api.delete(VOLUMES, "", &name);
    sleep(secs(600)).await;
    assert_eq!(world.api.len(VOLUMES), 0, "{id}");
    assert_eq!(world.driver.count("DeleteVolume"), 1, "{id}");
    assert_eq!(sidecar.metric("volwright_panics_total", &[]).await, 0.0, "{id}");
}

#[tokio::test(start_paused = true)]
async fn a_volume_with_an_attachment_in_any_state_is_waited_for() {
    type Row = (&'static str, bool, fn(&World));
    let attached: fn(&World) = |world| {
        world.api.edit("volumeattachments", "", "va", |va| {
            va["status"] = json!({"attached": true});
        });
    };
    let rows: [Row; 4] = [
        (
            "ctl.Delete.04: attached volumes are waited for by watching VolumeAttachments",
            true,
            attached,
        ),
        (
            "ctl.Delete.05: attached volumes are waited for by watching VolumeAttachments",
            true,
            |_| {},
        ),
        (
            "ctl.Delete.06: attached volumes are waited for by watching VolumeAttachments",
            true,
            |world| {
                world.api.delete("volumeattachments", "", "va");
            },
        ),
        ("ctl.Delete.08", false, attached),
    ];
    for (id, waits, change) in rows {
        let world = world();
        world
            .driver
            .configure(|identity| identity.capabilities.push(Capability::PublishUnpublishVolume));
        let sidecar = Sidecar::start(&world);
        let name = bound(&world).await;
        let volume = if waits { &name } else { "another" };
        world.api.create(
            "volumeattachments",
            "",
            json!({
                "metadata": {"name": "va", "finalizers": ["external-attacher/disks-example-com"]},
                "spec": {"attacher": DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": volume}},
            }),
        );
        change(&world);
        assert!(
            world.api.get("volumeattachments", "", "va").is_some(),
            "{id}: it stands"
        );
        sleep(secs(1)).await;
        world.api.delete(CLAIMS, "default", "data");
        if waits {
            world
                .is_told(&name, &["VolumeDelete", "is still attached to node n1"])
                .await;
            sleep(secs(600)).await;
            assert_eq!(world.driver.count("DeleteVolume"), 0, "{id}");
            world.api.edit("volumeattachments", "", "va", |va| {
                va["metadata"]["finalizers"] = json!([]);
            });
            world.api.delete("volumeattachments", "", "va");
        }
        let free = Instant::now();
        world.becomes_clean().await;
        assert!(free.elapsed() < secs(2), "{id}: {:?}", free.elapsed());
        assert_eq!(world.driver.count("DeleteVolume"), 1, "{id}");
        sleep(secs(20)).await;
        assert_eq!(counted(&sidecar).await, (1.0, 0.0), "D-78: {id}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_deleted_with_or_without_secrets() {
    const NAME: &str = "volume.kubernetes.io/provisioner-deletion-secret-name";
    const NAMESPACE: &str = "volume.kubernetes.io/provisioner-deletion-secret-namespace";
    let rows = [("ctl.Delete.09", ""), ("ctl.Delete.15", "absent")];
    for (id, secret) in rows {
        let world = world().rbac(SECRETS, HOME);
        let sidecar = Sidecar::start(&world);
        released(&world, "volume-1", |pv| {
            pv["metadata"]["annotations"][NAME] = secret.into();
            pv["metadata"]["annotations"][NAMESPACE] = "default".into();
        });
        world.becomes_clean().await;
        let calls = world.driver.calls();
        let deletions: Vec<_> = calls
            .iter()
            .filter(|call| call.method == "DeleteVolume")
            .collect();
        assert_eq!(deletions.len(), 1, "{id}");
        assert!(deletions[0].secrets.is_empty(), "{id}");
        sidecar.end(&world).await;
    }
}
