//! Upstream's binary and ours go through the same scenarios, each with a driver, classes, nodes and labels of its own;
//! then the objects, the driver's requests, the events, the metrics and the exit codes are the same, line by line, but
//! for what the scenario's file declares. A file in tests/parity is a scenario; [`file`] says what can be in it.
//!
//! The peer is upstream 6.3.0, because a library that 6.4.0 needs is not published as a module; the behaviour that the
//! project aims at is that of 6.4. What 6.4 changed stands in the files under `peer_6_3`, and is judged by the reference.

#[path = "parity/compare.rs"]
mod compare;
#[path = "parity/events.rs"]
mod events;
#[path = "parity/file.rs"]
mod file;
#[path = "parity/metrics.rs"]
mod metrics;
#[path = "parity/objects.rs"]
mod objects;
#[path = "parity/rights.rs"]
mod rights;
#[path = "parity/samples.rs"]
pub(crate) mod samples;
#[path = "parity/seen.rs"]
mod seen;
#[path = "parity/stage.rs"]
mod stage;
#[path = "parity/steps.rs"]
mod steps;

use std::path::Path;

use file::ScenarioFile;

use crate::{
    cluster::{Cluster, Rights},
    sidecar::{Binary, under_test},
    world::World,
};

/// Those that `make test` has time for, or all of them with `PARITY=all`.
pub(crate) fn scenarios() -> Vec<(String, ScenarioFile)> {
    let mut scenarios = all();
    if std::env::var("PARITY").is_ok_and(|which| which == "all") {
        return scenarios;
    }
    scenarios.retain(|(_, file)| file.share);
    scenarios
}

/// By name.
fn all() -> Vec<(String, ScenarioFile)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "yaml"));
    paths.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths
        .iter()
        .map(|path| (name(path), ScenarioFile::read(path)))
        .collect()
}

/// What may differ is what users are told, in all files.
pub(crate) fn differences_are_documented() {
    all()
        .iter()
        .for_each(|(name, file)| compare::assert_rows(name, file));
}

pub(crate) async fn side_by_side(cluster: &'static Cluster, name: &str, file: &ScenarioFile) {
    let side = async |side: &str, binary: Binary| {
        let namespace = format!("p{}-{side}", name.replace('.', "-"));
        let world = World::new(cluster, &namespace, Rights::Upstream).await;
        steps::play(file, &world, binary).await
    };
    let (theirs, ours) = futures::join!(side("theirs", Binary::Upstream), side("ours", under_test()));
    compare::assert_same(file, &theirs, &ours);
}
