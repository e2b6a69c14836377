//! A standby's watch for the moment at which the leader gives the lease up, so that it takes over at once instead of at
//! its next poll.
//!
//! A convenience: where the role does not grant `watch`, or a watch breaks, the next poll finds the same.

use std::time::Duration;

use futures::{StreamExt as _, future::BoxFuture};
use kube::api::{WatchEvent, WatchParams};
use serde_json::Value;
use tokio::time::sleep;

use super::{api::LeaseApi, record::LeaderElectionRecord};

/// A watch that is open, will be, or is not allowed.
#[derive(Default)]
pub(super) enum Freed {
    /// The next pause opens one.
    #[default]
    Closed,
    /// One is open.
    Open(BoxFuture<'static, Watched>),
    /// Our account may not watch leases.
    Forbidden,
}

/// How a watch ended.
pub(super) enum Watched {
    /// The holder gave the lease up, or it was deleted.
    Free,
    /// Without news, as watches end now and then.
    Ended,
    Forbidden,
}

impl Freed {
    /// Sleeps for `pause`, or until the lease is free after `version`.
    pub(super) async fn pause(&mut self, pause: Duration, api: &LeaseApi, version: Option<&str>) {
        if let (Self::Closed, Some(version)) = (&self, version) {
            *self = Self::Open(watch(api, version));
        }
        let end = sleep(pause);
        tokio::pin!(end);
        if let Self::Open(watch) = self {
            tokio::select! {
                () = &mut end => return,
                watched = watch => match watched {
                    Watched::Free => {
                        *self = Self::Closed;
                        return;
                    }
                    // Not opened again before the pause is over: a watch that breaks at once must not spin.
                    Watched::Ended => *self = Self::Closed,
                    Watched::Forbidden => *self = Self::Forbidden,
                }
            }
        }
        end.await;
    }
}

fn watch(api: &LeaseApi, version: &str) -> BoxFuture<'static, Watched> {
    let only = WatchParams::default().fields(&format!("metadata.name={}", api.name));
    let (client, request) = (api.client.clone(), api.request.watch(&only, version));
    Box::pin(async move {
        let Ok(request) = request else {
            return Watched::Ended;
        };
        let mut events = match client.request_events::<Value>(request).await {
            Ok(events) => Box::pin(events),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                tracing::info!(
                    "a standby notices a free lease at its next look only: {}; add a rule with apiGroups \
                     [coordination.k8s.io], resources [leases], verbs [watch] to its role, and restart it",
                    status.message
                );
                return Watched::Forbidden;
            }
            Err(_) => return Watched::Ended,
        };
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Added(lease) | WatchEvent::Modified(lease)
                    if LeaderElectionRecord::read(&lease).holder.is_empty() =>
                {
                    return Watched::Free;
                }
                WatchEvent::Deleted(_) => return Watched::Free,
                WatchEvent::Error(_) => break,
                WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Bookmark(_) => {}
            }
        }
        Watched::Ended
    })
}
