//! Volumes are made where the scheduler wants them, and where it cannot have them it is asked again.

use std::collections::BTreeMap;

use sandbox::{
    World,
    driver::{Segment, Trouble},
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::sidecar::{CLAIMS, HOME, Look, Sidecar, TOPOLOGY, empty_world, secs, text};

const GIB: i64 = 1 << 30;
/// Else the driver would put what has no room at the selected node elsewhere.
pub(crate) const STRICT: &[&str] = &["--strict-topology"];
const FAILED: &str = "controller_persistentvolumeclaim_provision_failed_total";

/// A driver with a zone on each of two nodes, and a class that waits for Pods.
pub(crate) fn zones(room: [i64; 2]) -> World {
    let world = empty_world().rbac(TOPOLOGY, HOME).class_with("fast", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
    });
    for (zone, room) in ["a", "b"].into_iter().zip(room) {
        world
            .driver
            .segment(Segment::new(&[("zone", zone)], Some(room * GIB)));
    }
    let world = world
        .node("node-a", &[("zone", "a")])
        .node("node-b", &[("zone", "b")]);
    world.scheduler.prefer(&["node-a"]);
    world
}

/// A claim and its Pod.
pub(crate) fn pod(world: &World, name: &str) -> String {
    let uid = world.add_claim("default", name, "1Gi", |_| {});
    world.add_pod("default", name, &[name]);
    uid
}

/// The zone that the volume of a claim was made in.
fn zone(world: &World, uid: &str) -> Option<String> {
    let volume = world.volume_of(uid)?;
    let terms = &volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"];
    assert_eq!(terms.as_array().map(Vec::len), Some(1), "{volume}");
    let label = &terms[0]["matchExpressions"][0];
    assert_eq!(
        (&label["key"], &label["operator"]),
        (&json!("zone"), &json!("In"))
    );
    Some(text(label, "/values/0").to_owned())
}

