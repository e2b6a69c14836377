//! Drivers that cannot be served, that are not there yet, or that answer what makes no sense.

use sandbox::driver::{Identity, Trouble};

use crate::sidecar::{DRIVER, Look, Sidecar, VOLUMES, secs, text, world};

#[tokio::test(start_paused = true)]
async fn a_driver_that_no_provisioner_can_serve_ends_the_process_with_the_reason() {
    type Change = fn(&mut Identity);
    let rows: [(&str, Change, &str); 5] = [
        ("no name", |driver| driver.name.clear(), "has no name"),
        (
            "an odd name",
            |driver| driver.name = "a/b c".into(),
            "name \"a/b c\" cannot be used",
        ),
        (
            "a long name",
            |driver| driver.name = "x".repeat(64),
            "at most 63 characters",
        ),
        (
            "no controller",
            |driver| driver.controller = false,
            "CONTROLLER_SERVICE",
        ),
        (
            "no CREATE_DELETE_VOLUME",
            |driver| driver.capabilities.clear(),
            "CREATE_DELETE_VOLUME is missing",
        ),
    ];
    for (name, change, words) in rows {
        let world = world();
        world.driver.configure(change);
        let ended = Sidecar::start(&world).ended().await;
        let said = ended.expect_err(name).to_string();
        assert!(said.contains(words), "{name}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_topology_capable_driver_is_served_when_the_operator_says_so() {
    let world = world();
    world.driver.configure(|driver| driver.topology = true);
    let sidecar = Sidecar::with(&world, &["--feature-gates=Topology=false"]);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_not_there_yet_is_waited_for_and_the_log_says_so() {
    let world = world();
    world.driver.stop();
    let sidecar = Sidecar::start(&world);
    tokio::time::sleep(secs(35)).await;
    let waits = sidecar.log();
    let waits = waits
        .iter()
        .filter(|line| line.contains("waiting for the CSI driver"))
        .count();
    assert!((3..=5).contains(&waits), "{waits} lines in 35 s");
    assert!(sidecar.page("/readyz").await.contains("CSI driver"));
    world.driver.configure(|driver| driver.ready = Some(false));
    world.driver.start();
    world
        .eventually("the log says what is wrong now", |_| {
            sidecar.logged(&["not ready yet"])
        })
        .await;
    world.driver.configure(|driver| driver.ready = Some(true));
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_driver_that_makes_no_sense_is_told_and_loses_no_volume() {
    let rows = [
        (
            "D-13: no volume",
            Trouble::WithoutVolume,
            "success but without a volume",
        ),
        ("an empty id", Trouble::EmptyId, "whose id is empty"),
        (
            "too small",
            Trouble::WrongSize(5),
            "created volume has 5 bytes, 1073741824 were asked for; it was deleted",
        ),
        (
            "a negative size",
            Trouble::WrongSize(-1),
            "created volume has -1 bytes",
        ),
        ("more than 4 MiB", Trouble::Oversized, "answer cannot be read"),
    ];
    for (name, trouble, words) in rows {
        let world = world();
        world.driver.upset("CreateVolume", 1, trouble);
        let sidecar = Sidecar::start(&world);
        let uid = world.add_claim("default", "data", "1Gi", |_| {});
        world.becomes_bound("data").await;
        world.is_told("data", &["ProvisioningFailed", words]).await;
        let pv = world.volume_of(&uid).expect("its volume");
        assert_eq!(text(&pv, "/spec/capacity/storage"), "1Gi", "{name}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_larger_than_asked_is_taken_with_its_size() {
    let world = world();
    world.driver.upset("CreateVolume", 1, Trouble::WrongSize(5 << 30));
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    let pv = world.volume_of(&uid).expect("its volume");
    assert_eq!(text(&pv, "/spec/capacity/storage"), "5Gi");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c1_error_details_that_are_no_base64_cost_a_call_and_not_the_process() {
    let world = world();
    let odd = Trouble::OddDetails(tonic::Code::Internal, "odd details");
    world.driver.upset("Probe", 1, odd.clone());
    world.driver.upset("CreateVolume", 1, odd.clone());
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    world
        .is_told(
            "data",
            &["ProvisioningFailed: rpc error: code = Internal desc = odd details"],
        )
        .await;
    // A driver that comes back is asked who it is.
    world.driver.upset("GetPluginInfo", 2, odd);
    world.driver.stop();
    world.driver.start();
    world
        .eventually("the driver is not ready", |_| {
            sidecar.logged(&["the CSI driver is there, but not ready", "odd details"])
        })
        .await;
    world.add_claim("default", "more", "1Gi", |_| {});
    world.becomes_bound("more").await;
    world
        .eventually("the driver is back", |_| {
            sidecar.logged(&["the CSI driver is back"])
        })
        .await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_with_endless_error_texts_gets_its_message_through_shortened() {
    let world = world();
    let endless: &'static str = Box::leak("é🦀".repeat(4000).into_boxed_str());
    world
        .driver
        .upset("CreateVolume", 2, Trouble::Refuse(tonic::Code::Internal, endless));
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .is_told("data", &["rpc error: code = Internal desc = é🦀"])
        .await;
    let said = world.events("data");
    assert!(
        said.iter().all(|event| event.len() < (16 << 10) + 100),
        "an event has at most 16 kB"
    );
    world.becomes_bound("data").await;
    assert_eq!(world.api.len(VOLUMES), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_wrong_size_that_an_object_names_is_not_deleted() {
    let world = world();
    // An administrator has adopted what the driver will give for the claim's name.
    world.api.create(
        VOLUMES,
        "",
        serde_json::json!({
            "metadata": {"name": "adopted"},
            "spec": {
                "capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "other",
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": DRIVER, "volumeHandle": "vol-1"},
            },
        }),
    );
    world
        .driver
        .upset("CreateVolume", usize::MAX, Trouble::WrongSize(1 << 20));
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    let words = ["it is not deleted, because PersistentVolume adopted names it"];
    world.is_told("data", &words).await;
    world
        .always("it stays", secs(300), |world| {
            world.driver.count("DeleteVolume") == 0 && world.driver.volumes().len() == 1
        })
        .await;
    drop(sidecar);
}
