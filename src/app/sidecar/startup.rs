//! The waits at start. Each says every ten seconds what is missing, and none of them ends the process for something
//! that may still come.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    base::reminder::{LOG_INTERVAL, Reminder},
    cluster::cache::{Need, SyncStatus},
    csi::{Code, Driver, DriverInfo, IdentifyError, NotADriver, RpcError},
};

/// Waits until the driver is ready.
///
/// # Errors
/// What listens on the socket is no CSI driver.
pub(crate) async fn wait_until_ready(driver: &Driver) -> Result<(), NotADriver> {
    log_while_pending("Probe", driver.wait_until_ready()).await
}

/// Asks a driver that was ready for its name and capabilities.
///
/// # Errors
/// The driver is refused.
pub(crate) async fn identify(driver: &Driver) -> Result<DriverInfo, IdentifyError> {
    // It was there a moment ago: a driver that restarts just now comes back.
    identify_unless(driver, |_| false).await
}

/// Waits for a driver that is not asked whether it is ready, and asks it who it is.
///
/// # Errors
/// The driver is refused, or what listens there does not know the question.
pub(crate) async fn wait_for_driver(driver: &Driver) -> Result<DriverInfo, IdentifyError> {
    let driver_info = identify_unless(driver, |rpc_error| rpc_error.code == Code::Unimplemented).await?;
    tracing::info!(
        driver = driver_info.name,
        version = driver_info.vendor_version,
        "CSI driver"
    );
    Ok(driver_info)
}

async fn identify_unless(
    driver: &Driver,
    is_final: impl Fn(&RpcError) -> bool,
) -> Result<DriverInfo, IdentifyError> {
    let (mut reminder, origin) = (Reminder::default(), Instant::now());
    loop {
        match log_while_pending("who it is", driver.identify()).await {
            Err(IdentifyError::RpcError(rpc_error)) if !is_final(&rpc_error) => {
                let error = IdentifyError::RpcError(rpc_error);
                if reminder.is_due(&error, origin.elapsed()) {
                    tracing::warn!("waiting: {error}");
                }
                sleep(Duration::from_secs(1)).await;
            }
            done => return done,
        }
    }
}

/// Says what it waits for while one call takes long: `--timeout` may be minutes.
async fn log_while_pending<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::pin!(call);
    loop {
        match timeout(LOG_INTERVAL, &mut call).await {
            Ok(done) => return done,
            Err(_) => tracing::warn!("waiting: the CSI driver has not answered {what} yet"),
        }
    }
}

/// Waits until the first list of everything is complete.
pub(crate) async fn wait_for_cache_sync(mut status: watch::Receiver<SyncStatus>) {
    loop {
        if timeout(
            LOG_INTERVAL,
            status.wait_for(|status| status.has_synced(Need::Volumes)),
        )
        .await
        .is_ok()
        {
            return;
        }
        for missing in status.borrow().missing(Need::Volumes) {
            tracing::warn!("waiting: {missing}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::csi::{ConnectError, Dialer, Needs};

    fn dialer(double: &sandbox::Driver) -> Dialer {
        let double = double.clone();
        Dialer::over(move || {
            let pipe = double.connect().map_err(|error| ConnectError::Other {
                path: "/csi.sock".into(),
                reason: error.to_string(),
            });
            std::future::ready(pipe)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_is_an_hour_late_is_still_waited_for_and_asked_for_its_name_alone() {
        let double = sandbox::Driver::new("d.io");
        double.stop();
        let on_call = Arc::new(|_: &_| {});
        let driver = Driver::new(
            &dialer(&double),
            Duration::from_secs(1),
            Needs::default(),
            on_call,
        );
        let late = async {
            sleep(Duration::from_secs(3600)).await;
            double.start();
        };
        let (found, ()) = tokio::join!(wait_for_driver(&driver), late);
        assert_eq!(found.unwrap().name, "d.io");
        let asked: Vec<_> = double.calls().into_iter().map(|call| call.method).collect();
        assert_eq!(asked, ["GetPluginInfo"]);
    }
}
