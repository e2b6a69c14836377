//! The waits at start. Each says every ten seconds what is missing, and none of them ends the process for something that
//! may still come.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    Fatal,
    config::{self, Config},
    leadership::LastResponse,
    metrics::Metrics,
};
use crate::{
    cluster::cache::SyncStatus,
    csi::{Dialer, Driver, DriverInfo, IdentifyError},
    lease::Health,
    telemetry::{Readiness, http::Endpoints},
};

/// How often a wait says what it waits for.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What the pages show.
pub(super) fn endpoints(
    serving: &config::Serving,
    elected: bool,
    metrics: &Metrics,
    ready: &Readiness,
    health: &Arc<OnceLock<Health>>,
) -> Endpoints {
    let mut endpoints = Endpoints {
        metrics: metrics.registry.clone(),
        metrics_path: serving.metrics_path.clone(),
        ready: ready.clone(),
        checks: Vec::new(),
    };
    if elected && serving.leader_health {
        let health = health.clone();
        let check = move || health.get().map_or(Ok(()), Health::check);
        endpoints.checks.push(("leader-election", Arc::new(check)));
    }
    endpoints
}

/// Finds the driver and asks who it is.
pub(super) async fn meet(
    config: &Config,
    line: &Dialer,
    metrics: &Metrics,
    ready: &Readiness,
    last_response: &LastResponse,
) -> Result<(Driver, DriverInfo), Fatal> {
    let _pending = ready.until("CSI driver");
    let (counted, last_response) = (metrics.sidecar.clone(), last_response.clone());
    let driver = Driver::new(
        line,
        config.driver.timeout,
        Arc::new(move |call| {
            last_response.note(call);
            counted.call(&call.driver_name, call.method, &call.code.to_string(), call.took);
        }),
    );
    patiently("Probe", driver.wait_until_ready()).await?;
    let mut said = None::<Instant>;
    let driver_info = loop {
        match patiently("who it is", driver.identify()).await {
            Ok(driver_info) => break driver_info,
            // It was there a moment ago: a driver that restarts just now comes back.
            Err(error @ IdentifyError::RpcError(_)) => {
                if said.is_none_or(|said| said.elapsed() >= LOG_INTERVAL) {
                    tracing::warn!("waiting: {error}");
                    said = Some(Instant::now());
                }
                sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    tracing::info!(
        driver = driver_info.name,
        version = driver_info.vendor_version,
        "CSI driver"
    );
    if driver_info.topology && config.gates.topology {
        return Err(Fatal::Topology(driver_info.name));
    }
    Ok((driver, driver_info))
}

/// Says what it waits for while one call takes long: `--timeout` may be minutes.
async fn patiently<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::pin!(call);
    loop {
        match timeout(LOG_INTERVAL, &mut call).await {
            Ok(done) => return done,
            Err(_) => tracing::warn!("waiting: the CSI driver has not answered {what} yet"),
        }
    }
}

/// Waits until the first list of everything is complete.
pub(super) async fn wait_for_cache_sync(mut progress: watch::Receiver<SyncStatus>) {
    loop {
        if timeout(LOG_INTERVAL, progress.wait_for(SyncStatus::has_synced))
            .await
            .is_ok()
        {
            return;
        }
        for missing in progress.borrow().missing() {
            tracing::warn!("waiting: {missing}");
        }
    }
}
