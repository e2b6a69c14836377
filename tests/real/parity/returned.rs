//! Claims that do not get their volume where the scheduler wanted it.

use std::collections::BTreeSet;

use serde_json::json;

use super::{Differences, placing::segments, seen::Seen};
use crate::{
    driver::{Driver, Labels, Options, Upset},
    sidecar::{Binary, Sidecar},
    world::{SOON, World, eventually, text},
};

/// The first call that prefers this place finds no room.
fn full_once(labels: &Labels) -> Upset {
    Upset {
        method: "CreateVolume",
        code: "RESOURCE_EXHAUSTED",
        nth: 1,
        labels: Some(labels.clone()),
    }
}

pub(super) const EXHAUSTED: Differences = Differences {
    allowed: &[
        (
            "event on PersistentVolumeClaim late: Warning ProvisioningFailed ",
            "the text goes on after what the driver said: the scheduler is to choose again",
        ),
        (
            "event on PersistentVolumeClaim chosen: Warning ProvisioningFailed ",
            "the text goes on after what the driver said: the scheduler is to choose again",
        ),
    ],
    peer_6_3: &[],
};

pub(super) async fn exhausted(world: &World, binary: Binary) -> BTreeSet<String> {
    let names = ["a", "b", "c", "d", "e"];
    let zones = names.map(|zone| world.labels([("zone", zone)]));
    let options = Options {
        segments: segments(&zones),
        script: [0, 1, 2, 4].map(|zone: usize| full_once(&zones[zone])).to_vec(),
        ..Options::default()
    };
    let driver = Driver::with(world, options).await;
    for (name, labels) in names.iter().zip(&zones) {
        world.node(name, &driver.name, labels).await;
    }
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &[]).await;
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    world.class("late", &driver.name, waits).await;
    let only = |zone: &str, mode: &str| {
        let key = zones[0].keys().next().unwrap();
        let allowed = json!([{"matchLabelExpressions": [{"key": key, "values": [zone]}]}]);
        json!({"allowedTopologies": allowed, "volumeBindingMode": mode})
    };
    world.class("early-b", &driver.name, only("b", "Immediate")).await;
    world.class("early-c", &driver.name, only("c", "Immediate")).await;
    world.class("early-e", &driver.name, only("e", "Immediate")).await;
    let mut seen = Seen::new(world);

    // Back to the scheduler, which finds another node.
    seen.claim_on("late", "late", &world.node_name("a")).await;
    world
        .event("late", "ProvisioningFailed", 1, "ResourceExhausted")
        .await;
    seen.returned("late").await;
    seen.select("late", &world.node_name("d")).await;
    // Nobody chose: tried again as it is.
    seen.claim("early", "early-b", json!({})).await;
    world
        .event("early", "ProvisioningFailed", 1, "ResourceExhausted")
        .await;
    // Somebody chose, and nobody has to choose again.
    seen.claim_on("chosen", "early-c", &world.node_name("c")).await;
    world
        .event("chosen", "ProvisioningFailed", 1, "ResourceExhausted")
        .await;
    seen.returned("chosen").await;
    // The scheduler does not look at the old annotation.
    let old = json!({"volume.alpha.kubernetes.io/selected-node": world.node_name("e")});
    seen.create("old", "early-e", old, json!({})).await;
    world
        .event("old", "ProvisioningFailed", 1, "ResourceExhausted")
        .await;
    seen.bound_and_deleted(&["late", "early", "chosen", "old"]).await;

    sidecar.assert_runs();
    seen.calls(&driver);
    seen.events(&driver).await;
    seen.lines
}

pub(super) const UNREADY: Differences = Differences {
    allowed: &[
        (
            "event on PersistentVolumeClaim unknown: Warning ProvisioningFailed ",
            "the text names the node and says that the scheduler chooses again",
        ),
        (
            "event on PersistentVolumeClaim driverless: Warning ProvisioningFailed ",
            "the text names the node and what to do",
        ),
        (
            "event on PersistentVolumeClaim keyless: Warning ProvisioningFailed ",
            "the text names the node and what to do",
        ),
        (
            "event on PersistentVolumeClaim keyless: Normal Provisioning ",
            "a claim that cannot work is not begun",
        ),
        (
            "event on PersistentVolumeClaim unlabelled: Warning ProvisioningFailed ",
            "the text names the node, the key and what to do",
        ),
        (
            "event on PersistentVolumeClaim early: Warning ProvisioningFailed ",
            "the text says what to do",
        ),
    ],
    peer_6_3: &[],
};