/// The preferred terms of the requests so far.
pub(crate) fn preferred(world: &World) -> Vec<String> {
    let show = |segments: &BTreeMap<String, String>| {
        let pairs: Vec<_> = segments
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(",")
    };
    let terms = world.driver.creations().into_iter().map(|request| {
        let preferred = request.accessibility_requirements.unwrap_or_default().preferred;
        let terms: Vec<_> = preferred.iter().map(|term| show(&term.segments)).collect();
        terms.join(" ")
    });
    terms.collect()
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_made_where_the_scheduler_wants_the_pod() {
    let world = zones([10, 10]);
    let sidecar = Sidecar::start(&world);
    let near = pod(&world, "near");
    world.becomes_bound("near").await;
    world.scheduler.prefer(&["node-b"]);
    let far = pod(&world, "far");
    world.becomes_bound("far").await;
    assert_eq!(zone(&world, &near).as_deref(), Some("a"));
    assert_eq!(zone(&world, &far).as_deref(), Some("b"));
    assert_eq!(preferred(&world), ["zone=a zone=b", "zone=b zone=a"]);
    world
        .eventually("the Pods run", |world| {
            let on = |pod: &str| world.api.get("pods", "default", pod).unwrap_or_default();
            let on = |pod: &str| text(&on(pod), "/spec/nodeName").to_owned();
            (on("near"), on("far")) == ("node-a".into(), "node-b".into())
        })
        .await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn with_strict_topology_the_driver_is_told_of_the_selected_node_only() {
    let world = zones([10, 10]);
    let sidecar = Sidecar::with(&world, &["--strict-topology"]);
    pod(&world, "data");
    world.becomes_bound("data").await;
    assert_eq!(preferred(&world), ["zone=a"]);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_selected_node_the_names_of_claims_spread_them() {
    for (flag, expected) in [
        ("--immediate-topology=true", ["zone=a zone=b", "zone=b zone=a"]),
        ("--immediate-topology=false", ["", ""]),
    ] {
        let world = zones([10, 10]).class("now", &[]);
        let sidecar = Sidecar::with(&world, &[flag]);
        for name in ["data-web-0", "data-web-1"] {
            world.add_claim("default", name, "1Gi", |_| {});
            world.becomes_bound(name).await;
        }
        let mut found = preferred(&world);
        found.sort();
        assert_eq!(found, expected, "{flag}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn d77_a_claim_without_room_at_its_node_goes_to_another_one() {
    const COUNTED: &str = "lib.Controller.27: outcomes that are no failure";
    let world = zones([0, 10]);
    let sidecar = Sidecar::with(&world, STRICT);
    let uid = pod(&world, "data");
    world.becomes_bound("data").await;
    assert_eq!(zone(&world, &uid).as_deref(), Some("b"));
    assert_eq!(preferred(&world).last().map(String::as_str), Some("zone=b"));
    world
        .is_told(
            "data",
            &["ProvisioningFailed", "ResourceExhausted", "choose again"],
        )
        .await;
    assert_eq!(world.selected_node("default", "data"), "node-b");
    assert_eq!(sidecar.metric(FAILED, &[]).await, 0.0, "{COUNTED}");
    assert_eq!(world.driver.volumes().len(), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn only_want_of_room_takes_the_selected_node_off() {
    type Row = (&'static str, Option<Trouble>);
    let rows: [Row; 3] = [
        ("lib.Controller.28", Some(Trouble::Refuse(Code::Internal, "no"))),
        // The Secret is missing.
        ("lib.Controller.29", None),
        (
            "lib.Controller.30",
            Some(Trouble::Refuse(Code::Unavailable, "busy")),
        ),
    ];
    for (id, trouble) in rows {
        let world = zones([10, 10]).rbac(crate::sidecar::SECRETS, HOME);
        match trouble {
            Some(trouble) => drop(world.driver.upset("CreateVolume", 3, trouble)),
            None => drop(world.api.edit("storageclasses", "", "fast", |class| {
                class["parameters"] = json!({
                    "csi.storage.k8s.io/provisioner-secret-name": "login",
                    "csi.storage.k8s.io/provisioner-secret-namespace": "default",
                });
            })),
        }
        let sidecar = Sidecar::start(&world);
        pod(&world, "data");
        world.is_told("data", &["ProvisioningFailed"]).await;
        let stays = |world: &World| world.selected_node("default", "data") == "node-a";
        world.always(id, secs(30), stays).await;
        world
            .api
            .create("secrets", "default", json!({"metadata": {"name": "login"}}));
        world.becomes_bound("data").await;
        assert_eq!(world.selected_node("default", "data"), "node-a", "{id}");
        assert_eq!(world.api.count("update", CLAIMS), 0, "{id}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_reply_the_request_is_repeated_whatever_the_nodes_do() {
    // The volume was made: it is found again, wherever the node has gone.
    let world = zones([10, 10]);
    world.driver.upset("CreateVolume", 2, Trouble::LoseReply);
    let sidecar = Sidecar::start(&world);
    let uid = pod(&world, "data");
    world
        .eventually("made", |world| !world.driver.volumes().is_empty())
        .await;
    world.remove_node("node-a");
    world.becomes_bound("data").await;
    assert_eq!(zone(&world, &uid).as_deref(), Some("a"));
    let sent = preferred(&world);
    assert!(
        sent.len() > 1 && sent.iter().all(|terms| terms == "zone=a zone=b"),
        "{sent:?}"
    );
    sidecar.end(&world).await;

    // It was not, and there is no room any more: only after two such answers the claim goes back.
    let world = zones([10, 10]);
    world.driver.upset("CreateVolume", 1, Trouble::Hang);
    world.driver.upset(
        "CreateVolume",
        4,
        Trouble::Refuse(Code::ResourceExhausted, "full"),
    );
    let sidecar = Sidecar::start(&world);
    let uid = pod(&world, "data");
    world.becomes_bound("data").await;
    assert_eq!(zone(&world, &uid).as_deref(), Some("b"));
    // No answer, and then full after 1, 3, 7 and 15 s: the last one is --timeout after the first.
    let sent = preferred(&world);
    assert_eq!(sent.len(), 6, "{sent:?}");
    assert!(sent[..5].iter().all(|terms| terms == "zone=a zone=b"), "{sent:?}");
    assert_eq!(sent[5], "zone=b zone=a");
    assert_eq!(world.driver.volumes().len(), 1);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_node_is_deleted_is_scheduled_anew() {
    for renamed in [false, true] {
        let world = zones([10, 10]);
        world
            .driver
            .upset("CreateVolume", 3, Trouble::Refuse(Code::Internal, "no"));
        let mut world = world;
        let sidecar = Sidecar::start(&world);
        let uid = pod(&world, "data");
        world.is_told("data", &["ProvisioningFailed"]).await;
        world.remove_node("node-a");
        if renamed {
            world.remove_node("node-b");
            world = world.node("node-c", &[("zone", "a")]);
        }
        world.becomes_bound("data").await;
        let (node, place) = if renamed { ("node-c", "a") } else { ("node-b", "b") };
        assert_eq!(world.selected_node("default", "data"), node);
        assert_eq!(zone(&world, &uid).as_deref(), Some(place));
        world
            .is_told("data", &["node node-a has no CSINode object", "choose again"])
            .await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_node_lacks_is_named_and_when_it_comes_the_claim_goes_on_at_once() {
    type Change = fn(&World);
    let rows: [(&str, Change, &str, Change); 3] = [
        (
            "its label",
            |world| world.label("node-a", "zone", None),
            "node node-a has no label zone",
            |world| world.label("node-a", "zone", Some("a")),
        ),
        (
            "the plugin",
            |world| world.unregister("node-a"),
            "the driver is not registered on node node-a",
            |world| world.register("node-a", &["zone"]),
        ),
        (
            "the keys",
            |world| world.register("node-a", &[]),
            "no topology keys on node node-a",
            |world| world.register("node-a", &["zone"]),
        ),
    ];
    for (name, take, words, give) in rows {
        let world = zones([10, 10]);
        take(&world);
        let sidecar = Sidecar::start(&world);
        pod(&world, "data");
        world.is_told("data", &["ProvisioningFailed", words]).await;
        // Long enough for a delay of minutes.
        world.always(name, secs(900), |world| !world.bound("data")).await;
        assert_eq!(world.driver.count("CreateVolume"), 0, "{name}");
        give(&world);
        let at_once = timeout(secs(5), world.becomes_bound("data")).await;
        assert!(at_once.is_ok(), "{name}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_moves_takes_its_claim_along() {
    let world = zones([10, 10]);
    world.driver.segment(Segment::new(&[("zone", "c")], None));
    world
        .driver
        .upset("CreateVolume", 2, Trouble::Refuse(Code::Internal, "no"));
    let sidecar = Sidecar::start(&world);
    let uid = pod(&world, "data");
    world.is_told("data", &["ProvisioningFailed"]).await;
    world.label("node-a", "zone", Some("c"));
    world.becomes_bound("data").await;
    assert_eq!(zone(&world, &uid).as_deref(), Some("c"));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_roll_out_of_the_node_plugin_takes_no_zone_away() {
    let world = zones([10, 10]).class("now", &[]);
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    for node in ["node-a", "node-b"] {
        world.unregister(node);
    }
    sleep(secs(60)).await;
    world.add_claim("default", "data", "1Gi", |_| {});
    world.becomes_bound("data").await;
    assert_eq!(preferred(&world)[0].split(' ').count(), 2);
    // For good: then nothing runs anywhere.
    sleep(secs(120)).await;
    world.add_claim("default", "more", "1Gi", |_| {});
    world
        .is_told(
            "more",
            &["ProvisioningFailed", "no node has the driver registered"],
        )
        .await;
    world.register("node-b", &["zone"]);
    world.becomes_bound("more").await;
    assert_eq!(preferred(&world).last().map(String::as_str), Some("zone=b"));
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_volume_out_of_reach_is_written_and_told_of() {
    let world = zones([10, 10]);
    let elsewhere = [("zone".to_owned(), "b".to_owned())].into();
    world
        .driver
        .upset("CreateVolume", 1, Trouble::Topology(vec![elsewhere]));
    let sidecar = Sidecar::start(&world);
    let uid = pod(&world, "data");
    world.becomes_bound("data").await;
    assert_eq!(zone(&world, &uid).as_deref(), Some("b"));
    world
        .is_told(
            "data",
            &[
                "ProvisioningFailed",
                "made in zone=b",
                "node-a in zone=a cannot reach",
            ],
        )
        .await;
    // Somewhere that no term can say.
    world
        .driver
        .upset("CreateVolume", 1, Trouble::Topology(vec![BTreeMap::new()]));
    let uid = pod(&world, "more");
    world.becomes_bound("more").await;
    assert_eq!(
        world.volume_of(&uid).unwrap_or_default()["spec"]["nodeAffinity"],
        Value::Null
    );
    sidecar.end(&world).await;
}
