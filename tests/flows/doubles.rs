//! An object stands under the name of a claim's volume, and it may be for another volume at the driver.

use sandbox::{Fault, Harm, World, driver::Trouble};
use serde_json::json;
use tonic::Code;

use crate::sidecar::{DRIVER, Look, Sidecar, VOLUMES, secs, world};

/// How many records are open, and how many of them are held.
async fn records(sidecar: &Sidecar) -> (f64, f64) {
    (
        sidecar.metric("volwright_ledger_records", &[]).await,
        sidecar.metric("volwright_ledger_held", &[]).await,
    )
}

/// An object of the name of this claim's volume, as an earlier leader has written it, perhaps late.
fn write_object(world: &World, claim_uid: &str, handle: &str) {
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {
                "name": format!("pvc-{claim_uid}"),
                "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER},
            },
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": DRIVER, "volumeHandle": handle},
                "claimRef": {"namespace": "default", "name": "data", "uid": claim_uid},
            },
        }),
    );
}

/// The driver works on a volume for this claim, and nobody hears what comes of it.
async fn asked(world: &World) -> String {
    let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", 1, busy);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &["ProvisioningFailed", "busy"]).await;
    uid
}

#[tokio::test(start_paused = true)]
async fn an_object_for_another_volume_closes_no_record_of_a_call_without_an_answer() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let uid = asked(&world).await;
    write_object(&world, &uid, "deleted-long-ago");
    world.becomes_bound("data").await;
    assert_eq!(records(&sidecar).await, (1.0, 0.0), "the driver is asked again");
    tokio::time::sleep(secs(10)).await;
    assert_eq!(world.driver.count("CreateVolume"), 2);
    assert_eq!(records(&sidecar).await, (0.0, 1.0), "a person is to see to it");
    assert!(sidecar.logged(&["held", &uid]), "{:?}", sidecar.log());
    assert_eq!(world.driver.volumes().len(), 1);
    assert_eq!(
        world.api.count("create", VOLUMES),
        0,
        "no object takes the other's place"
    );
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn the_object_of_the_same_volume_closes_the_record_once_the_driver_has_said_so() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let uid = asked(&world).await;
    let handle = world.driver.volumes()[0].id.clone();
    write_object(&world, &uid, &handle);
    world.becomes_bound("data").await;
    tokio::time::sleep(secs(10)).await;
    assert_eq!(world.driver.count("CreateVolume"), 2);
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    assert_eq!(world.api.count("create", VOLUMES), 0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_name_has_an_object_for_another_one_already_is_held() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let slow = Harm::Delay(secs(5));
    world.api.harm(Fault::new(slow).on("create", VOLUMES).times(1));
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it is being written", |world| !world.driver.volumes().is_empty())
        .await;
    write_object(&world, &uid, "another");
    tokio::time::sleep(secs(10)).await;
    assert_eq!(records(&sidecar).await, (0.0, 1.0));
    let handle = world.driver.volumes()[0].id.clone();
    assert!(sidecar.logged(&["held", &handle]), "{:?}", sidecar.log());
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn an_object_for_another_volume_that_is_gone_by_now_is_in_nobodys_way() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(5)));
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it runs", |world| world.driver.count("CreateVolume") == 1)
        .await;
    write_object(&world, &uid, "deleted-long-ago");
    tokio::time::sleep(secs(1)).await;
    // The watch tells nothing of its end.
    world.api.freeze_cache();
    let name = format!("pvc-{uid}");
    world.api.edit(VOLUMES, "", &name, |object| {
        object["metadata"]["finalizers"] = json!([]);
    });
    world.api.delete(VOLUMES, "", &name);
    world
        .eventually("its object is written", |world| {
            world.api.count("create", VOLUMES) == 1
        })
        .await;
    assert_eq!(records(&sidecar).await.1, 0.0);
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_wrong_size_costs_a_list_only_where_an_object_may_name_it() {
    for named in [false, true] {
        let world = world();
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "first", "1Gi", |_| {});
        world.becomes_bound("first").await;
        if named {
            // The driver counts its volumes.
            let handle = world.driver.volumes()[0].id.replace("-1", "-2");
            write_object(&world, "elsewhere", &handle);
            world.api.edit(VOLUMES, "", "pvc-elsewhere", |object| {
                object["spec"].as_object_mut().unwrap().remove("claimRef");
                object["spec"]["storageClassName"] = "adopted".into();
            });
            tokio::time::sleep(secs(1)).await;
        }
        let before = world.api.count("list", VOLUMES);
        world.driver.upset("CreateVolume", 1, Trouble::WrongSize(5));
        world.add_claim("default", "data", "1Gi", |_| {});
        let words = match named {
            true => "it is not deleted, because PersistentVolume pvc-elsewhere names it",
            false => "it was deleted and is asked for again",
        };
        world.is_told("data", &["ProvisioningFailed", words]).await;
        let lists = world.api.count("list", VOLUMES) - before;
        assert_eq!(lists, usize::from(named), "named: {named}");
        sidecar.stop();
        sidecar.ended().await.expect("a clean end");
    }
}
