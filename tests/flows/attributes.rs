//! A claim that names a VolumeAttributesClass.

use sandbox::{
    World,
    driver::{Capability, Trouble},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::sidecar::{CLAIMS, DRIVER, HOME, Look, MANIFESTS, SECRETS, Sidecar, secs, text, world};

const CLASSES: &str = "volumeattributesclasses";

pub(crate) fn attributes_class(world: &World, name: &str, driver: &str, iops: &str) {
    let class = json!({"metadata": {"name": name}, "driverName": driver, "parameters": {"iops": iops}});
    world.api.create(CLASSES, "", class);
}

pub(crate) fn names(claim: &mut Value, class: &str) {
    claim["spec"]["volumeAttributesClassName"] = class.into();
}

/// Although it is in use.
fn delete_class(world: &World, name: &str) {
    world.api.edit(CLASSES, "", name, |class| {
        class["metadata"]["finalizers"] = json!([]);
    });
    assert!(world.api.delete(CLASSES, "", name));
    assert!(world.api.get(CLASSES, "", name).is_none());
}

/// A world whose driver applies such classes.
fn modifying(world: World) -> World {
    let more = Capability::ModifyVolume;
    world
        .driver
        .configure(|identity| identity.capabilities.push(more));
    world
}

/// The IOPS that the driver was asked for, call by call.
fn asked(world: &World) -> Vec<Option<String>> {
    let creations = world.driver.creations();
    creations
        .into_iter()
        .map(|mut request| request.mutable_parameters.remove("iops"))
        .collect()
}

fn iops(values: &[&str]) -> Vec<Option<String>> {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

/// The name on the object of the claim's volume.
fn on_volume(world: &World, uid: &str) -> String {
    let pv = world.volume_of(uid).expect("its volume");
    text(&pv, "/spec/volumeAttributesClassName").to_owned()
}

#[tokio::test(start_paused = true)]
async fn its_parameters_reach_the_driver_and_its_name_the_volume_for_one_request() {
    let world = modifying(world());
    attributes_class(&world, "gold", DRIVER, "1000");
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
    world.becomes_bound("data").await;
    assert_eq!(asked(&world), iops(&["1000"]));
    assert_eq!(on_volume(&world, &uid), "gold");
    assert_eq!(world.api.count("get", CLASSES), 1);
    let uid = world.add_claim("default", "plain", "1Gi", |_| {});
    world.becomes_bound("plain").await;
    assert_eq!(asked(&world)[1], None);
    assert_eq!(on_volume(&world, &uid), "");
    assert_eq!(world.api.count("get", CLASSES), 1, "who names none reads none");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_class_that_is_missing_is_named_and_the_claim_goes_on_when_it_is_made() {
    let world = modifying(world());
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
    world
        .is_told(
            "data",
            &["ProvisioningFailed", "VolumeAttributesClass \"gold\" not found"],
        )
        .await;
    sleep(secs(20)).await;
    assert_eq!(world.driver.count("CreateVolume"), 0);
    assert_eq!(sidecar.metric("volwright_ledger_records", &[]).await, 0.0);
    attributes_class(&world, "gold", DRIVER, "1000");
    world.becomes_bound("data").await;
    assert_eq!(asked(&world), iops(&["1000"]));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_class_that_the_driver_cannot_apply_is_refused_before_it_is_called() {
    let rows = [
        (
            "another driver's",
            "others.example.com",
            true,
            "is for the driver \"others.example.com\"",
        ),
        ("a driver that applies none", DRIVER, false, "MODIFY_VOLUME"),
    ];
    for (name, driver, can_modify, words) in rows {
        let world = if can_modify { modifying(world()) } else { world() };
        attributes_class(&world, "gold", driver, "1000");
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
        let words = ["ProvisioningFailed", "VolumeAttributesClass \"gold\"", words];
        world.is_told("data", &words).await;
        sleep(secs(60)).await;
        assert_eq!(world.driver.count("CreateVolume"), 0, "{name}");
        let reads = world.api.count("get", CLASSES);
        assert_eq!(reads > 0, can_modify, "{name}: read only when it is worth it");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_closed_gate_the_name_is_ignored() {
    let closed = "--feature-gates=VolumeAttributesClass=false";
    for (name, flags, is_served) in [
        ("closed by hand", &[closed][..], true),
        ("an older server", &[], false),
    ] {
        // The driver applies none, which nobody asks of it.
        let world = world();
        attributes_class(&world, "gold", DRIVER, "1000");
        if !is_served {
            world.api.hide(CLASSES);
        }
        let sidecar = Sidecar::with(&world, flags);
        let uid = world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
        world.becomes_bound("data").await;
        assert_eq!(asked(&world), [None], "{name}");
        assert_eq!(on_volume(&world, &uid), "", "{name}");
        assert_eq!(world.api.count("get", CLASSES), 0, "{name}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn d40_a_call_in_doubt_is_repeated_as_it_was_whatever_became_of_the_class() {
    for is_made_anew in [false, true] {
        let world = modifying(world());
        attributes_class(&world, "gold", DRIVER, "1000");
        let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
        world.driver.upset("CreateVolume", 2, busy);
        let sidecar = Sidecar::start(&world);
        let uid = world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
        world.is_told("data", &["ProvisioningFailed", "busy"]).await;
        delete_class(&world, "gold");
        if is_made_anew {
            attributes_class(&world, "gold", DRIVER, "7");
        }
        // Another process knows the record only.
        sidecar.kill();
        let sidecar = Sidecar::start(&world);
        world.becomes_bound("data").await;
        assert_eq!(asked(&world), iops(&["1000", "1000", "1000"]), "D-40");
        assert_eq!(on_volume(&world, &uid), "gold");
        assert_eq!(world.api.count("get", CLASSES), 1);
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_two_refusals_in_doubt_the_class_is_read_again() {
    let world = modifying(world());
    attributes_class(&world, "gold", DRIVER, "1000");
    let upset = |times, trouble| world.driver.upset("CreateVolume", times, trouble);
    upset(1, Trouble::Refuse(Code::Unavailable, "busy"));
    upset(usize::MAX, Trouble::Refuse(Code::Internal, "no such tier"));
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
    world.is_told("data", &["ProvisioningFailed", "busy"]).await;
    delete_class(&world, "gold");
    attributes_class(&world, "gold", DRIVER, "7");
    let last = |world: &World| asked(world).pop().flatten();
    world
        .eventually("another request is sent", |world| {
            last(world).as_deref() == Some("7")
        })
        .await;
    let before = asked(&world);
    let before = before.iter().filter(|iops| iops.as_deref() == Some("1000"));
    assert!(before.count() >= 3, "the first one, and two that were refused");
    world.driver.heal();
    world.becomes_bound("data").await;
    assert_eq!(last(&world).as_deref(), Some("7"));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn after_two_refusals_in_doubt_a_class_or_secret_that_is_missing_keeps_the_first_request_going() {
    let with_secret = |class: &mut Value, name: &str| {
        class["parameters"] = json!({
            "csi.storage.k8s.io/provisioner-secret-name": name,
            "csi.storage.k8s.io/provisioner-secret-namespace": "default",
        });
    };
    for (name, is_attributes_class) in [("VolumeAttributesClass", true), ("Secret", false)] {
        let rights = format!("{MANIFESTS}---\n{SECRETS}");
        let world = World::new(DRIVER).namespace(HOME).rbac(&rights, HOME);
        let world = world.secret("default", "login", &[("user", "joe")]);
        let world = modifying(world.class_with("fast", |class| with_secret(class, "login")));
        attributes_class(&world, "gold", DRIVER, "1000");
        let upset = |times, trouble| world.driver.upset("CreateVolume", times, trouble);
        upset(1, Trouble::Refuse(Code::Unavailable, "busy"));
        upset(usize::MAX, Trouble::Refuse(Code::Internal, "no such tier"));
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
        world
            .is_told("data", &["ProvisioningFailed", "no such tier"])
            .await;
        if is_attributes_class {
            delete_class(&world, "gold");
        } else {
            let mut class = world.api.get("storageclasses", "", "fast").unwrap();
            world.api.delete("storageclasses", "", "fast");
            with_secret(&mut class, "another");
            class["metadata"] = json!({"name": "fast"});
            world.api.create("storageclasses", "", class);
        }
        // Two final answers, further apart than --timeout: the claim may get another request.
        sleep(secs(60)).await;
        world.driver.heal();
        world.becomes_bound("data").await;
        assert_eq!(asked(&world).pop(), Some(Some("1000".to_owned())), "{name}");
        assert_eq!(world.driver.volumes().len(), 1, "{name}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn d4_another_class_ends_the_five_minutes_after_an_infeasible_request() {
    let world = modifying(world());
    attributes_class(&world, "gold", DRIVER, "too many");
    attributes_class(&world, "silver", DRIVER, "1000");
    let refusal = Trouble::Refuse(Code::InvalidArgument, "not so many");
    world.driver.upset("CreateVolume", 1, refusal);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
    world
        .is_told("data", &["ProvisioningFailed", "infeasible", "not so many"])
        .await;
    let edit = |change: fn(&mut Value)| world.api.edit(CLAIMS, "default", "data", change);
    edit(|claim| claim["metadata"]["annotations"]["example.com/round"] = "2".into());
    sleep(secs(100)).await;
    assert_eq!(world.driver.count("CreateVolume"), 1, "the same class");
    edit(|claim| names(claim, "silver"));
    sleep(secs(20)).await;
    assert_eq!(asked(&world), iops(&["too many", "1000"]), "D-4");
    world.becomes_bound("data").await;
    assert_eq!(on_volume(&world, &uid), "silver");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_missing_right_to_read_it_is_named_on_the_claim_and_others_go_on() {
    let rule =
        "  - apiGroups: [storage.k8s.io]\n    resources: [volumeattributesclasses]\n    verbs: [get]\n";
    let without = MANIFESTS.replace(rule, "");
    assert_ne!(without, MANIFESTS, "the manifests have changed");
    let world = World::new(DRIVER).namespace(HOME).rbac(&without, HOME);
    let world = modifying(world.class("fast", &[]));
    attributes_class(&world, "gold", DRIVER, "1000");
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
    world.add_claim("default", "plain", "1Gi", |_| {});
    let rule = "add to its role: apiGroups: [\"storage.k8s.io\"], resources: [\"volumeattributesclasses\"], verbs: [\"get\"]";
    world.is_told("data", &["ProvisioningFailed", rule]).await;
    world.becomes_bound("plain").await;
    assert_eq!(asked(&world), [None]);
    world.api.load_rbac(MANIFESTS, HOME).expect("the manifests");
    world.becomes_bound("data").await;
    sidecar.end_without_rights(&world).await;
}
