//! The csi-provisioner, from its command line to its end.
//!
//! [`main`] reads the flags and finds the API server and the driver; [`run`] is the whole sidecar between those two,
//! and what tests put between a sandbox and a fake driver.

mod check;
pub mod config;
mod controllers;
pub mod flags;
pub mod gates;
mod identity;
mod leadership;
mod startup;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

pub use self::identity::Identity;
use self::{config::Config, controllers::Controllers};
use crate::{
    app::signals,
    cluster::{
        api,
        client::{self, Access, AccessError, Client},
        events::EventRecorder,
        rate_limiter::Limit,
    },
    csi::{Address, Dialer, IdentifyError, NotADriver, connect::BadAddress},
    lease::{self, Election},
    telemetry::{
        Readiness,
        http::{HttpError, HttpServer},
        log,
        metrics::{Metrics, MetricsError},
    },
};

/// What the sidecar stands between.
pub struct Environment {
    /// The API server, for everything but the lease.
    pub cluster: Client,
    /// The API server once more, for the lease: a renewal never waits behind anything.
    pub lease: Client,
    /// The way to the driver.
    pub driver: Dialer,
    /// Who this process is.
    pub identity: Identity,
}

/// Why the sidecar ended by itself. Everything that waiting could mend is waited for instead.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The API server cannot be addressed.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The driver cannot be addressed.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// What listens on the socket is no CSI driver.
    #[error(transparent)]
    Contact(#[from] NotADriver),
    /// The driver is none that needs a provisioner.
    #[error(transparent)]
    Introduce(#[from] IdentifyError),
    /// The driver's volumes are not reachable from everywhere.
    #[error(
        "CSI driver {0} reports VOLUME_ACCESSIBILITY_CONSTRAINTS: this version does not place volumes by topology yet; \
         keep the upstream sidecar for it, or say --feature-gates=Topology=false if its volumes are reachable from \
         every node"
    )]
    Topology(String),
    /// The HTTP endpoint.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The driver is not what it was at start.
    #[error(
        "CSI driver {0} has come back with other capabilities: what was under way is finished, and the process ends to \
         start anew with them"
    )]
    Changed(String),
    /// A task that runs from start to end has ended.
    #[error(
        "a defect: a task that must not end has ended, see the log above; the process ends to start anew"
    )]
    Defect,
    /// A thread could not be started, or a signal not be heard.
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl Fatal {
    /// Upstream's exit codes: 1 for the driver's side, 255 for what it logs as fatal.
    const fn code(&self) -> u8 {
        match self {
            Self::Address(_) | Self::Contact(_) | Self::Topology(_) | Self::Changed(_) => 1,
            Self::Access(_)
            | Self::Introduce(_)
            | Self::Http(_)
            | Self::Metrics(_)
            | Self::Defect
            | Self::System(_) => 255,
        }
    }
}

/// The process.
pub fn main() -> ExitCode {
    let config = match flags::parse(std::env::args(), |name| std::env::var(name).ok()) {
        Ok(config) => config,
        Err(exit) => {
            print!("{}", exit.stdout);
            eprint!("{}", exit.stderr);
            return exit.code.into();
        }
    };
    log::init(startup::log_settings(&config.logging));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "csi-provisioner");
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // Two threads, whatever the node has: the work is waiting, and each thread costs memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Fatal::from)
        .and_then(|runtime| runtime.block_on(start(config)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(fatal) => {
            tracing::error!("{fatal}");
            fatal.code().into()
        }
    }
}

async fn start(config: Config) -> Result<(), Fatal> {
    let stop = signals::stop()?;
    let kube = &config.kube;
    let access = Access {
        kubeconfig: kube.kubeconfig.as_ref().map(Into::into),
        master: kube.master.clone(),
        user_agent: concat!("csi-provisioner/v", env!("CARGO_PKG_VERSION"), " volwright").to_owned(),
    };
    let server = client::config(&access).await?;
    let world = Environment {
        cluster: client::client(&server)?,
        lease: client::client(&server)?,
        driver: Dialer::to(config.driver.address.parse::<Address>()?),
        identity: Identity::here(client::token(&server)),
    };
    run(config, world, stop).await
}

