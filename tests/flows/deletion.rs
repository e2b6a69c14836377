//! A released volume goes away: once, whatever happens on the way, and only if it still should.

use sandbox::{
    Fault, Harm, World,
    driver::{Capability, Trouble},
};
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;

use crate::{
    handles::adopt,
    sidecar::{CLAIMS, DRIVER, FINALIZER, Look, Sidecar, VOLUMES, finalizers, secs, world},
};

/// A claim that is bound, and the name of its volume.
pub(crate) async fn bound(world: &World) -> String {
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    format!("pvc-{uid}")
}

#[tokio::test(start_paused = true)]
async fn the_driver_is_asked_once_however_the_deletion_of_the_object_fails() {
    let rows = [
        ("500", "delete", Harm::Status(500), 3),
        ("409", "delete", Harm::Status(409), 0),
        ("429", "delete", Harm::Throttle(3), 3),
        ("a cut connection", "delete", Harm::Cut, 3),
        ("a lost reply", "delete", Harm::LoseReply, 3),
        ("no answer", "delete", Harm::Hang, 1),
        ("500 for the finalizer", "patch", Harm::Status(500), 3),
        ("a lost reply for the finalizer", "patch", Harm::LoseReply, 1),
        ("a lost reply for the live look", "get", Harm::LoseReply, 2),
        ("500 for the live look", "get", Harm::Status(500), 2),
    ];
    for (name, verb, harm, times) in rows {
        let world = world();
        let sidecar = Sidecar::start(&world);
        bound(&world).await;
        world.api.harm(Fault::new(harm).on(verb, VOLUMES).times(times));
        world.api.delete(CLAIMS, "default", "data");
        world.becomes_clean().await;
        assert_eq!(world.driver.count("DeleteVolume"), 1, "D-18: {name}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_driver_is_told_and_the_deletion_tried_again() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    world.driver.upset(
        "DeleteVolume",
        2,
        Trouble::Refuse(Code::FailedPrecondition, "has snapshots"),
    );
    world.driver.upset("DeleteVolume", 1, Trouble::LoseReply);
    world.api.delete(CLAIMS, "default", "data");
    world
        .is_told(
            &name,
            &["VolumeFailedDelete: rpc error: code = FailedPrecondition desc = has snapshots"],
        )
        .await;
    world
        .eventually("the object is gone", |world| world.api.len(VOLUMES) == 0)
        .await;
    assert!(world.driver.volumes().is_empty());
    // Not checked by `end`: after a lost reply asking again is what CSI wants.
    assert_eq!(world.driver.count("DeleteVolume"), 4);
    let failed = sidecar.metric(
        "controller_persistentvolume_delete_failed_total",
        &["class=\"fast\""],
    );
    assert_eq!(failed.await, 3.0);
}

#[tokio::test(start_paused = true)]
async fn after_any_error_of_the_driver_a_deletion_is_tried_again_at_the_same_pace() {
    for code in [
        Code::Internal,
        Code::InvalidArgument,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::Unavailable,
        Code::Unimplemented,
    ] {
        let world = world();
        let sidecar = Sidecar::start(&world);
        bound(&world).await;
        let refused = Trouble::Refuse(code, "no");
        world.driver.upset("DeleteVolume", usize::MAX, refused);
        world.api.delete(CLAIMS, "default", "data");
        tokio::time::sleep(secs(600)).await;
        // After 1, 2, 4, ... 256 seconds.
        assert_eq!(world.driver.count("DeleteVolume"), 10, "D-45: {code:?}");
        world.driver.heal();
        world.becomes_clean().await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_changed_to_retain_behind_a_stale_watch_is_kept() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    // The last that the watches tell is the release; the change comes before anybody acted on it.
    world
        .driver
        .upset("DeleteVolume", 99, Trouble::Refuse(Code::Unavailable, "later"));
    world.api.delete(CLAIMS, "default", "data");
    world.is_told(&name, &["VolumeFailedDelete", "later"]).await;
    world.api.freeze_cache();
    world.api.edit(VOLUMES, "", &name, |pv| {
        pv["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
    });
    world.driver.heal();
    world
        .always("kept", secs(600), |world| world.driver.volumes().len() == 1)
        .await;
    world.api.thaw_cache();
    tokio::time::sleep(secs(600)).await;
    assert_eq!(world.driver.volumes().len(), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_while_other_volumes_are_listed_is_seen_before_the_driver_is_called() {
    type Change = fn(&mut serde_json::Value);
    let changes: [(&str, Change); 2] = [
        ("the policy", |pv| {
            pv["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
        }),
        ("the claimRef", |pv| {
            pv["spec"]["claimRef"] = json!({"namespace": "shop", "name": "other", "uid": "other-uid"});
            pv["status"]["phase"] = "Released".into();
        }),
    ];
    for (what, change) in changes {
        let world = world();
        let sidecar = Sidecar::start(&world);
        let name = bound(&world).await;
        // It does not object, but the list that tells so is read. Its own deletion is another provisioner's affair.
        adopt(&world, &name, "Released");
        world.api.edit(VOLUMES, "", "adopted", |pv| {
            pv["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] = "another.example.com".into();
        });
        tokio::time::sleep(secs(60)).await;
        let lists = world.api.count("list", VOLUMES);
        world
            .api
            .harm(Fault::new(Harm::DelayReply(secs(5))).on("list", VOLUMES).times(1));
        world.api.delete(CLAIMS, "default", "data");
        tokio::time::sleep(secs(2)).await;
        world.api.edit(VOLUMES, "", &name, change);
        world
            .always(what, secs(600), |world| world.driver.count("DeleteVolume") == 0)
            .await;
        assert!(world.api.count("list", VOLUMES) > lists, "{what}: it was listed");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_claim_stands_is_not_deleted_by_a_process_that_did_not_see_its_release() {
    for (has_uid, words) in [(true, "default/data"), (false, "its claimRef has no UID")] {
        let world = world();
        let sidecar = Sidecar::start(&world);
        let name = bound(&world).await;
        sidecar.stop();
        sidecar.ended().await.expect("a clean end");
        // The claim stays as long as a pod uses it, and the binder leaves both alone.
        let pod = json!({
            "metadata": {"name": "user"},
            "spec": {
                "nodeName": "n1", "containers": [{"name": "user", "image": "user"}],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            },
        });
        world.api.create("pods", "default", pod);
        world.api.delete(CLAIMS, "default", "data");
        let before = world.api.get(VOLUMES, "", &name).expect("it stands")["spec"]["claimRef"].clone();
        world.api.edit(VOLUMES, "", &name, |pv| {
            pv["status"]["phase"] = "Released".into();
            if !has_uid {
                pv["spec"]["claimRef"]["uid"] = "".into();
            }
        });
        let sidecar = Sidecar::start(&world);
        world.is_told(&name, &["VolumeFailedDelete", words]).await;
        world
            .always("its data stays", secs(600), |world| {
                world.driver.count("DeleteVolume") == 0
            })
            .await;
        world.api.delete("pods", "default", "user");
        world
            .api
            .edit(VOLUMES, "", &name, |pv| pv["spec"]["claimRef"] = before);
        world.becomes_clean().await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_attached_volume_is_deleted_as_soon_as_it_is_detached() {
    let world = world();
    world
        .driver
        .configure(|identity| identity.capabilities.push(Capability::PublishUnpublishVolume));
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    for node in ["n1", "n2"] {
        world.api.create(
            "volumeattachments",
            "",
            json!({
                "metadata": {"name": node},
                "spec": {"attacher": DRIVER, "nodeName": node, "source": {"persistentVolumeName": name}},
            }),
        );
    }
    world.api.delete(CLAIMS, "default", "data");
    world
        .is_told(
            &name,
            &[
                "VolumeDelete",
                "is still attached to node n",
                "waiting for detach",
            ],
        )
        .await;
    world.api.delete("volumeattachments", "", "n1");
    world
        .always("it stays while one node has it", secs(1000), |world| {
            world.driver.volumes().len() == 1
        })
        .await;
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    let detached = Instant::now();
    world.api.delete("volumeattachments", "", "n2");
    world.becomes_clean().await;
    assert!(
        detached.elapsed() < secs(1),
        "D-44: {:?}: no polling",
        detached.elapsed()
    );
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_made_anew_under_the_name_of_a_volume_is_not_deleted_in_its_place() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    world.driver.upset("DeleteVolume", 1, Trouble::Delay(secs(5)));
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("the deletion runs", |world| {
            world.driver.count("DeleteVolume") == 1
        })
        .await;
    // Somebody tears the object out and restores another one under the same name.
    world
        .api
        .edit(VOLUMES, "", &name, |pv| pv["metadata"]["finalizers"] = json!([]));
    world.api.delete(VOLUMES, "", &name);
    world
        .eventually("the first object is gone", |world| world.api.len(VOLUMES) == 0)
        .await;
    let restored = world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": DRIVER, "volumeHandle": "another"},
            },
        }),
    );
    world
        .always("the restored object stays", secs(600), |world| {
            let standing = world.api.get(VOLUMES, "", &name).unwrap_or_default();
            standing["metadata"]["uid"] == restored["metadata"]["uid"]
        })
        .await;
    assert_eq!(world.driver.count("DeleteVolume"), 1);
    assert_eq!(sidecar.metric("volwright_panics_total", &[]).await, 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_volume_from_before_our_finalizer_gets_it_and_loses_it_with_the_policy() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    let held = |world: &World| {
        let pv = world.api.get(VOLUMES, "", &name).unwrap_or_default();
        finalizers(&pv).contains(&FINALIZER.to_owned())
    };
    world.api.edit(VOLUMES, "", &name, |pv| {
        pv["metadata"]["finalizers"] = json!(["kubernetes.io/pv-protection"]);
    });
    world.eventually("it is held", held).await;
    let policy = |policy: &str| {
        world.api.edit(VOLUMES, "", &name, |pv| {
            pv["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
        })
    };
    policy("Retain");
    world.eventually("it is free", |world| !held(world)).await;
    policy("Delete");
    world.eventually("it is held again", held).await;
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_claim_ref_was_changed_after_its_release_is_not_deleted() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    world
        .driver
        .upset("DeleteVolume", 1, Trouble::Refuse(Code::Unavailable, "busy"));
    world.api.delete(CLAIMS, "default", "data");
    world.is_told(&name, &["VolumeFailedDelete", "busy"]).await;
    let before = world.api.get(VOLUMES, "", &name).expect("it stands")["spec"]["claimRef"].clone();
    let claim = |claim: serde_json::Value| {
        world.api.edit(VOLUMES, "", &name, |pv| {
            pv["spec"]["claimRef"] = claim;
            pv["status"]["phase"] = "Released".into();
        })
    };
    claim(json!({"namespace": "shop", "name": "kept", "uid": "kept-uid"}));
    let words = [
        "VolumeFailedDelete",
        "its claimRef was changed after it was released",
        "shop/kept",
    ];
    world.is_told(&name, &words).await;
    world
        .always("its data stays", secs(600), |world| {
            world.driver.volumes().len() == 1
        })
        .await;
    assert_eq!(world.driver.count("DeleteVolume"), 1);
    claim(before);
    world.becomes_clean().await;
    sidecar.end(&world).await;
}
