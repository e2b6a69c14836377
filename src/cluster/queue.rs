//! Pure. The work queue: which key is worked on next, and which ones have to wait.
//!
//! client-go's queue, delaying queue and rate limiter in one, because here they have to agree: a key is in one state at
//! a time. What informers enqueue there, the cache's events add here. A key that is added while it is worked on becomes
//! dirty and is handed out once more afterwards, so no key is worked on twice at the same time. Keys are handed out
//! first come, first served. Moments are durations since some fixed one.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::base::backoff::Backoff;

/// The UID of an object, or another name that stays the same.
pub type Key = Arc<str>;

/// When to look at an object again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// When it changes. What failed before is forgotten.
    AwaitChange,
    /// After this long, or when it changes. Failures counted so far are kept.
    After(Duration),
    /// After a delay that doubles with each failure, or when it changes.
    Backoff,
}

/// What happened to a queue. Feeds the `workqueue_*` metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// A key waits for a worker.
    Add,
    /// A worker took a key, which had waited so long.
    Get(Duration),
    /// The work on a key ended, and took so long.
    Done(Duration),
    /// A key waits no more, and nobody took it: the queue was closed.
    Forget,
    /// A key will be handed out again because of a failure.
    Retry,
}

/// Called with each [`QueueEvent`], in the order in which they happen. It must not use the queue.
pub type OnQueueEvent = Box<dyn Fn(QueueEvent) + Send + Sync>;

/// The keys that need work.
pub struct WorkQueue {
    workers: usize,
    backoff: Backoff,
    on_event: OnQueueEvent,
    /// Only an open queue takes keys. A closed one remembers failures, and what is worked on still.
    open: bool,
    items: HashMap<Key, Item>,
    /// Keys that wait for a worker, by the order in which they came.
    waiting: BTreeMap<u64, Key>,
    /// Keys that wait for a moment, by that moment.
    delayed: BTreeMap<(Duration, u64), Key>,
    processing: usize,
    next_number: u64,
}

struct Item {
    failures: u32,
    state: State,
}

enum State {
    /// Waits for a worker.
    Waiting { since: Duration },
    /// Waits for a moment.
    Delayed { until: Duration, number: u64 },
    /// Is worked on. Dirty: it was added meanwhile, and is handed out again at once.
    Processing { since: Duration, dirty: bool },
    /// Is remembered for its failures only.
    Idle,
}

impl WorkQueue {
    /// A closed, empty queue that hands out at most `workers` keys at a time.
    pub fn new(workers: usize, backoff: Backoff, on_event: OnQueueEvent) -> Self {
        Self {
            workers: workers.max(1),
            backoff,
            on_event,
            open: false,
            items: HashMap::new(),
            waiting: BTreeMap::new(),
            delayed: BTreeMap::new(),
            processing: 0,
            next_number: 0,
        }
    }

    /// Takes keys from now on.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// Takes no more keys, and forgets who waits. Failures, and the keys that are worked on still, are remembered.
    pub fn close(&mut self) {
        self.open = false;
        for _ in &self.waiting {
            (self.on_event)(QueueEvent::Forget);
        }
        self.waiting.clear();
        self.delayed.clear();
        self.items.retain(|_, item| {
            match &mut item.state {
                State::Processing { dirty, .. } => *dirty = false,
                State::Waiting { .. } | State::Delayed { .. } | State::Idle => item.state = State::Idle,
            }
            item.failures > 0 || matches!(item.state, State::Processing { .. })
        });
    }

    /// A change is a reason to work on a key now, whatever delay it was under.
    pub fn add(&mut self, key: &str, now: Duration) {
        if !self.open {
            return;
        }
        match self.items.get_mut(key).map(|item| &mut item.state) {
            Some(State::Waiting { .. }) => {}
            Some(State::Processing { dirty, .. }) => *dirty = true,
            Some(State::Delayed { until, number }) => {
                self.delayed.remove(&(*until, *number));
                self.wait(key, now);
            }
            Some(State::Idle) | None => self.wait(key, now),
        }
    }

