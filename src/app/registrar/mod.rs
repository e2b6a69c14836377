//! The node-driver-registrar, from its command line to its end: it makes the driver beside it known to the kubelet.

pub mod flags;

use std::{process::ExitCode, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::flags::Config;
use crate::{
    app::sidecar::{process, signals, startup::wait_for_driver},
    csi::{Address, Dialer, Driver, IdentifyError, Needs, connect::BadAddress},
    kubelet::HealthError,
    register::{Ended, RegisterError, RegistrationHealth, register},
    telemetry::http::{Endpoints, HttpError, HttpServer, text},
};

/// Why the sidecar ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The driver cannot be addressed.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// What listens on the socket is no CSI driver, or has no name.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
    /// The driver is not registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The HTTP endpoint.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A signal handler could not be registered.
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl process::ExitStatus for Fatal {
    fn code(&self) -> u8 {
        1
    }
}

/// The process.
pub fn main() -> ExitCode {
    process::run(
        flags::NAME,
        process::Threads::Main,
        flags::parse(std::env::args()),
        async |config: Config| {
            let dialer = Dialer::to(config.address.parse::<Address>()?);
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
    // Dropping the set ends the server.
    let mut servers = JoinSet::new();
    if let Some(address) = &config.health {
        let server = HttpServer::bind(address).await?;
        tracing::info!(address = %server.address()?, "serving HTTP");
        servers.spawn(server.serve(healthz(health.clone(), config.timeout), stop.clone()));
    }
    loop {
        // A driver keeps the name by which it was first known, so another name is another driver.
        let driver = Driver::new(&dialer, config.timeout, Needs::default(), Arc::new(|_| {}));
        let Some(found) = stop.run_until_cancelled(wait_for_driver(&driver)).await else {
            return Ok(());
        };
        let driver_info = found?;
        tracing::info!(
            driver = driver_info.name,
            version = driver_info.vendor_version,
            "CSI driver"
        );
        match register(&config.kubelet, &driver, &driver_info.name, &health, &stop).await? {
            Ended::Stopped => return Ok(()),
            Ended::Renamed => {}
        }
    }
}

/// `/healthz`: 200; 404 where the registration socket is gone; 500 for all else.
fn healthz(health: RegistrationHealth, limit: Duration) -> Endpoints {
    Endpoints::default().page("/healthz", move |_| {
        let health = health.clone();
        async move {
            match health.check(limit).await {
                Ok(()) => text(StatusCode::OK, "ok"),
                Err(error @ HealthError::Missing { .. }) => text(StatusCode::NOT_FOUND, error.to_string()),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
    })
}