/// The sidecar, until `stop`.
///
/// # Errors
/// [`Fatal`]
pub async fn run(config: Config, world: Environment, stop: CancellationToken) -> Result<(), Fatal> {
    let Environment {
        cluster,
        lease,
        driver: line,
        identity,
    } = world;
    let metrics = Metrics::new()?;
    let ready = Readiness::default();
    let health = Arc::new(OnceLock::<lease::Health>::new());
    // Everything that runs beside ends with this set.
    let mut beside = JoinSet::new();

    // The pages come first: whoever asks while we wait for the driver is told so.
    if let Some(serving) = &config.serving {
        let endpoints = startup::endpoints(serving, config.election.is_some(), &metrics, &ready, &health);
        let door = HttpServer::open(&serving.address).await?;
        tracing::info!(address = %door.address()?, "serving metrics and health");
        let stop = stop.clone();
        beside.spawn(async move {
            if let Err(error) = door.serve(endpoints, stop.cancelled_owned()).await {
                tracing::error!(%error, "metrics and health are served no more");
            }
        });
    }

    let lists = ready.until("lists of claims, volumes and classes");
    let last_response = leadership::LastResponse::now();
    let (driver, driver_info) = tokio::select! {
        met = startup::meet(&config, &line, &metrics, &ready, &last_response) => met?,
        () = stop.cancelled() => return Ok(()),
    };
    // Events have a pace of their own: they never delay a volume.
    let limit = config.kube.pace.map(|pace| Limit {
        qps: pace.qps,
        burst: pace.burst,
    });
    let door = || api::ApiClient::new(cluster.clone(), limit);
    let (said, writer) = EventRecorder::start(door(), identity.component(&driver_info.name));
    let controllers = tokio::select! {
        controllers = Controllers::build(&config, &identity, door(), said, driver.clone(), driver_info.clone(), metrics.clone()) => controllers,
        () = stop.cancelled() => return Ok(()),
    };
    let cache = controllers.cache();
    beside.spawn(async move {
        cache.list_watch(cluster).await;
    });
    beside.spawn(driver.clone().watch_state(PROBE_INTERVAL));
    tokio::select! {
        () = startup::wait_for_cache_sync(controllers.cache().progress()) => drop(lists),
        () = stop.cancelled() => return Ok(()),
    }

    let halt = stop.child_token();
    let eligibility = leadership::Eligibility::watch(
        &driver,
        driver_info.clone(),
        halt.clone(),
        last_response,
        config.driver.timeout,
        &ready,
        &mut beside,
    );
    let election = match &config.election {
        None => None,
        Some(settings) => {
            let candidate = identity.candidate(settings, &driver_info.name);
            let (name, slow) = (candidate.name.clone(), metrics.clone());
            let election = Election::new(lease, candidate, move || slow.renewed_slowly(&name));
            // Set once, here; until then the page shows a standby, which is well.
            let _ = health.set(election.health());
            Some((election, settings.release))
        }
    };
    let terms = async {
        match election {
            None => leadership::alone(&controllers, &halt).await,
            Some((election, release)) => {
                leadership::elected(&controllers, election, eligibility, release, &halt).await
            }
        }
    };
    tokio::select! {
        () = terms => {}
        // A leader that no longer sees the cluster or its driver must not go on leading.
        () = ended(&mut beside, &stop) => return Err(Fatal::Defect),
    }
    // The last events go out once nobody can say any more.
    drop(controllers);
    let _ = timeout(EVENT_FLUSH_TIMEOUT, writer).await;
    match halt.is_cancelled() && !stop.is_cancelled() {
        true => Err(Fatal::Changed(driver_info.name)),
        false => Ok(()),
    }
}

/// Waits for a task to end that should not; at a stop the pages do.
async fn ended(beside: &mut JoinSet<()>, stop: &CancellationToken) {
    while beside.join_next().await.is_some() {
        if !stop.is_cancelled() {
            return;
        }
    }
    std::future::pending().await
}

/// How long the last events may take.
const EVENT_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an idle driver is asked whether it is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
