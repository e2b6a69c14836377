//! `make demo`: twenty claims become volumes and go away again, and a node gets to know the driver, wherever Rust is.
//!
//! A Kubernetes API with its binder, a kubelet and a CSI driver live in this process (tests/sandbox). The sidecars are
//! the real binaries, processes of their own; the provisioner has the rights of manifests/ and an election, as in a
//! cluster.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{
    Api, Driver, Kubelet, binder,
    driver::Trouble,
    kubelet::{Event, Options, Seen},
};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    signal::unix::{self, SignalKind, signal},
    time::{Instant, timeout, timeout_at},
};

const DRIVER: &str = "demo.csi.example.com";
const LEASE: &str = "demo-csi-example-com";
const USER: &str = "system:serviceaccount:default:csi-provisioner";
const CLAIMS: usize = 20;
/// The Node that the kubelet stands for.
const NODE: &str = "node-1";
/// For all of it, which takes three seconds; whoever waits longer waits for nothing.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whatever happens, the sidecars are stopped and the folder removed.
async fn run() -> Result<()> {
    let mut stage = Stage {
        folder: tempfile::tempdir().context("a folder for sockets and logs")?,
        api: Api::new(),
        driver: Driver::new(DRIVER),
        term: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        end: Instant::now() + LIMIT,
    };
    let start = Instant::now();
    let provisioner = launch(&stage).await?;
    let (api, driver, end) = (stage.api.clone(), stage.driver.clone(), stage.end);
    let status = stage.accompany(provisioner, tell(&api, &driver, end)).await?;
    sum_up(&api, status, start.elapsed())?;
    register(&mut stage).await
}

/// What both parts play on.
struct Stage {
    folder: tempfile::TempDir,
    api: Api,
    driver: Driver,
    term: unix::Signal,
    interrupt: unix::Signal,
    end: Instant,
}

struct Sidecar {
    name: &'static str,
    process: Child,
}

impl Stage {
    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn start(&self, name: &'static str, flags: &[String]) -> Result<Sidecar> {
        // Cargo puts an example one folder below the binaries.
        let example = std::env::current_exe()?;
        let built = example.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let binary = built.join(name);
        let log = std::fs::File::create(self.at(&format!("{name}.log")))?;
        let process = Command::new(&binary)
            .args(flags)
            // KUBECONFIG would win, and lead to somebody's cluster.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{}: build it first, `make demo` does", binary.display()))?;
        Ok(Sidecar { name, process })
    }

