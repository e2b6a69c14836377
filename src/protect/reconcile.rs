//! Puts the finalizer on a source, and takes it off.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::holders::{Holders, key_of, source_of};
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{
        active::Active,
        api::{ApiClient, LiveSource},
        queue::Requeue,
        source::{NotHeld, Source, SourceKind},
        workers::WorkerPool,
    },
    csi::DriverInfo,
};

/// How often a source is read and written when somebody else writes it in between: the snapshot controller does, when the
/// snapshot becomes ready.
const TRIES: usize = 5;

/// Where records may be that are not known, a source is looked at again after this pause.
const INCOMPLETE: Duration = Duration::from_secs(60);

/// What the claim of this UID names.
pub type SourceOf = Box<dyn Fn(&str) -> Option<Source> + Send + Sync>;

/// Who needs what.
pub struct SourceNeeds {
    /// UID and source of each claim of ours that waits, and of each open record.
    pub all: Box<dyn Fn() -> Vec<(String, Source)> + Send + Sync>,
    /// Who of them needs this source.
    pub of: Box<dyn Fn(&Source) -> NeededBy + Send + Sync>,
    /// The source of the claim of this UID, as long as that waits or has a record.
    pub source_of: SourceOf,
    /// Whether all open records are known.
    pub is_complete: Box<dyn Fn() -> bool + Send + Sync>,
}

/// Who needs a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeededBy {
    /// It may be freed.
    Nobody,
    /// A claim that waits, and for which nothing is under way.
    Claim,
    /// An open record: the driver may be copying it.
    Record,
}

/// What is known of a source.
#[derive(Debug, Default)]
struct Known {
    /// UID of the object that our finalizer is on.
    is_on: Option<String>,
    /// When it last could not be put on, and why. Who waited meanwhile fails with it: each trying again by itself would
    /// keep the workers from all other claims while the API server is slow.
    failed: Option<(Instant, ApiError)>,
}

/// What became of our finalizer on a source.
enum TakenOff {
    /// It is off, or none of our business.
    Off,
    /// Somebody can make use of the source still.
    Kept,
    /// Nothing was sent, because we do not lead any more.
    NotSent,
}

/// Lasts as long as the reconcile of a claim, also of one that panics.
pub struct ClaimGuard {
    protection: Arc<Protection>,
    claim: String,
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        self.protection.reconciled(&self.claim);
    }
}

