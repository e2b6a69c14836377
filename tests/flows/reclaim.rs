//! What a deletion asks for, of whom, how often, and what it does where it cannot be done.

use sandbox::{
    Fault, Harm, World,
    driver::{Capability, Trouble},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::sidecar::{
    CLAIMS, DRIVER, FINALIZER, HOME, Look, SECRETS, Sidecar, USER, VOLUMES, empty_world, finalizers, secs,
    text, world,
};

/// A claim that is bound, and the name of its volume.
async fn bound(world: &World) -> String {
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    format!("pvc-{uid}")
}

/// How many requests of the sidecar with this verb were about volumes.
fn asked(world: &World, verb: &str) -> usize {
    let requests = world.api.requests();
    let same = requests
        .iter()
        .filter(|r| r.user == USER && r.resource == VOLUMES && r.verb.rbac() == verb);
    same.count()
}

/// A world whose class takes the Secret `key` from this namespace.
fn locked(namespace: &str) -> World {
    empty_world().rbac(SECRETS, HOME).class(
        "locked",
        &[
            ("csi.storage.k8s.io/provisioner-secret-name", "key"),
            ("csi.storage.k8s.io/provisioner-secret-namespace", namespace),
        ],
    )
}

#[tokio::test(start_paused = true)]
async fn b8b_a_deletion_costs_one_get_one_call_one_delete_and_one_patch() {
    const BURST: usize = 50;
    let world = world();
    let sidecar = Sidecar::start(&world);
    for number in 0..BURST {
        world.add_claim("default", &format!("data-{number}"), "1Gi", |_| {});
    }
    world
        .eventually("all are bound", |world| {
            (0..BURST).all(|number| world.bound(&format!("data-{number}")))
        })
        .await;
    world.api.forget_requests();
    for number in 0..BURST {
        world.api.delete(CLAIMS, "default", &format!("data-{number}"));
    }
    world.becomes_clean().await;
    sleep(secs(600)).await;
    for verb in ["get", "delete", "patch"] {
        assert_eq!(asked(&world, verb), BURST, "{verb}");
    }
    assert_eq!(world.api.count("list", CLAIMS), 0, "their releases were seen");
    assert_eq!(world.driver.count("DeleteVolume"), BURST);
    let deleted = sidecar.metric("controller_persistentvolume_delete_total", &[]);
    assert_eq!(deleted.await, BURST as f64);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_that_was_not_seen_costs_one_look_at_the_claim() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    bound(&world).await;
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
    world.api.delete(CLAIMS, "default", "data");
    world.api.forget_requests();
    let sidecar = Sidecar::start(&world);
    world.becomes_clean().await;
    assert_eq!(world.api.count("list", CLAIMS), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b8b_a_volume_is_not_asked_about_again_while_the_watch_lags_behind_its_deletion() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    bound(&world).await;
    world.api.forget_requests();
    world
        .api
        .harm(Fault::new(Harm::Delay(secs(2))).on("patch", VOLUMES).times(1));
    world.api.delete(CLAIMS, "default", "data");
    world
        .eventually("its DELETE is answered", |world| asked(world, "delete") == 1)
        .await;
    // The watch has told that the object is being deleted, and is late with the news that it is gone.
    sleep(secs(1)).await;
    world.api.freeze_cache();
    sleep(secs(5)).await;
    assert!(world.is_clean());
    world.api.thaw_cache();
    sleep(secs(600)).await;
    for verb in ["get", "delete", "patch"] {
        assert_eq!(asked(&world, verb), 1, "{verb}");
    }
    assert_eq!(world.driver.count("DeleteVolume"), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b8b_a_404_that_the_watch_does_not_confirm_is_no_success() {
    for verb in ["delete", "patch"] {
        let world = world();
        let sidecar = Sidecar::start(&world);
        bound(&world).await;
        world
            .api
            .harm(Fault::new(Harm::Status(404)).on(verb, VOLUMES).times(1));
        let released = Instant::now();
        world.api.delete(CLAIMS, "default", "data");
        world.becomes_clean().await;
        assert!(released.elapsed() < secs(15), "{verb}: {:?}", released.elapsed());
        assert_eq!(world.driver.count("DeleteVolume"), 1, "{verb}");
        let deleted = sidecar.metric("controller_persistentvolume_delete_total", &[]);
        assert_eq!(deleted.await, 1.0, "{verb}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn b8b_a_finalizer_whose_404_is_not_confirmed_comes_off_all_the_same() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    world
        .api
        .harm(Fault::new(Harm::Status(404)).on("patch", VOLUMES).times(1));
    world.api.edit(VOLUMES, "", &name, |pv| {
        pv["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
    });
    let changed = Instant::now();
    world
        .eventually("it is free", |world| {
            let pv = world.api.get(VOLUMES, "", &name).expect("the volume");
            !finalizers(&pv).contains(&FINALIZER.to_owned())
        })
        .await;
    assert!(changed.elapsed() < secs(15), "{:?}", changed.elapsed());
    sleep(secs(60)).await;
    assert_eq!(asked(&world, "patch"), 2);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b3_a_volume_that_we_cannot_delete_is_told_and_not_held() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let sources = [
        ("in-tree", json!({"nfs": {"server": "nas", "path": "/"}})),
        (
            "foreign",
            json!({"csi": {"driver": "others.example.com", "volumeHandle": "theirs"}}),
        ),
    ];
    for (name, source) in sources {
        let mut pv = json!({
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {"namespace": "default", "name": "gone", "uid": "gone"},
            },
        });
        for (kind, source) in source.as_object().expect("a source") {
            pv["spec"][kind] = source.clone();
        }
        world.api.create(VOLUMES, "", pv);
        world
            .is_told(name, &["VolumeFailedDelete", "no source of this driver"])
            .await;
        sleep(secs(600)).await;
        let standing = world.api.get(VOLUMES, "", name).expect("the volume");
        assert_eq!(text(&standing, "/status/phase"), "Released");
        assert!(!finalizers(&standing).contains(&FINALIZER.to_owned()), "{name}");
        // As `kubectl delete pv` does: nothing of ours is in its way.
        world.api.delete(VOLUMES, "", name);
        world
            .eventually("it is gone", |world| world.api.len(VOLUMES) == 0)
            .await;
    }
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b4_a_volume_whose_namespace_is_gone_is_deleted_without_its_secret() {
    let world = locked("${pvc.namespace}").secret("default", "key", &[("user", "joe")]);
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    world.api.delete("secrets", "default", "key");
    world.api.harm(Fault::new(Harm::Status(403)).on("get", "secrets"));
    let wrong = Trouble::Refuse(Code::InvalidArgument, "no user");
    world.driver.upset("DeleteVolume", 1, wrong);
    let released = Instant::now();
    world.api.delete(CLAIMS, "default", "data");
    let rule = "resources: [\"secrets\"], verbs: [\"get\"]";
    world.is_told(&name, &["VolumeFailedDelete", rule]).await;
    // What the driver says to a call without secrets is not all that there is to say.
    let words = ["VolumeFailedDelete", "no user", "called without secrets", rule];
    world.is_told(&name, &words).await;
    world.becomes_clean().await;
    assert!(
        (secs(20)..secs(120)).contains(&released.elapsed()),
        "{:?}",
        released.elapsed()
    );
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b4_a_secret_in_another_namespace_than_the_claims_is_waited_for() {
    let world = locked("kube-system").secret("kube-system", "key", &[("user", "joe")]);
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    world.api.harm(Fault::new(Harm::Status(403)).on("get", "secrets"));
    world.api.delete(CLAIMS, "default", "data");
    world
        .is_told(&name, &["VolumeFailedDelete", "secrets", "add to its role"])
        .await;
    sleep(secs(1200)).await;
    assert_eq!(world.driver.count("DeleteVolume"), 0, "D-42");
    world.api.heal();
    world.becomes_clean().await;
    let calls = world.driver.calls();
    let last = calls.iter().rfind(|call| call.method == "DeleteVolume");
    assert_eq!(last.expect("a call").secrets["user"], "joe");
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c8_a_secret_that_is_no_text_is_refused_with_its_key_and_never_sent() {
    // A byte order mark and a key, which is no UTF-8.
    const BYTES: &str = "//5zM2NyM3Q=";
    let world = locked("default");
    let spoil = |world: &World| {
        world.api.edit("secrets", "default", "key", |secret| {
            secret["data"] = json!({"token": BYTES});
        });
    };
    let mend = |world: &World| {
        world.api.edit("secrets", "default", "key", |secret| {
            secret["data"] = json!({"token": "c2VjcmV0"});
        });
    };
    let world = world.secret("default", "key", &[("token", "secret")]);
    spoil(&world);
    let sidecar = Sidecar::with(&world, &["-v=5"]);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    let words = [
        "secrets default/key",
        "\"token\" is not UTF-8",
        "store it in the form",
    ];
    world.is_told("data", &words).await;
    assert_eq!(world.driver.count("CreateVolume"), 0);
    mend(&world);
    world.becomes_bound("data").await;
    spoil(&world);
    world.api.delete(CLAIMS, "default", "data");
    world.is_told(&format!("pvc-{uid}"), &words).await;
    assert_eq!(world.driver.count("DeleteVolume"), 0);
    mend(&world);
    world.becomes_clean().await;
    for call in world.driver.calls() {
        assert!(call.secrets.values().all(|value| value == "secret"), "{call:?}");
    }
    for hidden in [BYTES, "s3cr3t", "\u{fffd}"] {
        assert!(!sidecar.logged(&[hidden]), "{hidden:?}");
        assert!(!world.told("data", &[hidden]), "{hidden:?}");
    }
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c13_a_volume_behind_a_stale_watch_is_looked_at_less_and_less_often() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    let name = bound(&world).await;
    let later = Trouble::Refuse(Code::Unavailable, "later");
    world.driver.upset("DeleteVolume", usize::MAX, later);
    world.api.delete(CLAIMS, "default", "data");
    world.is_told(&name, &["VolumeFailedDelete", "later"]).await;
    // From here on the watches are stale: they do not tell that the volume is to be kept.
    world.api.freeze_cache();
    world.api.edit(VOLUMES, "", &name, |pv| {
        pv["spec"]["persistentVolumeReclaimPolicy"] = "Retain".into();
    });
    world.driver.heal();
    world.api.forget_requests();
    let failed = async || {
        let name = "controller_persistentvolume_delete_failed_total";
        sidecar.metric(name, &[]).await
    };
    let before = failed().await;
    sleep(secs(600)).await;
    // After 1, 2, 4, ... and then 300 seconds, where it was each second.
    let looks = asked(&world, "get");
    assert!((4..=12).contains(&looks), "{looks}");
    assert_eq!(failed().await, before, "no failure");
    world.api.thaw_cache();
    sleep(secs(10)).await;
    assert_eq!(world.driver.volumes().len(), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c16_a_volume_that_any_attacher_has_attached_is_waited_for() {
    let world = world();
    world
        .driver
        .configure(|identity| identity.capabilities.push(Capability::PublishUnpublishVolume));
    let attach = |name: &str, volume: &str| {
        world.api.create(
            "volumeattachments",
            "",
            json!({
                "metadata": {"name": name},
                "spec": {
                    "attacher": "others.example.com", "nodeName": "n1",
                    "source": {"persistentVolumeName": volume},
                },
            }),
        );
    };
    for restarted in [false, true] {
        let mut sidecar = Sidecar::start(&world);
        let name = bound(&world).await;
        attach("theirs", &name);
        attach("elsewhere", "pvc-of-nobody");
        sleep(secs(1)).await;
        if restarted {
            sidecar.stop();
            sidecar.ended().await.expect("a clean end");
            sidecar = Sidecar::start(&world);
        }
        let calls = world.driver.count("DeleteVolume");
        world.api.delete(CLAIMS, "default", "data");
        world
            .is_told(&name, &["VolumeDelete", "is still attached to node n1"])
            .await;
        world
            .always("it stays", secs(600), |world| {
                world.driver.count("DeleteVolume") == calls
            })
            .await;
        let detached = Instant::now();
        world.api.delete("volumeattachments", "", "theirs");
        world.becomes_clean().await;
        assert!(detached.elapsed() < secs(1), "{:?}", detached.elapsed());
        world.api.delete("volumeattachments", "", "elsewhere");
        sidecar.end(&world).await;
    }
}
