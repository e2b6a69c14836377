//! The node-driver-registrar, from its command line to its end: it makes the driver beside it known to the kubelet.

pub mod flags;

use std::{process::ExitCode, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::flags::Config;
use crate::{
    app::sidecar::{node::Fatal, process, signals, startup::wait_for_driver},
    csi::{Dialer, Driver, Needs},
    kubelet::HealthError,
    register::{Ended, RegistrationHealth, register},
    telemetry::{
        SharedCheck,
        http::{Endpoints, HttpServer, text},
    },
};

/// The process.
pub fn main() -> ExitCode {
    process::run(
        flags::NAME,
        process::Threads::Main,
        flags::parse(std::env::args()),
        |config| (&config.logging, &config.warnings),
        async |config: Config| {
            let dialer = config.driver.dialer()?;
            run(config, dialer, signals::stop()?).await
        },
    )
}

/// The sidecar, until `stop`.
///
/// # Errors
/// [`Fatal`]
pub async fn run(config: Config, dialer: Dialer, stop: CancellationToken) -> Result<(), Fatal> {
    let health = RegistrationHealth::default();
    // Dropping the set ends them.
    let mut tasks = JoinSet::new();
    if let Some(address) = &config.health {
        let server = HttpServer::bind(address).await?;
        tracing::info!(address = %server.address()?, "serving HTTP");
        let (endpoints, checking) = healthz(health.clone(), config.driver.timeout);
        tasks.spawn(checking);
        tasks.spawn(server.serve(endpoints, stop.clone()));
    }
    tokio::select! {
        ended = offer(&config, &dialer, &health, &stop) => ended,
        () = process::unexpected_end(&mut tasks, &stop), if !tasks.is_empty() => Err(Fatal::Defect),
    }
}

/// Offers the driver to the kubelet, under whatever name it has.
async fn offer(
    config: &Config,
    dialer: &Dialer,
    health: &RegistrationHealth,
    stop: &CancellationToken,
) -> Result<(), Fatal> {
    loop {
        // A driver keeps the name by which it was first known, so another name is another driver.
        let driver = Driver::new(dialer, config.driver.timeout, Needs::default(), Arc::new(|_| {}));
        let Some(found) = stop.run_until_cancelled(wait_for_driver(&driver)).await else {
            return Ok(());
        };
        let driver_info = found?;
        match register(&config.kubelet, &driver, &driver_info.name, health, stop).await? {
            Ended::Stopped => return Ok(()),
            Ended::Renamed => {}
        }
    }
}

/// `/healthz`: 200; 404 where the registration socket is gone; 500 for all else. And the work behind it: one check runs
/// for all who ask, because each is a connection to our own socket, on which the kubelet is to have room.
fn healthz(
    health: RegistrationHealth,
    limit: Duration,
) -> (Endpoints, impl Future<Output = ()> + Send + 'static) {
    let (check, checking) = SharedCheck::new(move || {
        let health = health.clone();
        async move { health.check(limit).await.map_err(Arc::new) }
    });
    let endpoints = Endpoints::default().page("/healthz", move |_| {
        let check = check.clone();
        async move {
            let error = match check.ask().await {
                Some(Ok(())) => return text(StatusCode::OK, "ok"),
                Some(Err(error)) => error,
                None => return text(StatusCode::INTERNAL_SERVER_ERROR, "the process is about to end"),
            };
            let code = match *error {
                HealthError::Missing { .. } => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            text(code, error.to_string())
        }
    });
    (endpoints, checking)
}
