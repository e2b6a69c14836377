//! Volumes with content, and with a VolumeAttributesClass, while the process is cut.

use sandbox::{
    World,
    driver::{Capability, Trouble},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    look::{SNAPSHOTS, restored},
    rest::Rest,
    scenario::Scenario,
    sidecar::{CLAIMS, DRIVER, Look, finalizers, secs, world},
    stage::Stage,
};

const ATTRIBUTES_CLASSES: &str = "volumeattributesclasses";

/// A world whose driver can copy, with the snapshot `backup`.
fn backed_up() -> World {
    let world = world();
    let more = [
        Capability::CreateDeleteSnapshot,
        Capability::CloneVolume,
        Capability::ModifyVolume,
    ];
    world
        .driver
        .configure(|identity| identity.capabilities.extend(more));
    world.add_snapshot("default", "backup", |_| {});
    world
}

fn cloned(claim: &mut Value) {
    claim["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "origin"});
}

/// The one of this name is gone, or goes as soon as nobody keeps it.
async fn goes(stage: &Stage, plural: &str, name: &str) {
    stage.api.delete(plural, "default", name);
    let gone = |world: &World| world.api.get(plural, "default", name).is_none();
    stage.eventually("the source is gone", gone).await;
}

#[test]
fn a_restore_comes_and_goes() {
    let scenario = Scenario::new("a restore comes and goes", Rest::volumes(0)).world(backed_up);
    scenario.run(async |stage| {
        stage.add_claim("default", "data", "1Gi", restored);
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
    });
}

#[test]
fn a_restore_is_given_up_while_the_driver_copies() {
    let scenario = Scenario::new("a restore is given up", Rest::volumes(0)).world(backed_up);
    scenario.run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(5)));
        stage.add_claim("default", "data", "1Gi", restored);
        stage.is_asked().await;
        stage.claim_goes().await;
    });
}

#[test]
fn a_snapshot_that_is_deleted_while_it_is_copied_stays_until_then() {
    let scenario =
        Scenario::new("a snapshot is deleted while it is copied", Rest::volumes(1)).world(backed_up);
    scenario.run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(5)));
        stage.add_claim("default", "data", "1Gi", restored);
        stage.is_asked().await;
        goes(stage, SNAPSHOTS, "backup").await;
        assert!(!stage.driver.volumes().is_empty(), "it went too early");
        stage.becomes_bound("data").await;
    });
}

#[test]
fn of_three_restores_one_fails_for_a_while_and_one_is_deleted() {
    let scenario = Scenario::new("three restores of one snapshot", Rest::volumes(2))
        .world(backed_up)
        .some(25);
    scenario.run(async |stage| {
        stage.driver.upset(
            "CreateVolume",
            2,
            Trouble::Refuse(Code::ResourceExhausted, "full"),
        );
        for name in ["data", "logs", "mail"] {
            stage.add_claim("default", name, "1Gi", restored);
        }
        stage.is_made().await;
        stage.claim_goes().await;
        stage.becomes_bound("logs").await;
        stage.becomes_bound("mail").await;
    });
}

#[test]
fn a_clone_comes_while_its_source_goes() {
    let scenario = Scenario::new("a clone comes while its source goes", Rest::volumes(1))
        .world(backed_up)
        .some(25);
    scenario.run(async |stage| {
        stage.add_claim("default", "origin", "1Gi", |_| {});
        stage.becomes_bound("origin").await;
        stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(5)));
        stage.add_claim("default", "copy", "1Gi", cloned);
        let asked = |world: &World| {
            let asked = world.driver.creations();
            asked.iter().any(|it| it.volume_content_source.is_some())
        };
        stage.eventually("the copy is asked for", asked).await;
        goes(stage, CLAIMS, "origin").await;
        stage.becomes_bound("copy").await;
    });
}

#[test]
fn a_volume_is_made_with_a_class_that_goes_meanwhile() {
    let scenario = Scenario::new("a VolumeAttributesClass goes meanwhile", Rest::volumes(1)).world(|| {
        let world = backed_up();
        let class =
            json!({"metadata": {"name": "gold"}, "driverName": DRIVER, "parameters": {"iops": "1000"}});
        world.api.create(ATTRIBUTES_CLASSES, "", class);
        world
    });
    scenario.run(async |stage| {
        stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(5)));
        stage.add_claim("default", "data", "1Gi", |claim| {
            claim["spec"]["volumeAttributesClassName"] = "gold".into();
        });
        stage.is_asked().await;
        // Although it is in use.
        stage.api.edit(ATTRIBUTES_CLASSES, "", "gold", |class| {
            class["metadata"]["finalizers"] = json!([]);
        });
        stage.api.delete(ATTRIBUTES_CLASSES, "", "gold");
        stage.becomes_bound("data").await;
        let asked = stage.driver.creations();
        let iops = |it: &sandbox::driver::proto::CreateVolumeRequest| it.mutable_parameters["iops"] == "1000";
        assert!(asked.iter().all(iops), "{asked:?}");
    });
}

/// The claim's source stands, and could be deleted at this moment.
pub(crate) fn unprotected_source(world: &sandbox::Api, claim: &Value) -> Option<String> {
    let source = &claim["spec"]["dataSource"];
    let plural = match source["kind"].as_str()? {
        "VolumeSnapshot" => SNAPSHOTS,
        _ => CLAIMS,
    };
    let name = source["name"].as_str()?;
    let source = world.get(plural, "default", name)?;
    (!is_protected(&source)).then(|| format!("{plural} {name} is not protected"))
}

/// Whether one of our finalizers for sources is on it.
pub(crate) fn is_protected(source: &Value) -> bool {
    let ours = [
        "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection",
        "provisioner.storage.kubernetes.io/cloning-protection",
    ];
    finalizers(source).iter().any(|it| ours.contains(&it.as_str()))
}
