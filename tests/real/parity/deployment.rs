//! A provisioner on each node, for the volumes of that node.

use std::{collections::BTreeSet, sync::Arc};

use kube::ResourceExt;
use serde_json::json;

use super::{
    Differences,
    capacity::{QUICKLY, room},
    seen::{SELECTED, Seen},
};
use crate::{
    driver::{Call, Driver, NodeInfo, Options},
    sidecar::{Binary, Sidecar},
    world::{SOON, World, eventually},
};

pub(super) const DIFFERENCES: Differences = Differences {
    allowed: &[(
        "event on PersistentVolumeClaim huge: Warning ProvisioningFailed ",
        "of a claim that no node can take upstream says nothing",
    )],
    peer_6_3: &[],
};

pub(super) async fn two_nodes(world: &World, binary: Binary) -> BTreeSet<String> {
    let names = ["a", "b"].map(|name| world.node_name(name));
    let flags = [
        &QUICKLY[..],
        &[
            "--capacity-poll-interval=1h",
            "--capacity-ownerref-level=0",
            "--node-deployment",
            "--node-deployment-base-delay=200ms",
        ],
    ]
    .concat();
    let mut seen = Seen::new(world);
    let (mut drivers, mut sidecars) = (Vec::new(), Vec::new());
    for (short, name) in ["a", "b"].iter().zip(&names) {
        let labels = world.labels([("host", name)]);
        let options = Options {
            segments: vec![room(&labels, 64)],
            node: Some(NodeInfo {
                id: name.clone(),
                labels: labels.clone(),
            }),
            ..Options::default()
        };
        let driver = Driver::with(world, options).await;
        world.node(short, &driver.name, &labels).await;
        let pod = format!("sidecar-{short}");
        sidecars.push(Sidecar::start(world, binary, &driver, &pod, &flags).await);
        seen.call(&world.pod_uid(&pod).await, &format!("<uid of {pod}>"));
        drivers.push(driver);
    }
    let [a, b] = [&names[0], &names[1]].map(String::as_str);
    let class = &drivers[0].name;
    let waits = json!({"volumeBindingMode": "WaitForFirstConsumer"});
    world.class("late", class, waits).await;
    world.class("early", class, json!({})).await;
    let key = format!("{}.example.com/host", world.namespace);
    let only = json!([{"matchLabelExpressions": [{"key": key, "values": [b]}]}]);
    world
        .class("only-b", class, json!({"allowedTopologies": only}))
        .await;
    seen.capacities("at first", &[("late", a, 65536), ("late", b, 65536)])
        .await;

    seen.claim_on("elsewhere", "late", &world.node_name("c")).await;
    seen.claim("unscheduled", "late", json!({})).await;
    seen.claim_on("on-a", "late", a).await;
    seen.claim_on("on-b", "late", b).await;
    seen.claim("only-b", "only-b", json!({})).await;
    let mut volumes = Vec::new();
    for claim in ["on-a", "on-b", "only-b"] {
        volumes.push(seen.bound(claim).await);
    }
    seen.capacities("beside volumes", &[("late", a, 64512), ("late", b, 63488)])
        .await;
    for claim in ["elsewhere", "unscheduled"] {
        seen.look_at(&format!("claim {claim}"), claim).await;
        world.delete_claim(claim).await;
    }
    for claim in ["on-a", "on-b", "only-b"] {
        world.delete_claim(claim).await;
    }
    for volume in &volumes {
        world.gone(volume, SOON).await;
    }
    seen.capacities("after them", &[("late", a, 65536), ("late", b, 65536)])
        .await;
    // Who asks for what in a race is chance.
    for driver in &drivers {
        seen.calls(driver);
    }

    // Nobody has the room.
    let huge = json!({"resources": {"requests": {"storage": "100Gi"}}});
    seen.claim("huge", "early", huge).await;
    eventually("both nodes have looked", SOON, async || {
        let looks = |driver: &Driver| {
            let calls = driver.calls_of("GetCapacity");
            let before_owning = |call: &&Arc<Call>| !call.request["volume_capabilities"].is_null();
            calls.iter().filter(before_owning).count()
        };
        // One of the two has looked for `only-b`.
        match (looks(&drivers[0]), looks(&drivers[1])) {
            (1.., 2..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    if binary == Binary::Ours {
        world.event("huge", "ProvisioningFailed", 1, "").await;
    }
    // It stays: a claim that goes away while a node waits for its turn makes upstream say at times that it begins.
    seen.look_at("claim huge", "huge").await;

    for claim in ["race-0", "race-1", "race-2"] {
        seen.claim(claim, "early", json!({})).await;
    }
    for claim in ["race-0", "race-1", "race-2"] {
        world.bound(claim, SOON).await;
        let winner = world.claims.get(claim).await.unwrap().annotations()[SELECTED].clone();
        seen.call(&winner, "<winner>");
        let volume = seen.bound(claim).await.name_any();
        for driver in &drivers {
            let calls = driver.calls_of("CreateVolume");
            let mine = calls.iter().filter(|call| call.request["name"] == json!(volume));
            for call in mine {
                assert_eq!(driver.node.as_ref(), Some(&winner));
                seen.fields(
                    &format!("CreateVolume for {claim}, {}", call.code),
                    "",
                    &call.request,
                );
            }
        }
        seen.uncall();
    }
    sidecars.iter().for_each(Sidecar::assert_runs);
    seen.events(&drivers[0]).await;
    seen.lines
}
