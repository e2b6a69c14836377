//! Talks to tests/cluster/up, which starts every process of the run and stops
//! them all when this end of its standard input closes, however that happens.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::world::eventually;

/// Signal numbers, the same on every Linux.
pub(crate) const SIGHUP: i32 = 1;
pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;
pub(crate) const SIGCONT: i32 = 18;
pub(crate) const SIGSTOP: i32 = 19;

pub(crate) struct Supervisor {
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    inbox: Arc<Inbox>,
    next: AtomicU64,
    pub(crate) dir: PathBuf,
    /// Empty without a control plane of our own.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) audit: PathBuf,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    answers: HashMap<u64, Answer>,
    exits: HashMap<u32, i32>,
    ended: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    error: String,
    #[serde(default)]
    exited: u32,
    #[serde(default)]
    code: i32,
}

#[derive(Deserialize)]
struct First {
    ready: Ready,
}

#[derive(Deserialize)]
struct Ready {
    dir: PathBuf,
    kubeconfig: PathBuf,
    audit: PathBuf,
}

impl Supervisor {
    /// Starts it with these flags and waits until the control plane serves.
    pub(crate) fn start(program: &Path, flags: &[&str]) -> Result<Self, String> {
        let mut child = Command::new(program)
            .args(flags)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("start {}: {error}", program.display()))?;
        let stdin = child.stdin.take().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).map_err(|error| error.to_string())?;
        let First { ready } = serde_json::from_str(&line).map_err(|_| {
            format!(
                "the control plane did not start, {} says why above",
                program.display()
            )
        })?;

        let inbox = Arc::new(Inbox::default());
        let theirs = Arc::clone(&inbox);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let answer: Answer = serde_json::from_str(&line).unwrap();
                let mut state = theirs.state.lock().unwrap();
                if answer.exited == 0 {
                    state.answers.insert(answer.id, answer);
                } else {
                    state.exits.insert(answer.exited, answer.code);
                }
                theirs.changed.notify_all();
            }
            theirs.state.lock().unwrap().ended = true;
            theirs.changed.notify_all();
        });
        Ok(Self {
            child: Mutex::new(child),
            stdin: Mutex::new(Some(stdin)),
            inbox,
            next: AtomicU64::new(1),
            dir: ready.dir,
            kubeconfig: ready.kubeconfig,
            audit: ready.audit,
        })
    }

    fn ask(&self, mut request: Value) -> Result<Answer, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        request["id"] = json!(id);
        let mut line = request.to_string();
        line.push('\n');
        match self.stdin.lock().unwrap().as_mut() {
            Some(stdin) => stdin
                .write_all(line.as_bytes())
                .map_err(|error| error.to_string())?,
            None => return Err("the run is over".into()),
        }
        let state = self.inbox.state.lock().unwrap();
        let limit = Duration::from_secs(120);
        let (mut state, _) = self
            .inbox
            .changed
            .wait_timeout_while(state, limit, |state| {
                !state.answers.contains_key(&id) && !state.ended
            })
            .unwrap();
        match state.answers.remove(&id) {
            None => Err(format!("no answer to {request}")),
            Some(answer) if !answer.error.is_empty() => Err(answer.error),
            Some(answer) => Ok(answer),
        }
    }

    /// Starts a process with exactly this environment and its output in `log`.
    pub(crate) fn run(&'static self, argv: &[String], env: &[(String, String)], log: PathBuf) -> Process {
        let env: HashMap<_, _> = env.iter().cloned().collect();
        let answer = self
            .ask(json!({"do": "run", "argv": argv, "env": env, "log": log}))
            .unwrap();
        Process {
            supervisor: self,
            pid: answer.pid,
            log,
        }
    }

    /// `stop`, `start` or `restart` of a part of the control plane, such as `kube-apiserver`, or of the kubelet of a
    /// node, `kubelet/NODE`; returns when it is done.
    pub(crate) fn plane(&self, what: &str, process: &str) {
        self.ask(json!({"do": what, "process": process})).unwrap();
    }

    /// Puts so many bound claims, and volumes, of another driver into the cluster; 0 removes them.
    pub(crate) fn foreign(&self, count: usize) {
        self.ask(json!({"do": "foreign", "driver": "foreign.example.com", "count": count}))
            .unwrap();
    }

    /// Makes the API server forget every revision so far, and start anew.
    pub(crate) fn forget(&self) {
        self.ask(json!({"do": "forget"})).unwrap();
    }

    /// Ends everything and waits for it.
    pub(crate) fn stop(&self) {
        drop(self.stdin.lock().unwrap().take());
        let _ = self.child.lock().unwrap().wait();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A process of ours, killed when it is dropped.
pub(crate) struct Process {
    supervisor: &'static Supervisor,
    pub(crate) pid: u32,
    pub(crate) log: PathBuf,
}

impl Process {
    pub(crate) fn signal(&self, signal: i32) {
        // One that is gone already needs no signal any more.
        let _ = self
            .supervisor
            .ask(json!({"do": "signal", "pid": self.pid, "signal": signal}));
    }

    /// The exit code when it has ended; -1 after a signal.
    pub(crate) fn exit(&self) -> Option<i32> {
        self.supervisor
            .inbox
            .state
            .lock()
            .unwrap()
            .exits
            .get(&self.pid)
            .copied()
    }

    /// Waits until it has ended by itself and gives its exit code.
    pub(crate) async fn ended(&self, limit: Duration) -> i32 {
        eventually("the sidecar has ended", limit, async || {
            self.exit().ok_or("it still runs".to_owned())
        })
        .await
    }

    pub(crate) fn assert_runs(&self) {
        assert_eq!(self.exit(), None, "the sidecar ended: {}", self.tail(20));
    }

    /// The last lines of its output.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Resident memory in kB, now.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(SIGKILL);
        if std::thread::panicking() {
            eprintln!(
                "--- {} (process {}), last lines:\n{}",
                self.log.display(),
                self.pid,
                self.tail(40)
            );
        }
    }
}
