//! Upstream's binary and ours go through the same lives, each with a driver, classes, nodes and labels of its own; then
//! the objects, the driver's requests, the events and the exit codes are the same, but for what is listed beside each
//! life. The peer is upstream 6.3.0, because a library that 6.4.0 needs is not published as a module; the behaviour
//! that the project aims at is that of 6.4. What 6.4 changed is marked [`Peer63`] and judged by the reference.

#[path = "parity/capacity.rs"]
mod capacity;
#[path = "parity/deployment.rs"]
mod deployment;
#[path = "parity/exits.rs"]
mod exits;
#[path = "parity/life.rs"]
mod life;
#[path = "parity/placing.rs"]
mod placing;
#[path = "parity/returned.rs"]
mod returned;
#[path = "parity/seen.rs"]
mod seen;

use std::collections::BTreeSet;

use crate::{
    Scenario,
    cluster::{Cluster, Rights},
    sidecar::{Binary, under_test},
    world::World,
};

/// What may differ in a life.
struct Differences {
    /// How the lines begin that may differ, and why. COMPATIBILITY.md says it to users. That there is such a
    /// difference at all is asserted.
    allowed: &'static [(&'static str, &'static str)],
    peer_6_3: &'static [Peer63],
}

/// What 6.4 does, and the peer does not yet.
struct Peer63 {
    /// How the lines begin.
    start: &'static str,
    /// The one such line of a provisioner that is like 6.4.
    target: &'static str,
    /// Why, with the section of the reference.
    #[allow(dead_code, reason = "it is for those who read the table")]
    why: &'static str,
}

const NONE: Differences = Differences {
    allowed: &[],
    peer_6_3: &[],
};

type Start = fn(&'static Cluster) -> Scenario;

/// Together they take their share of the time of `make test`: all of them wait most of the time.
pub(crate) const LIVES: [(&str, Start); 15] = [
    ("parity: nine claims without topology", |c| {
        let rights = Rights::OursWith(&["secrets"]);
        Box::pin(same(c, "parity", rights, &life::DIFFERENCES, life::nine_claims))
    }),
    ("parity: the scheduler chooses the nodes", |c| {
        Box::pin(topology(c, "parity-late", &NONE, placing::scheduled))
    }),
    ("parity: strict topology", |c| {
        Box::pin(topology(c, "parity-strict", &placing::OUTSIDE, placing::strict))
    }),
    ("parity: immediate binding spreads claims by their names", |c| {
        Box::pin(topology(c, "parity-early", &NONE, placing::immediate))
    }),
    ("parity: allowed topologies", |c| {
        Box::pin(topology(c, "parity-allowed", &placing::OUTSIDE, placing::allowed))
    }),
    ("parity: immediate binding without topology", |c| {
        Box::pin(topology(c, "parity-free", &NONE, placing::not_immediate))
    }),
    ("parity: a driver with topology and the gate off", |c| {
        Box::pin(topology(c, "parity-gate", &NONE, placing::gate_off))
    }),
    ("parity: which nodes count", |c| {
        Box::pin(topology(c, "parity-count", &placing::COUNTED, placing::counted))
    }),
    ("parity: no room where the scheduler wants it", |c| {
        Box::pin(topology(
            c,
            "parity-full",
            &returned::EXHAUSTED,
            returned::exhausted,
        ))
    }),
    ("parity: nodes that are not ready for volumes", |c| {
        Box::pin(topology(
            c,
            "parity-unready",
            &returned::UNREADY,
            returned::unready,
        ))
    }),
    ("parity: nodes change while volumes are made", |c| {
        Box::pin(topology(c, "parity-change", &NONE, returned::nodes_change))
    }),
    ("parity: capacity objects come, change and go", |c| {
        Box::pin(topology(c, "parity-room", &NONE, capacity::follows))
    }),
    ("parity: capacity objects are kept right", |c| {
        Box::pin(topology(c, "parity-kept", &capacity::KEPT, capacity::kept))
    }),
    ("parity: two nodes with a provisioner each", |c| {
        Box::pin(topology(
            c,
            "parity-nodes",
            &deployment::DIFFERENCES,
            deployment::two_nodes,
        ))
    }),
    ("parity: exit codes of topology and capacity", |c| {
        Box::pin(topology(c, "parity-exits", &NONE, exits::codes))
    }),
];

/// Under the rights that upstream's example grants.
async fn topology<F>(cluster: &'static Cluster, name: &str, differences: &Differences, live: F)
where
    F: AsyncFn(&World, Binary) -> BTreeSet<String>,
{
    same(cluster, name, Rights::Upstream, differences, live).await;
}

async fn same<F>(cluster: &'static Cluster, name: &str, rights: Rights, differences: &Differences, live: F)
where
    F: AsyncFn(&World, Binary) -> BTreeSet<String>,
{
    let side = async |side: &str, binary: Binary| {
        let world = World::new(cluster, &format!("{name}-{side}"), rights).await;
        live(&world, binary).await
    };
    let (theirs, ours) = futures::join!(side("theirs", Binary::Upstream), side("ours", under_test()));
    let Differences { allowed, peer_6_3 } = differences;
    let mut unused: BTreeSet<_> = allowed.iter().map(|(start, _)| *start).collect();
    unused.extend(peer_6_3.iter().map(|it| it.start));
    let starts = unused.clone();
    let mut different = Vec::new();
    for line in theirs.symmetric_difference(&ours) {
        let sign = if theirs.contains(line) { '-' } else { '+' };
        match starts.iter().find(|start| line.starts_with(**start)) {
            Some(start) => _ = unused.remove(start),
            None => different.push(format!("{sign} {line}")),
        }
    }
    assert!(
        different.is_empty(),
        "only upstream (-), only ours (+), of {} lines:\n{}",
        theirs.len(),
        different.join("\n")
    );
    if under_test() == Binary::Ours {
        assert_eq!(unused, BTreeSet::new(), "these are the same by now");
        for Peer63 { start, target, .. } in *peer_6_3 {
            let ours: Vec<_> = ours.iter().filter(|line| line.starts_with(start)).collect();
            assert_eq!(ours, [target], "as 6.4 has it");
        }
    }
}
