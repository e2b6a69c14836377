//! Bad input from claims, classes and the API server, each kind with a clear error where the user looks, and nothing
//! lost. What ends the process at start is tested here by how `run` ends; the exit codes and the log of the real
//! process are in `tests/bad_input.rs`.

use std::collections::BTreeMap;

use sandbox::{
    Fault, Harm,
    driver::{Capability, Trouble},
};
use serde_json::{Value, json};

use crate::sidecar::{CLAIMS, Look, Sidecar, empty_world, secs, text, world};

#[tokio::test(start_paused = true)]
async fn a_stop_while_something_is_waited_for_ends_the_process() {
    let world = world();
    world.driver.stop();
    let sidecar = Sidecar::start(&world);
    tokio::time::sleep(secs(5)).await;
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
    world.driver.start();
    world.api.outage();
    let sidecar = Sidecar::start(&world);
    tokio::time::sleep(secs(45)).await;
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_answers_nonsense_at_start_is_named_and_waited_for() {
    let rows = [
        ("401", Harm::Status(401), "check the token"),
        ("403", Harm::Status(403), "add to its role"),
        ("404", Harm::Status(404), "not found"),
        ("429", Harm::Throttle(5), "come back later"),
        ("500", Harm::Status(500), "Internal error"),
        ("503", Harm::Status(503), "currently unable"),
        ("cut connections", Harm::Cut, "connection reset"),
        ("lost replies", Harm::LoseReply, "connection reset"),
    ];
    for (name, harm, words) in rows {
        let world = world();
        world.api.harm(Fault::new(harm));
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        world
            .eventually(name, |_| sidecar.logged(&["waiting: ", words]))
            .await;
        assert!(world.driver.volumes().is_empty(), "{name}");
        world.api.heal();
        world.becomes_bound("data").await;
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_class_that_makes_no_sense_is_explained_on_the_claim() {
    let key = |key: &str| format!("csi.storage.k8s.io/{key}");
    let pair = |name: &str, namespace: &str| json!({key("provisioner-secret-name"): name, key("provisioner-secret-namespace"): namespace});
    let rows: [(&str, Value, &[&str]); 9] = [
        (
            "an unknown reserved key",
            json!({key("colour"): "red"}),
            &["csi.storage.k8s.io/colour is unknown"],
        ),
        (
            "a name without namespace",
            json!({key("provisioner-secret-name"): "a"}),
            &["is there but", "namespace is not"],
        ),
        (
            "a namespace without name",
            json!({key("node-stage-secret-namespace"): "a"}),
            &["is there but", "name is not"],
        ),
        ("an empty half", pair("", "default"), &["is empty"]),
        (
            "a template that nobody knows",
            pair("${pvc.uid}", "default"),
            &["${pvc.uid}", "unknown here"],
        ),
        (
            "an annotation that is not there",
            pair("${pvc.annotations['team']}", "default"),
            &["pvc.annotations['team']"],
        ),
        (
            "the claim's name as a namespace",
            pair("a", "${pvc.name}"),
            &["${pvc.name}", "unknown here"],
        ),
        (
            "a template that gives no name",
            pair("UPPER_${pvc.name}", "default"),
            &["UPPER_data", "valid name"],
        ),
        (
            "two file system types",
            json!({key("fstype"): "xfs", "fsType": "ext4"}),
            &["both give the file system type"],
        ),
    ];
    for (name, parameters, words) in rows {
        let world = empty_world().class_with("odd", |class| class["parameters"] = parameters);
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", |_| {});
        let mut words = words.to_vec();
        words.extend(["ProvisioningFailed", "storage class \"odd\""]);
        world.is_told("data", &words).await;
        assert_eq!(world.driver.count("CreateVolume"), 0, "{name}");
        // Classes are mended by making them anew.
        world.api.delete("storageclasses", "", "odd");
        let world = world.class("odd", &[]);
        world.becomes_bound("data").await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_asks_for_what_cannot_be_is_told() {
    type Change = fn(&mut Value);
    let rows: [(&str, Change, &[&str]); 4] = [
        (
            "a snapshot",
            |claim| {
                claim["spec"]["dataSource"] = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "yesterday"});
            },
            &[
                "ProvisioningFailed",
                "VolumeSnapshot default/yesterday",
                "CREATE_DELETE_SNAPSHOT",
            ],
        ),
        (
            "a clone",
            |claim| {
                claim["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "original"})
            },
            &[
                "ProvisioningFailed",
                "PersistentVolumeClaim default/original",
                "CLONE_VOLUME",
            ],
        ),
        (
            "a VolumeAttributesClass",
            |claim| claim["spec"]["volumeAttributesClassName"] = "gold".into(),
            &["ProvisioningFailed", "VolumeAttributesClass \"gold\""],
        ),
        (
            "a selector",
            |claim| claim["spec"]["selector"] = json!({"matchLabels": {"a": "b"}}),
            &["ProvisioningFailed", "claim.spec.selector"],
        ),
    ];
    for (name, change, words) in rows {
        let world = world();
        let sidecar = Sidecar::start(&world);
        world.add_claim("default", "data", "1Gi", change);
        world.is_told("data", words).await;
        tokio::time::sleep(secs(600)).await;
        assert_eq!(world.driver.count("CreateVolume"), 0, "{name}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn sizes_are_rounded_up_by_the_driver_or_refused_and_never_guessed() {
    let world = world();
    world.driver.configure(|driver| driver.granularity = 1 << 20);
    let sidecar = Sidecar::start(&world);
    for (claim, size, bytes) in [
        ("one", "1", Some(1 << 20)),
        ("milli", "1500m", Some(1 << 20)),
        ("decimal", "1G", Some(954 << 20)),
        ("exponent", "1e6", Some(1 << 20)),
        ("whole", "3Mi", Some(3 << 20)),
        ("fraction", "0.5Gi", Some(512 << 20)),
    ] {
        let uid = world.add_claim("default", claim, size, |_| {});
        world.becomes_bound(claim).await;
        let pv = world.volume_of(&uid).expect("its volume");
        let volumes = world.driver.volumes();
        let made = volumes
            .iter()
            .find(|volume| volume.id == text(&pv, "/spec/csi/volumeHandle"));
        assert_eq!(made.map(|volume| volume.bytes), bytes, "{claim}");
    }
    for size in ["9Ei", "100E"] {
        let claim = format!("huge-{}", size.to_lowercase());
        world.add_claim("default", &claim, size, |_| {});
        world
            .is_told(&claim, &["ProvisioningFailed", "storage request", size])
            .await;
    }
    world.driver.upset(
        "CreateVolume",
        1,
        Trouble::Refuse(tonic::Code::OutOfRange, "at most 1 Ti"),
    );
    world.add_claim("default", "large", "2Ti", |_| {});
    world
        .is_told(
            "large",
            &["ProvisioningFailed: rpc error: code = OutOfRange desc = at most 1 Ti"],
        )
        .await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn odd_names_travel_unharmed_through_a_whole_life() {
    let odd = [
        ("unicode", "väldigt/日本語:🦀 \"quoted\" \\ \t"),
        ("a path", "../../etc/passwd?x=1&y=%2f#z"),
        ("long", &*"x".repeat(3000)),
        ("a template", "${pvc.name} {} %s $(id)"),
    ];
    for (name, odd) in odd {
        let world = world();
        world
            .driver
            .configure(|driver| driver.capabilities.push(Capability::ListVolumes));
        let context = BTreeMap::from([
            (odd.to_owned(), odd.to_owned()),
            (String::new(), "nameless".to_owned()),
        ]);
        let trouble = Trouble::Odd {
            id: odd.to_owned(),
            context,
        };
        world.driver.upset("CreateVolume", 1, trouble);
        let sidecar = Sidecar::start(&world);
        let uid = world.add_claim("default", "data", "1Gi", |claim| {
            claim["metadata"]["annotations"]["example.com/odd"] = odd.into();
        });
        world.becomes_bound("data").await;
        let pv = world.volume_of(&uid).expect("its volume");
        assert_eq!(text(&pv, "/spec/csi/volumeHandle"), odd, "{name}");
        assert_eq!(pv["spec"]["csi"]["volumeAttributes"][odd], odd, "{name}");
        world.api.delete(CLAIMS, "default", "data");
        world.becomes_clean().await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_names_that_kubernetes_allows_work() {
    let claim = format!("{}.{}", "a".repeat(63), "b".repeat(189));
    let namespace = "n".repeat(63);
    let world = world().namespace(&namespace);
    let sidecar = Sidecar::with(&world, &["--extra-create-metadata"]);
    world.add_claim(&namespace, &claim, "1Gi", |_| {});
    world
        .eventually("bound", |world| world.claim_phase(&namespace, &claim) == "Bound")
        .await;
    world.is_told(&claim, &["ProvisioningSucceeded"]).await;
    sidecar.end(&world).await;
}
