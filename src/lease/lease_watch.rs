//! A standby's watch for the release of the lease, so that it takes over at once instead of at its next poll.
//!
//! It is a convenience: where the role does not grant `watch`, or where a watch breaks, the next poll finds the same.

use std::time::Duration;

use futures::{StreamExt as _, future::BoxFuture};
use tokio::time::sleep;

use super::record::LeaderElectionRecord;
use crate::{base::api_error::Reason, cluster::leases::Leases};

/// A watch that is open, will be, or is not allowed.
#[derive(Default)]
pub(super) enum ReleaseWatch {
    /// The next pause opens one.
    #[default]
    Closed,
    /// One is open.
    Open(BoxFuture<'static, WatchEnd>),
    /// Our account may not watch leases.
    Forbidden,
}

/// How a watch ended.
pub(super) enum WatchEnd {
    /// The holder gave the lease up, or it was deleted.
    Released,
    /// The lease was not released, as watches end now and then.
    Closed,
    /// Our account may not watch leases.
    Forbidden,
}

impl ReleaseWatch {
    /// Sleeps for `pause`, or until the lease is released after `version`.
    pub(super) async fn pause(
        &mut self,
        pause: Duration,
        leases: &Leases,
        name: &str,
        version: Option<&str>,
    ) {
        if let (Self::Closed, Some(version)) = (&self, version) {
            *self = Self::Open(open(leases, name, version));
        }
        let end = sleep(pause);
        tokio::pin!(end);
        if let Self::Open(watch) = self {
            tokio::select! {
                () = &mut end => return,
                ended = watch => match ended {
                    WatchEnd::Released => {
                        *self = Self::Closed;
                        return;
                    }
                    // Not opened again before the pause is over: a watch that breaks at once must not spin.
                    WatchEnd::Closed => *self = Self::Closed,
                    WatchEnd::Forbidden => *self = Self::Forbidden,
                }
            }
        }
        end.await;
    }
}

fn open(leases: &Leases, name: &str, version: &str) -> BoxFuture<'static, WatchEnd> {
    let mut changes = leases.watch(name, version);
    Box::pin(async move {
        while let Some(change) = changes.next().await {
            match change {
                Ok(Some(lease)) if !LeaderElectionRecord::read(&lease).holder.is_empty() => {}
                Ok(_) => return WatchEnd::Released,
                Err(error) if error.reason == Reason::Forbidden => {
                    tracing::info!(
                        err = %error,
                        "Cannot watch the lease: its release is noticed at the next poll only, until a restart"
                    );
                    return WatchEnd::Forbidden;
                }
                Err(_) => return WatchEnd::Closed,
            }
        }
        WatchEnd::Closed
    })
}
