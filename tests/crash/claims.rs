//! Claims come and go, and change hands, while the process is cut.

use sandbox::{
    Fault, Harm, World,
    driver::{Trouble, Volume},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::{
    rest::Rest,
    scenario::Scenario,
    sidecar::{CLAIMS, DRIVER, Look, VOLUMES, secs, text},
    stage::Stage,
};

/// The driver has made the volume of the claim `data`, and its object cannot be written.
async fn made_only(stage: &Stage) {
    stage
        .api
        .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES));
    stage.add_claim("default", "data", "1Gi", |_| {});
    stage.is_made().await;
}

/// An object of an administrator, for any volume.
fn object(stage: &Stage, name: &str, driver: &str, handle: &str, claim_uid: Option<&str>) {
    let mut pv = json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": driver, "volumeHandle": handle},
        },
    });
    if let Some(uid) = claim_uid {
        pv["spec"]["claimRef"] = json!({"namespace": "default", "name": "data", "uid": uid});
    } else {
        pv["spec"]["storageClassName"] = "other".into();
    }
    stage.api.create(VOLUMES, "", pv);
}

#[test]
fn a_claim_comes_and_stays() {
    Scenario::new("a claim comes and stays", Rest::volumes(1)).run(async |stage| {
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
    });
}

#[test]
fn a_claim_comes_and_goes() {
    let scenario = Scenario::new("a claim comes and goes", Rest::volumes(0)).twice();
    scenario.run(async |stage| {
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
    });
}

#[test]
fn three_claims_come_and_go() {
    Scenario::new("three claims come and go", Rest::volumes(0)).run(async |stage| {
        let names = ["data", "logs", "mail"];
        stage.driver.upset("CreateVolume", 2, Trouble::Delay(secs(2)));
        for name in names {
            stage.add_claim("default", name, "1Gi", |_| {});
        }
        stage.is_made().await;
        for name in names {
            stage.api.delete(CLAIMS, "default", name);
        }
    });
}

#[test]
fn a_claim_is_deleted_while_the_driver_works() {
    let scenario = Scenario::new("claim deleted while the driver works", Rest::volumes(0)).twice();
    scenario.run(async |stage| {
        stage.slowly_asked(3).await;
        stage.claim_goes().await;
    });
}

#[test]
fn a_claim_is_deleted_before_its_object_is_written() {
    Scenario::new("claim deleted before its object is written", Rest::volumes(0)).run(async |stage| {
        made_only(stage).await;
        stage.claim_goes().await;
        sleep(secs(3)).await;
        stage.api.heal();
    });
}

#[test]
fn a_claim_is_deleted_and_made_again() {
    Scenario::new("claim deleted and made again", Rest::volumes(1)).run(async |stage| {
        stage.slowly_asked(3).await;
        stage.claim_goes().await;
        stage.add_claim("default", "data", "2Gi", |_| {});
        stage.becomes_bound("data").await;
    });
}

#[test]
fn a_claim_is_bound_by_hand() {
    Scenario::new("claim bound by hand", Rest::volumes(1)).run(async |stage| {
        stage.slowly_asked(3).await;
        let claim = stage.api.get(CLAIMS, "default", "data").unwrap();
        object(
            stage,
            "manual",
            "other.example.com",
            "theirs",
            Some(text(&claim, "/metadata/uid")),
        );
        stage.becomes_bound("data").await;
    });
}

#[test]
fn a_claim_is_being_deleted_and_held_by_a_finalizer() {
    Scenario::new("claim is being deleted for long", Rest::volumes(0)).run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(3)));
        stage.add_claim("default", "data", "1Gi", |claim| {
            claim["metadata"]["finalizers"] = json!(["example.com/backup"]);
        });
        stage.is_asked().await;
        stage.api.delete(CLAIMS, "default", "data");
        sleep(secs(30)).await;
        stage.api.edit(CLAIMS, "default", "data", |claim| {
            claim["metadata"]["finalizers"] = json!([]);
        });
    });
}

