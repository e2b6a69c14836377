//! A program of ours as a process: a folder for its files, and how it is started so that it never outlives its test.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::process::Command;

/// A folder that goes away with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("volwright-process-{}-{number}", std::process::id()));
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
pub(crate) fn command(program: &str, folder: &Folder, flags: &[String]) -> Command {
    // setpriv asks for that and becomes the process: the child's id is its id.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", program])
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

pub(crate) fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}
