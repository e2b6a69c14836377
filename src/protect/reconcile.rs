//! Puts the finalizer on a source, and takes it off.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use super::holders::{Holders, key_of, source_of};
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{
        active::Active,
        api::{ApiClient, LiveSource},
        queue::Requeue,
        source::{Source, SourceKind},
        workers::WorkerPool,
    },
    csi::DriverInfo,
};

/// How often a source is read and written when somebody else writes it in between: the snapshot controller does, when the
/// snapshot becomes ready.
const TRIES: usize = 5;

/// Who needs what: UID and source of each claim of ours that waits, and of each open record.
pub type Named = Box<dyn Fn() -> Vec<(String, Source)> + Send + Sync>;

/// The controller that keeps sources while volumes are made from them.
pub struct Protection {
    driver: String,
    /// What the driver makes volumes from.
    pub(super) kinds: Vec<SourceKind>,
    pub(super) api: ApiClient,
    active: Active,
    pub(super) pool: Arc<WorkerPool>,
    pub(super) named: Named,
    /// `None`: finalizers that others have left are not sought.
    pub(super) sweep_interval: Option<Duration>,
    pub(super) holders: Mutex<Holders>,
    /// Whether our finalizer is on a source, as far as is known. Who writes a source holds its lock: nothing is taken off
    /// while it is put on, and of many that put it on one writes.
    is_on: Mutex<HashMap<Source, Arc<tokio::sync::Mutex<bool>>>>,
    /// Kinds that we may not protect: said once.
    denied: Mutex<HashSet<SourceKind>>,
    /// Kinds of which the latest list failed, and why: said once.
    pub(super) unlisted: Mutex<HashMap<SourceKind, Reason>>,
}

impl Protection {
    /// `pool` is for sources only; `active` says whether anything may be written.
    pub fn new(
        driver: &DriverInfo,
        api: ApiClient,
        active: Active,
        pool: Arc<WorkerPool>,
        named: Named,
        sweep_interval: Option<Duration>,
    ) -> Self {
        let snapshots = driver.create_delete_snapshot.then_some(SourceKind::Snapshot);
        let claims = driver.clone.then_some(SourceKind::Claim);
        Self {
            driver: driver.name.clone(),
            kinds: snapshots.into_iter().chain(claims).collect(),
            api,
            active,
            pool,
            named,
            sweep_interval,
            holders: Mutex::default(),
            is_on: Mutex::default(),
            denied: Mutex::default(),
            unlisted: Mutex::default(),
        }
    }

    /// A term begins: another replica may have written any source since.
    pub fn begin_term(&self) {
        self.holders.lock().begin_term((self.named)());
        // One that is being written is known by whoever writes it.
        self.is_on.lock().retain(|_, is_on| Arc::strong_count(is_on) > 1);
    }

    /// Keeps a source for the claim of this UID, until [`Protection::reconciled`] is told of the claim and nobody needs the
    /// source. One that is gone or being deleted cannot be kept; where we have no right to, the volume is made all the same.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn hold(&self, source: &Source, claim: &str) -> Result<(), ApiError> {
        self.holders.lock().begin(claim, source);
        let lock = self.lock_of(source);
        let mut is_on = lock.lock().await;
        if *is_on {
            return Ok(());
        }
        match self.put_on(source).await {
            Ok(done) => *is_on = done,
            Err(error) if error.reason == Reason::Forbidden => {
                if self.denied.lock().insert(source.kind) {
                    tracing::warn!(
                        %source, %error,
                        "sources of this kind are not protected: one may be deleted while a volume is made from it"
                    );
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn put_on(&self, source: &Source) -> Result<bool, ApiError> {
        for _ in 1..TRIES {
            match self.try_put_on(source).await {
                Err(error) if error.reason == Reason::Conflict => {}
                done => return done,
            }
        }
        self.try_put_on(source).await
    }

    async fn try_put_on(&self, source: &Source) -> Result<bool, ApiError> {
        match self.api.live_source(source).await? {
            Some(live) if live.is_protected() => Ok(true),
            Some(live) if !live.is_deleting() => self.api.protect_source(live, true, &self.active).await,
            _ => Ok(false),
        }
    }

    /// The reconcile of the claim of this UID is over.
    pub fn reconciled(&self, claim: &str) {
        let source = self.holders.lock().end(claim);
        if let Some(source) = source {
            self.pool.add(&key_of(&source));
        }
    }

    /// Takes the finalizer off the source of this key, if nobody needs it.
    pub async fn reconcile(&self, key: &str) -> Requeue {
        let Some(source) = source_of(key) else {
            return Requeue::AwaitChange;
        };
        let lock = self.lock_of(&source);
        let mut is_on = lock.lock().await;
        if self.is_needed(&source) {
            return Requeue::AwaitChange;
        }
        // Whatever comes of it: who needs the source next looks.
        *is_on = false;
        let done = self.take_off(&source).await;
        drop(is_on);
        match done {
            Ok(true) => {
                self.holders.lock().forget(&source);
                self.drop_lock(&source, lock);
                Requeue::AwaitChange
            }
            // Nothing was sent, but the term may go on.
            Ok(false) => Requeue::Backoff,
            Err(error) => {
                tracing::warn!(%source, %error, "the finalizer stays on a source that nobody needs, it is tried again");
                Requeue::Backoff
            }
        }
    }

    /// Whether a claim that waits or an open record names the source, or is about to.
    fn is_needed(&self, source: &Source) -> bool {
        self.holders.lock().is_at_work(source) || (self.named)().iter().any(|(_, named)| named == source)
    }

    /// Whether it is off now, or is none of our business.
    async fn take_off(&self, source: &Source) -> Result<bool, ApiError> {
        match self.api.live_source(source).await? {
            Some(live) if live.is_protected() && !self.is_of_other_driver(source.kind, &live).await? => {
                match self.api.protect_source(live, false, &self.active).await {
                    Err(error) if error.reason == Reason::NotFound => Ok(true),
                    done => done,
                }
            }
            _ => Ok(true),
        }
    }

    /// Another driver may be copying it. One whose content or volume is gone is nobody's: no driver can copy it.
    async fn is_of_other_driver(&self, kind: SourceKind, live: &LiveSource) -> Result<bool, ApiError> {
        let Some(name) = live.bound_to() else {
            return Ok(false);
        };
        let driver = match kind {
            SourceKind::Snapshot => {
                let content = self.api.snapshot_content(name).await?;
                content.map(|content| content.driver)
            }
            SourceKind::Claim => {
                let volume = self.api.volume(name).await?;
                volume.map(|volume| volume.csi.map_or_else(String::new, |csi| csi.driver))
            }
        };
        Ok(driver.is_some_and(|driver| driver != self.driver))
    }

    fn lock_of(&self, source: &Source) -> Arc<tokio::sync::Mutex<bool>> {
        self.is_on.lock().entry(source.clone()).or_default().clone()
    }

    /// Forgets the lock of a source, unless somebody waits for it.
    fn drop_lock(&self, source: &Source, lock: Arc<tokio::sync::Mutex<bool>>) {
        let mut is_on = self.is_on.lock();
        if Arc::strong_count(&lock) == 2 {
            is_on.remove(source);
        }
    }

    /// These are all that have our finalizer: what somebody else has taken off is put on again by the next claim.
    pub(super) fn correct(&self, kind: SourceKind, protected: &HashSet<Source>) {
        for (source, is_on) in &*self.is_on.lock() {
            if source.kind == kind
                && !protected.contains(source)
                && let Ok(mut is_on) = is_on.try_lock()
            {
                *is_on = false;
            }
        }
    }
}