/// Each lacks something else, and most of them get it.
pub(super) async fn unready(world: &World, binary: Binary) -> BTreeSet<String> {
    let [b, d] = ["b", "d"].map(|zone| world.labels([("zone", zone)]));
    let key = b.keys().next().unwrap().as_str();
    let options = Options {
        segments: segments(&[b.clone(), d.clone()]),
        ..Options::default()
    };
    let driver = Driver::with(world, options).await;
    let other = format!("other.{}", driver.name);
    let unknown = world.bare_node("a", &Labels::new()).await;
    let driverless = world.bare_node("b", &Labels::new()).await;
    world.register(&driverless, &other, &[key]).await;
    let keyless = world.bare_node("c", &Labels::new()).await;
    world.register(&keyless, &driver.name, &[]).await;
    let unlabelled = world.bare_node("d", &Labels::new()).await;
    world.register(&unlabelled, &driver.name, &[key]).await;
    // Upstream looks again after a delay only.
    let flags = ["--retry-interval-max=2s"];
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &flags).await;
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    world.class("late", &driver.name, waits).await;
    world.class("early", &driver.name, json!({})).await;
    let mut seen = Seen::new(world);

    seen.claim_on("unknown", "late", &unknown).await;
    seen.claim_on("driverless", "late", &driverless).await;
    seen.claim_on("keyless", "late", &keyless).await;
    seen.claim_on("unlabelled", "late", &unlabelled).await;
    seen.claim("early", "early", json!({})).await;
    for claim in ["unknown", "driverless", "keyless", "unlabelled", "early"] {
        world.event(claim, "ProvisioningFailed", 1, "").await;
    }
    // Only the scheduler can help.
    seen.returned("unknown").await;
    for claim in ["driverless", "keyless", "unlabelled"] {
        seen.look_at(&format!("failing claim {claim}"), claim).await;
    }
    assert_eq!(driver.calls_of("CreateVolume").len(), 0, "nobody is asked");
    world.delete_claim("keyless").await;

    world.label(&unlabelled, &d).await;
    seen.bound_and_deleted(&["unlabelled", "early"]).await;
    world.label(&driverless, &b).await;
    world.register_also(&driverless, &driver.name, &[key]).await;
    seen.bound_and_deleted(&["driverless"]).await;
    seen.select("unknown", &unlabelled).await;
    seen.bound_and_deleted(&["unknown"]).await;

    sidecar.assert_runs();
    seen.calls(&driver);
    seen.events(&driver).await;
    seen.lines
}

/// What may have been made is asked for again as it was; what was not made, as the nodes are now.
pub(super) async fn nodes_change(world: &World, binary: Binary) -> BTreeSet<String> {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|zone| world.labels([("zone", zone)]));
    let answer = |code: &'static str| Upset {
        method: "CreateVolume",
        code,
        ..Upset::default()
    };
    let mut options = Options {
        segments: segments(&[a.clone(), b.clone(), c.clone(), d.clone()]),
        script: vec![answer("ABORTED")],
        ..Options::default()
    };
    let driver = Driver::with(world, options.clone()).await;
    let doomed = world.node("a", &driver.name, &a).await;
    world.node("b", &driver.name, &b).await;
    let flags = ["--retry-interval-max=1s"];
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &flags).await;
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    world.class("late", &driver.name, waits).await;
    world.class("early", &driver.name, json!({})).await;
    let mut seen = Seen::new(world);

    seen.claim_on("late", "late", &doomed).await;
    seen.claim("early", "early", json!({})).await;
    for claim in ["late", "early"] {
        world.event(claim, "ProvisioningFailed", 1, "Aborted").await;
    }
    world.delete_node(&doomed).await;
    world.node("c", &driver.name, &c).await;
    // Each of the two is tried after that.
    driver
        .begins("CreateVolume", driver.calls_of("CreateVolume").len() + 4)
        .await;
    options.script.clear();
    driver.configure(&options);
    seen.bound_and_deleted(&["late", "early"]).await;

    options.script = vec![answer("INTERNAL")];
    driver.configure(&options);
    seen.claim("final", "early", json!({})).await;
    world.event("final", "ProvisioningFailed", 1, "Internal").await;
    world.node("d", &driver.name, &d).await;
    eventually("the new node is asked for", SOON, async || {
        let calls = driver.calls_of("CreateVolume");
        let last = &calls.last().unwrap().request["accessibility_requirements"]["requisite"];
        let terms = last.as_array().unwrap();
        match terms.contains(&json!({"segments": d})) {
            true => Ok(()),
            false => Err(text(last)),
        }
    })
    .await;
    options.script.clear();
    driver.configure(&options);
    seen.bound_and_deleted(&["final"]).await;

    sidecar.assert_runs();
    seen.calls(&driver);
    seen.events(&driver).await;
    seen.lines
}
