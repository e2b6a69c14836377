//! When a sidecar competes for the Lease: while its driver is there.

use std::time::Duration;

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    csi::{Driver, DriverInfo, DriverState},
    telemetry::Readiness,
};

/// Whether this process should compete for the Lease: true unless the driver has been away for long.
pub(crate) struct Eligibility(pub(crate) watch::Receiver<bool>);

impl Eligibility {
    /// Follows the driver. A leader without its driver can do nothing, while another replica's driver may be ready:
    /// after three times `timeout`, at least 30 s, the Lease is given up until the driver is back. A driver that is
    /// there and not ready is no reason to: what it says to Probe need not hold for other calls, and while it is silent
    /// it may be at work for us, which the other replica's driver would then do a second time.
    ///
    /// The work was set up for the capabilities in `first`. When the driver comes back with other ones, `halt` is
    /// cancelled.
    pub(crate) fn watch(
        driver: &Driver,
        first: DriverInfo,
        halt: CancellationToken,
        timeout: Duration,
        ready: &Readiness,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let patience = (timeout * 3).max(Duration::from_secs(30));
        let (eligible, eligibility) = watch::channel(true);
        let (mut driver_state, ready) = (driver.driver_state(), ready.clone());
        tasks.spawn(async move {
            let mut pending = None;
            loop {
                let away_since = match &*driver_state.borrow_and_update() {
                    DriverState::Ready(now) => {
                        pending = None;
                        let same_version = DriverInfo {
                            vendor_version: first.vendor_version.clone(),
                            ..DriverInfo::clone(now)
                        };
                        if same_version != first {
                            tracing::warn!(
                                ?first,
                                ?now,
                                "the CSI driver has come back with other capabilities"
                            );
                            halt.cancel();
                        }
                        None
                    }
                    DriverState::Lost { since, reason } => {
                        pending.get_or_insert_with(|| ready.until("CSI driver"));
                        reason.is_absence().then(|| since.to_owned())
                    }
                };
                let deadline = away_since.map(|since| since + patience);
                let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
                eligible.send_if_modified(|eligible| std::mem::replace(eligible, !late) == late);
                let changed = tokio::select! {
                    changed = driver_state.changed() => changed,
                    () = sleep_until_some(deadline), if !late => Ok(()),
                };
                if changed.is_err() {
                    return;
                }
            }
        });
        Self(eligibility)
    }
}

/// Sleeps for ever without a deadline.
async fn sleep_until_some(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