#[test]
fn the_class_is_gone() {
    Scenario::new("class gone", Rest::volumes(1)).run(async |stage| {
        stage.slowly_asked(3).await;
        stage.api.delete("storageclasses", "", "fast");
        stage.becomes_bound("data").await;
    });
}

/// The class of the claim `data` is replaced while its first call is lost. The claim gets another request, and then the
/// volume of the first one comes.
async fn late_for_the_class(stage: &Stage) {
    let is_asked_for = |tier: &'static str| {
        move |world: &World| {
            let asked = world.driver.creations();
            asked.iter().any(|request| request.parameters["tier"] == tier)
        }
    };
    let class = |tier: &str| {
        let class = json!({
            "metadata": {"name": "fast"}, "provisioner": DRIVER, "parameters": {"tier": tier},
        });
        stage.api.delete("storageclasses", "", "fast");
        stage.api.create("storageclasses", "", class);
    };
    class("gold");
    stage.driver.upset("CreateVolume", 1, Trouble::Hang);
    let down = Trouble::Refuse(Code::Internal, "the backend is down");
    stage.driver.upset("CreateVolume", usize::MAX, down);
    let uid = stage.add_claim("default", "data", "1Gi", |_| {});
    stage.eventually("gold is asked for", is_asked_for("gold")).await;
    class("lead");
    stage.eventually("lead is asked for", is_asked_for("lead")).await;
    stage.driver.add_volume(Volume {
        id: "vol-late".into(),
        name: format!("pvc-{uid}"),
        bytes: 1 << 30,
        parameters: [("tier".to_owned(), "gold".to_owned())].into(),
    });
    stage.driver.heal();
}

#[test]
fn the_class_is_replaced_and_the_first_volume_comes_late() {
    let scenario = Scenario::new("class replaced, first volume late", Rest::volumes(1));
    let scenario = scenario.flags(&["--retry-interval-max=20s"]).renews();
    scenario.run(async |stage| {
        late_for_the_class(stage).await;
        stage.becomes_bound("data").await;
    });
}

#[test]
fn the_class_is_replaced_and_the_first_volume_comes_too_late_for_its_claim() {
    let scenario = Scenario::new("class replaced, claim gone, volume late", Rest::volumes(0));
    let scenario = scenario.flags(&["--retry-interval-max=20s"]).renews();
    scenario.run(async |stage| {
        late_for_the_class(stage).await;
        stage.claim_goes().await;
    });
}

#[test]
fn the_class_and_the_claim_are_gone() {
    Scenario::new("class and claim gone", Rest::volumes(0)).run(async |stage| {
        stage.slowly_asked(3).await;
        stage.api.delete("storageclasses", "", "fast");
        stage.claim_goes().await;
    });
}

#[test]
fn the_backend_is_down_after_a_timeout() {
    // What is repeated at the longest interval is not worth five minutes.
    let scenario = Scenario::new("backend down after a timeout", Rest::volumes(0));
    scenario.flags(&["--retry-interval-max=20s"]).run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::LoseReply);
        let down = Trouble::Refuse(Code::Internal, "the backend is down");
        stage.driver.upset("CreateVolume", 4, down);
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.is_made().await;
        stage.claim_goes().await;
    });
}

#[test]
fn a_volume_is_adopted_under_another_name() {
    let rest = Rest::volumes(1).stuck(1);
    let rest = Rest {
        volumes: 1..=2,
        ..rest
    };
    Scenario::new("volume adopted under another name", rest).run(async |stage| {
        made_only(stage).await;
        let handle = stage.driver.volumes()[0].id.clone();
        object(stage, "adopted", DRIVER, &handle, None);
        stage.claim_goes().await;
        sleep(secs(3)).await;
        stage.api.heal();
    });
}

#[test]
fn a_volume_is_adopted_while_nobody_is_there() {
    Scenario::new("volume adopted while nobody is there", Rest::volumes(1)).run(async |stage| {
        made_only(stage).await;
        stage.down();
        let handle = stage.driver.volumes()[0].id.clone();
        object(stage, "adopted", DRIVER, &handle, None);
        stage.claim_goes().await;
        stage.api.heal();
        stage.up();
    });
}

