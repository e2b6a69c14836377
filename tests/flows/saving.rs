//! A volume exists at the driver, and its object cannot be written.

use sandbox::{Fault, Harm, driver::Trouble};
use serde_json::json;
use tonic::Code;

use crate::sidecar::{CLAIMS, DRIVER, Look, Sidecar, VOLUMES, secs, text, world};

#[tokio::test(start_paused = true)]
async fn a_volume_whose_object_is_refused_is_not_lost_and_the_claim_says_why() {
    let rows = [
        ("500", Harm::Status(500), "Internal error"),
        ("503", Harm::Status(503), "currently unable"),
        ("401", Harm::Status(401), "check the token"),
        ("403", Harm::Status(403), "verbs: [\"create\"]"),
        ("422", Harm::Status(422), "Internal error"),
        ("429", Harm::Throttle(7), "come back later"),
        ("a cut connection", Harm::Cut, "not read"),
        ("no answer", Harm::Hang, "no answer within 30 s"),
    ];
    for (name, harm, words) in rows {
        let world = world();
        world.api.harm(Fault::new(harm).on("create", VOLUMES).times(4));
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.becomes_bound("data").await;
        world
            .is_told(
                "data",
                &["ProvisioningFailed", "the volume exists at the driver", words],
            )
            .await;
        assert_eq!(
            world.driver.count("CreateVolume"),
            1,
            "D-30: {name}: the driver is asked once"
        );
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_reply_was_lost_counts_as_written() {
    let world = world();
    world
        .api
        .harm(Fault::new(Harm::LoseReply).on("create", VOLUMES).times(1));
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    tokio::time::sleep(secs(600)).await;
    assert_eq!(world.driver.count("CreateVolume"), 1);
    assert_eq!(world.api.len(VOLUMES), 1);
    assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 0.0);
    let told = world.told("data", &["ProvisioningSucceeded"]);
    assert!(told, "the watches show the claim Bound before the answer comes");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_could_not_be_written_is_written_although_the_claim_is_gone() {
    let world = world();
    world
        .api
        .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES).times(5));
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &["cannot be saved"]).await;
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("written", |world| world.volume_of(&uid).is_some())
        .await;
    world.becomes_clean().await;
    assert_eq!(
        (
            world.driver.count("CreateVolume"),
            world.driver.count("DeleteVolume")
        ),
        (1, 1)
    );
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_another_claims_volume_has_is_never_taken_over() {
    taken(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_name_is_taken_is_not_lost_when_its_claim_goes_away() {
    taken(true).await;
}

/// The object stands and the claim is not bound to it yet.
#[tokio::test(start_paused = true)]
async fn an_object_of_the_claim_is_known_by_whatever_name_the_flags_give() {
    let world = world();
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    let digits: String = uid.chars().filter(|c| *c != '-').take(8).collect();
    let name = format!("disk-{digits}");
    let object = json!({
        "metadata": {"name": name, "finalizers": ["example.com/hold"]},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": DRIVER, "volumeHandle": "there"},
            "claimRef": {"namespace": "default", "name": "data", "uid": uid},
        },
    });
    world.api.create(VOLUMES, "", object);
    world.api.delete(VOLUMES, "", &name);
    let flags = ["--volume-name-prefix=disk", "--volume-name-uuid-length=8"];
    let sidecar = Sidecar::with(&world, &flags);
    sidecar.leads(&world).await;
    for round in 0..3 {
        world.api.edit(CLAIMS, "default", "data", |claim| {
            claim["metadata"]["annotations"]["example.com/round"] = round.to_string().into();
        });
        tokio::time::sleep(secs(10)).await;
    }
    assert!(!world.bound("data"));
    assert_eq!(world.driver.count("CreateVolume"), 0, "D-5");
    assert_eq!(world.events("data"), [""; 0], "D-5: nothing is begun");
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

async fn taken(gone: bool) {
    let world = world();
    let sidecar = Sidecar::with(&world, &["--volume-name-uuid-length=8"]);
    sidecar.leads(&world).await;
    world
        .api
        .harm(Fault::new(Harm::Delay(secs(5))).on("create", VOLUMES).times(1));
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    let name = format!(
        "pvc-{}",
        uid.chars().filter(|c| *c != '-').take(8).collect::<String>()
    );
    world
        .eventually("it is being written", |world| !world.driver.volumes().is_empty())
        .await;
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "csi": {"driver": "others.example.com", "volumeHandle": "theirs"},
                "claimRef": {"namespace": "default", "name": "somebody", "uid": "else"},
            },
        }),
    );
    world
        .is_told("data", &["ProvisioningFailed", &name, "is for another claim"])
        .await;
    let theirs = world.api.get(VOLUMES, "", &name).expect("the other volume");
    assert_eq!(text(&theirs, "/spec/csi/volumeHandle"), "theirs");
    assert!(!world.bound("data"), "D-23");
    if gone {
        // The volume under that name is ours alone: it must not stay behind.
        world.api.delete(CLAIMS, "default", "data");
        tokio::time::sleep(secs(60)).await;
        world.api.delete(VOLUMES, "", &name);
        world.becomes_clean().await;
        sidecar.end(&world).await;
        return;
    }
    // Once the name is free the claim gets its volume after all, and it is the one that was made first.
    world.api.delete(VOLUMES, "", &name);
    world.becomes_bound("data").await;
    assert_eq!(world.driver.volumes().len(), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_claim_that_is_gone_is_seen_to_by_the_backoff_too() {
    type Pester = fn(&sandbox::World);
    let rows: [(&str, Pester); 2] = [
        ("the object is refused", |world| {
            world
                .api
                .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES));
        }),
        ("the driver is busy", |world| {
            let busy = Trouble::Refuse(Code::Unavailable, "busy");
            world.driver.upset("CreateVolume", usize::MAX, busy);
        }),
    ];
    for (name, pester) in rows {
        let world = world();
        pester(&world);
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.is_told("data", &["ProvisioningFailed"]).await;
        world.api.delete(CLAIMS, "default", "data");
        tokio::time::sleep(secs(1)).await;
        world.api.forget_requests();
        let (before, asked) = (world.driver.count("CreateVolume"), world.api.requests().len());
        tokio::time::sleep(secs(600)).await;
        let posts = world.api.requests()[asked..]
            .iter()
            .filter(|request| request.resource == VOLUMES && request.verb.rbac() == "create")
            .count();
        let tries = posts + world.driver.count("CreateVolume") - before;
        // After 1, 2, 4, ... and then 300 seconds.
        assert!((4..=12).contains(&tries), "{name}: {tries} tries in ten minutes");
        world.api.heal();
        world.driver.heal();
        world.becomes_clean().await;
        sidecar.end(&world).await;
    }
}