    /// Plays a part beside its sidecar, and stops that at the end; gives its end.
    async fn accompany(
        &mut self,
        mut sidecar: Sidecar,
        part: impl Future<Output = Result<()>>,
    ) -> Result<ExitStatus> {
        let name = sidecar.name;
        let outcome = tokio::select! {
            played = part => played.map(|()| true),
            ended = sidecar.process.wait() => Err(anyhow!("{name} ended by itself: {}", ended?)),
            _ = self.term.recv() => Ok(false),
            _ = self.interrupt.recv() => Ok(false),
        };
        let outcome = match (outcome, stop(&mut sidecar).await) {
            (Ok(true), Ok(status)) => return Ok(status),
            (Ok(false), Ok(_)) => bail!("interrupted"),
            (Err(error), _) | (_, Err(error)) => error,
        };
        let log = std::fs::read_to_string(self.at(&format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        eprintln!("\n\nThe end of the log of {name}:\n{}", tail.join("\n"));
        Err(outcome)
    }
}

async fn launch(stage: &Stage) -> Result<Sidecar> {
    let (api, kubeconfig) = (&stage.api, stage.at("kubeconfig"));
    api.load_rbac(include_str!("../manifests/rbac.yaml"), "default")
        .map_err(|error| anyhow!("manifests/rbac.yaml: {error}"))?;
    let (address, _) = api.serve_on_loopback().await?;
    std::fs::write(&kubeconfig, sandbox::kubeconfig(address, USER))?;
    binder::start(api);
    let socket = stage.at("csi.sock");
    stage
        .driver
        .listen(Path::new(&socket))
        .context("the driver's socket")?;
    let sidecar = stage.start(
        "csi-provisioner",
        &[
            format!("--kubeconfig={kubeconfig}"),
            format!("--csi-address={socket}"),
            "--leader-election".into(),
            "--leader-election-namespace=default".into(),
        ],
    )?;
    println!("A Kubernetes API on http://{address} and the CSI driver {DRIVER}, both in this process.");
    println!(
        "csi-provisioner runs as process {}, with the rights of manifests/rbac.yaml.",
        sidecar.process.id().unwrap_or_default()
    );
    Ok(sidecar)
}

async fn tell(api: &Api, driver: &Driver, end: Instant) -> Result<()> {
    let holder = || holder(api);
    let took = until(api, end, "the sidecar leads", || holder().is_some()).await?;
    let holder = holder().unwrap_or_default();
    println!("It leads after {took:.1?}: the Lease default/{LEASE} is held by {holder}.");

    // Storage takes its time; slower from volume to volume, so that there is something to see.
    for n in 1..=CLAIMS as u64 {
        driver.upset("CreateVolume", 1, Trouble::Delay(Duration::from_millis(40 * n)));
        driver.upset("DeleteVolume", 1, Trouble::Delay(Duration::from_millis(20 * n)));
    }
    let class = json!({"metadata": {"name": "demo"}, "provisioner": DRIVER});
    api.create("storageclasses", "", class);
    print!("{CLAIMS} claims are made; bound: ");
    for n in 0..CLAIMS {
        api.create(
            "persistentvolumeclaims",
            "default",
            json!({
                "metadata": {"name": format!("data-{n}")},
                "spec": {
                    "storageClassName": "demo",
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }),
        );
    }
    let mut dots = Dots(0);
    let took = until(api, end, "all claims are bound", || {
        let bound = |claim: &Value| claim["status"]["phase"] == "Bound";
        dots.reach(api.filter("persistentvolumeclaims", bound).len())
    })
    .await?;
    println!(" after {took:.1?}");
    if let Some(volume) = api.list("persistentvolumes").first() {
        show(volume);
    }

    print!("The claims are deleted; volumes gone: ");
    for n in 0..CLAIMS {
        api.delete("persistentvolumeclaims", "default", &format!("data-{n}"));
    }
    let mut dots = Dots(0);
    let took = until(api, end, "all volumes are gone", || {
        dots.reach(CLAIMS.saturating_sub(api.len("persistentvolumes")))
    })
    .await?;
    println!(" after {took:.1?}");

    let (left, breaches) = (driver.volumes(), driver.breaches());
    if !left.is_empty() || !breaches.is_empty() {
        bail!("the driver still has {left:?} and complains of {breaches:?}");
    }
    println!(
        "The driver is empty: CreateVolume was called {} times, DeleteVolume {} times.",
        driver.count("CreateVolume"),
        driver.count("DeleteVolume")
    );
    Ok(())
}

/// As a rollout would, and by force where that has no effect.
async fn stop(Sidecar { name, process }: &mut Sidecar) -> Result<ExitStatus> {
    if let Some(pid) = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        kill_process(pid, Signal::TERM)?;
    }
    match timeout(LIMIT, process.wait()).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            process.kill().await?;
            bail!("{name} still ran {LIMIT:?} after SIGTERM, it was killed")
        }
    }
}

fn sum_up(api: &Api, status: ExitStatus, took: Duration) -> Result<()> {
    if !status.success() || holder(api).is_some() {
        bail!("on SIGTERM it ended with {status}, and did not give the Lease back");
    }
    if took > LIMIT {
        bail!("all went well but took {took:.1?}; more than {LIMIT:?} is too long");
    }
    println!("On SIGTERM it gave the Lease back and ended with {status}, {took:.1?} after its start.");
    let mut writes = BTreeMap::new();
    for request in api.requests() {
        let verb = request.verb.rbac();
        if request.user == USER && ["create", "update", "patch", "delete"].contains(&verb) {
            *writes.entry(format!("{verb} {}", request.resource)).or_insert(0) += 1;
        }
    }
    let writes: Vec<_> = writes
        .iter()
        .map(|(what, times)| format!("{what} {times}"))
        .collect();
    println!("What it wrote: {}.", writes.join(", "));
    Ok(())
}

