//! A sidecar as a process: started, read while it runs, asked to stop, ended with its test.

use std::{fs, net::SocketAddr, time::Duration};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
    sync::watch,
    time::timeout,
};

#[path = "../process/built.rs"]
mod built;
#[path = "../process/start.rs"]
mod start;

pub(crate) use built::built;
pub(crate) use start::{Folder, command, flag};

/// For what takes milliseconds, on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(30);

/// One that runs.
pub(crate) struct Sidecar {
    child: Child,
    log: watch::Receiver<String>,
}

impl Sidecar {
    /// Starts `program`, the path of a binary, with these flags.
    pub(crate) fn start(program: &str, folder: &Folder, flags: &[String]) -> Self {
        let mut child = command(program, folder, flags)
            .spawn()
            .expect("the process; setpriv is in util-linux");
        let mut lines = BufReader::new(child.stderr.take().expect("its stderr")).lines();
        let (said, log) = watch::channel(String::new());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                said.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        Self { child, log }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until its log has these words so many times.
    pub(crate) async fn says(&self, times: usize, words: &str) {
        let mut log = self.log.clone();
        let found = timeout(PATIENCE, log.wait_for(|log| log.matches(words).count() >= times)).await;
        assert!(
            matches!(found, Ok(Ok(_))),
            "{words:?} is not {times} times in\n{}",
            self.log()
        );
    }

    /// Where it serves HTTP, once it has so many listeners, in their order.
    pub(crate) async fn addresses<const N: usize>(&self) -> [SocketAddr; N] {
        const LINE: &str = "\"serving HTTP\" address=\"";
        self.says(N, LINE).await;
        let log = self.log();
        let mut found = log.split(LINE).skip(1).map(|rest| {
            let address = rest.split('"').next().expect("an end of the address");
            let mut address: SocketAddr = address.parse().expect("an address");
            if address.ip().is_unspecified() {
                address.set_ip([127, 0, 0, 1].into());
            }
            address
        });
        std::array::from_fn(|_| found.next().expect("so many, since it said so"))
    }

    /// Where it serves HTTP, with one listener.
    pub(crate) async fn address(&self) -> SocketAddr {
        let [address] = self.addresses().await;
        address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    fn pid(&self) -> Pid {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        id.expect("an id")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// From now on it may have so many files open.
    pub(crate) fn limit_files(&self, files: u64) {
        let limit = Rlimit {
            current: Some(files),
            maximum: Some(files),
        };
        prlimit(Some(self.pid()), Resource::Nofile, limit).expect("it runs");
    }

    /// Ends it by force.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Waits for its end: exit code and log.
    pub(crate) async fn ended(mut self) -> (i32, String) {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let ended = ended
            .unwrap_or_else(|_| panic!("it goes on:\n{}", self.log()))
            .expect("an end");
        // The log ends with the process, and the channel with the log.
        while self.log.changed().await.is_ok() {}
        let log = self.log();
        assert!(!log.contains("Panic:") && !log.contains("panicked"), "{log}");
        (ended.code().unwrap_or_else(|| panic!("{ended}:\n{log}")), log)
    }

    /// A figure of its memory, in KiB: `VmHWM`, `RssAnon`.
    pub(crate) fn memory(&self, figure: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(figure));
        let number = line.and_then(|line| line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().ok());
        number.unwrap_or_else(|| panic!("{figure} is not in\n{status}"))
    }
}
