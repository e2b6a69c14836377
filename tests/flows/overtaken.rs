//! A call that outlives its term: what the driver says at its end is about what was on record before.

use std::collections::BTreeMap;

use sandbox::{Fault, Harm, Line, World, driver::Trouble};
use serde_json::json;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    replicas::holder,
    sidecar::{CLAIMS, DRIVER, Look, Pod, Sidecar, VOLUMES, secs, world},
};

const LONG: &[&str] = &["--timeout=60s"];

async fn is_led_by(world: &World, pod: &str) {
    let words = format!("{pod} leads");
    world
        .eventually(&words, |world| holder(world).starts_with(&format!("{pod}_")))
        .await;
}

async fn is_asked(world: &World, times: usize) {
    world
        .eventually("it is asked for", |world| {
            world.driver.count("CreateVolume") == times
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_does_not_erase_what_another_leader_may_have_made_since() {
    let world = world();
    let first = Sidecar::with(&world, LONG);
    first.leads(&world).await;
    world
        .driver
        .upset("CreateVolume", 1, Trouble::Refuse(Code::Internal, "no memory"));
    // What the second one asks for is made when nobody waits any more.
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(30)));
    world.add_claim("default", "data", "1Gi", |_| {});
    is_asked(&world, 1).await;
    // The answer is there, and not heard.
    first.pause();
    let second = first.beside_with(&world, "pod-b", &world.driver, LONG);
    is_asked(&world, 2).await;
    first.resume();
    sleep(secs(2)).await;
    second.kill();
    world.api.delete(CLAIMS, "default", "data");
    is_led_by(&world, "pod-a").await;
    sleep(secs(60)).await;
    world.becomes_clean().await;
    assert_eq!(world.driver.count("DeleteVolume"), 1, "{}", world.print());
    first.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_comes_late_is_asked_for_again_by_who_leads_for_the_second_time() {
    let world = world();
    let line = Line::new();
    let first = Sidecar::on(&world, &line, Pod::default(), LONG);
    is_led_by(&world, "pod-a").await;
    world.add_claim("default", "before", "1Gi", |_| {});
    world.becomes_bound("before").await;
    let next = world.driver.volumes()[0].id.replace("-1", "-2");
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(50)));
    world.driver.upset("CreateVolume", 1, Trouble::Hang);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    is_asked(&world, 2).await;
    line.part();
    let other = Line::new();
    let second = first.beside_on(&world, &other, Pod::named("pod-b"), LONG);
    is_asked(&world, 3).await;
    second.kill();
    line.join();
    is_led_by(&world, "pod-a").await;
    assert_eq!(world.driver.volumes().len(), 1, "the first call still runs");
    // What is found when its answer comes is another one's.
    world.api.delete(CLAIMS, "default", "data");
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": "adopted"},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "adopted",
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": DRIVER, "volumeHandle": next},
            },
        }),
    );
    is_asked(&world, 4).await;
    sleep(secs(30)).await;
    assert_eq!(world.driver.volumes().len(), 2);
    assert_eq!(world.driver.volumes()[1].id, next);
    assert!(world.volume_of(&uid).is_none(), "{}", world.print());
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    first.stop();
    first.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_not_asked_for_again_under_the_same_id_while_its_object_goes() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let later = |code| Trouble::RefuseAfter(code, "later");
    world
        .driver
        .upset("CreateVolume", 1, later(Code::DeadlineExceeded));
    world
        .driver
        .upset("CreateVolume", 99, Trouble::Refuse(Code::Aborted, "busy"));
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    is_asked(&world, 1).await;
    world.api.delete(CLAIMS, "default", "data");
    let id = world.driver.volumes()[0].id.clone();
    // What the leader before has sent to write the object comes late.
    let claim = json!({"namespace": "default", "name": "data", "uid": uid});
    let object = json!({
        "metadata": {
            "name": format!("pvc-{uid}"), "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER},
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
        },
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "claimRef": claim,
            "persistentVolumeReclaimPolicy": "Delete", "csi": {"driver": DRIVER, "volumeHandle": id},
        },
    });
    world
        .api
        .harm(Fault::new(Harm::Delay(secs(20))).on("delete", VOLUMES));
    world.api.create(VOLUMES, "", object);
    world
        .eventually("it is deleted", |world| world.driver.count("DeleteVolume") == 1)
        .await;
    world.driver.heal();
    let same = Trouble::Odd {
        id,
        context: BTreeMap::new(),
    };
    world.driver.upset("CreateVolume", 99, same);
    world.becomes_clean().await;
    sleep(secs(600)).await;
    assert_eq!(world.driver.volumes(), [], "{}", world.print());
    sidecar.end(&world).await;
}