/// The other sidecar: the driver becomes known to the kubelet of its node.
async fn register(stage: &mut Stage) -> Result<()> {
    let topology = BTreeMap::from([("topology.demo.example.com/zone".into(), "b".into())]);
    stage.driver.configure(|driver| {
        driver.node_id = "disks-of-node-1".into();
        driver.node_topology = Some(topology);
        driver.max_volumes_per_node = 24;
    });
    let registry = stage.at("plugins_registry");
    let mut options = Options::new(Path::new(&registry));
    options.node = NODE.into();
    options.tick = Duration::from_millis(100);
    let kubelet = Kubelet::start(&stage.api, options).await.context("a kubelet")?;
    let registrar = stage.start(
        "csi-node-driver-registrar",
        &[
            format!("--csi-address={}", stage.at("csi.sock")),
            format!("--kubelet-registration-path={}", stage.at("csi.sock")),
            format!("--plugin-registration-path={registry}"),
        ],
    )?;
    println!(
        "csi-node-driver-registrar runs as process {} beside the same driver, and the kubelet of {NODE} in this one.",
        registrar.process.id().unwrap_or_default()
    );
    let (api, end) = (stage.api.clone(), stage.end);
    let status = stage.accompany(registrar, show_node(&api, &kubelet, end)).await?;
    let gone = |seen: &[Seen]| seen.iter().any(|it| matches!(it.event, Event::Unregistered(_)));
    saw(&kubelet, end, gone).await?;
    let left = csi_node(&api)["spec"]["drivers"].to_string();
    if !status.success() || left.contains(DRIVER) {
        bail!("on SIGTERM it ended with {status}, and the CSINode has the drivers {left}");
    }
    println!(
        "On SIGTERM it took its socket away and ended with {status}; the CSINode has no driver any more."
    );
    Ok(())
}

async fn show_node(api: &Api, kubelet: &Kubelet, end: Instant) -> Result<()> {
    let start = Instant::now();
    let told = |seen: &[Seen]| seen.iter().any(|it| it.event.notified(true));
    let seen = saw(kubelet, end, told).await?;
    let socket = seen.first().and_then(|it| it.socket.file_name());
    println!(
        "The kubelet found {} and registered the driver after {:.1?}. CSINode {NODE}:",
        socket.unwrap_or_default().display(),
        start.elapsed()
    );
    let driver = &csi_node(api)["spec"]["drivers"][0];
    println!(
        "    {} calls this node {}, tells its {}, and takes {} volumes here.",
        driver["name"].as_str().context("a driver's name")?,
        driver["nodeID"].as_str().context("a driver's id of the node")?,
        driver["topologyKeys"][0].as_str().context("a topology key")?,
        driver["allocatable"]["count"]
    );
    Ok(())
}

async fn saw(kubelet: &Kubelet, end: Instant, what: impl Fn(&[Seen]) -> bool) -> Result<Vec<Seen>> {
    let left = end.saturating_duration_since(Instant::now());
    kubelet.wait(left, what).await.map_err(|why| anyhow!(why))
}

fn csi_node(api: &Api) -> Value {
    api.get("csinodes", "", NODE).unwrap_or_default()
}

/// Who leads. The Leases of the ledger stand beside the leader's.
fn holder(api: &Api) -> Option<String> {
    let lease = api.get("leases", "default", LEASE)?;
    let holder = lease["spec"]["holderIdentity"].as_str()?;
    (!holder.is_empty()).then(|| holder.to_owned())
}

/// Looks at a condition whenever something was written, and tells how long it took to come true.
async fn until(api: &Api, end: Instant, what: &str, mut done: impl FnMut() -> bool) -> Result<Duration> {
    let (start, mut changes) = (Instant::now(), api.changes());
    let wait = async {
        while !done() {
            changes.changed().await?;
        }
        Ok(start.elapsed())
    };
    timeout_at(end, wait)
        .await
        .map_err(|_| anyhow!("{what}: not within {LIMIT:?} of the start"))?
}

/// One dot for each object that got there.
struct Dots(usize);

impl Dots {
    /// True when all did.
    fn reach(&mut self, count: usize) -> bool {
        print!("{}", ".".repeat(count.saturating_sub(self.0)));
        let _ = std::io::stdout().flush();
        self.0 = count.max(self.0);
        self.0 >= CLAIMS
    }
}

fn show(volume: &Value) {
    let at = |path: &str| {
        let value = path.split('.').fold(volume, |value, key| &value[key]);
        value.to_string().replace('"', "")
    };
    println!(
        "One of the volumes: {}, {}, of class {}, {} to the claim {},",
        at("metadata.name"),
        at("spec.capacity.storage"),
        at("spec.storageClassName"),
        at("status.phase"),
        at("spec.claimRef.name"),
    );
    println!(
        "    {} at the driver, with the finalizers {}.",
        at("spec.csi.volumeHandle"),
        at("metadata.finalizers")
    );
}
