//! Where volumes are asked for, and what comes of it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Differences, Peer63, seen::Seen};
use crate::{
    driver::{Driver, Labels, Options, Segment},
    sidecar::{Binary, Sidecar},
    world::World,
};

const LATE: &str = "late";
const EARLY: &str = "early";

/// One segment for each of these, without limit.
pub(super) fn segments(labels: &[Labels]) -> Vec<Segment> {
    let segment = |labels: &Labels| Segment {
        labels: labels.clone(),
        ..Segment::default()
    };
    labels.iter().map(segment).collect()
}

/// The driver, and four zones in two regions with a node each; the node in zone `a` is called `a`.
async fn four_zones(world: &World) -> Driver {
    let zones = [("north", "a"), ("north", "b"), ("south", "c"), ("south", "d")];
    let labels = zones.map(|(region, zone)| world.labels([("region", region), ("zone", zone)]));
    let options = Options {
        segments: segments(&labels),
        ..Options::default()
    };
    let driver = Driver::with(world, options).await;
    for ((_, zone), labels) in zones.iter().zip(&labels) {
        world.node(zone, &driver.name, labels).await;
    }
    driver
}

/// Classes `late` and `early`, and one more of either with these allowed topologies.
async fn classes(world: &World, driver: &Driver, allowed: Value) {
    for (name, mode) in [(LATE, "WaitForFirstConsumer"), (EARLY, "Immediate")] {
        let mut class = json!({"volumeBindingMode": mode});
        world.class(name, &driver.name, class.clone()).await;
        class["allowedTopologies"] = allowed.clone();
        world.class(&format!("{name}-allowed"), &driver.name, class).await;
    }
}

/// One allowed term: for each key the values.
fn term<const N: usize>(world: &World, values: [(&str, &[&str]); N]) -> Value {
    let expression = |(key, values): (&str, &[&str])| {
        let key = format!("{}.example.com/{key}", world.namespace);
        json!({"key": key, "values": values})
    };
    json!({"matchLabelExpressions": values.map(expression).to_vec()})
}

async fn ended(mut seen: Seen<'_>, driver: &Driver, sidecar: &Sidecar) -> BTreeSet<String> {
    sidecar.assert_runs();
    seen.calls(driver);
    seen.events(driver).await;
    seen.lines
}

pub(super) async fn scheduled(world: &World, binary: Binary) -> BTreeSet<String> {
    let driver = four_zones(world).await;
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &[]).await;
    classes(world, &driver, json!([term(world, [("zone", &["b", "c"])])])).await;
    let mut seen = Seen::new(world);
    let claims = [
        ("in-a", LATE, "a"),
        ("in-b", LATE, "b"),
        ("in-d", LATE, "d"),
        ("in-c", "late-allowed", "c"),
    ];
    for (claim, class, zone) in claims {
        seen.claim(claim, class, json!({})).await;
        world.pod(claim, &[claim], &world.labels([("zone", zone)])).await;
    }
    for (claim, _, zone) in claims {
        seen.bound(claim).await;
        assert_eq!(world.placed(claim).await, world.node_name(zone));
    }
    ended(seen, &driver, &sidecar).await
}

/// What is said to a claim whose node its class does not allow.
pub(super) const OUTSIDE: Differences = Differences {
    allowed: &[
        (
            "event on PersistentVolumeClaim outside: Normal Provisioning ",
            "a claim that cannot work is not begun",
        ),
        (
            "event on PersistentVolumeClaim outside: Warning ProvisioningFailed ",
            "the text names the node, its topology and the class",
        ),
    ],
    peer_6_3: &[],
};

