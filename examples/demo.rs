//! `make demo`: twenty claims become volumes and go away again, wherever Rust is.
//!
//! A Kubernetes API with its binder and a CSI driver live in this process (tests/sandbox). The sidecar is the real
//! binary, a process of its own with the rights of manifests/ and an election, as in a cluster.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use sandbox::{Api, Driver, binder, driver::Trouble};
use serde_json::{Value, json};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{Instant, timeout, timeout_at},
};

const DRIVER: &str = "demo.csi.example.com";
const LEASE: &str = "demo-csi-example-com";
const USER: &str = "system:serviceaccount:default:csi-provisioner";
const CLAIMS: usize = 20;
/// For all of it, which takes two seconds; whoever waits longer waits for nothing.
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

/// Whatever happens, the sidecar is stopped and the folder removed.
async fn run() -> Result<()> {
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let start = Instant::now();
    let folder = tempfile::tempdir().context("a folder for the socket and the log")?;
    let (api, driver) = (Api::new(), Driver::new(DRIVER));
    let mut sidecar = launch(folder.path(), &api, &driver).await?;
    let outcome = tokio::select! {
        told = tell(&api, &driver, start + LIMIT) => told.map(|()| true),
        ended = sidecar.wait() => Err(anyhow!("csi-provisioner ended by itself: {}", ended?)),
        _ = term.recv() => Ok(false),
        _ = interrupt.recv() => Ok(false),
    };
    let outcome = match (outcome, stop(&mut sidecar).await) {
        (Ok(true), Ok(status)) => return sum_up(&api, status, start.elapsed()),
        (Ok(false), Ok(_)) => bail!("interrupted"),
        (Err(error), _) | (_, Err(error)) => error,
    };
    let log = std::fs::read_to_string(log(folder.path())).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
    eprintln!("\n\nThe end of the sidecar's log:\n{}", tail.join("\n"));
    Err(outcome)
}

fn log(folder: &Path) -> PathBuf {
    folder.join("sidecar.log")
}

async fn launch(folder: &Path, api: &Api, driver: &Driver) -> Result<Child> {
    // Cargo puts an example one folder below the binaries.
    let example = std::env::current_exe()?;
    let built = example.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    let binary = built.join("csi-provisioner");
    let (socket, kubeconfig) = (folder.join("csi.sock"), folder.join("kubeconfig"));

    api.load_rbac(include_str!("../manifests/rbac.yaml"), "default")
        .map_err(|error| anyhow!("manifests/rbac.yaml: {error}"))?;
    let (address, _) = api.serve_on_loopback().await?;
    std::fs::write(&kubeconfig, sandbox::kubeconfig(address, USER))?;
    binder::start(api);
    driver.listen(&socket).context("the driver's socket")?;

    let log = std::fs::File::create(log(folder))?;
    let sidecar = Command::new(&binary)
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--csi-address={}", socket.display()))
        .args(["--leader-election", "--leader-election-namespace=default"])
        // KUBECONFIG would win, and lead to somebody's cluster.
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{}: build it first, `make demo` does", binary.display()))?;
    println!("A Kubernetes API on http://{address} and the CSI driver {DRIVER}, both in this process.");
    println!(
        "csi-provisioner runs as process {}, with the rights of manifests/rbac.yaml.",
        sidecar.id().unwrap_or_default()
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
async fn stop(sidecar: &mut Child) -> Result<ExitStatus> {
    if let Some(pid) = sidecar.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        kill_process(pid, Signal::TERM)?;
    }
    match timeout(LIMIT, sidecar.wait()).await {
        Ok(ended) => Ok(ended?),
        Err(_) => {
            sidecar.kill().await?;
            bail!("csi-provisioner still ran {LIMIT:?} after SIGTERM, it was killed")
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
