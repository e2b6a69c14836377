//! The csi-provisioner, from its command line to its end.
//!
//! [`main`] reads the flags and finds the API server; [`run`] is the whole sidecar beyond that, and what tests start
//! with a sandbox and a fake driver.

pub mod capacity;
mod check;
pub mod config;
mod controllers;
pub mod flags;
pub mod gates;
mod identity;
mod leadership;
mod ledger;
pub mod metrics;
mod protection;
pub mod requirements;
mod startup;
mod term;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use self::{
    config::Config,
    controllers::{Controllers, Parts},
    leadership::{run_alone, run_elected},
    metrics::Metrics,
    requirements::MissingCapability,
};
pub use crate::app::sidecar::identity::Identity;
use crate::{
    app::sidecar::{eligibility::Eligibility, process, signals, startup::wait_for_cache_sync},
    cluster::{
        active::Active,
        api::ApiClient,
        client::{self, AccessError, Client},
        events::EventRecorder,
        leases::Leases,
    },
    csi::{Dialer, IdentifyError, NotADriver, connect::BadAddress},
    lease::{self, Election, lease_name},
    ledger::{CrashSafe, Ledger},
    telemetry::{
        Readiness,
        http::{HttpError, HttpServer},
        metrics::MetricsError,
    },
};

/// How long after the signal to stop the work and the lease may still take. Kubernetes kills after 30 s unless told
/// otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(27);
/// How long the last events may take after that.
const EVENT_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How often an idle driver is probed.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// What the sidecar works with.
pub struct Environment {
    /// The API server, for everything but the Lease.
    pub cluster: Client,
    /// The API server once more, for the Lease: a renewal never waits behind another request.
    pub lease: Client,
    /// The way to the driver.
    pub driver: Dialer,
    /// Who this process is.
    pub identity: Identity,
}

