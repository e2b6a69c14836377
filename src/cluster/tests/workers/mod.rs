//! Workers that reconcile what a work queue hands out.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant, sleep},
};
use tokio_util::task::TaskTracker;

use crate::{
    base::backoff::Backoff,
    cluster::{
        queue::{QueueEvent, Requeue},
        workers::WorkerPool,
    },
};

mod cost;
mod interleavings;
mod runs;

/// What the metrics of a queue would show.
#[derive(Default)]
struct Figures {
    depth: AtomicI64,
    processing: AtomicI64,
    retries: AtomicUsize,
}

impl Figures {
    fn hear(&self, event: QueueEvent) {
        let change = |count: &AtomicI64, by| {
            let now = count.fetch_add(by, Ordering::SeqCst) + by;
            assert!(now >= 0, "{event:?} makes {now}");
        };
        match event {
            QueueEvent::Add => change(&self.depth, 1),
            QueueEvent::Get(_) => {
                change(&self.depth, -1);
                change(&self.processing, 1);
            }
            QueueEvent::Done(_) => change(&self.processing, -1),
            QueueEvent::Forget => change(&self.depth, -1),
            QueueEvent::Retry => {
                self.retries.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    fn depth(&self) -> i64 {
        self.depth.load(Ordering::SeqCst)
    }

    fn processing(&self) -> i64 {
        self.processing.load(Ordering::SeqCst)
    }
}

/// A pool over objects that a test puts and removes, and when each was reconciled.
#[derive(Clone)]
struct Objects {
    pool: Arc<WorkerPool>,
    objects: Arc<Mutex<BTreeMap<String, u32>>>,
    figures: Arc<Figures>,
    tasks: TaskTracker,
    panics: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<(u32, Duration)>>>,
    born: Instant,
}

impl Objects {
    fn new(workers: usize) -> Self {
        let (figures, tasks) = (Arc::new(Figures::default()), TaskTracker::new());
        let panics = Arc::new(AtomicUsize::new(0));
        let (heard, counted) = (figures.clone(), panics.clone());
        let backoff = Backoff {
            start: secs(1),
            max: secs(10),
        };
        let pool = WorkerPool::new(
            NonZeroUsize::new(workers).unwrap(),
            backoff,
            tasks.clone(),
            Box::new(move |event| heard.hear(event)),
            move || {
                counted.fetch_add(1, Ordering::SeqCst);
            },
        );
        Self {
            pool,
            objects: Arc::default(),
            figures,
            tasks,
            panics,
            log: Arc::default(),
            born: Instant::now(),
        }
    }

    fn put(&self, name: &str, object: u32) {
        self.objects.lock().insert(name.to_owned(), object);
        self.pool.add(name);
    }

    fn remove(&self, name: &str) {
        self.objects.lock().remove(name);
        self.pool.add(name);
    }

    /// Runs the pool. Each reconcile is logged when it starts.
    fn run<F>(&self, reconcile: impl Fn(u32) -> F + Send + Sync + 'static) -> JoinHandle<()>
    where
        F: Future<Output = Requeue> + Send + 'static,
    {
        let (this, keys, reconcile) = (self.clone(), self.objects.clone(), Arc::new(reconcile));
        let run = self.pool.clone().run(
            move || keys.lock().keys().cloned().collect(),
            move |key| {
                let object = this.objects.lock().get(&*key).copied();
                if let Some(object) = object {
                    this.log.lock().push((object, this.born.elapsed()));
                }
                let reconcile = reconcile.clone();
                async move {
                    match object {
                        Some(object) => reconcile(object).await,
                        None => Requeue::AwaitChange,
                    }
                }
            },
        );
        tokio::spawn(async move {
            run.await;
        })
    }

    /// When the reconciles started, in seconds.
    fn starts(&self, object: u32) -> Vec<u64> {
        let log = self.log.lock();
        let of_object = log.iter().filter(|(whose, _)| *whose == object);
        of_object.map(|(_, at)| at.as_secs()).collect()
    }

    fn is_at_rest(&self) {
        let counts = (self.figures.depth(), self.figures.processing());
        assert_eq!(counts, (0, 0), "nothing waits, nothing runs");
    }
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

async fn stop(task: JoinHandle<()>) {
    task.abort();
    let _ = task.await;
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_workers_reconcile_at_a_time_and_every_key_is_served() {
    let objects = Objects::new(3);
    for n in 0..20 {
        objects.put(&n.to_string(), n);
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let _run = objects.run(move |_| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Requeue::AwaitChange
        }
    });
    sleep(secs(30)).await;
    assert_eq!(peak.load(Ordering::SeqCst), 3);
    assert!((0..20).all(|n| objects.starts(n).len() == 1));
    objects.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn failing_objects_do_not_keep_the_others_waiting() {
    let objects = Objects::new(2);
    let _run = objects.run(|_| async {
        sleep(secs(5)).await;
        Requeue::Backoff
    });
    (0..100).for_each(|n| objects.put(&n.to_string(), n));
    sleep(secs(5000)).await;
    for n in 0..100 {
        let starts = objects.starts(n).len();
        assert!((19..=21).contains(&starts), "{n} had {starts} of 2000");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_reconciled_already_waits_without_taking_a_worker() {
    let objects = Objects::new(2);
    let _run = objects.run(|object| async move {
        sleep(secs(if object == 1 { 10 } else { 1 })).await;
        Requeue::AwaitChange
    });
    objects.put("a", 1);
    sleep(secs(1)).await;
    objects.put("a", 1);
    objects.put("b", 2);
    sleep(secs(30)).await;
    assert_eq!((objects.starts(1), objects.starts(2)), (vec![0, 10], vec![1]));
    objects.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_reconcile_leads_to_one_more_after_it_and_never_to_two_at_once() {
    let objects = Objects::new(5);
    objects.put("a", 1);
    let _run = objects.run(|_| async {
        sleep(secs(10)).await;
        Requeue::AwaitChange
    });
    sleep(secs(1)).await;
    objects.put("a", 1);
    objects.pool.add("a");
    sleep(secs(1)).await;
    objects.pool.add("a");
    sleep(secs(60)).await;
    assert_eq!(objects.starts(1), [0, 10]);
    objects.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn failures_double_the_delay_up_to_the_maximum() {
    let objects = Objects::new(1);
    objects.put("a", 1);
    let _run = objects.run(|_| async { Requeue::Backoff });
    sleep(secs(40)).await;
    assert_eq!(objects.starts(1), [0, 1, 3, 7, 15, 25, 35]);
    assert_eq!(objects.figures.retries.load(Ordering::SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn success_forgets_the_failures_and_a_set_time_keeps_them() {
    let answers = [
        Requeue::Backoff,          // 0
        Requeue::Backoff,          // 1
        Requeue::After(secs(100)), // 3
        Requeue::Backoff,          // 103: the third failure, 4 s
        Requeue::AwaitChange,      // 107
        Requeue::Backoff,          // woken at 200: the first failure again, 1 s
    ];
    let objects = Objects::new(1);
    objects.put("a", 1);
    let next = AtomicUsize::new(0);
    let _run = objects.run(move |_| {
        let answer = answers.get(next.fetch_add(1, Ordering::SeqCst));
        std::future::ready(answer.copied().unwrap_or(Requeue::AwaitChange))
    });
    sleep(secs(200)).await;
    objects.pool.add("a");
    sleep(secs(200)).await;
    assert_eq!(objects.starts(1), [0, 1, 3, 103, 107, 200, 201]);
    objects.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn a_change_bypasses_the_delay_and_the_delay_does_not_fire_after_it() {
    let objects = Objects::new(1);
    objects.put("a", 1);
    let _run = objects.run(|_| async { Requeue::After(secs(100)) });
    sleep(secs(10)).await;
    objects.put("a", 2);
    sleep(secs(120)).await;
    assert_eq!(objects.starts(1), [0]);
    assert_eq!(objects.starts(2), [10, 110], "not at 100");
    assert_eq!(objects.figures.processing(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_reconcile_replaces_the_delay_that_this_asks_for() {
    let objects = Objects::new(2);
    objects.put("a", 1);
    let first = AtomicUsize::new(0);
    let _run = objects.run(move |_| {
        let first = first.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            sleep(secs(5)).await;
            if first {
                Requeue::After(secs(3))
            } else {
                Requeue::AwaitChange
            }
        }
    });
    sleep(secs(1)).await;
    objects.pool.add("a");
    sleep(secs(100)).await;
    assert_eq!(
        objects.starts(1),
        [0, 5],
        "the change leads to one attempt, the delay to no other"
    );
    objects.is_at_rest();
}

#[tokio::test(start_paused = true)]
async fn removal_forgets_the_failures_and_nothing_that_left_is_reconciled() {
    let objects = Objects::new(1);
    objects.put("a", 1);
    let _run = objects.run(|object| async move {
        sleep(secs(1)).await;
        if object == 1 {
            Requeue::Backoff
        } else {
            Requeue::AwaitChange
        }
    });
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(objects.starts(1), [0, 2], "waiting for 5");
    objects.remove("a");
    sleep(secs(20)).await;
    assert_eq!(objects.starts(1), [0, 2], "gone");

    objects.put("a", 1);
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(objects.starts(1), [0, 2, 23, 25], "failing anew: one second");
    objects.remove("a");

    objects.put("b", 2);
    sleep(Duration::from_millis(1)).await;
    objects.put("c", 3);
    objects.remove("c");
    sleep(secs(20)).await;
    assert_eq!(objects.starts(3), [] as [u64; 0], "removed while it waited");
    objects.remove("b");
    sleep(secs(1)).await;
    objects.is_at_rest();
    assert_eq!(objects.pool.len(), 0, "nothing is remembered");
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_that_one_object_a_retry_is_counted_and_the_pool_goes_on() {
    let objects = Objects::new(2);
    objects.put("bad", 1);
    objects.put("worse", 2);
    objects.put("good", 3);
    let _run = objects.run(|object| {
        assert!(object != 2, "before the future even exists");
        async move {
            assert!(object != 1, "as it runs");
            Requeue::AwaitChange
        }
    });
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(objects.starts(3), [0]);
    assert_eq!(objects.starts(1), [0, 1, 3]);
    assert_eq!(objects.starts(2), [0, 1, 3]);
    assert_eq!(objects.panics.load(Ordering::SeqCst), 6);
    objects.remove("bad");
    objects.remove("worse");
    sleep(secs(60)).await;
    objects.is_at_rest();
    assert_eq!(objects.pool.len(), 0);
}