/// The controller that keeps sources while volumes are made from them.
pub struct Protection {
    driver: String,
    /// What the driver makes volumes from.
    pub(super) kinds: Vec<SourceKind>,
    pub(super) api: ApiClient,
    active: Active,
    pub(super) pool: Arc<WorkerPool>,
    pub(super) needs: SourceNeeds,
    /// `None`: finalizers that others have left are not sought.
    pub(super) sweep_interval: Option<Duration>,
    pub(super) holders: Mutex<Holders>,
    /// What is known of a source. Who writes it holds its lock: nothing is taken off while it is put on, and of many that
    /// put it on one writes.
    known: Mutex<HashMap<Source, Arc<tokio::sync::Mutex<Known>>>>,
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
        needs: SourceNeeds,
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
            needs,
            sweep_interval,
            holders: Mutex::default(),
            known: Mutex::default(),
            denied: Mutex::default(),
            unlisted: Mutex::default(),
        }
    }

    /// A term begins: another replica may have written any source since.
    pub fn begin_term(&self) {
        self.holders.lock().begin_term((self.needs.all)());
        // One that is being written is known by whoever writes it.
        self.known.lock().retain(|_, known| Arc::strong_count(known) > 1);
    }

    /// Keeps a source for the claim of this UID, until its reconcile is over and nobody needs the source. `uid` is the
    /// object's that was read, `None` where the creation is under way already. Where we have no right to keep it, the
    /// volume is made all the same.
    ///
    /// # Errors
    /// [`NotHeld`]
    pub async fn hold(&self, source: &Source, uid: Option<&str>, claim: &str) -> Result<(), NotHeld> {
        self.holders.lock().begin(claim, source);
        let lock = self.lock_of(source);
        let began = Instant::now();
        let mut known = lock.lock().await;
        if known
            .is_on
            .as_deref()
            .is_some_and(|on| uid.is_none_or(|uid| uid == on))
        {
            return Ok(());
        }
        if let Some((_, error)) = known.failed.as_ref().filter(|(at, _)| *at > began) {
            return Err(error.clone().into());
        }
        match self.put_on(source, uid).await {
            Ok(done) => known.is_on = done,
            Err(NotHeld::Failed(error)) if error.reason == Reason::Forbidden => {
                if self.denied.lock().insert(source.kind) {
                    tracing::warn!(
                        %source, %error,
                        "sources of this kind are not protected: one may be deleted while a volume is made from it"
                    );
                }
            }
            Err(error) => {
                if let NotHeld::Failed(error) = &error {
                    known.failed = Some((Instant::now(), error.clone()));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn put_on(&self, source: &Source, uid: Option<&str>) -> Result<Option<String>, NotHeld> {
        for _ in 1..TRIES {
            match self.try_put_on(source, uid).await {
                Err(NotHeld::Failed(error)) if error.reason == Reason::Conflict => {}
                done => return done,
            }
        }
        self.try_put_on(source, uid).await
    }

    /// Returns the UID of the object that has it now. `None`: we do not lead any more.
    async fn try_put_on(&self, source: &Source, uid: Option<&str>) -> Result<Option<String>, NotHeld> {
        let live = self.api.live_source(source).await?.ok_or(NotHeld::Gone)?;
        if uid.is_some_and(|uid| uid != live.uid()) {
            return Err(NotHeld::MadeAnew);
        }
        let uid = live.uid().to_owned();
        if live.is_protected() {
            return Ok(Some(uid));
        }
        if live.is_deleting() {
            return Err(NotHeld::BeingDeleted);
        }
        let sent = self.api.protect_source(live, true, &self.active).await?;
        Ok(sent.then_some(uid))
    }

    /// The claim of this UID is being reconciled, until the guard is dropped.
    pub fn reconciling(self: &Arc<Self>, claim: &str) -> ClaimGuard {
        ClaimGuard {
            protection: self.clone(),
            claim: claim.to_owned(),
        }
    }

    /// The reconcile of the claim of this UID is over.
    pub(super) fn reconciled(&self, claim: &str) {
        let source = (self.needs.source_of)(claim);
        let source = self.holders.lock().end(claim, source);
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
        let mut known = lock.lock().await;
        let needed_by = self.needed_by(&source);
        // The claim that waits for a snapshot may have it, also one that is being deleted.
        if needed_by == NeededBy::Record
            || (needed_by, source.kind) == (NeededBy::Claim, SourceKind::Snapshot)
        {
            self.holders.lock().looked_at(&source);
            return Requeue::AwaitChange;
        }
        if !(self.needs.is_complete)() {
            return Requeue::After(INCOMPLETE);
        }
        let done = self.take_off(&source, needed_by).await;
        if !matches!(done, Ok(TakenOff::Kept)) {
            // Whatever comes of it: who needs the source next looks.
            known.is_on = None;
        }
        drop(known);
        match done {
            Ok(TakenOff::Off) => {
                self.holders.lock().looked_at(&source);
                self.drop_lock(&source, lock);
                Requeue::AwaitChange
            }
            Ok(TakenOff::Kept) => {
                self.holders.lock().looked_at(&source);
                Requeue::AwaitChange
            }
            // The term may go on.
            Ok(TakenOff::NotSent) => Requeue::Backoff,
            Err(error) => {
                tracing::warn!(%source, %error, "the finalizer stays on a source that nobody needs, it is tried again");
                Requeue::Backoff
            }
        }
    }

    /// Who needs the source, or is about to.
    fn needed_by(&self, source: &Source) -> NeededBy {
        match self.holders.lock().is_at_work(source) {
            true => NeededBy::Record,
            false => (self.needs.of)(source),
        }
    }

    async fn take_off(&self, source: &Source, needed_by: NeededBy) -> Result<TakenOff, ApiError> {
        let live = match self.api.live_source(source).await? {
            Some(live) if live.is_protected() => live,
            _ => return Ok(TakenOff::Off),
        };
        // A claim that is being deleted is cloned no more: whoever waits for it waits in vain, and it for them.
        if needed_by == NeededBy::Claim && !live.is_deleting() {
            return Ok(TakenOff::Kept);
        }
        if self.is_of_other_driver(source.kind, &live).await? {
            return Ok(TakenOff::Off);
        }
        match self.api.protect_source(live, false, &self.active).await {
            Ok(true) => Ok(TakenOff::Off),
            Ok(false) => Ok(TakenOff::NotSent),
            Err(error) if error.reason == Reason::NotFound => Ok(TakenOff::Off),
            Err(error) => Err(error),
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

    fn lock_of(&self, source: &Source) -> Arc<tokio::sync::Mutex<Known>> {
        self.known.lock().entry(source.clone()).or_default().clone()
    }

    /// Forgets the lock of a source, unless somebody waits for it.
    fn drop_lock(&self, source: &Source, lock: Arc<tokio::sync::Mutex<Known>>) {
        let mut known = self.known.lock();
        if Arc::strong_count(&lock) == 2 {
            known.remove(source);
        }
    }

    /// These are all that have our finalizer: what somebody else has taken off is put on again by the next claim.
    pub(super) fn correct(&self, kind: SourceKind, protected: &HashSet<&Source>) {
        for (source, known) in &*self.known.lock() {
            if source.kind == kind
                && !protected.contains(source)
                && let Ok(mut known) = known.try_lock()
            {
                known.is_on = None;
            }
        }
    }
}