/// Why the sidecar ended by itself. What can get better by itself is waited for instead.
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
    NotADriver(#[from] NotADriver),
    /// The driver's name cannot be used.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
    /// The driver needs no provisioner.
    #[error(transparent)]
    MissingCapability(#[from] MissingCapability),
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
    /// A thread could not be started, or a signal handler not be registered.
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl process::ExitStatus for Fatal {
    /// 1 for the driver's side, 255 for what upstream logs as fatal.
    fn code(&self) -> u8 {
        match self {
            Self::Address(_) | Self::NotADriver(_) | Self::Changed(_) => 1,
            Self::Access(_)
            | Self::Identify(_)
            | Self::MissingCapability(_)
            | Self::Http(_)
            | Self::Metrics(_)
            | Self::Defect
            | Self::System(_) => 255,
        }
    }
}

/// The process.
pub fn main() -> ExitCode {
    let settings = flags::parse(std::env::args(), |name| std::env::var(name).ok());
    process::run(
        flags::NAME,
        process::Threads::Two,
        settings,
        |config| (&config.logging, &config.warnings),
        start,
    )
}

async fn start(config: Config) -> Result<(), Fatal> {
    let stop = signals::stop()?;
    let user_agent = concat!("csi-provisioner/v", env!("CARGO_PKG_VERSION"), " volwright");
    let server = client::config(&config.kube.access(user_agent)).await?;
    let environment = Environment {
        cluster: client::client(&server)?,
        lease: client::client(&server)?,
        driver: config.driver.dialer()?,
        identity: Identity::of_process(client::token(&server)),
    };
    run(config, environment, stop).await
}

/// The sidecar, until `stop`.
///
/// # Errors
/// [`Fatal`]
pub async fn run(config: Config, environment: Environment, stop: CancellationToken) -> Result<(), Fatal> {
    let Environment {
        cluster,
        lease,
        driver: dialer,
        identity,
    } = environment;
    let metrics = Metrics::new()?;
    let ready = Readiness::default();
    let health = Arc::new(OnceLock::<lease::Health>::new());
    // These tasks run until the end; dropping the set ends them.
    let mut tasks = JoinSet::new();

    // The HTTP server comes first: it tells those who ask while we wait for the driver.
    if let Some(http) = &config.http {
        let endpoints = http.endpoints(config.election.is_some(), &metrics.registry, &ready, &health);
        let server = HttpServer::bind(&http.address).await?;
        tracing::info!(address = %server.address()?, "serving metrics and health");
        let stop = stop.clone();
        tasks.spawn(server.serve(endpoints, stop));
    }

    let unsynced = ready.until("first lists of claims, volumes, classes and, with topology, nodes");
    let found = startup::find_driver(&config, &dialer, &metrics, &ready);
    let Some(found) = stop.run_until_cancelled(found).await else {
        return Ok(());
    };
    let (driver, driver_info) = found?;

    // Events have a rate limit of their own: they never delay a volume.
    let api = || ApiClient::new(cluster.clone(), config.kube.rate_limit);
    let (events, event_writer) = EventRecorder::start(api(), identity.component(&driver_info.name));
    let active = match config.election {
        Some(_) => Active::elected(),
        None => Active::default(),
    };
    let keeps_ledger = Arc::new(AtomicBool::new(config.crash_safe != CrashSafe::Off));
    let settle = Arc::new(Notify::new());
    let settings = ledger::settings(&config, &identity, &driver_info.name);
    let namespace = settings.namespace.clone();
    let listener = ledger::listener(
        namespace.clone(),
        metrics.ledger.clone(),
        ready.clone(),
        events.clone(),
        metrics.provision.clone(),
        keeps_ledger.clone(),
        settle.clone(),
    );
    let leases = Leases::new(lease.clone(), &namespace);
    let parts = Parts {
        identity: identity.clone(),
        api: api(),
        ledger: Ledger::new(settings, leases, active.clone(), listener),
        settle,
        active: active.clone(),
        events,
        driver: driver.clone(),
        driver_info: driver_info.clone(),
        metrics: metrics.clone(),
        ready: ready.clone(),
    };
    let controllers = Controllers::build(&config, parts);
    let Some(controllers) = stop.run_until_cancelled(controllers).await else {
        return Ok(());
    };
    let controllers = controllers?;
    let cache = controllers.cache();
    tasks.spawn(async move {
        cache.run(cluster).await;
    });
    tasks.spawn(driver.clone().watch_state(PROBE_INTERVAL));
    let synced = wait_for_cache_sync(controllers.cache().sync_status());
    if stop.run_until_cancelled(synced).await.is_none() {
        return Ok(());
    }
    drop(unsynced);

    let halt = stop.child_token();
    let eligibility = Eligibility::watch(
        &driver,
        driver_info.clone(),
        halt.clone(),
        config.driver.timeout,
        &ready,
        &mut tasks,
    );
    let election = match &config.election {
        None => None,
        Some(settings) => {
            let candidate = identity.candidate(settings, namespace, lease_name(&driver_info.name));
            let (name, metrics) = (candidate.name.clone(), metrics.controller.clone());
            let election = Election::new(lease, candidate, active, keeps_ledger, move || {
                metrics.renewed_slowly(&name)
            });
            // Set once, here; until then the endpoint shows a standby, which is healthy.
            let _ = health.set(election.health());
            Some((election, settings.release))
        }
    };
    let leading = async {
        match election {
            None => run_alone(&controllers, &halt).await,
            Some((election, release)) => {
                run_elected(&controllers, election, eligibility, release, &halt).await;
            }
        }
    };
    let ended = tokio::select! {
        () = leading => Ok(()),
        () = overdue(&halt) => {
            tracing::warn!("the API server does not answer: the lease, if we hold it, is not released and will run out");
            Ok(())
        }
        // A leader that no longer sees the cluster or its driver must not go on leading.
        () = process::unexpected_end(&mut tasks, &stop) => Err(Fatal::Defect),
    };
    // Here, because it must not depend on how the above has ended.
    controllers.report_unfinished();
    ended?;
    // Without the controllers there are no more events, so the writer ends after the last one.
    drop(controllers);
    let _ = timeout(EVENT_FLUSH_TIMEOUT, event_writer).await;
    match halt.is_cancelled() && !stop.is_cancelled() {
        true => Err(Fatal::Changed(driver_info.name)),
        false => Ok(()),
    }
}

/// Waits for the end of the time for a stop.
async fn overdue(halt: &CancellationToken) {
    halt.cancelled().await;
    sleep(STOP_TIMEOUT).await;
}
