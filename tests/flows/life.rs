//! The main job: a claim becomes a volume, and a released volume goes away.

use sandbox::driver::Trouble;
use serde_json::{Value, json};

use crate::sidecar::{
    CLAIMS, DRIVER, FINALIZER, HOME, Look, SECRETS, Sidecar, VOLUMES, empty_world, finalizers, secs, text,
    world,
};

#[tokio::test(start_paused = true)]
async fn a_claim_becomes_a_volume_and_goes_away_without_a_trace() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    world
        .is_told(
            "data",
            &["ProvisioningSucceeded: Successfully provisioned volume pvc-"],
        )
        .await;
    assert!(world.told(
        "data",
        &["Provisioning: External provisioner is provisioning volume for claim \"default/data\""]
    ));
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    assert_eq!(world.driver.count("DeleteVolume"), 1);
    for (metric, labels) in [
        (
            "controller_persistentvolumeclaim_provision_total",
            ["class=\"fast\"", "source=\"\""],
        ),
        ("controller_persistentvolume_delete_total", ["class=\"fast\"", ""]),
    ] {
        assert_eq!(sidecar.metric(metric, &labels).await, 1.0, "{metric}");
    }
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn the_object_of_a_volume_has_every_field_that_it_should_have() {
    let both = "csi.storage.k8s.io/";
    let world = empty_world().class_with("fast", |class| {
        class["parameters"] = json!({
            "tier": "gold",
            format!("{both}fstype"): "xfs",
            format!("{both}provisioner-secret-name"): "maker",
            format!("{both}provisioner-secret-namespace"): "default",
            format!("{both}node-stage-secret-name"): "stage-${pvc.name}",
            format!("{both}node-stage-secret-namespace"): "${pvc.namespace}",
        });
        class["mountOptions"] = json!(["noatime"]);
    });
    let world = world
        .rbac(SECRETS, HOME)
        .secret("default", "maker", &[("user", "joe")]);
    world.driver.configure(|identity| identity.granularity = 1 << 30);
    let sidecar = Sidecar::with(&world, &["--extra-create-metadata", "--volume-name-prefix=vol"]);
    let uid = world.add_claim("default", "data", "1500Mi", |claim| {
        claim["spec"]["accessModes"] = json!(["ReadWriteOnce", "ReadOnlyMany"]);
    });
    world.becomes_bound("data").await;

    let name = format!("vol-{uid}");
    let made = &world.driver.volumes()[0];
    let mut pv = world.volume_of(&uid).expect("its volume");
    let identity = pv["spec"]["csi"]["volumeAttributes"]
        .as_object_mut()
        .and_then(|attributes| attributes.remove("storage.kubernetes.io/csiProvisionerIdentity"));
    assert!(identity.is_some_and(|identity| text(&identity, "").ends_with(DRIVER)));
    assert_eq!(
        pv["spec"],
        json!({
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"],
            "capacity": {"storage": "2Gi"},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": "data",
                "uid": uid, "resourceVersion": pv["spec"]["claimRef"]["resourceVersion"],
            },
            "csi": {
                "driver": DRIVER, "fsType": "xfs", "volumeHandle": made.id, "volumeAttributes": {},
                "nodeStageSecretRef": {"name": "stage-data", "namespace": "default"},
            },
            "mountOptions": ["noatime"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "fast",
            "volumeMode": "Filesystem",
        })
    );
    let annotations = json!({
        "pv.kubernetes.io/provisioned-by": DRIVER,
        "volume.kubernetes.io/provisioner-deletion-secret-name": "maker",
        "volume.kubernetes.io/provisioner-deletion-secret-namespace": "default",
    });
    assert_eq!(pv["metadata"]["annotations"], annotations);
    assert_eq!(text(&pv, "/metadata/name"), name);
    assert!(finalizers(&pv).contains(&FINALIZER.to_owned()));
    let parameters = made
        .parameters
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()));
    assert_eq!(
        parameters.collect::<Vec<_>>(),
        [
            ("csi.storage.k8s.io/pv/name", name.as_str()),
            ("csi.storage.k8s.io/pvc/name", "data"),
            ("csi.storage.k8s.io/pvc/namespace", "default"),
            ("tier", "gold"),
        ]
    );
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_a_retaining_class_stays_and_nothing_of_ours_holds_it() {
    let world = empty_world().class_with("keep", |class| class["reclaimPolicy"] = "Retain".into());
    let sidecar = Sidecar::start(&world);
    let uid = world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    world.api.delete(CLAIMS, "default", "data");
    let state = |world: &sandbox::World| {
        let pv = world.volume_of(&uid).unwrap_or_default();
        (
            text(&pv, "/status/phase").to_owned(),
            finalizers(&pv).contains(&FINALIZER.to_owned()),
        )
    };
    world
        .eventually("released and free", |world| {
            state(world) == ("Released".into(), false)
        })
        .await;
    world
        .always("kept", secs(900), |world| {
            world.driver.volumes().len() == 1 && state(world) == ("Released".into(), false)
        })
        .await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_class_gets_its_volume_when_the_scheduler_has_chosen_a_node() {
    let world = empty_world().class_with("late", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
    });
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |claim| {
        // A claim may be annotated for us before a node is chosen: the annotation alone is not enough.
        claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] = DRIVER.into();
    });
    world
        .always("nothing is made", secs(300), |world| {
            world.driver.volumes().is_empty()
        })
        .await;
    world.api.edit(CLAIMS, "default", "data", |claim| {
        claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = "n1".into();
    });
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_class_is_missing_says_so_and_is_served_at_once_when_it_comes() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    // Its class was deleted after the controller manager had asked for a volume.
    world.add_claim("default", "data", "1Gi", |claim| {
        claim["spec"]["storageClassName"] = "later".into();
        claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] = DRIVER.into();
    });
    world
        .is_told(
            "data",
            &["ProvisioningFailed", "storage class \"later\" not found"],
        )
        .await;
    // Deep in the backoff, where waiting for its end would show.
    tokio::time::sleep(secs(200)).await;
    let came = tokio::time::Instant::now();
    world.api.create(
        "storageclasses",
        "",
        json!({"metadata": {"name": "later"}, "provisioner": DRIVER}),
    );
    world.becomes_bound("data").await;
    assert!(came.elapsed() < secs(1), "D-36: {:?}", came.elapsed());
    sidecar.end(&world).await;
}

