//! csi-sanity, the suite by which people check a driver against the specification, finds nothing wrong with the one in
//! examples/.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{net::UnixStream, process::Command, time::timeout};

use crate::{
    cluster,
    world::{SOON, eventually, text},
};

pub(crate) async fn passes() {
    let programs = cluster::programs().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let socket = at("csi.sock");

    // Cargo builds examples for `cargo test`, one folder beside its tests.
    let test = std::env::current_exe().unwrap();
    let example = test.ancestors().nth(2).unwrap().join("examples/driver");
    assert!(example.exists(), "`cargo build --example driver` was not run");
    let _driver = Command::new(example)
        .args([
            "--socket",
            &socket,
            "--segment",
            "zone=near",
            "--segment",
            "zone=far:1",
        ])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    eventually("the driver's socket accepts", SOON, async || {
        UnixStream::connect(&socket).await.map(drop).map_err(text)
    })
    .await;

    let mutable = at("mutable.yaml");
    std::fs::write(&mutable, "tier: gold\n").unwrap();
    for access in ["mount", "block"] {
        let suite = Command::new(programs.join("csi-sanity"))
            .args(["--csi.endpoint", &socket, "--csi.testvolumeaccesstype", access])
            .args(["--csi.mountdir", &at("mount"), "--csi.stagingdir", &at("stage")])
            .args(["--csi.testvolumemutableparameters", &mutable])
            .arg("--ginkgo.no-color")
            .kill_on_drop(true)
            .output();
        let ended = timeout(Duration::from_secs(120), suite).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        let lines: Vec<_> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        assert!(ended.status.success(), "{access}: {}\n{tail}", ended.status);

        // The rest is about capabilities that the driver does not claim to have.
        let ran = said.split("Ran ").nth(1).and_then(|it| it.split(' ').next());
        let ran: usize = ran.and_then(|it| it.parse().ok()).unwrap_or_default();
        assert!(ran >= 83, "{access}: only {ran} specs ran:\n{tail}");
    }
    // The suite takes away all that it made, and with it the driver must.
    assert!(!Path::new(&at("mount")).exists() && !Path::new(&at("stage")).exists());
}
