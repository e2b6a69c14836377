//! The sidecar under test: started with real flags in a world, watched by its log, events and metrics, and checked at
//! its end.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use sandbox::{Driver, Line, World};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{instrument::WithSubscriber as _, subscriber::DefaultGuard};
use tracing_subscriber::{filter::LevelFilter, prelude::*};
use volwright::{
    app::provisioner::{self, Fatal, Identity, flags},
    cluster::client::over,
    csi::{ConnectError, Dialer},
};

use crate::log::Log;
pub(crate) use crate::look::{Look, finalizers, handle, nothing_is_lost, text};

pub(crate) const DRIVER: &str = "disks.example.com";
pub(crate) const LEASE: &str = "disks-example-com";
/// Where the manifests put the sidecar.
pub(crate) const HOME: &str = "csi-system";
pub(crate) const USER: &str = "system:serviceaccount:csi-system:csi-provisioner";
pub(crate) const MANIFESTS: &str = include_str!("../../manifests/rbac.yaml");
/// What classes with secrets need besides.
pub(crate) const SECRETS: &str = include_str!("../../manifests/components/secrets/rbac.yaml");
/// What a driver with topology needs besides.
pub(crate) const TOPOLOGY: &str = include_str!("../../manifests/components/topology/rbac.yaml");
/// A volume's object is held by this until the driver has deleted the volume.
pub(crate) const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
pub(crate) const VOLUMES: &str = "persistentvolumes";

/// A world under the manifests' rights, with the class `fast`.
pub(crate) fn world() -> World {
    empty_world().class("fast", &[])
}

/// As [`world`], without a class.
pub(crate) fn empty_world() -> World {
    World::new(DRIVER).namespace(HOME).rbac(MANIFESTS, HOME)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Where a process runs. The same pod is the same candidate for the lease, also when its container has been restarted.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'a> {
    pub(crate) name: &'a str,
    /// Tells processes apart where no token does: another nonce is another pod of the same name.
    pub(crate) nonce: u64,
}

impl Default for Pod<'_> {
    fn default() -> Self {
        Self::named("pod-a")
    }
}

impl<'a> Pod<'a> {
    pub(crate) fn named(name: &'a str) -> Self {
        let nonce = name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte));
        Self { name, nonce }
    }
}