#[test]
fn the_reply_to_the_object_is_lost() {
    Scenario::new("reply to the object lost", Rest::volumes(0)).run(async |stage| {
        stage
            .api
            .harm(Fault::new(Harm::LoseReply).on("create", VOLUMES).times(1));
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
    });
}

#[test]
fn a_volume_of_the_wrong_size_is_cleaned_up() {
    let scenario = Scenario::new("volume of the wrong size", Rest::volumes(1)).misfits();
    scenario.run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::WrongSize(1 << 20));
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.is_asked().await;
        // Who was cut before the clean-up does not know the volume's handle; the driver only says that the name is
        // taken, and a person has to help.
        let stuck = |world: &World| world.bound("data") || world.told("data", &["AlreadyExists"]);
        stage.eventually("it is bound, or the name is taken", stuck).await;
        if !stage.bound("data") {
            stage.driver.remove_volume(&stage.driver.volumes()[0].id);
        }
        stage.becomes_bound("data").await;
    });
}

#[test]
fn there_is_no_room_for_a_while() {
    Scenario::new("no room for a while", Rest::volumes(1)).run(async |stage| {
        let full = Trouble::Refuse(Code::ResourceExhausted, "full");
        stage.driver.upset("CreateVolume", 3, full);
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
    });
}

#[test]
fn the_driver_restarts_in_the_middle() {
    Scenario::new("driver restarts", Rest::volumes(0)).run(async |stage| {
        stage.slowly_asked(3).await;
        stage.driver.stop();
        stage.claim_goes().await;
        sleep(secs(5)).await;
        stage.driver.start();
    });
}

#[test]
fn the_policy_is_patched_to_retain() {
    let rest = Rest::volumes(1).or_less().hollow(1);
    Scenario::new("policy patched to Retain", rest).run(async |stage| {
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
        // Whenever that comes to the deletion: before, or too late.
        sleep(std::time::Duration::from_millis(2)).await;
        let patched = stage.api.list(VOLUMES);
        for pv in &patched {
            stage.api.edit(VOLUMES, "", text(pv, "/metadata/name"), |pv| {
                pv["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
            });
        }
        let asked = stage.driver.count("DeleteVolume");
        sleep(secs(120)).await;
        let later = stage.driver.count("DeleteVolume") - asked;
        let uids = |volumes: &[Value]| -> Vec<_> {
            let uid = |pv: &Value| text(pv, "/metadata/uid").to_owned();
            volumes.iter().map(uid).collect()
        };
        let kept = uids(&patched) == uids(&stage.api.list(VOLUMES));
        // Whoever found the object gone, and its record there, has made another volume, which nobody has patched.
        if asked == 0 || kept && !patched.is_empty() {
            assert_eq!(later, 0, "deleted after the patch\n{}", stage.print());
            assert!(kept, "{patched:?} is not kept\n{}", stage.print());
        }
    });
}

#[test]
fn a_deletion_takes_long_and_its_reply_is_lost() {
    Scenario::new("deletion slow, reply lost", Rest::volumes(0)).run(async |stage| {
        stage.driver.upset("DeleteVolume", 1, Trouble::Delay(secs(3)));
        stage.driver.upset("DeleteVolume", 1, Trouble::LoseReply);
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
    });
}

#[test]
fn a_volume_is_deleted_while_its_creation_is_repeated() {
    let scenario = Scenario::new("deleted while its creation is repeated", Rest::volumes(0)).twice();
    scenario.run(async |stage| {
        let late = Fault::new(Harm::Late(secs(3))).on("create", VOLUMES).times(1);
        stage.api.harm(late);
        stage.driver.upset_after("CreateVolume", 1, 1, Trouble::Hang);
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.is_made().await;
        sleep(secs(1)).await;
        stage.line().cut();
        stage.claim_goes().await;
        // The next one has asked again when the object arrives, and still waits for an answer.
        let deleted = |world: &World| world.driver.count("DeleteVolume") > 0;
        stage.eventually("it is deleted", deleted).await;
        stage.api.freeze_cache();
        sleep(secs(20)).await;
        stage.api.thaw_cache();
    });
}
