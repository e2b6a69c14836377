//! Upstream's own cases of its controller: what becomes of claims, what is counted, and what stays remembered.

use sandbox::{Fault, Harm, World, driver::Trouble};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::sidecar::{
    CLAIMS, DRIVER, FINALIZER, HOME, Look, SECRETS, Sidecar, VOLUMES, empty_world, finalizers, secs, text,
    world,
};

/// How many claims got their volume, and how many attempts failed.
async fn counted(sidecar: &Sidecar) -> (f64, f64) {
    let count = async |name| sidecar.metric(name, &[]).await;
    (
        count("controller_persistentvolumeclaim_provision_total").await,
        count("controller_persistentvolumeclaim_provision_failed_total").await,
    )
}

/// How many creations are in progress.
async fn in_progress(sidecar: &Sidecar) -> f64 {
    sidecar.metric("volwright_ledger_records", &[]).await
}

/// A claim that another controller fills.
fn populated(claim: &mut Value) {
    claim["spec"]["dataSourceRef"] =
        json!({"apiGroup": "example.com", "kind": "MyPopulator", "name": "origin"});
}

/// A class whose volumes are made with the Secret `key`.
fn locked(class: &mut Value) {
    class["parameters"] = json!({
        "csi.storage.k8s.io/provisioner-secret-name": "key",
        "csi.storage.k8s.io/provisioner-secret-namespace": "default",
    });
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_our_class_gets_its_volume_and_another_does_not() {
    type Row = (&'static [&'static str], fn(&mut Value), &'static str);
    let rows: [Row; 2] = [
        (
            &[
                "lib.Controller.01",
                "lib.Controller.17",
                "lib.Controller.31",
                "lib.ControllerSharedInformers.01",
            ],
            |_| {},
            "Delete",
        ),
        (
            &["lib.Controller.16"],
            |class| class["reclaimPolicy"] = "Retain".into(),
            "Retain",
        ),
    ];
    for (ids, change, policy) in rows {
        let world = empty_world().class_with("fast", change);
        let others = json!({"metadata": {"name": "others"}, "provisioner": "others.example.com"});
        world.api.create("storageclasses", "", others);
        let sidecar = Sidecar::start(&world);
        let uid = world.add_claim("default", "claim-1", "1Gi", |_| {});
        world.add_claim("default", "claim-2", "1Gi", |claim| {
            claim["spec"]["storageClassName"] = "others".into();
        });
        world.becomes_bound("claim-1").await;
        sleep(secs(60)).await;
        assert_eq!(world.api.len(VOLUMES), 1, "{ids:?}");
        let pv = world.volume_of(&uid).expect("its volume");
        assert_eq!(
            text(&pv, "/spec/persistentVolumeReclaimPolicy"),
            policy,
            "{ids:?}"
        );
        let held = finalizers(&pv).contains(&FINALIZER.to_owned());
        assert_eq!(held, policy == "Delete", "{ids:?}");
        assert_eq!(counted(&sidecar).await, (1.0, 0.0), "{ids:?}");
        sidecar.end(&world).await;
    }
}

/// A volume of the name that the claim's would have, which nobody binds: it is on its way out and held by somebody.
fn taken(world: &World) {
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    let name = format!("pvc-{uid}");
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": name, "finalizers": ["example.com/hold"]},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Retain",
                "csi": {"driver": DRIVER, "volumeHandle": "there"},
                "claimRef": {"namespace": "default", "name": "data", "uid": uid},
            },
        }),
    );
    world.api.delete(VOLUMES, "", &name);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_needs_nothing_of_us_makes_no_call_and_only_a_missing_class_is_a_failure() {
    let asked = "volume.kubernetes.io/storage-provisioner";
    type Row<'a> = (&'a str, &'a dyn Fn(&World), bool);
    let rows: [Row<'_>; 4] = [
        ("lib.Controller.02: outcomes that are no failure", &taken, false),
        (
            "lib.Controller.06",
            &|world| {
                world.add_claim("default", "data", "1Gi", |claim| {
                    claim["spec"]["volumeName"] = "volume-1".into();
                    claim["metadata"]["annotations"][asked] = DRIVER.into();
                });
            },
            false,
        ),
        (
            "lib.Controller.07",
            &|world| {
                world.add_claim("default", "data", "1Gi", |claim| {
                    claim["spec"]["storageClassName"] = "absent".into();
                    claim["metadata"]["annotations"][asked] = DRIVER.into();
                });
            },
            true,
        ),
        (
            "lib.Controller.14: outcomes that are no failure",
            &|world| {
                world.add_claim("default", "data", "1Gi", populated);
            },
            false,
        ),
    ];
    for (id, add, fails) in rows {
        let world = world();
        let sidecar = Sidecar::start(&world);
        sidecar.leads(&world).await;
        add(&world);
        let volumes = world.api.len(VOLUMES);
        sleep(secs(60)).await;
        assert_eq!(world.driver.count("CreateVolume"), 0, "{id}");
        assert_eq!(world.api.len(VOLUMES), volumes, "{id}");
        assert!(!world.bound("data"), "{id}");
        let (succeeded, failed) = counted(&sidecar).await;
        assert_eq!((succeeded, failed > 0.0), (0.0, fails), "D-8: {id}");
        sidecar.stop();
        sidecar.ended().await.expect("a clean end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_left_to_a_populator_is_no_failure_beside_one_that_gets_its_volume() {
    let id = "lib.Controller.15: outcomes that are no failure";
    let world = world();
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "claim-1", "1Gi", |_| {});
    world.add_claim("default", "claim-2", "1Gi", populated);
    world.becomes_bound("claim-1").await;
    world.is_told("claim-2", &["external populator"]).await;
    sleep(secs(60)).await;
    assert_eq!(world.api.len(VOLUMES), 1, "{id}");
    assert_eq!(counted(&sidecar).await, (1.0, 0.0), "{id}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_counted_and_leaves_no_object() {
    let unsaved = || Fault::new(Harm::Status(500)).on("create", VOLUMES);
    let refused = |code, text| Trouble::Refuse(code, text);
    type Row<'a> = (&'a [&'a str], &'a dyn Fn(&World), &'a str, f64);
    let rows: [Row<'_>; 4] = [
        (
            &["lib.Controller.10"],
            &|world| {
                world
                    .driver
                    .upset("CreateVolume", 1, refused(Code::Internal, "no luck"));
            },
            "no luck",
            1.0,
        ),
        (
            // Upstream's answer to whether the driver has block volumes is always yes: the driver itself says no.
            &[
                "lib.Controller.03",
                "lib.CanProvision.03: a volume mode that the driver does not serve",
                "lib.CanProvision.06: a volume mode that the driver does not serve",
            ],
            &|world| {
                let no_block = refused(Code::InvalidArgument, "no block volumes");
                world.driver.upset("CreateVolume", 1, no_block);
            },
            "no block volumes",
            1.0,
        ),
        (
            &["lib.Controller.12"],
            &|world| world.api.harm(unsaved().times(1)),
            "cannot be saved",
            1.0,
        ),
        (
            &["lib.Controller.26"],
            &|world| world.api.harm(unsaved().times(2)),
            "cannot be saved",
            2.0,
        ),
    ];
    for (ids, trouble, words, failures) in rows {
        let world = world();
        trouble(&world);
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |claim| {
            if ids.contains(&"lib.Controller.03") {
                claim["spec"]["volumeMode"] = "Block".into();
            }
        });
        world.is_told("data", &["ProvisioningFailed", words]).await;
        assert_eq!(world.api.len(VOLUMES), 0, "{ids:?}");
        world.becomes_bound("data").await;
        world.is_told("data", &["ProvisioningSucceeded"]).await;
        assert_eq!(counted(&sidecar).await, (1.0, failures), "{ids:?}");
        assert_eq!(in_progress(&sidecar).await, 0.0, "{ids:?}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_whose_object_is_refused_is_no_success_before_the_object_stands() {
    let id = "lib.Controller.25: a claim counts as provisioned when its PersistentVolume stands";
    let world = world();
    world
        .api
        .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES));
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    sleep(secs(20)).await;
    let (succeeded, failed) = counted(&sidecar).await;
    assert_eq!((succeeded, failed > 1.0), (0.0, true), "{id}");
    assert_eq!(in_progress(&sidecar).await, 1.0, "{id}");
    assert_eq!(world.driver.count("CreateVolume"), 1, "{id}");
    world.api.heal();
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_in_progress_while_a_volume_may_exist() {
    let (last, maybe) = (Code::OutOfRange, Code::Unavailable);
    // What the driver answers, again and again at the end; none: the secret is missing.
    let rows: [(&str, &[Option<Code>], f64); 7] = [
        ("lib.Controller.18", &[Some(last)], 0.0),
        ("lib.Controller.19", &[Some(maybe)], 1.0),
        ("lib.Controller.20", &[None], 0.0),
        ("lib.Controller.21", &[Some(maybe), Some(last)], 0.0),
        (
            "a backend that is down",
            &[Some(maybe), Some(Code::Internal)],
            1.0,
        ),
        ("lib.Controller.22", &[Some(maybe), Some(Code::Aborted)], 1.0),
        ("lib.Controller.23", &[Some(maybe), None], 1.0),
    ];
    for (id, answers, open) in rows {
        let world = empty_world().rbac(SECRETS, HOME).class_with("locked", locked);
        let world = match answers[0] {
            Some(_) => world.secret("default", "key", &[("user", "joe")]),
            None => world,
        };
        for (at, code) in answers.iter().enumerate() {
            let times = if at + 1 == answers.len() { usize::MAX } else { 1 };
            if let Some(code) = *code {
                let trouble = Trouble::Refuse(code, "not now");
                world.driver.upset("CreateVolume", times, trouble);
            }
        }
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.is_told("data", &["ProvisioningFailed"]).await;
        if answers.len() > 1 && answers[1].is_none() {
            world.api.delete("secrets", "default", "key");
            world.is_told("data", &["secret default/key not found"]).await;
        }
        sleep(secs(10)).await;
        if answers == [Some(maybe), Some(last)] {
            assert_eq!(in_progress(&sidecar).await, 1.0, "{id}: after the first ones");
        }
        sleep(secs(10)).await;
        assert_eq!(in_progress(&sidecar).await, open, "{id}\n{}", world.print());
        assert_eq!(world.api.len(VOLUMES), 0, "{id}");
        sidecar.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_in_progress_is_finished_although_its_claim_is_gone() {
    let id = "lib.Controller.24";
    let world = world();
    let busy = Trouble::RefuseAfter(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", 1, busy);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &["ProvisioningFailed", "busy"]).await;
    assert!(world.volume_of(&uid).is_none(), "{id}");
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("its object is written", |world| world.volume_of(&uid).is_some())
        .await;
    world.becomes_clean().await;
    assert_eq!(in_progress(&sidecar).await, 0.0, "{id}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_secret_is_missing_makes_no_call_and_is_not_in_progress() {
    let id = "ctl.Provision.20";
    let world = empty_world().rbac(SECRETS, HOME).class_with("locked", locked);
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .is_told("data", &["ProvisioningFailed", "secret default/key not found"])
        .await;
    assert_eq!(world.driver.count("CreateVolume"), 0, "{id}");
    assert_eq!(in_progress(&sidecar).await, 0.0, "{id}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_too_small_is_deleted_once_and_asked_for_again() {
    let rows = [
        ("ctl.CreateDriverReturnsInvalidCapacityDuringProvision.01", 99),
        ("ctl.Provision.22", 80),
    ];
    for (id, bytes) in rows {
        let world = world();
        world.driver.upset("CreateVolume", 1, Trouble::WrongSize(bytes));
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "100", |_| {});
        let words = format!("created volume has {bytes} bytes, 100 were asked for");
        world.is_told("data", &["ProvisioningFailed", &words]).await;
        let calls = world.driver.calls();
        let deleted: Vec<_> = calls
            .iter()
            .filter(|call| call.method == "DeleteVolume")
            .collect();
        assert_eq!(deleted.len(), 1, "{id}");
        assert!(world.driver.volumes().is_empty(), "{id}: it was that one");
        assert_eq!(world.api.len(VOLUMES), 0, "{id}");
        // The claim's end is not the end of the attempts.
        world.api.delete(CLAIMS, "default", "data");
        world
            .eventually("asked again", |world| world.driver.count("CreateVolume") == 2)
            .await;
        world
            .eventually("made and written", |world| world.api.len(VOLUMES) == 1)
            .await;
        world.becomes_clean().await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_infeasible_request_is_not_repeated_when_its_claim_changes_and_any_other_is() {
    let rows = [
        ("lib.InfeasibleRetry.01", Code::Internal, secs(20), 2),
        ("lib.InfeasibleRetry.02", Code::InvalidArgument, secs(20), 1),
        ("lib.InfeasibleRetry.03", Code::InvalidArgument, secs(301), 2),
    ];
    for (id, code, wait, calls) in rows {
        let world = world();
        world
            .driver
            .upset("CreateVolume", 1, Trouble::Refuse(code, "not so"));
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.is_told("data", &["ProvisioningFailed", "not so"]).await;
        world.api.edit(CLAIMS, "default", "data", |claim| {
            claim["metadata"]["annotations"]["example.com/round"] = "2".into();
        });
        sleep(wait).await;
        assert_eq!(world.driver.count("CreateVolume"), calls, "{id}");
        sidecar.end(&world).await;
    }
}
