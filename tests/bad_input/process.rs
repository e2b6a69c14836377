//! The process under test: how it is started, and how its log is read.

use std::{fs, time::Duration};

use sandbox::{ADMIN, kubeconfig};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

#[path = "../process/start.rs"]
mod start;

pub(crate) use start::{Folder, flag};

/// The provisioner.
pub(crate) fn command(folder: &Folder, flags: &[String]) -> Command {
    start::command(env!("CARGO_BIN_EXE_csi-provisioner"), folder, flags)
}

fn process(folder: &Folder, flags: &[String]) -> Child {
    command(folder, flags)
        .spawn()
        .expect("the process; setpriv is in util-linux")
}

/// Runs to the end: exit code and its log.
pub(crate) async fn run(folder: &Folder, flags: &[String]) -> (i32, String) {
    let mut child = process(folder, flags);
    let mut stderr = child.stderr.take().expect("its stderr");
    let mut said = String::new();
    let ended = timeout(Duration::from_secs(60), async {
        stderr.read_to_string(&mut said).await.expect("text");
        child.wait().await.expect("an end")
    });
    let ended = ended.await.expect("the process ends by itself");
    assert!(!said.contains("panicked"), "{said}");
    (ended.code().expect("no signal"), said)
}

/// Runs until its log has these words, and ends it.
pub(crate) async fn logs(folder: &Folder, flags: &[String], words: &str) {
    let mut child = process(folder, flags);
    read_until(&mut child, words).await;
    child.kill().await.expect("its end");
}

/// Reads on until the log has these words; what comes after is in the result.
pub(crate) async fn read_until(child: &mut Child, words: &str) -> BufReader<ChildStderr> {
    let mut log = BufReader::new(child.stderr.take().expect("its stderr"));
    let mut said = String::new();
    let found = timeout(Duration::from_secs(60), async {
        loop {
            let start = said.len();
            match log.read_line(&mut said).await.expect("text") {
                0 => return false,
                _ if said[start..].contains(words) => return true,
                _ => {}
            }
        }
    });
    assert!(found.await.unwrap_or(false), "{words:?} is not in\n{said}");
    log
}

/// A kubeconfig for a server at this address.
pub(crate) fn access(folder: &Folder, address: &str) -> String {
    let path = folder.at("kubeconfig");
    fs::write(&path, kubeconfig(address.parse().expect("an address"), ADMIN)).expect("a file");
    flag("kubeconfig", &path)
}