    /// The key is worth another look, although nothing changed. One that waits for a moment is looked at then, so that
    /// this shortens no delay.
    pub fn resync(&mut self, key: &str, now: Duration) {
        if !matches!(
            self.items.get(key).map(|item| &item.state),
            Some(State::Delayed { .. } | State::Processing { .. })
        ) {
            self.add(key, now);
        }
    }

    /// The next key, if one waits and a worker is free. It is worked on until [`WorkQueue::done`].
    pub fn take(&mut self, now: Duration) -> Option<Key> {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let ((due, _), key) = entry.remove_entry();
            self.wait(&key, due);
        }
        if self.processing >= self.workers {
            return None;
        }
        let (_, key) = self.waiting.pop_first()?;
        let item = self.items.get_mut(&key)?;
        if let State::Waiting { since } = item.state {
            (self.on_event)(QueueEvent::Get(now.saturating_sub(since)));
        }
        item.state = State::Processing {
            since: now,
            dirty: false,
        };
        self.processing += 1;
        Some(key)
    }

    /// The work on a key that was taken has ended.
    pub fn done(&mut self, key: &str, requeue: Requeue, now: Duration) {
        let Some(item) = self.items.get_mut(key) else {
            return;
        };
        let State::Processing { since, dirty } = item.state else {
            return;
        };
        item.state = State::Idle;
        self.processing -= 1;
        (self.on_event)(QueueEvent::Done(now.saturating_sub(since)));
        let delay = match requeue {
            Requeue::After(delay) => Some(delay),
            Requeue::Backoff => {
                let delay = self.backoff.delay(item.failures);
                item.failures = item.failures.saturating_add(1);
                (self.on_event)(QueueEvent::Retry);
                Some(delay)
            }
            Requeue::AwaitChange => {
                item.failures = 0;
                None
            }
        };
        match delay {
            _ if !self.open => {}
            _ if dirty => self.wait(key, now),
            Some(delay) => self.delay(key, now.saturating_add(delay)),
            None => {}
        }
        self.tidy(key);
    }

    /// Forgets the failures of keys that nobody has added since the queue was opened: their objects have gone.
    pub fn forget_idle(&mut self) {
        self.items.retain(|_, item| !matches!(item.state, State::Idle));
    }

    /// Whether the queue takes keys.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// When [`WorkQueue::take`] is worth another call although nothing was added and nothing ended.
    pub fn next_wake(&self) -> Option<Duration> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// How long the work that runs has taken so far, for each key.
    pub fn unfinished(&self, now: Duration) -> impl Iterator<Item = Duration> {
        self.items.values().filter_map(move |item| match item.state {
            State::Processing { since, .. } => Some(now.saturating_sub(since)),
            _ => None,
        })
    }

    /// Whether a key is worked on.
    pub fn is_processing(&self, key: &str) -> bool {
        let state = self.items.get(key).map(|item| &item.state);
        matches!(state, Some(State::Processing { .. }))
    }

    /// How many keys are remembered for whatever reason.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Nothing waits, nothing is worked on, nothing failed lately.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Puts a key that nobody has at the end of those that wait for a worker.
    fn wait(&mut self, key: &str, since: Duration) {
        let number = self.number();
        let key = self.enter(key, State::Waiting { since });
        self.waiting.insert(number, key);
        (self.on_event)(QueueEvent::Add);
    }

    fn delay(&mut self, key: &str, until: Duration) {
        let number = self.number();
        let key = self.enter(key, State::Delayed { until, number });
        self.delayed.insert((until, number), key);
    }

    fn enter(&mut self, key: &str, state: State) -> Key {
        if let Some(item) = self.items.get_mut(key) {
            item.state = state;
        } else {
            self.items.insert(key.into(), Item { failures: 0, state });
        }
        let key = self.items.get_key_value(key).map(|(key, _)| key.clone());
        key.unwrap_or_default()
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Lets a key go about which there is nothing to remember.
    fn tidy(&mut self, key: &str) {
        let idle = |item: &Item| item.failures == 0 && matches!(item.state, State::Idle);
        if self.items.get(key).is_some_and(idle) {
            self.items.remove(key);
        }
        // A map does not shrink by itself: without this, one burst would cost its memory for ever.
        if self.items.is_empty() {
            self.items = HashMap::new();
        }
    }
}
