//! What is remembered of a creation under way: until its object is seen, and no longer.

use sandbox::{
    Driver, Fault, Harm, World,
    driver::{Trouble, Volume},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::{
    replicas::holder,
    sidecar::{CLAIMS, DRIVER, HOME, LEASE, Look, SECRETS, Sidecar, VOLUMES, empty_world, secs, world},
};

/// How many records are open, and how many of them are held.
async fn records(sidecar: &Sidecar) -> (f64, f64) {
    (
        sidecar.metric("volwright_ledger_records", &[]).await,
        sidecar.metric("volwright_ledger_held", &[]).await,
    )
}

/// Two replicas with a driver each, of which the first leads.
async fn pair(world: &World) -> (Sidecar, Sidecar, Driver) {
    let first = Sidecar::start(world);
    first.leads(world).await;
    let driver = Driver::new(DRIVER);
    let second = first.beside(world, "pod-b", &driver);
    sleep(secs(10)).await;
    (first, second, driver)
}

/// The first driver goes away while it works on a claim's volume, and the other replica leads; gives the claim's UID.
async fn torn(world: &World) -> String {
    world.driver.upset("CreateVolume", 1, Trouble::Hang);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it runs", |world| world.driver.count("CreateVolume") == 1)
        .await;
    world.driver.stop();
    world
        .eventually("the other leads", |world| holder(world).starts_with("pod-b_"))
        .await;
    uid
}

/// The second replica goes, and the first one leads again.
async fn back(world: &World, second: Sidecar) {
    world.driver.start();
    sleep(secs(30)).await;
    second.stop();
    second.ended().await.expect("a clean end");
    world
        .eventually("it leads again", |world| holder(world).starts_with("pod-a_"))
        .await;
    sleep(secs(10)).await;
}

#[tokio::test(start_paused = true)]
async fn b5_a_standby_closes_its_record_when_the_other_replica_has_finished_the_creation() {
    let world = world();
    let (first, second, driver) = pair(&world).await;
    torn(&world).await;
    world.becomes_bound("data").await;
    sleep(secs(1)).await;
    assert_eq!(records(&first).await, (0.0, 0.0), "closed by a standby");
    // The volume comes and goes before the first one leads again.
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("nothing is left", |world| {
            driver.volumes().is_empty() && world.api.len(VOLUMES) == 0
        })
        .await;
    back(&world, second).await;
    assert_eq!(records(&first).await, (0.0, 0.0));
    assert!(!first.logged(&["held"]), "{:?}", first.log());
    first.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b6_a_record_goes_with_the_lease_and_whoever_leads_finishes_it() {
    let world = world();
    let (first, second, driver) = pair(&world).await;
    let busy = Trouble::Refuse(Code::Unavailable, "busy");
    driver.upset("CreateVolume", usize::MAX, busy);
    let uid = torn(&world).await;
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("the second one tries", |_| driver.count("CreateVolume") > 1)
        .await;
    assert_eq!(records(&second).await, (1.0, 0.0));
    back(&world, second).await;
    world
        .eventually("the first one finishes it", |world| {
            world
                .api
                .history(VOLUMES)
                .iter()
                .any(|pv| pv["spec"]["claimRef"]["uid"] == *uid)
        })
        .await;
    world.becomes_clean().await;
    assert_eq!(records(&first).await, (0.0, 0.0));
    first.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b5_a_standby_that_stops_names_what_it_leaves_open() {
    let world = world();
    let (first, second, driver) = pair(&world).await;
    let busy = Trouble::Refuse(Code::Unavailable, "busy");
    driver.upset("CreateVolume", usize::MAX, busy);
    torn(&world).await;
    first.stop();
    first.ended().await.expect("a clean end");
    assert!(second.logged(&["stopping with this creation unfinished", "default/data"]));
    driver.heal();
    world.becomes_bound("data").await;
}

#[tokio::test(start_paused = true)]
async fn b5_the_end_of_a_term_saves_what_was_made() {
    let world = world();
    world
        .api
        .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES));
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    // Deep in the backoff: the next attempt is a minute away.
    sleep(secs(70)).await;
    world.api.heal();
    world.driver.stop();
    world
        .eventually("the lease is given up", |world| holder(world).is_empty())
        .await;
    assert!(world.volume_of(&uid).is_some(), "{}", world.print());
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    world.driver.start();
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b5_a_success_is_published_once_although_answer_and_watch_both_tell_of_it() {
    for harm in [None, Some(Harm::LoseReply), Some(Harm::Delay(secs(2)))] {
        let world = world();
        if let Some(harm) = harm.clone() {
            world.api.harm(Fault::new(harm).on("create", VOLUMES).times(1));
        }
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world.becomes_bound("data").await;
        sleep(secs(60)).await;
        let succeeded = "controller_persistentvolumeclaim_provision_total";
        assert_eq!(sidecar.metric(succeeded, &[]).await, 1.0, "{harm:?}");
        assert_eq!(records(&sidecar).await, (0.0, 0.0), "{harm:?}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c4_what_failed_while_the_driver_was_away_is_tried_at_once_when_it_is_back() {
    let world = world();
    let sidecar = Sidecar::with(&world, &["--leader-election=false"]);
    world.add_claim("default", "old", "1Gi", |_| {});
    world.becomes_bound("old").await;
    world.driver.stop();
    world.api.delete(CLAIMS, "default", "old");
    world.add_claim("default", "data", "1Gi", |_| {});
    // Deep in the backoff.
    sleep(secs(200)).await;
    let back = Instant::now();
    world.driver.start();
    world.becomes_bound("data").await;
    world
        .eventually("the old volume is gone", |world| {
            world.driver.volumes().len() == 1 && world.api.len(VOLUMES) == 1
        })
        .await;
    assert!(back.elapsed() < secs(3), "{:?}", back.elapsed());
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c4_a_driver_that_was_restarted_between_two_probes_is_noticed_as_well() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let busy = Trouble::Refuse(Code::Internal, "no memory");
    world.driver.upset("CreateVolume", usize::MAX, busy);
    world.add_claim("default", "data", "1Gi", |_| {});
    // Deep in the backoff.
    sleep(secs(200)).await;
    world.driver.heal();
    world.driver.stop();
    world.driver.start();
    let restarted = Instant::now();
    world.becomes_bound("data").await;
    assert!(restarted.elapsed() < secs(15), "{:?}", restarted.elapsed());
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c11_a_call_that_outlives_its_term_opens_no_closed_record_again() {
    let world = world();
    let first = Sidecar::with(&world, &["--timeout=60s"]);
    first.leads(&world).await;
    let driver = Driver::new(DRIVER);
    let second = first.beside(&world, "pod-b", &driver);
    sleep(secs(10)).await;
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(40)));
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it runs", |world| world.driver.count("CreateVolume") == 1)
        .await;
    // Emptied by hand. The other replica, which watches it, is quicker.
    world.api.edit("leases", HOME, LEASE, |lease| {
        lease["spec"]["holderIdentity"] = "".into();
    });
    world.becomes_bound("data").await;
    assert!(holder(&world).starts_with("pod-b_"), "{}", holder(&world));
    assert_eq!(driver.volumes().len(), 1);
    // Now the grace of the first one is over, and then its call ends. A record would stay, as nothing could be written.
    world
        .api
        .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES));
    world
        .eventually("the call ends", |world| !world.driver.volumes().is_empty())
        .await;
    sleep(secs(60)).await;
    assert_eq!(records(&first).await, (0.0, 0.0));
    assert!(!first.logged(&["cannot be saved"]), "{:?}", first.log());
    drop(second);
}

/// The object of a volume with this id, which the driver has.
fn object(world: &World, name: &str, claim_uid: &str, id: &str) {
    world.driver.add_volume(Volume {
        id: id.into(),
        name: name.into(),
        bytes: 1 << 30,
        parameters: Default::default(),
    });
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": DRIVER, "volumeHandle": id},
                "claimRef": {"namespace": "default", "name": "data", "uid": claim_uid},
            },
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn c14_a_record_keeps_no_other_volume_of_its_claim_from_being_deleted() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let busy = Trouble::Refuse(Code::Unavailable, "busy");
    world.driver.upset("CreateVolume", usize::MAX, busy);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.is_told("data", &["ProvisioningFailed", "busy"]).await;
    object(&world, "other", &uid, "other");
    let deleted = Instant::now();
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    assert!(deleted.elapsed() < secs(3), "{:?}", deleted.elapsed());
    assert_eq!(records(&sidecar).await, (1.0, 0.0), "it is open still");
    world.driver.heal();
    world
        .eventually("it is finished", |world| world.api.count("create", VOLUMES) == 1)
        .await;
    world.becomes_clean().await;
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b4_a_creation_whose_namespace_is_gone_is_finished_with_the_secret_as_last_read() {
    let world = empty_world().rbac(SECRETS, HOME).class(
        "locked",
        &[
            ("csi.storage.k8s.io/provisioner-secret-name", "key"),
            (
                "csi.storage.k8s.io/provisioner-secret-namespace",
                "${pvc.namespace}",
            ),
        ],
    );
    let world = world.secret("default", "key", &[("user", "joe")]);
    world.driver.upset("CreateVolume", 1, Trouble::LoseReply);
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world
        .eventually("it is made", |world| !world.driver.volumes().is_empty())
        .await;
    // Claim, Secret and RoleBinding go together, and who may not read is not told that there is nothing to read.
    world.api.delete(CLAIMS, "default", "data");
    world.api.delete("secrets", "default", "key");
    world.api.harm(Fault::new(Harm::Status(403)).on("get", "secrets"));
    let gone = Instant::now();
    world
        .eventually("it is finished", |world| world.volume_of(&uid).is_some())
        .await;
    assert!(gone.elapsed() < secs(20), "D-12: {:?}", gone.elapsed());
    world.becomes_clean().await;
    let calls = world.driver.calls();
    let last = calls.iter().rfind(|call| call.method == "CreateVolume");
    assert_eq!(last.expect("a call").secrets["user"], "joe");
    assert_eq!(records(&sidecar).await, (0.0, 0.0));
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_another_leader_may_have_deleted_is_asked_for_again_before_it_is_saved() {
    let world = empty_world()
        .rbac(SECRETS, HOME)
        .class(
            "locked",
            &[
                ("csi.storage.k8s.io/provisioner-secret-name", "key"),
                ("csi.storage.k8s.io/provisioner-secret-namespace", "default"),
            ],
        )
        .secret("default", "key", &[("user", "joe")]);
    world
        .api
        .harm(Fault::new(Harm::Status(500)).on("create", VOLUMES));
    let (first, second, _driver) = pair(&world).await;
    world.add_claim("default", "data", "1Gi", |claim| {
        claim["spec"]["storageClassName"] = "locked".into();
    });
    world
        .eventually("the driver has made it", |world| {
            world.driver.count("CreateVolume") == 1
        })
        .await;
    world.api.edit("leases", HOME, LEASE, |lease| {
        lease["spec"]["holderIdentity"] = "".into();
    });
    world
        .eventually("the other leads", |world| holder(world).starts_with("pod-b_"))
        .await;
    // From here on the first one cannot even read the secret.
    world.api.harm(Fault::new(Harm::Status(500)).on("get", "secrets"));
    second.stop();
    second.ended().await.expect("a clean end");
    world
        .eventually("the first leads again", |world| {
            holder(world).starts_with("pod-a_")
        })
        .await;
    world.is_told("data", &["ProvisioningFailed", "secrets"]).await;
    sleep(secs(20)).await;
    world.api.heal();
    world.becomes_bound("data").await;
    assert_eq!(world.driver.count("CreateVolume"), 2, "it was asked again");
    first.end(&world).await;
}
