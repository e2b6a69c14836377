//! Works as long as this replica leads, and seeks the finalizers that nobody needs any more: a process that was killed
//! has left them, or one without durable records.

use std::{collections::HashSet, convert::Infallible, future::pending, sync::Arc};

use tokio::time::sleep;

use super::{holders::key_of, reconcile::Protection};
use crate::{
    base::api_error::Reason,
    cluster::{api::ProtectedSource, source::SourceKind},
};

impl Protection {
    /// Works until dropped.
    pub async fn run(self: &Arc<Self>) -> Infallible {
        let this = self.clone();
        let sources = self.pool.clone().run(
            || self.holders.lock().sources().iter().map(key_of).collect(),
            move |key| {
                let this = this.clone();
                async move { this.reconcile(&key).await }
            },
        );
        tokio::join!(sources, self.sweeps()).0
    }

    async fn sweeps(&self) -> Infallible {
        let Some(interval) = self.sweep_interval else {
            return pending().await;
        };
        loop {
            for kind in &self.kinds {
                self.sweep(*kind).await;
            }
            sleep(interval).await;
        }
    }

    async fn sweep(&self, kind: SourceKind) {
        let protected = match self.api.protected_sources(kind).await {
            Ok(protected) => protected,
            Err(error) => {
                let before = self.unlisted.lock().insert(kind, error.reason);
                if before != Some(error.reason) {
                    let hint = match error.reason {
                        Reason::NotFound => "there are none",
                        _ => "it is tried again at the next sweep",
                    };
                    tracing::warn!(%kind, %error, "finalizers that nobody needs are not sought: {hint}");
                }
                return;
            }
        };
        self.unlisted.lock().remove(&kind);
        self.correct(kind, &protected.iter().map(|it| &it.source).collect());
        let named = (self.needs.all)();
        let needed: HashSet<_> = named.iter().map(|(_, source)| source).collect();
        for ProtectedSource { source, deleting } in &protected {
            if *deleting || !needed.contains(source) {
                self.pool.add(&key_of(source));
            }
        }
    }
}
