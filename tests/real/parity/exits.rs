//! What a provisioner does at start when something that it needs is missing.

use std::collections::BTreeSet;

use futures::future::join_all;

use super::{capacity::QUICKLY, seen::Seen};
use crate::{
    driver::{Driver, Labels, NodeInfo, Options},
    sidecar::{Binary, Shape, Sidecar},
    world::{SOON, World},
};

/// What it is called, the driver, flags, and variables that are not set.
type Case<'a> = (&'a str, &'a Driver, &'a [&'a str], &'a [&'a str]);

pub(super) async fn codes(world: &World, binary: Binary) -> BTreeSet<String> {
    let labels = world.labels([("host", "a")]);
    let central = Driver::with(world, Options::default()).await;
    let node = Options {
        node: Some(NodeInfo {
            id: world.node_name("a"),
            labels: Labels::new(),
        }),
        segments: super::placing::segments(&[labels]),
        ..Options::default()
    };
    let on_node = Driver::with(world, node).await;
    let cases: [Case<'_>; 12] = [
        ("capacity, no NAMESPACE", &central, &QUICKLY, &["NAMESPACE"]),
        ("capacity, no POD_NAME", &central, &QUICKLY, &["POD_NAME"]),
        ("node, no NODE_NAME", &central, &["--node-deployment"], &[]),
        (
            "version, node, no NODE_NAME",
            &central,
            &["--node-deployment", "--version"],
            &[],
        ),
        (
            "version, node",
            &on_node,
            &["--node-deployment", "--version"],
            &[],
        ),
        (
            "node with capacity, no NAMESPACE",
            &on_node,
            &["--node-deployment", "--enable-capacity"],
            &["NAMESPACE"],
        ),
        ("odd level", &central, &["--capacity-ownerref-level=some"], &[]),
        ("odd threads", &central, &["--capacity-threads=-1"], &[]),
        ("odd poll", &central, &["--capacity-poll-interval=60"], &[]),
        ("odd delay", &central, &["--node-deployment-base-delay=soon"], &[]),
        ("odd strictness", &central, &["--strict-topology=maybe"], &[]),
        ("odd gate", &central, &["--feature-gates=Topology=perhaps"], &[]),
    ];
    let run = async |(index, (what, driver, flags, without)): (usize, Case<'_>)| {
        let shape = Shape {
            without,
            ..Shape::default()
        };
        let pod = format!("sidecar-{index}");
        let sidecar = Sidecar::start_in(world, binary, driver, &pod, flags, shape).await;
        format!("{what}: exit {}", sidecar.ended(SOON).await)
    };
    let mut seen = Seen::new(world);
    for line in join_all(cases.into_iter().enumerate().map(run)).await {
        seen.line(line);
    }
    seen.lines
}
