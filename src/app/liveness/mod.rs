//! The livenessprobe, from its command line to its end: it tells the kubelet whether the driver beside it is alive.

pub mod flags;

use std::{process::ExitCode, sync::Arc};

use http::StatusCode;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::flags::{Config, MetricsPlace};
use crate::{
    app::sidecar::{metrics::CallMetrics, node::Fatal, process, signals, startup::wait_for_driver},
    csi::{Dialer, Driver, Needs},
    probe::Probe,
    telemetry::{
        http::{Endpoints, HttpServer, text},
        metrics::Registry,
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
    let registry = Registry::of_probe()?;
    let calls = CallMetrics::new(&registry)?;
    let driver = Driver::new(
        &dialer,
        config.driver.timeout,
        Needs::default(),
        // Upstream never has the label `migrated` here.
        Arc::new(move |call| {
            let code = call.code.to_string();
            calls.call(&call.driver_name, call.method, &code, None, call.took);
        }),
    );
    // Nothing listens before the driver is known: a kubelet that asks meanwhile is refused, as by upstream's.
    let Some(found) = stop.run_until_cancelled(wait_for_driver(&driver)).await else {
        return Ok(());
    };
    found?;
    let (probe, probing) = Probe::new(driver);
    let health = healthz(probe);
    let with_metrics = |endpoints: Endpoints| endpoints.metrics(&config.metrics_path, &registry);
    let listeners = match &config.metrics {
        MetricsPlace::Nowhere => vec![(&config.health, health)],
        MetricsPlace::WithHealth => vec![(&config.health, with_metrics(health))],
        MetricsPlace::At(address) => vec![
            (&config.health, health),
            (address, with_metrics(Endpoints::default())),
        ],
    };
    let mut servers = JoinSet::new();
    for (address, endpoints) in listeners {
        let server = HttpServer::bind(address).await?;
        tracing::info!(address = %server.address()?, "serving HTTP");
        servers.spawn(server.serve(endpoints, stop.clone()));
    }
    // A Probe that hangs holds up no end.
    let mut probing = JoinSet::from_iter([probing]);
    tokio::select! {
        () = process::unexpected_end(&mut probing, &stop) => return Err(Fatal::Defect),
        () = async { while servers.join_next().await.is_some() {} } => {}
    }
    match stop.is_cancelled() {
        true => Ok(()),
        false => Err(Fatal::Defect),
    }
}

/// `/healthz`: 200, or 500 with what is wrong.
fn healthz(probe: Probe) -> Endpoints {
    Endpoints::default().page("/healthz", move |_| {
        let probe = probe.clone();
        async move {
            match probe.check().await {
                Ok(()) => text(StatusCode::OK, "ok"),
                Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, reason.to_string()),
            }
        }
    })
}