fn secret_class(class: &mut Value) {
    class["parameters"] = json!({
        "csi.storage.k8s.io/provisioner-secret-name": "${pvc.name}",
        "csi.storage.k8s.io/provisioner-secret-namespace": "default",
    });
}

#[tokio::test(start_paused = true)]
async fn the_secrets_of_the_class_go_with_the_creation_and_the_deletion() {
    let world = empty_world()
        .rbac(SECRETS, HOME)
        .class_with("locked", secret_class)
        .secret("default", "data", &[("user", "joe"), ("key", "s3cr3t")]);
    let sidecar = Sidecar::with(&world, &["-v=5"]);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    // The volume knows by itself where its secret is.
    world.api.delete("storageclasses", "", "locked");
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    for method in ["CreateVolume", "DeleteVolume"] {
        let calls = world.driver.calls();
        let call = calls.iter().find(|call| call.method == method).expect("the call");
        assert_eq!(
            (&*call.secrets["user"], &*call.secrets["key"]),
            ("joe", "s3cr3t"),
            "{method}"
        );
    }
    assert!(!sidecar.logged(&["s3cr3t"]));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_secret_is_missing_says_which_and_is_served_when_it_is_there() {
    let world = empty_world()
        .rbac(SECRETS, HOME)
        .class_with("locked", secret_class);
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |_| {});
    world
        .is_told("data", &["ProvisioningFailed", "secret default/data not found"])
        .await;
    assert_eq!(world.driver.count("CreateVolume"), 0);
    let world = world.secret("default", "data", &[("user", "joe")]);
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn claims_and_volumes_of_others_are_left_alone() {
    let world = world();
    let others = json!({"metadata": {"name": "others"}, "provisioner": "others.example.com"});
    world.api.create("storageclasses", "", others);
    let foreign = json!({
        "metadata": {"name": "foreign", "annotations": {"pv.kubernetes.io/provisioned-by": "others.example.com"}},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "others.example.com", "volumeHandle": "theirs"},
            "claimRef": {"namespace": "default", "name": "gone", "uid": "gone"},
        },
    });
    world.api.create(VOLUMES, "", foreign);
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "theirs", "1Gi", |claim| {
        claim["spec"]["storageClassName"] = "others".into();
    });
    sidecar.leads(&world).await;
    world
        .always("nothing is made or deleted", secs(600), |world| {
            world.driver.volumes().is_empty() && world.api.len(VOLUMES) == 1
        })
        .await;
    assert!(world.events("theirs").is_empty() && world.events("foreign").is_empty());
    world.api.delete(VOLUMES, "", "foreign");
    world.becomes_clean().await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn c7_the_driver_is_probed_every_ten_seconds_and_asked_who_it_is_after_a_deadline_too() {
    let world = world();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let counts = || ["Probe", "GetPluginInfo"].map(|method| world.driver.count(method));
    let [probes, introductions] = counts();
    tokio::time::sleep(secs(600)).await;
    let [probed, introduced] = counts();
    assert!((59..=61).contains(&(probed - probes)), "{probes}, then {probed}");
    assert_eq!(introduced, introductions, "D-39");
    world.driver.upset("CreateVolume", 1, Trouble::Hang);
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    assert_eq!(world.driver.count("GetPluginInfo"), introduced + 1);
    sidecar.end(&world).await;
}
