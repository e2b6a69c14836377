//! Works through a hot set: `kube_runtime`'s applier, and what it lacks.
//!
//! Each attempt runs in a task of its own. A panic costs that one object a retry; and when the loop is dropped, because
//! the lease is lost or the process stops, a call that the driver is already working on goes on to its end instead of
//! being cut off.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{FutureExt, StreamExt, stream};
use kube::runtime::controller::{Action, Config, applier};
use tokio::{
    sync::{OwnedMutexGuard, Semaphore},
    time::Duration,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::hot::{HotSet, Item};
use crate::base::backoff::Backoff;

/// When to look at an object again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When it changes.
    AwaitChange,
    /// After this long, or when it changes. Failures counted so far are kept.
    After(Duration),
    /// After a delay that doubles with each failure, or when it changes.
    Backoff,
}

/// Whether the work is ours to do at the moment: the lease is, or there is no election.
///
/// A turn that began while it was may reach its call to the driver when it is no more, after a request to the API
/// server that hung. So the last look is right before the call.
#[derive(Clone, Default)]
pub struct Active(Arc<AtomicBool>);

impl Active {
    /// Takes it, until the guard is dropped.
    pub fn take(&self) -> ActiveGuard {
        self.0.store(true, Ordering::SeqCst);
        ActiveGuard(self.clone())
    }

    /// Whether it is ours.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The duty is ours while this exists.
#[must_use = "dropping it ends the active"]
pub struct ActiveGuard(Active);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::SeqCst);
    }
}

/// How a hot set is worked through.
#[derive(Clone)]
pub struct Crew {
    /// How many objects are worked on at a time; at least 1.
    pub workers: u16,
    /// First and longest delay after failures.
    pub retry: Backoff,
    /// Objects being worked on, over restarts of the loop.
    pub busy: Busy,
    /// The tasks that are running, for whoever waits for them at the end.
    pub tasks: TaskTracker,
    /// Hears of each panic.
    pub on_panic: Arc<dyn Fn() + Send + Sync>,
}

impl Crew {
    /// Works through `set` until dropped.
    pub async fn work<R, F>(self, set: Arc<HotSet<R>>, attempt: impl Fn(Arc<R>) -> F + Send + Sync + 'static)
    where
        R: Send + Sync + 'static,
        F: Future<Output = Requeue> + Send + 'static,
    {
        let term = CancellationToken::new();
        let _end = term.clone().drop_guard();
        let arrivals = set.open();
        let _open = OpenLine(set.clone());
        let arrivals = stream::unfold(arrivals, |mut arrivals| async {
            let next = arrivals.recv().await?;
            Some((Ok::<_, Infallible>(next), arrivals))
        });

        let attempt = Arc::new(attempt);
        let store = set.store();
        // applier keeps what is due but cannot run yet in a hash set, and takes what it finds first: with more to do
        // than workers some objects would never have their turn. A semaphore is first come, first served.
        let workers = Arc::new(Semaphore::new(usize::from(self.workers.max(1))));
        let reconcile = move |item: Arc<Item<R>>, _: Arc<()>| {
            let uid = kube::ResourceExt::name_any(item.as_ref());
            let (set, term, attempt, crew) = (set.clone(), term.clone(), attempt.clone(), self.clone());
            let workers = workers.clone();
            async move { Ok::<_, Infallible>(crew.update(set, &uid, term, workers, attempt).await) }.boxed()
        };
        applier(
            reconcile,
            |_, never: &Infallible, _| match *never {},
            Arc::new(()),
            store,
            arrivals.boxed(),
            Config::default(),
        )
        // An object that left the set while it waited is not an error here, and there is no other.
        .for_each(|_| ready(()))
        .await;
    }

    /// One object's turn.
    async fn update<R, F>(
        &self,
        set: Arc<HotSet<R>>,
        uid: &str,
        term: CancellationToken,
        workers: Arc<Semaphore>,
        attempt: Arc<impl Fn(Arc<R>) -> F + Send + Sync + 'static>,
    ) -> Action
    where
        R: Send + Sync + 'static,
        F: Future<Output = Requeue> + Send + 'static,
    {
        set.queue(uid);
        // Whoever waits for an attempt that still runs takes no worker meanwhile.
        let update = self.busy.enter(uid).await;
        let worker = workers.acquire_owned().await;
        let (crew, uid) = (self.clone(), uid.to_owned());
        let task = self.tasks.spawn(async move {
            let _hold = (update, worker);
            // The loop may have gone since, and an attempt of an earlier term may have finished the object.
            if term.is_cancelled() {
                return Action::await_change();
            }
            let Some(row) = set.start(&uid) else {
                return Action::await_change();
            };
            let done = AssertUnwindSafe(async { attempt(row).await })
                .catch_unwind()
                .await;
            set.finish(&uid);
            let again = done.unwrap_or_else(|_| {
                (crew.on_panic)();
                tracing::error!(
                    uid,
                    "a defect: working on this object panicked; it is tried again later"
                );
                Requeue::Backoff
            });
            match again {
                Requeue::AwaitChange => {
                    set.succeeded(&uid);
                    Action::await_change()
                }
                Requeue::After(delay) => Action::requeue(delay),
                Requeue::Backoff => Action::requeue(crew.retry.delay(set.failed(&uid))),
            }
        });
        // It cannot fail, unless the runtime is shut down.
        task.await.unwrap_or_else(|_| Action::await_change())
    }
}

/// Closes the line when the loop is dropped.
struct OpenLine<R: Send + Sync + 'static>(Arc<HotSet<R>>);

impl<R: Send + Sync + 'static> Drop for OpenLine<R> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// At most one attempt per object at a time, also across loops that share it and across restarts of a loop.
#[derive(Clone, Default)]
pub struct Busy(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

impl Busy {
    /// Waits until nobody works on this object.
    async fn enter(&self, uid: &str) -> Turn {
        let lock = {
            let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(uid.to_owned()).or_default().clone()
        };
        // Made before waiting: a waiter that is dropped tidies up as well.
        let mut update = Turn {
            busy: self.clone(),
            uid: uid.to_owned(),
            held: None,
        };
        update.held = Some(lock.lock_owned().await);
        update
    }
}

#[cfg(test)]
impl Busy {
    /// How many objects are worked on.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

struct Turn {
    busy: Busy,
    uid: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut locks = self.busy.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the table holds it: nobody waits.
        if locks
            .get(&self.uid)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            locks.remove(&self.uid);
        }
    }
}
