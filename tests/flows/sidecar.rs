//! The sidecar under test: started with real flags in a world, watched by its log, events and metrics, and checked at
//! its end.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use sandbox::{Driver, Service, World};
use serde_json::Value;
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

/// One process, so to speak.
pub(crate) struct Sidecar {
    task: JoinHandle<Result<(), Fatal>>,
    stop: CancellationToken,
    /// Its ways to the API and to its driver.
    cut: CancellationToken,
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
        Self::run("pod-a", flags, &world.driver, world.api.service(USER), shared)
    }

    /// Starts another replica in the pod of this name, with a driver of its own or the same one.
    pub(crate) fn beside(&self, world: &World, pod: &str, driver: &Driver) -> Self {
        self.beside_with(world, pod, driver, &[])
    }

    /// As [`Sidecar::beside`], with more flags.
    pub(crate) fn beside_with(&self, world: &World, pod: &str, driver: &Driver, flags: &[&str]) -> Self {
        Self::run(pod, flags, driver, world.api.service(USER), self.shared.clone())
    }

    fn run(
        pod: &str,
        flags: &[&str],
        driver: &Driver,
        service: Service,
        shared: Rc<(Log, DefaultGuard)>,
    ) -> Self {
        let (driver, cut) = (driver.clone(), CancellationToken::new());
        let service = service.until(cut.clone());
        let line = cut.clone();
        let dialer = Dialer::over(move || {
            let pipe = driver.connect_until(line.clone());
            let path = "/run/csi/socket".to_owned();
            async move { pipe.map_err(|_| ConnectError::NotListening { path }) }
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
            nonce: pod.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)),
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
            cut,
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
        self.cut.cancel();
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

/// Every volume at the driver has its object, and the driver saw no breach of its rules.
pub(crate) fn nothing_is_lost(world: &World) {
    let breaches = world.driver.breaches();
    assert!(breaches.is_empty(), "{breaches:?}\n{}", world.print());
    let known: BTreeSet<_> = world
        .api
        .list(VOLUMES)
        .iter()
        .map(|pv| text(pv, "/spec/csi/volumeHandle").to_owned())
        .collect();
    let real: BTreeSet<_> = world
        .driver
        .volumes()
        .into_iter()
        .map(|volume| volume.id)
        .collect();
    assert_eq!(
        real,
        known,
        "volumes at the driver, volumes in Kubernetes\n{}",
        world.print()
    );
}

/// A string in an object; empty when it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What holds an object.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let all = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    all.filter_map(|finalizer| finalizer.as_str().map(str::to_owned))
        .collect()
}

/// What a test asks of a world again and again.
pub(crate) trait Look {
    fn bound(&self, claim: &str) -> bool;
    /// Whether some event about the object begins with the reason and has the words.
    fn told(&self, object: &str, words: &[&str]) -> bool;
    /// The volume of a claim, by the claim's UID.
    fn volume_of(&self, uid: &str) -> Option<Value>;
    /// No volume anywhere.
    fn is_clean(&self) -> bool;
    async fn becomes_bound(&self, claim: &str);
    async fn becomes_clean(&self);
    async fn is_told(&self, object: &str, words: &[&str]);
}

impl Look for World {
    fn bound(&self, claim: &str) -> bool {
        self.claim_phase("default", claim) == "Bound"
    }

    fn told(&self, object: &str, words: &[&str]) -> bool {
        self.events(object)
            .iter()
            .any(|event| words.iter().all(|word| event.contains(word)))
    }

    fn volume_of(&self, uid: &str) -> Option<Value> {
        self.api
            .filter(VOLUMES, |pv| text(pv, "/spec/claimRef/uid") == uid)
            .pop()
    }

    fn is_clean(&self) -> bool {
        self.driver.volumes().is_empty() && self.api.len(VOLUMES) == 0
    }

    async fn becomes_bound(&self, claim: &str) {
        self.eventually(&format!("{claim} is bound"), |world| world.bound(claim))
            .await;
    }

    async fn becomes_clean(&self) {
        self.eventually("no volume is left anywhere", Self::is_clean)
            .await;
    }

    async fn is_told(&self, object: &str, words: &[&str]) {
        self.eventually(&format!("an event on {object} says {words:?}"), |world| {
            world.told(object, words)
        })
        .await;
    }
}