/// One process, so to speak.
pub(crate) struct Sidecar {
    task: JoinHandle<Result<(), Fatal>>,
    stop: CancellationToken,
    /// Its ways to the API and to its driver.
    line: Line,
    /// Its own log.
    own: Log,
    /// The log of its tasks, and of those of the replicas beside it: the log of a spawned task is the thread's.
    pub(crate) shared: Rc<(Log, DefaultGuard)>,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sidecar {
    /// Starts one as the Deployment of the manifests does.
    pub(crate) fn start(world: &World) -> Self {
        Self::with(world, &[])
    }

    /// Starts one with more flags.
    pub(crate) fn with(world: &World, flags: &[&str]) -> Self {
        let log = Log::default();
        // A log of every call costs time; who asks for it gets it.
        let level = match flags.iter().any(|flag| flag.starts_with("-v=")) {
            true => LevelFilter::TRACE,
            false => LevelFilter::INFO,
        };
        let subscriber = tracing_subscriber::registry().with(log.layer(level));
        let guard = tracing::subscriber::set_default(subscriber);
        let shared = Rc::new((log, guard));
        Self::run(world, Pod::default(), flags, &world.driver, Line::new(), shared)
    }

    /// Starts a process in this pod, on this line and without HTTP.
    pub(crate) fn on(world: &World, line: &Line, pod: Pod<'_>, flags: &[&str]) -> Self {
        let log = Log::default();
        let subscriber = tracing_subscriber::registry().with(log.layer(LevelFilter::INFO));
        let guard = tracing::subscriber::set_default(subscriber);
        let mut all = vec!["--http-endpoint="];
        all.extend(flags);
        let shared = Rc::new((log, guard));
        Self::run(world, pod, &all, &world.driver, line.clone(), shared)
    }

    /// Starts another process beside this one, without HTTP.
    pub(crate) fn beside_on(&self, world: &World, line: &Line, pod: Pod<'_>, flags: &[&str]) -> Self {
        let mut all = vec!["--http-endpoint="];
        all.extend(flags);
        Self::run(world, pod, &all, &world.driver, line.clone(), self.shared.clone())
    }

    /// Starts another replica in the pod of this name, with a driver of its own or the same one.
    pub(crate) fn beside(&self, world: &World, pod: &str, driver: &Driver) -> Self {
        self.beside_with(world, pod, driver, &[])
    }

    /// As [`Sidecar::beside`], with more flags.
    pub(crate) fn beside_with(&self, world: &World, pod: &str, driver: &Driver, flags: &[&str]) -> Self {
        let pod = Pod::named(pod);
        Self::run(world, pod, flags, driver, Line::new(), self.shared.clone())
    }

    fn run(
        world: &World,
        pod: Pod<'_>,
        flags: &[&str],
        driver: &Driver,
        line: Line,
        shared: Rc<(Log, DefaultGuard)>,
    ) -> Self {
        let Pod { name: pod, nonce } = pod;
        let (driver, way) = (driver.clone(), line.clone());
        let service = world.api.service(USER).over(line.clone());
        let dialer = Dialer::over(move || {
            let (driver, way) = (driver.clone(), way.clone());
            async move {
                way.dialled().await;
                let path = "/run/csi/socket".to_owned();
                let refused = |_| ConnectError::NotListening { path };
                driver.connect_over(way).map_err(refused)
            }
        });
        let argv = [
            "csi-provisioner",
            "--leader-election",
            "--http-endpoint=127.0.0.1:0",
        ];
        let argv = argv.iter().chain(flags).map(|flag| (*flag).to_owned());
        let env = [
            ("POD_NAMESPACE", HOME),
            ("NAMESPACE", HOME),
            ("POD_NAME", pod),
            ("NODE_NAME", pod),
        ];
        let env = |name: &str| env.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
        let config = flags::parse(argv, env).expect("flags that are in order");
        let identity = Identity {
            hostname: pod.to_owned(),
            nonce,
            ..Identity::default()
        };
        let stop = CancellationToken::new();
        let process = provisioner::run(
            config,
            provisioner::Environment {
                cluster: over(service.clone(), "default"),
                lease: over(service.clone(), "default"),
                driver: dialer,
                identity,
            },
            stop.clone(),
        );
        let own = Log::default();
        let subscriber = tracing_subscriber::registry()
            .with(own.layer(LevelFilter::INFO))
            .with(shared.0.layer(LevelFilter::INFO));
        Self {
            task: tokio::spawn(process.with_subscriber(subscriber)),
            stop,
            line,
            own,
            shared,
        }
    }

    /// The lines of the log, from level 0 up.
    pub(crate) fn log(&self) -> Vec<String> {
        self.shared.0.lines()
    }

    /// Whether some line of the log has all of these words.
    pub(crate) fn logged(&self, words: &[&str]) -> bool {
        self.log()
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Waits for the first list of everything, and for the lease.
    pub(crate) async fn leads(&self, world: &World) {
        let leads = |line: &String| line.contains("became leader");
        let leads = |_: &World| self.own.lines().iter().any(leads);
        world.eventually("the sidecar leads", leads).await;
    }

    /// A page of the HTTP endpoint: status line, headers and body.
    pub(crate) async fn page(&self, path: &str) -> String {
        let log = self.own.lines();
        let line = log
            .iter()
            .find(|line| line.contains("serving metrics and health"));
        let address = line
            .and_then(|line| line.split("address=").nth(1))
            .expect("an address");
        let mut stream = TcpStream::connect(address.trim()).await.expect("the endpoint");
        let request = format!("GET {path} HTTP/1.1\r\nHost: sidecar\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut page = String::new();
        stream.read_to_string(&mut page).await.expect("a page");
        page
    }

    /// The sum of a metric's samples whose line has all of these words.
    pub(crate) async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.page("/metrics").await;
        let samples = page.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// As SIGTERM does.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// As SIGKILL does: tasks of the process may run on here, but nothing that they send has an effect.
    pub(crate) fn kill(self) {
        self.line.cut();
    }

    /// As SIGSTOP does to what goes out and what comes in. Its timers go on: for a process that does not even see time
    /// pass, move the clock.
    pub(crate) fn pause(&self) {
        self.line.hold();
    }

    /// As SIGCONT does.
    pub(crate) fn resume(&self) {
        self.line.let_go();
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// How the process ended; it has to, within a minute.
    pub(crate) async fn ended(mut self) -> Result<(), Fatal> {
        let ended = timeout(secs(60), &mut self.task).await;
        ended
            .expect("the process ends within a minute")
            .expect("no panic")
    }

    /// Nothing went wrong that always is wrong; then stops the process, which has to end well.
    pub(crate) async fn end(self, world: &World) {
        let refused: BTreeSet<_> = world
            .api
            .requests()
            .into_iter()
            .filter(|r| r.user == USER && [403, 405, 501].contains(&r.code))
            .map(|r| (format!("{:?}", r.verb), r.resource, r.code))
            .collect();
        assert!(
            refused.is_empty(),
            "requests that the manifests do not grant: {refused:?}"
        );
        self.end_without_rights(world).await;
    }

    /// As [`Sidecar::end`], in a world where some requests are refused for want of rights.
    pub(crate) async fn end_without_rights(self, world: &World) {
        self.check(world).await;
        self.finish().await;
    }

    async fn check(&self, world: &World) {
        assert_eq!(
            self.metric("volwright_panics_total", &[]).await,
            0.0,
            "panics:\n{}",
            self.log().join("\n")
        );
        nothing_is_lost(world);
    }

    async fn finish(self) {
        self.stop();
        if let Err(fatal) = self.ended().await {
            panic!("the process ended by itself: {fatal}");
        }
    }
}
