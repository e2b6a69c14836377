//! Two PersistentVolumes for one volume of the driver: it is deleted when nobody may want it.

use sandbox::{World, driver::Trouble};
use serde_json::json;
use tonic::Code;

use crate::{
    deletion::bound,
    sidecar::{CLAIMS, DRIVER, FINALIZER, Look, Sidecar, VOLUMES, secs, world},
};

/// Another object for what is behind this volume, as an administrator adopts it.
pub(crate) fn adopt(world: &World, volume: &str, phase: &str) {
    let mut other = world.api.get(VOLUMES, "", volume).expect("a volume");
    other["metadata"] = json!({
        "name": "adopted", "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER},
        "finalizers": ["kubernetes.io/pv-protection", FINALIZER],
    });
    other["spec"]["claimRef"] = match phase {
        "Released" => json!({"namespace": "shop", "name": "kept", "uid": "kept-uid"}),
        _ => json!(null),
    };
    other["status"]["phase"] = phase.into();
    world.api.create(VOLUMES, "", other);
    world
        .api
        .edit(VOLUMES, "", "adopted", |pv| pv["status"]["phase"] = phase.into());
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_adopted_under_another_name_is_not_deleted_with_the_first_object() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    adopt(&world, &name, "Available");
    world.add_claim("default", "kept", "1Gi", |claim| {
        claim["spec"]["volumeName"] = "adopted".into();
    });
    world.becomes_bound("kept").await;
    world.api.delete(CLAIMS, "default", "data");
    let words = [
        "VolumeFailedDelete",
        "PersistentVolume adopted has the same volumeHandle",
        "Retain",
    ];
    world.is_told(&name, &words).await;
    world
        .always("its data stays", secs(600), |world| {
            world.driver.volumes().len() == 1
        })
        .await;
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    // As the event says.
    world.api.edit(VOLUMES, "", &name, |pv| {
        pv["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
    });
    world.api.delete(VOLUMES, "", &name);
    world
        .eventually("one object is left", |world| world.api.len(VOLUMES) == 1)
        .await;
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_retained_or_in_use_under_another_provisioners_object_is_not_deleted() {
    for (phase, policy, provisioner) in [
        ("Released", "Retain", DRIVER),
        ("Released", "Retain", "another.example.com"),
        ("Available", "Delete", "another.example.com"),
    ] {
        let world = world();
        let sidecar = Sidecar::start(&world);
        let name = bound(&world).await;
        adopt(&world, &name, phase);
        world.api.edit(VOLUMES, "", "adopted", |pv| {
            pv["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
            pv["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"] = provisioner.into();
        });
        tokio::time::sleep(secs(60)).await;
        world.api.delete(CLAIMS, "default", "data");
        let words = [
            "VolumeFailedDelete",
            "PersistentVolume adopted has the same volumeHandle",
        ];
        world.is_told(&name, &words).await;
        assert_eq!(
            world.driver.count("DeleteVolume"),
            0,
            "{phase} {policy} {provisioner}"
        );
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_two_released_volumes_share_is_deleted_for_each_of_them_once() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    // Both are Released before either is looked at.
    world
        .driver
        .upset("DeleteVolume", 1, Trouble::Refuse(Code::Unavailable, "busy"));
    adopt(&world, &name, "Released");
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    assert_eq!(world.driver.count("DeleteVolume"), 3, "and one was refused");
    // To the driver the second call is a breach of its own book-keeping: it must be idempotent.
    assert_eq!(sidecar.metric("volwright_panics_total", &[]).await, 0.0);
}
