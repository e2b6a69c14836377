//! A standby's watch of the lease: it sees each renewal when it is made, so that it tries at the moment when the lease
//! runs out, and a release at once.
//!
//! Where the role does not grant `watch`, or where a watch breaks, the next poll finds the same, later.

use std::time::Duration;

use futures::{StreamExt as _, stream::BoxStream};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::Election;
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::leases::Leases,
};

/// How long a watch that was forbidden is not tried again: roles are corrected now and then.
const FORBIDDEN_PAUSE: Duration = Duration::from_secs(600);

/// A watch that is open or will be.
#[derive(Default)]
pub(super) struct LeaseWatch {
    state: WatchState,
    /// The latest answer was that our account may not watch leases: said once.
    denied: bool,
}

#[derive(Default)]
enum WatchState {
    /// The next pause opens one.
    #[default]
    Closed,
    /// One is open.
    Open {
        changes: BoxStream<'static, Result<Option<Value>, ApiError>>,
        since: Instant,
    },
    /// Our account may not watch leases: not before this moment.
    Forbidden(Instant),
}

impl LeaseWatch {
    fn open(&mut self, leases: &Leases, name: &str, version: Option<&str>) {
        let may_open = match self.state {
            WatchState::Closed => true,
            WatchState::Open { .. } => false,
            WatchState::Forbidden(until) => until <= Instant::now(),
        };
        if let (true, Some(version)) = (may_open, version) {
            self.state = WatchState::Open {
                changes: leases.watch(name, version),
                since: Instant::now(),
            };
        }
    }

    /// The lease after its next change, where `None` means deleted; or for how long the watch was open, when it ends.
    /// Waits for ever while none is open.
    async fn next(&mut self) -> Result<Option<Value>, Duration> {
        let WatchState::Open { changes, since } = &mut self.state else {
            return std::future::pending().await;
        };
        match changes.next().await {
            Some(Ok(lease)) => {
                self.denied = false;
                Ok(lease)
            }
            ended => {
                let open = since.elapsed();
                self.state = match ended {
                    Some(Err(error)) if error.reason == Reason::Forbidden => {
                        if !std::mem::replace(&mut self.denied, true) {
                            tracing::info!(
                                err = %error,
                                "Cannot watch the lease: its release and its end are noticed at the next poll only; the \
                                 watch is tried again every {FORBIDDEN_PAUSE:?}"
                            );
                        }
                        WatchState::Forbidden(Instant::now() + FORBIDDEN_PAUSE)
                    }
                    _ => WatchState::Closed,
                };
                Err(open)
            }
        }
    }
}

impl Election {
    /// Waits until it is time to try again: the lease runs out, is released or deleted, or nothing was heard of it for
    /// a poll interval.
    pub(super) async fn pause(&mut self, watch: &mut LeaseWatch) {
        let mut open = true;
        loop {
            if open {
                watch.open(&self.leases, &self.candidate.name, self.version.as_deref());
            }
            self.publish_standby();
            let pause = self.elector.pause(self.now(), fastrand::f64());
            let change = tokio::select! {
                () = sleep(pause) => return,
                change = watch.next() => change,
            };
            open = match change {
                Ok(lease) => {
                    self.observe(lease.as_ref());
                    if self.elector.left(self.now()).is_zero() {
                        return;
                    }
                    false
                }
                // Watches end now and then. One that ends at once must not spin: the next pause opens another.
                Err(open) => open >= self.candidate.timing.retry(),
            };
        }
    }
}
