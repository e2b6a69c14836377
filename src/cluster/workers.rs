//! The workers of a queue: each key that it hands out is reconciled in a task of its own.
//!
//! A panic costs that one key a retry. And when the loop is dropped, because the lease is lost or the process stops, a
//! call that the driver is already working on goes on to its end instead of being cut off.

use std::{convert::Infallible, num::NonZeroUsize, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, interval_at, sleep_until},
};
use tokio_util::task::TaskTracker;

use super::queue::{Key, OnQueueEvent, Requeue, WorkQueue};
use crate::base::backoff::Backoff;

/// How often each object that needs work is looked at although nothing changed (upstream's resync): whatever was missed
/// is made good then.
const RESYNC: Duration = Duration::from_secs(15 * 60);

/// A work queue and the tasks that work on what it hands out.
pub struct WorkerPool {
    queue: Mutex<WorkQueue>,
    /// Something was added, or a worker has become free.
    changed: Notify,
    origin: Instant,
    tasks: TaskTracker,
    on_panic: Box<dyn Fn() + Send + Sync>,
}

impl WorkerPool {
    /// A pool that is not running. At most `workers` keys are reconciled at a time, failed ones again after `backoff`.
    /// `tasks` counts what runs; `on_panic` hears of each panic.
    pub fn new(
        workers: NonZeroUsize,
        backoff: Backoff,
        tasks: TaskTracker,
        on_event: OnQueueEvent,
        on_panic: impl Fn() + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(WorkQueue::new(workers.get(), backoff, on_event)),
            changed: Notify::new(),
            origin: Instant::now(),
            tasks,
            on_panic: Box::new(on_panic),
        })
    }

    /// The object of this key changed: it is reconciled as soon as a worker is free. No effect unless the pool runs.
    pub fn add(&self, key: &str) {
        self.queue.lock().add(key, self.now());
        self.changed.notify_one();
    }

    /// Reconciles until dropped: first what `keys` names, then what is added, and every 15 minutes what `keys` names
    /// then. What runs when this is dropped goes on to its end; the next run waits for it before it reconciles the same
    /// key.
    pub async fn run<F>(
        self: Arc<Self>,
        keys: impl Fn() -> Vec<String>,
        reconcile: impl Fn(Key) -> F + Send + Sync + 'static,
    ) -> Infallible
    where
        F: Future<Output = Requeue> + Send + 'static,
    {
        let reconcile = Arc::new(reconcile);
        self.queue.lock().open();
        let _close = CloseOnDrop(&self);
        // Named after opening, so that no change falls between the two.
        for key in keys() {
            self.queue.lock().add(&key, self.now());
        }
        self.queue.lock().forget_idle();
        let mut resync = interval_at(Instant::now() + RESYNC, RESYNC);
        loop {
            while let Some(key) = self.next() {
                self.spawn(key, reconcile.clone());
            }
            let wake = self.queue.lock().next_wake();
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(self.origin + wake.unwrap_or_default()), if wake.is_some() => {}
                _ = resync.tick() => {
                    let keys = keys();
                    let mut queue = self.queue.lock();
                    keys.iter().for_each(|key| queue.resync(key, self.now()));
                }
            }
        }
    }

    fn next(&self) -> Option<Key> {
        self.queue.lock().take(self.now())
    }

    fn spawn<F>(self: &Arc<Self>, key: Key, reconcile: Arc<impl Fn(Key) -> F + Send + Sync + 'static>)
    where
        F: Future<Output = Requeue> + Send + 'static,
    {
        let pool = self.clone();
        self.tasks.spawn(async move {
            // The run may have been dropped before this task began: then nothing new is begun.
            {
                let mut queue = pool.queue.lock();
                if !queue.is_open() {
                    return queue.done(&key, Requeue::After(Duration::ZERO), pool.now());
                }
            }
            let reconciled = AssertUnwindSafe(async { reconcile(key.clone()).await }).catch_unwind();
            let requeue = reconciled.await.unwrap_or_else(|_| {
                (pool.on_panic)();
                tracing::error!(
                    key = &*key,
                    "a defect: reconciling this object panicked; it is tried again later"
                );
                Requeue::Backoff
            });
            pool.queue.lock().done(&key, requeue, pool.now());
            pool.changed.notify_one();
        });
    }

    /// Whether the object of this key is being reconciled.
    pub fn is_processing(&self, key: &str) -> bool {
        self.queue.lock().is_processing(key)
    }

    /// How long the work that runs has taken so far, for each key.
    pub fn unfinished(&self) -> Vec<Duration> {
        self.queue.lock().unfinished(self.now()).collect()
    }

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.lock().len()
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

struct CloseOnDrop<'a>(&'a WorkerPool);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.queue.lock().close();
    }
}
