//! A kubelet, as far as plugins that register with it can tell: it finds their sockets, asks who they are, asks the
//! driver for the node's id, writes Node and CSINode, and tells them how it went.
//!
//! It runs in real time on real unix sockets. It does what 1.36 does, but it never waits for SETTINGS
//! before it asks (a listener that accepts nothing fails GetInfo after a second, not the dial after ten), and it does
//! not ask NodeGetInfo again later.

mod discover;
mod node;
pub mod proto;
mod register;
mod state;
#[cfg(test)]
mod tests;
mod validate;
mod wire;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tonic::Status;

pub(crate) use node::NODE_ID;
pub(crate) use register::encoded;
pub(crate) use wire::{Exchange, ORIGINAL, through};

use crate::{ADMIN, Api, driver::proto::NodeGetInfoResponse};
use discover::{Change, Watcher};
use node::ThisNode;
use proto::PluginInfo;
use state::{Action, State};
use validate::Version;

/// How a kubelet is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder that is watched for sockets, made if it is missing.
    pub registry: PathBuf,
    /// Name of the Node, made if it is missing.
    pub node: String,
    /// Time between two reconciles. The waits after failures go with it; the limits of calls do not.
    pub tick: Duration,
    /// Where endpoints below a path of the host are in this test.
    pub mapped: Option<(PathBuf, PathBuf)>,
    /// What it does otherwise than it should.
    pub knobs: Knobs,
}

impl Options {
    /// What a real kubelet does.
    pub fn new(registry: &Path) -> Self {
        Self {
            registry: registry.to_owned(),
            node: "node".into(),
            tick: Duration::from_secs(1),
            mapped: None,
            knobs: Knobs::default(),
        }
    }
}

/// What a kubelet does otherwise than it should, or than today's do.
#[derive(Clone, Debug, Default)]
pub struct Knobs {
    /// The `:authority` that it sends to registration sockets.
    pub authority: Authority,
    /// It sees sockets come and go and calls nobody.
    pub idle: bool,
    /// It sends GetInfo and each notification twice.
    pub twice: bool,
    /// It waits this long before GetInfo.
    pub get_info_delay: Duration,
    /// A registration that failed in the handler counts as done, as in kubelets before 1.36: nobody tries again until
    /// the socket is created anew. Nor does it matter then what the plugin says to its notification.
    pub keeps_failed: bool,
}

/// Forms of the `:authority` for a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Authority {
    /// The path, percent-encoded, as kubelets send it today.
    #[default]
    Encoded,
    /// The path as it is, as older kubelets sent it.
    Raw,
    /// `localhost`, as any other client sends it.
    Localhost,
}

/// Where a registration can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Before anything is sent. Tried again.
    Dial,
    /// Instead of GetInfo. Tried again.
    GetInfo,
    /// There is no handler for the type: the plugin is told. Tried again.
    Handler,
    /// The versions are wrong: the plugin is told. Tried again.
    Validate,
    /// Instead of NodeGetInfo: the plugin is told. Tried again, but for [`Knobs::keeps_failed`].
    NodeGetInfo,
    /// A write of the Node, which is tried four times; as `NodeGetInfo`.
    Node,
    /// A write of the CSINode, which is tried four times; as `NodeGetInfo`.
    CsiNode,
    /// Instead of a notification; a driver that is not told is unregistered. Tried again, but for
    /// [`Knobs::keeps_failed`].
    Notify,
}

/// What happened to one socket.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Since the kubelet began: when it happened, of a call when that began.
    pub at: Duration,
    /// The registration socket.
    pub socket: PathBuf,
    /// What.
    pub event: Event,
}

/// See [`Seen`]. Calls are recorded when they end.
#[derive(Clone, Debug)]
pub enum Event {
    /// The socket was created, maybe in place of another one.
    Created,
    /// The socket was removed.
    Removed,
    /// The answer to GetInfo.
    GetInfo(Result<PluginInfo, Status>),
    /// The answer of the driver.
    NodeGetInfo(Result<NodeGetInfoResponse, Status>),
    /// Node and CSINode show this driver.
    Registered(String),
    /// The plugin was told how it went.
    Notified {
        /// `plugin_registered`.
        registered: bool,
        /// `error`.
        error: String,
        /// What it said to that.
        answer: Result<(), Status>,
    },
    /// Node and CSINode do not show this driver any more.
    Unregistered(String),
    /// Nobody listened, or something could not be written.
    Stuck(String),
}

impl Event {
    /// Whether this is a notification with this outcome.
    pub fn notified(&self, outcome: bool) -> bool {
        matches!(self, Self::Notified { registered, .. } if *registered == outcome)
    }
}

/// A running kubelet; it stops when this is dropped, and leaves everything as it is.
pub struct Kubelet {
    shared: Shared,
    task: JoinHandle<()>,
}

/// What the kubelet and its operations share.
#[derive(Clone)]
struct Shared {
    inner: Arc<Mutex<Inner>>,
    node: ThisNode,
    troubles: Troubles,
    tick: Duration,
    mapped: Option<(PathBuf, PathBuf)>,
    began: Instant,
    /// How much was recorded.
    recorded: watch::Sender<usize>,
}

