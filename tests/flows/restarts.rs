//! A process is killed while it makes a volume, and the next one goes on from the record.

use sandbox::{
    Fault, Harm, World,
    driver::{Trouble, Volume},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::sidecar::{CLAIMS, DRIVER, HOME, Look, SECRETS, Sidecar, VOLUMES, empty_world, secs, text, world};

/// Without an election a new process works at once, and a day passes quickly.
const ALONE: &[&str] = &["--leader-election=false"];

/// How many records are open, and how many are held.
pub(crate) async fn records(sidecar: &Sidecar) -> (f64, f64) {
    (
        sidecar.metric("volwright_ledger_records", &[]).await,
        sidecar.metric("volwright_ledger_held", &[]).await,
    )
}

pub(crate) async fn settled(sidecar: &Sidecar, outcome: &str) -> f64 {
    let outcome = format!("outcome=\"{outcome}\"");
    sidecar
        .metric("volwright_ledger_settled_total", &[&outcome])
        .await
}

/// The process is killed when the driver has made the volume of the claim and the answer is under way. Gives the
/// claim's UID.
async fn killed(world: &World) -> String {
    world.driver.upset("CreateVolume", 1, Trouble::LoseReply);
    let sidecar = Sidecar::with(world, ALONE);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("the driver has made it", |world| {
            !world.driver.volumes().is_empty()
        })
        .await;
    sidecar.kill();
    uid
}

/// Class parameters that name a secret.
fn locked(class: &mut Value) {
    class["parameters"] = json!({
        "csi.storage.k8s.io/provisioner-secret-name": "key",
        "csi.storage.k8s.io/provisioner-secret-namespace": "default",
    });
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_waits_gets_what_was_asked_for_first_whatever_its_class_says_now() {
    let world = empty_world().class("fast", &[("tier", "gold")]);
    killed(&world).await;
    world.api.delete("storageclasses", "", "fast");
    let world = world.class("fast", &[("tier", "lead")]);
    let sidecar = Sidecar::with(&world, ALONE);
    world.becomes_bound("data").await;
    assert_eq!(world.driver.volumes().len(), 1);
    let calls = world.driver.calls();
    let sent = calls.iter().filter(|call| call.method == "CreateVolume").count();
    assert_eq!(sent, 2, "one of each process");
    assert_eq!(world.driver.volumes()[0].parameters["tier"], "gold");
    assert_eq!(settled(&sidecar, "saved").await, 1.0);
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_volume_of_a_claim_that_is_gone_gets_its_object_and_goes_the_ordinary_way() {
    let world = world();
    let uid = killed(&world).await;
    world.api.delete(CLAIMS, "default", "data");
    let sidecar = Sidecar::with(&world, ALONE);
    world
        .eventually("D-31: its object is written", |world| {
            world.volume_of(&uid).is_some()
        })
        .await;
    world.becomes_clean().await;
    let phases = world.api.history(VOLUMES);
    assert!(phases.iter().any(|pv| text(pv, "/status/phase") == "Released"));
    assert_eq!(world.driver.count("DeleteVolume"), 1);
    assert_eq!(settled(&sidecar, "saved").await, 1.0);
    sidecar.end(&world).await;
}

/// A PersistentVolume by hand.
fn adopted(world: &World, name: &str, handle: &str, claim_uid: &str) {
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": DRIVER, "volumeHandle": handle},
                "claimRef": {"namespace": "default", "name": "other", "uid": claim_uid},
            },
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_was_adopted_under_another_name_is_left_alone() {
    let world = world();
    let uid = killed(&world).await;
    let handle = world.driver.volumes()[0].id.clone();
    adopted(&world, "adopted", &handle, "");
    world.api.delete(CLAIMS, "default", "data");
    let sidecar = Sidecar::with(&world, ALONE);
    world
        .eventually("it is asked for", |world| world.driver.count("CreateVolume") == 2)
        .await;
    sleep(secs(60)).await;
    assert!(world.volume_of(&uid).is_none(), "{}", world.print());
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    assert_eq!(settled(&sidecar, "found").await, 1.0);
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    sidecar.end(&world).await;
}

/// The claim is gone, and has got another volume than the one that its record is about.
async fn held_beside_another() -> (World, Sidecar) {
    let world = world();
    let uid = killed(&world).await;
    world.driver.add_volume(Volume {
        id: "by-hand".into(),
        name: "by-hand".into(),
        bytes: 1 << 30,
        parameters: Default::default(),
    });
    world.api.delete(CLAIMS, "default", "data");
    adopted(&world, "by-hand", "by-hand", &uid);
    let sidecar = Sidecar::with(&world, ALONE);
    world
        .eventually("it is held", |_| {
            sidecar.logged(&["held", "default/data", "another"])
        })
        .await;
    sleep(secs(60)).await;
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    assert_eq!(world.driver.volumes().len(), 2);
    assert_eq!(records(&sidecar).await, (0.0, 1.0));
    assert_eq!(settled(&sidecar, "held").await, 1.0);
    (world, sidecar)
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_claim_has_got_another_one_is_held_and_shown() {
    let (_world, sidecar) = held_beside_another().await;
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn who_settles_a_record_whose_claim_has_another_volume_has_decided_for_that_one() {
    let (world, sidecar) = held_beside_another().await;
    let held = |lease: &Value| lease["metadata"]["annotations"].to_string().contains("held.");
    let shard = world.api.filter("leases", held).pop().expect("a shard");
    world
        .api
        .edit("leases", HOME, text(&shard, "/metadata/name"), |lease| {
            let annotations = lease["metadata"]["annotations"].as_object_mut().expect("some");
            let held = annotations
                .keys()
                .find(|key| key.starts_with("held."))
                .expect("one");
            let settle = held.replace("held.", "settle.");
            annotations.insert(settle, json!("yes"));
        });
    sleep(secs(300)).await;
    assert_eq!(records(&sidecar).await, (0.0, 0.0), "{:?}", sidecar.log());
    let made = world.driver.volumes();
    let made = made.iter().find(|volume| volume.id != "by-hand").expect("one");
    assert!(sidecar.logged(&["closed", "default/data", "by-hand", &made.id]));
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn the_list_of_objects_must_be_complete_before_one_is_written() {
    let world = world();
    let uid = killed(&world).await;
    world.api.delete(CLAIMS, "default", "data");
    let sidecar = Sidecar::with(&world, ALONE);
    world
        .api
        .harm(Fault::new(Harm::Status(500)).on("list", VOLUMES).times(6));
    world
        .eventually("it is asked for", |world| world.driver.count("CreateVolume") > 3)
        .await;
    assert!(world.volume_of(&uid).is_none(), "{}", world.print());
    world.api.heal();
    world.becomes_clean().await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b4_without_its_secret_a_request_is_never_repeated_and_the_log_says_what_it_waits_for() {
    let world = empty_world()
        .rbac(SECRETS, HOME)
        .class_with("locked", locked)
        .secret("default", "key", &[("user", "joe")]);
    let uid = killed(&world).await;
    world.api.delete(CLAIMS, "default", "data");
    world.api.delete("secrets", "default", "key");
    let sidecar = Sidecar::with(&world, ALONE);
    sleep(secs(1000)).await;
    assert_eq!(world.driver.count("CreateVolume"), 1, "never without");
    assert_eq!(records(&sidecar).await, (1.0, 0.0));
    assert!(sidecar.logged(&["cannot finish a creation yet", "default/key not found"]));
    let world = world.secret("default", "key", &[("user", "joe")]);
    world
        .eventually("its object is written", |world| world.volume_of(&uid).is_some())
        .await;
    world.becomes_clean().await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_is_asked_for_a_day_and_then_the_record_is_held() {
    let world = world();
    killed(&world).await;
    world.api.delete(CLAIMS, "default", "data");
    let down = Trouble::Refuse(Code::Internal, "backend down");
    world.driver.upset("CreateVolume", usize::MAX, down);
    let flags = [ALONE[0], "--retry-interval-max=1h"];
    let sidecar = Sidecar::with(&world, &flags);
    sleep(secs(3600)).await;
    let before = world.driver.count("CreateVolume");
    sleep(secs(4 * 3600)).await;
    let asked = world.driver.count("CreateVolume") - before;
    assert!((3..=5).contains(&asked), "{asked} times in four hours");
    assert_eq!(records(&sidecar).await, (1.0, 0.0));
    sleep(secs(21 * 3600)).await;
    assert_eq!(records(&sidecar).await, (0.0, 1.0));
    assert!(sidecar.logged(&["held", "default/data", "24 hours"]));
    let asked = world.driver.count("CreateVolume");
    sleep(secs(2 * 3600)).await;
    assert_eq!(world.driver.count("CreateVolume"), asked);
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_is_given_up_after_two_answers() {
    let world = world();
    world.driver.upset("CreateVolume", 1, Trouble::Hang);
    let sidecar = Sidecar::with(&world, ALONE);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it is asked for", |world| world.driver.count("CreateVolume") == 1)
        .await;
    sidecar.kill();
    world.api.delete(CLAIMS, "default", "data");
    let full = Trouble::Refuse(Code::ResourceExhausted, "full");
    world.driver.upset("CreateVolume", usize::MAX, full);
    let sidecar = Sidecar::with(&world, ALONE);
    world
        .eventually("it is asked for", |world| world.driver.count("CreateVolume") == 2)
        .await;
    sleep(secs(10)).await;
    assert_eq!(records(&sidecar).await, (1.0, 0.0), "one answer is none");
    sleep(secs(60)).await;
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    assert_eq!(settled(&sidecar, "erased").await, 1.0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_request_is_refused_twice_gets_another_one_in_its_place() {
    let world = empty_world().class("fast", &[("tier", "gold")]);
    world.driver.upset("CreateVolume", 1, Trouble::Hang);
    let sidecar = Sidecar::with(&world, ALONE);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it is asked for", |world| world.driver.count("CreateVolume") == 1)
        .await;
    sidecar.kill();
    let odd = Trouble::Refuse(Code::Internal, "gold is sold out");
    world.driver.upset("CreateVolume", 5, odd);
    world.api.delete("storageclasses", "", "fast");
    let world = world.class("fast", &[("tier", "lead")]);
    let sidecar = Sidecar::with(&world, ALONE);
    world
        .is_told("data", &["gold is sold out", "the same request is repeated"])
        .await;
    world.becomes_bound("data").await;
    // One that was not answered; five that were refused, after 0, 1, 3, 7 and 15 s, the last one --timeout after the
    // first; and the other request.
    assert_eq!(world.driver.count("CreateVolume"), 7);
    assert_eq!(world.driver.volumes()[0].parameters["tier"], "lead");
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_another_size_is_written_as_it_is_when_its_claim_is_gone() {
    for (bytes, written) in [(5, "5"), (-1, "1Gi")] {
        let world = world();
        let busy = Trouble::Refuse(Code::Unavailable, "busy");
        world.driver.upset("CreateVolume", 1, busy);
        world.driver.upset("CreateVolume", 1, Trouble::WrongSize(bytes));
        let sidecar = Sidecar::with(&world, ALONE);
        let uid = world.add_claim("default", "data", "1Gi", |_| {});
        world.is_told("data", &["busy"]).await;
        world.api.delete(CLAIMS, "default", "data");
        world
            .eventually("its object is written", |world| {
                world.api.count("create", VOLUMES) == 1
            })
            .await;
        world.becomes_clean().await;
        let history = world.api.history(VOLUMES);
        let pv = history.iter().find(|pv| text(pv, "/spec/claimRef/uid") == uid);
        let size = text(pv.expect("its object"), "/spec/capacity/storage");
        assert_eq!(size, written);
        assert_eq!(world.driver.count("DeleteVolume"), 1, "the ordinary way");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_another_size_is_not_written_for_a_claim_that_only_the_watch_has_lost() {
    let world = world();
    killed(&world).await;
    world.driver.remove_volume(&world.driver.volumes()[0].id);
    let asks = |provisioner: &'static str| {
        world.api.edit(CLAIMS, "default", "data", |claim| {
            claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] = provisioner.into();
        })
    };
    // The watch shows the claim as another provisioner's.
    asks("another.example.com");
    world.api.freeze_cache();
    asks(DRIVER);
    world.driver.upset("CreateVolume", 1, Trouble::WrongSize(5));
    let sidecar = Sidecar::with(&world, ALONE);
    world
        .eventually("it is deleted", |world| world.driver.count("DeleteVolume") == 1)
        .await;
    world.api.thaw_cache();
    world.becomes_bound("data").await;
    assert_eq!(world.api.count("create", VOLUMES), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_another_size_that_a_persistent_volume_names_is_not_deleted() {
    // Available, or released and retained.
    for claim_uid in ["", "of-one-that-is-gone"] {
        not_deleted_beside(claim_uid).await;
    }
}

async fn not_deleted_beside(claim_uid: &str) {
    let world = world();
    let sidecar = Sidecar::with(&world, ALONE);
    world.add_claim("default", "first", "1Gi", |_| {});
    world.becomes_bound("first").await;
    let first = world.driver.volumes()[0].id.clone();
    let (prefix, _) = first.rsplit_once('-').expect("a number");
    adopted(&world, "theirs", &format!("{prefix}-2"), claim_uid);
    if !claim_uid.is_empty() {
        world
            .eventually("it is released", |world| {
                let theirs = world.api.get(VOLUMES, "", "theirs").unwrap_or_default();
                text(&theirs, "/status/phase") == "Released"
            })
            .await;
    }
    world.driver.upset("CreateVolume", 1, Trouble::WrongSize(5));
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .is_told(
            "data",
            &["created volume has 5 bytes", "PersistentVolume theirs names it"],
        )
        .await;
    sleep(secs(60)).await;
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    assert_eq!(world.driver.volumes().len(), 2);
    sidecar.end(&world).await;
}
