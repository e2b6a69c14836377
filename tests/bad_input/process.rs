//! The process under test: how it is started, and how its log is read.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use sandbox::{ADMIN, kubeconfig};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    time::timeout,
};

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("volwright-bad-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn at(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The process, with nothing from our environment. It ends when dropped, and also when whoever started it is killed.
pub(crate) fn command(folder: &Folder, flags: &[String]) -> Command {
    // setpriv asks for that and becomes the process: the child's id is its id.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_csi-provisioner")])
        .args(flags)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &folder.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
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

pub(crate) fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}

/// A kubeconfig for a server at this address.
pub(crate) fn access(folder: &Folder, address: &str) -> String {
    let path = folder.at("kubeconfig");
    fs::write(&path, kubeconfig(address.parse().expect("an address"), ADMIN)).expect("a file");
    flag("kubeconfig", &path)
}