struct Inner {
    state: State,
    /// Registered drivers by name.
    drivers: BTreeMap<String, Driver>,
    knobs: Knobs,
    seen: Vec<Seen>,
}

#[derive(Clone)]
struct Driver {
    endpoint: PathBuf,
    version: Version,
}

/// Failures to come, and how often.
#[derive(Clone, Default)]
struct Troubles(Arc<Mutex<Vec<(Step, usize)>>>);

impl Troubles {
    /// Fails if that was asked for.
    fn meet(&self, step: Step) -> Result<(), String> {
        let mut troubles = self.0.lock();
        let next = troubles.iter_mut().find(|(it, times)| *it == step && *times > 0);
        let Some((_, times)) = next else {
            return Ok(());
        };
        *times -= 1;
        Err(match step {
            Step::Handler => "no handler, as the test wants it".into(),
            Step::Validate => "validation failed, as the test wants it".into(),
            step => format!("{step:?} fails, as the test wants it"),
        })
    }
}

impl Kubelet {
    /// Starts a kubelet that writes to this API.
    ///
    /// # Errors
    /// When the folder cannot be watched, or the Node and its CSINode cannot be made.
    pub async fn start(api: &Api, options: Options) -> io::Result<Self> {
        let troubles = Troubles::default();
        let node = ThisNode::new(&options.node, api.client(ADMIN), troubles.clone());
        node.begin().await.map_err(io::Error::other)?;
        let inner = Inner {
            state: State::new(options.tick),
            drivers: BTreeMap::new(),
            knobs: options.knobs,
            seen: Vec::new(),
        };
        let shared = Shared {
            inner: Arc::new(Mutex::new(inner)),
            node,
            troubles,
            tick: options.tick,
            mapped: options.mapped,
            began: Instant::now(),
            recorded: watch::Sender::new(0),
        };
        let (watcher, found) = Watcher::new(&options.registry)?;
        shared.change(found);
        let task = tokio::spawn(shared.clone().run(watcher));
        Ok(Self { shared, task })
    }

    /// Changes what it does otherwise than it should.
    pub fn configure(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.shared.inner.lock().knobs);
    }

    /// The next `times` registrations that come to this step fail there.
    pub fn upset(&self, step: Step, times: usize) {
        self.shared.troubles.0.lock().push((step, times));
    }

    /// Everything that happened so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.inner.lock().seen.clone()
    }

    /// Endpoints of the drivers that are registered, or are being registered, by name.
    pub fn drivers(&self) -> BTreeMap<String, PathBuf> {
        let inner = self.shared.inner.lock();
        let drivers = inner.drivers.iter();
        drivers
            .map(|(name, it)| (name.clone(), it.endpoint.clone()))
            .collect()
    }

    /// Waits until what happened so far fulfils a condition; gives all of it.
    ///
    /// # Errors
    /// When that takes longer than the limit: what happened instead.
    pub async fn wait(
        &self,
        limit: Duration,
        condition: impl Fn(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, String> {
        let mut recorded = self.shared.recorded.subscribe();
        let fulfilled = recorded.wait_for(|_| condition(&self.shared.inner.lock().seen));
        let waited = timeout(limit, fulfilled).await.is_ok();
        let seen = self.seen();
        match waited {
            true => Ok(seen),
            false => Err(format!("not within {limit:?}; the kubelet has seen {seen:#?}")),
        }
    }

    /// Ends it as a kill would: what it was doing ends in the middle.
    pub async fn stop(mut self) {
        self.task.abort();
        // It was cancelled, and that is no news.
        drop((&mut self.task).await);
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn run(self, mut watcher: Watcher) {
        let mut ticks = interval(self.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(self.tick / 4);
        let mut operations = JoinSet::new();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = self.now();
                    let mut inner = self.inner.lock();
                    if !inner.knobs.idle {
                        for action in inner.state.reconcile(now) {
                            operations.spawn(self.clone().operate(action));
                        }
                    }
                }
                _ = looks.tick() => match watcher.changes() {
                    Ok(changes) => self.change(changes),
                    Err(error) => return eprintln!("sandbox: the kubelet cannot watch: {error}"),
                },
                Some(Ok((socket, done))) = operations.join_next() => {
                    let now = self.now();
                    self.inner.lock().state.end(&socket, now, done);
                }
            }
        }
    }

    fn change(&self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Created(socket) => {
                    self.inner.lock().state.create(socket.clone());
                    self.record(&socket, Event::Created);
                }
                Change::Removed(socket) => {
                    self.inner.lock().state.remove(&socket);
                    self.record(&socket, Event::Removed);
                }
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn knobs(&self) -> Knobs {
        self.inner.lock().knobs.clone()
    }

    fn record(&self, socket: &Path, event: Event) {
        self.record_at(self.now(), socket, event);
    }

    fn record_at(&self, at: Duration, socket: &Path, event: Event) {
        let socket = socket.to_owned();
        self.inner.lock().seen.push(Seen { at, socket, event });
        self.recorded.send_modify(|count| *count += 1);
    }
}
