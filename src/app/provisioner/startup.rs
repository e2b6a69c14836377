//! Finds the driver, and refuses one that the provisioner cannot serve.

use std::sync::Arc;

use super::{Fatal, config::Config, metrics::Metrics, requirements};
use crate::{
    app::sidecar::startup,
    cluster::migration::in_tree_name,
    csi::{Dialer, Driver, DriverInfo, Needs},
    telemetry::Readiness,
};

/// Waits for the driver and asks it for its name and capabilities.
///
/// # Errors
/// The driver cannot be served.
pub(super) async fn find_driver(
    config: &Config,
    dialer: &Dialer,
    metrics: &Metrics,
    ready: &Readiness,
) -> Result<(Driver, DriverInfo), Fatal> {
    let _pending = ready.until("CSI driver");
    let metrics = metrics.calls.clone();
    let driver = Driver::new(
        dialer,
        config.driver.timeout,
        Needs {
            capabilities: true,
            node: config.node.is_some(),
        },
        Arc::new(move |call| {
            // Upstream has the label for drivers that took over from a plugin only.
            let migrated = in_tree_name(&call.driver_name).map(|_| call.migrated);
            let code = call.code.to_string();
            metrics.call(&call.driver_name, call.method, &code, migrated, call.took);
        }),
    );
    startup::wait_until_ready(&driver).await?;
    let driver_info = startup::identify(&driver).await?;
    requirements::check(&driver_info)?;
    tracing::info!(
        driver = driver_info.name,
        version = driver_info.vendor_version,
        "CSI driver"
    );
    Ok((driver, driver_info))
}