pub(super) async fn strict(world: &World, binary: Binary) -> BTreeSet<String> {
    let driver = four_zones(world).await;
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &["--strict-topology"]).await;
    // The region alone: what is asked for is the node's own segment with both keys.
    classes(world, &driver, json!([term(world, [("region", &["south"])])])).await;
    let mut seen = Seen::new(world);
    seen.claim_on("late", LATE, &world.node_name("b")).await;
    seen.claim_on("late-allowed", "late-allowed", &world.node_name("d"))
        .await;
    seen.claim_on("outside", "late-allowed", &world.node_name("a"))
        .await;
    // The node counts also where nobody had to wait for it.
    seen.claim_on("chosen", EARLY, &world.node_name("c")).await;
    seen.claim("early", EARLY, json!({})).await;
    seen.claim("early-allowed", "early-allowed", json!({})).await;
    world.event("outside", "ProvisioningFailed", 1, "").await;
    seen.look_at("claim outside", "outside").await;
    world.delete_claim("outside").await;
    seen.bound_and_deleted(&["late", "late-allowed", "chosen", "early", "early-allowed"])
        .await;
    ended(seen, &driver, &sidecar).await
}

/// Those of a StatefulSet go around, whatever their number; others begin where their name says.
pub(super) async fn immediate(world: &World, binary: Binary) -> BTreeSet<String> {
    let driver = four_zones(world).await;
    // A second node in a zone is no second term.
    world
        .node(
            "a2",
            &driver.name,
            &world.labels([("region", "north"), ("zone", "a")]),
        )
        .await;
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &[]).await;
    classes(world, &driver, json!([term(world, [("zone", &["d", "b", "a"])])])).await;
    let mut seen = Seen::new(world);
    let claims = [
        "data-web-0",
        "data-web-1",
        "data-web-2",
        "data-web-07",
        "logs-web-0",
        "data",
        "data-x",
        "7",
        // The last number that is one, and the next.
        "x-4294967295",
        "x-4294967296",
    ];
    for claim in claims {
        seen.claim(claim, EARLY, json!({})).await;
    }
    let allowed = ["allowed-web-0", "allowed-web-1"];
    for claim in allowed {
        seen.claim(claim, "early-allowed", json!({})).await;
    }
    seen.bound_and_deleted(&[&claims[..], &allowed].concat()).await;
    ended(seen, &driver, &sidecar).await
}

pub(super) async fn allowed(world: &World, binary: Binary) -> BTreeSet<String> {
    let driver = four_zones(world).await;
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &[]).await;
    // Out of order, twice the same zone, and a zone that is in no such region.
    let terms = json!([
        term(world, [("zone", &["d", "b"]), ("region", &["south", "north"])]),
        term(world, [("region", &["south"]), ("zone", &["d", "c"])]),
    ]);
    classes(world, &driver, terms).await;
    // A key that no node has: what the class says is what the driver is asked for.
    let unknown = json!([
        term(world, [("rack", &["2", "1"])]),
        term(world, [("zone", &["a"])])
    ]);
    let unknown = json!({"allowedTopologies": unknown});
    world.class("unknown", &driver.name, unknown).await;
    let mut seen = Seen::new(world);
    seen.claim_on("on-b", "late-allowed", &world.node_name("b")).await;
    seen.claim_on("on-d", "late-allowed", &world.node_name("d")).await;
    seen.claim_on("outside", "late-allowed", &world.node_name("a"))
        .await;
    seen.claim("free-0", "early-allowed", json!({})).await;
    seen.claim("free-1", "early-allowed", json!({})).await;
    seen.claim("odd", "unknown", json!({})).await;
    world.event("outside", "ProvisioningFailed", 1, "").await;
    seen.look_at("claim outside", "outside").await;
    world.delete_claim("outside").await;
    seen.bound_and_deleted(&["on-b", "on-d", "free-0", "free-1", "odd"])
        .await;
    ended(seen, &driver, &sidecar).await
}

pub(super) async fn not_immediate(world: &World, binary: Binary) -> BTreeSet<String> {
    let driver = four_zones(world).await;
    let flags = ["--immediate-topology=false"];
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &flags).await;
    classes(world, &driver, json!([term(world, [("zone", &["c", "d"])])])).await;
    let mut seen = Seen::new(world);
    seen.claim("early", EARLY, json!({})).await;
    seen.claim("early-allowed", "early-allowed", json!({})).await;
    seen.claim_on("chosen", EARLY, &world.node_name("b")).await;
    seen.claim_on("late", LATE, &world.node_name("c")).await;
    seen.bound_and_deleted(&["early", "early-allowed", "chosen", "late"])
        .await;
    ended(seen, &driver, &sidecar).await
}

pub(super) async fn gate_off(world: &World, binary: Binary) -> BTreeSet<String> {
    let driver = four_zones(world).await;
    let flags = ["--feature-gates=Topology=false", "--strict-topology"];
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &flags).await;
    classes(world, &driver, json!([term(world, [("zone", &["c"])])])).await;
    let mut seen = Seen::new(world);
    seen.claim("early", EARLY, json!({})).await;
    seen.claim("early-allowed", "early-allowed", json!({})).await;
    seen.claim_on("late", LATE, &world.node_name("b")).await;
    // Nobody asks about the node.
    seen.claim_on("nowhere", LATE, &world.node_name("none")).await;
    seen.bound_and_deleted(&["early", "early-allowed", "late", "nowhere"])
        .await;
    ended(seen, &driver, &sidecar).await
}

pub(super) const COUNTED: Differences = Differences {
    allowed: &[(
        "event on PersistentVolumeClaim coarse: Warning ProvisioningFailed ",
        "a volume that its selected node cannot reach is written as upstream does, and ours says so",
    )],
    peer_6_3: &[
        Peer63 {
            start: "CreateVolume for \"pvc-<uid of coarse>\": OK",
            target: COARSE,
            why: "4.9, aggregation of one key set: labels alone do not count",
        },
        Peer63 {
            start: "CreateVolume for \"pvc-<uid of early-0>\": OK",
            target: EARLY_0,
            why: "4.9, no selected node: every key set, where 6.3 takes one by chance; and labels alone do not count",
        },
    ],
};

/// The selected node's term leads.
const COARSE: &str = concat!(
    r#"CreateVolume for "pvc-<uid of coarse>": OK, {"preferred":["#,
    r#"{"segments":{"<world>.example.com/zone":"a"}},"#,
    r#"{"segments":{"<world>.example.com/zone":"d"}}],"requisite":["#,
    r#"{"segments":{"<world>.example.com/zone":"a"}},"#,
    r#"{"segments":{"<world>.example.com/zone":"d"}}]}"#,
);

/// The shorter terms come first; FNV-1 of "early" is 2 modulo 3.
const EARLY_0: &str = concat!(
    r#"CreateVolume for "pvc-<uid of early-0>": OK, {"preferred":["#,
    r#"{"segments":{"<world>.example.com/region":"south","<world>.example.com/zone":"d"}},"#,
    r#"{"segments":{"<world>.example.com/zone":"a"}},"#,
    r#"{"segments":{"<world>.example.com/zone":"d"}}],"requisite":["#,
    r#"{"segments":{"<world>.example.com/zone":"a"}},"#,
    r#"{"segments":{"<world>.example.com/zone":"d"}},"#,
    r#"{"segments":{"<world>.example.com/region":"south","<world>.example.com/zone":"d"}}]}"#,
);

/// Four nodes have the label of a zone. On one of them no driver is registered, on another one a foreign one; and one
/// is registered with a region besides.
pub(super) async fn counted(world: &World, binary: Binary) -> BTreeSet<String> {
    let [a, b, c] = ["a", "b", "c"].map(|zone| world.labels([("zone", zone)]));
    let fine = world.labels([("region", "south"), ("zone", "d")]);
    let options = Options {
        // There is room in one place only, so that where volumes come to be does not hang on what goes first.
        segments: segments(&[a.clone(), fine.clone()][1..]),
        ..Options::default()
    };
    let driver = Driver::with(world, options).await;
    world.node("a", &driver.name, &a).await;
    world.bare_node("b", &b).await;
    world.node("c", &format!("other.{}", driver.name), &c).await;
    let fine_node = world.node("d", &driver.name, &fine).await;
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &[]).await;
    classes(world, &driver, json!([])).await;
    let mut seen = Seen::new(world);
    // With the region both versions find one node.
    seen.claim_on("fine", LATE, &fine_node).await;
    // A list of zones, in which the fine node is one of the terms.
    seen.claim_on("coarse", LATE, &world.node_name("a")).await;
    seen.claim("early-0", EARLY, json!({})).await;
    seen.bound_and_deleted(&["fine", "coarse", "early-0"]).await;
    ended(seen, &driver, &sidecar).await
}
