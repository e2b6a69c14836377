//! The loop over a hot set.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Duration, Instant, advance, sleep},
};
use tokio_util::task::TaskTracker;

use crate::{
    base::backoff::Backoff,
    cluster::{
        hot::{HotSet, LineEvent},
        work::{Busy, Crew, Requeue},
    },
};

type Set = Arc<HotSet<u32>>;

/// What a work queue's figures would show: depth and how many are worked on, per object.
#[derive(Default)]
struct Figures {
    waiting: HashMap<String, i32>,
    running: HashMap<String, i32>,
    retries: usize,
}

impl Figures {
    fn hear(&mut self, event: LineEvent<'_>) {
        let change = |map: &mut HashMap<String, i32>, uid: &str, by: i32, what: LineEvent<'_>| {
            let count = map.entry(uid.to_owned()).or_default();
            *count += by;
            assert!((0..=1).contains(count), "{what:?} makes {count}");
            map.retain(|_, count| *count != 0);
        };
        match event {
            LineEvent::Added(uid) => change(&mut self.waiting, uid, 1, event),
            LineEvent::Started(uid) => {
                change(&mut self.waiting, uid, -1, event);
                change(&mut self.running, uid, 1, event);
            }
            LineEvent::Finished(uid) => change(&mut self.running, uid, -1, event),
            LineEvent::Dropped(uid) => change(&mut self.waiting, uid, -1, event),
            LineEvent::Retried => self.retries += 1,
        }
    }
}

fn hot() -> (Set, Arc<Mutex<Figures>>) {
    let figures = Arc::new(Mutex::<Figures>::default());
    let heard = figures.clone();
    let set = HotSet::new(Box::new(move |event| heard.lock().unwrap().hear(event)));
    (set, figures)
}

fn at_rest(figures: &Mutex<Figures>) {
    let figures = figures.lock().unwrap();
    assert_eq!(
        (figures.waiting.len(), figures.running.len()),
        (0, 0),
        "nothing waits, nothing runs"
    );
}

/// A crew whose attempts do what the test says, and what they did.
struct Yard {
    crew: Crew,
    panics: Arc<AtomicUsize>,
    log: Arc<Mutex<Vec<(u32, Duration)>>>,
    born: Instant,
}

impl Yard {
    fn new(workers: u16) -> Self {
        let panics = Arc::new(AtomicUsize::new(0));
        let counted = panics.clone();
        let crew = Crew {
            workers,
            retry: Backoff {
                start: secs(1),
                max: secs(10),
            },
            busy: Busy::default(),
            tasks: TaskTracker::new(),
            on_panic: Arc::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
            }),
        };
        Self {
            crew,
            panics,
            log: Arc::default(),
            born: Instant::now(),
        }
    }

    /// Starts a loop. Each attempt is logged when it starts.
    fn start<F>(&self, set: &Set, attempt: impl Fn(u32) -> F + Send + Sync + 'static) -> JoinHandle<()>
    where
        F: Future<Output = Requeue> + Send + 'static,
    {
        let (log, born) = (self.log.clone(), self.born);
        tokio::spawn(self.crew.clone().work(set.clone(), move |row| {
            log.lock().unwrap().push((*row, born.elapsed()));
            attempt(*row)
        }))
    }

    /// When the attempts started, in seconds.
    fn starts(&self, row: u32) -> Vec<u64> {
        let log = self.log.lock().unwrap();
        let of_row = log.iter().filter(|(whose, _)| *whose == row);
        of_row.map(|(_, at)| at.as_secs()).collect()
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
async fn no_more_than_the_workers_work_at_a_time_and_all_get_their_turn() {
    let (set, figures) = hot();
    let yard = Yard::new(3);
    for n in 0..20 {
        set.put(&n.to_string(), n);
    }
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let _loop = yard.start(&set, move |_| {
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
    assert!((0..20).all(|n| yard.starts(n).len() == 1));
    at_rest(&figures);
}

#[tokio::test(start_paused = true)]
async fn failing_objects_do_not_keep_the_others_from_their_turn() {
    let (set, _) = hot();
    let yard = Yard::new(2);
    let _loop = yard.start(&set, |_| async {
        sleep(secs(5)).await;
        Requeue::Backoff
    });
    (0..100).for_each(|n| set.put(&n.to_string(), n));
    sleep(secs(5000)).await;
    for n in 0..100 {
        let turns = yard.starts(n).len();
        assert!((19..=21).contains(&turns), "{n} had {turns} of 2000 turns");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_an_attempt_that_still_runs_takes_no_worker() {
    let ((claims, _), (records, figures)) = (hot(), hot());
    let yard = Yard::new(1);
    claims.put("a", 1);
    let _claims = yard.start(&claims, |_| async {
        sleep(secs(10)).await;
        Requeue::AwaitChange
    });
    sleep(secs(1)).await;
    records.put("a", 2);
    sleep(secs(1)).await;
    records.put("b", 3);
    let _records = yard.start(&records, |_| async { Requeue::AwaitChange });
    sleep(secs(20)).await;
    assert_eq!((yard.starts(3), yard.starts(2)), (vec![2], vec![10]));
    at_rest(&figures);
    assert_eq!(yard.crew.busy.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_during_an_attempt_leads_to_one_more_after_it_and_never_to_two_at_once() {
    let (set, figures) = hot();
    let yard = Yard::new(5);
    set.put("a", 1);
    let _loop = yard.start(&set, |_| async {
        sleep(secs(10)).await;
        Requeue::AwaitChange
    });
    sleep(secs(1)).await;
    set.put("a", 1);
    set.wake("a");
    sleep(secs(1)).await;
    set.wake("a");
    sleep(secs(60)).await;
    assert_eq!(yard.starts(1), [0, 10]);
    at_rest(&figures);
}

#[tokio::test(start_paused = true)]
async fn failures_double_the_delay_up_to_the_maximum() {
    let (set, figures) = hot();
    let yard = Yard::new(1);
    set.put("a", 1);
    let _loop = yard.start(&set, |_| async { Requeue::Backoff });
    sleep(secs(40)).await;
    assert_eq!(yard.starts(1), [0, 1, 3, 7, 15, 25, 35]);
    assert_eq!(figures.lock().unwrap().retries, 7);
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
    let (set, figures) = hot();
    let yard = Yard::new(1);
    set.put("a", 1);
    let next = AtomicUsize::new(0);
    let _loop = yard.start(&set, move |_| {
        let answer = answers.get(next.fetch_add(1, Ordering::SeqCst));
        std::future::ready(answer.copied().unwrap_or(Requeue::AwaitChange))
    });
    sleep(secs(200)).await;
    set.wake("a");
    sleep(secs(200)).await;
    assert_eq!(yard.starts(1), [0, 1, 3, 103, 107, 200, 201]);
    at_rest(&figures);
}

#[tokio::test(start_paused = true)]
async fn a_change_bypasses_the_delay_and_the_delay_does_not_fire_after_it() {
    let (set, figures) = hot();
    let yard = Yard::new(1);
    set.put("a", 1);
    let _loop = yard.start(&set, |_| async { Requeue::After(secs(100)) });
    sleep(secs(10)).await;
    set.put("a", 2);
    sleep(secs(120)).await;
    assert_eq!(yard.starts(1), [0]);
    assert_eq!(yard.starts(2), [10, 110], "not at 100");
    assert_eq!(figures.lock().unwrap().running.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_during_an_attempt_replaces_the_delay_that_the_attempt_asks_for() {
    let (set, figures) = hot();
    let yard = Yard::new(2);
    set.put("a", 1);
    let first = AtomicUsize::new(0);
    let _loop = yard.start(&set, move |_| {
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
    set.wake("a");
    sleep(secs(100)).await;
    assert_eq!(
        yard.starts(1),
        [0, 5],
        "the change leads to one attempt, the delay to no other"
    );
    at_rest(&figures);
}

#[tokio::test(start_paused = true)]
async fn removal_forgets_the_failures_and_nothing_that_left_is_attempted() {
    let (set, figures) = hot();
    let yard = Yard::new(1);
    set.put("a", 1);
    let _loop = yard.start(&set, |row| async move {
        sleep(secs(1)).await;
        if row == 1 {
            Requeue::Backoff
        } else {
            Requeue::AwaitChange
        }
    });
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(yard.starts(1), [0, 2], "waiting for 5");
    set.remove("a");
    sleep(secs(20)).await;
    assert_eq!(yard.starts(1), [0, 2], "gone");

    set.put("a", 1);
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(yard.starts(1), [0, 2, 23, 25], "failing anew: one second");
    set.remove("a");

    set.put("b", 2);
    sleep(Duration::from_millis(1)).await;
    set.put("c", 3);
    set.remove("c");
    sleep(secs(20)).await;
    assert_eq!(yard.starts(3), [] as [u64; 0], "removed while it waited");
    set.remove("b");
    at_rest(&figures);
    assert!(set.is_empty());
    assert_eq!(set.remembered(), (0, 0), "waiting and failures");
    assert_eq!(yard.crew.busy.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_that_one_object_a_retry_is_counted_and_the_loop_goes_on() {
    let (set, figures) = hot();
    let yard = Yard::new(2);
    set.put("bad", 1);
    set.put("worse", 2);
    set.put("good", 3);
    let _loop = yard.start(&set, |row| {
        assert!(row != 2, "before the future even exists");
        async move {
            assert!(row != 1, "as it runs");
            Requeue::AwaitChange
        }
    });
    sleep(Duration::from_millis(3500)).await;
    assert_eq!(yard.starts(3), [0]);
    assert_eq!(yard.starts(1), [0, 1, 3]);
    assert_eq!(yard.starts(2), [0, 1, 3]);
    assert_eq!(yard.panics.load(Ordering::SeqCst), 6);
    set.remove("bad");
    set.remove("worse");
    sleep(secs(60)).await;
    at_rest(&figures);
    assert_eq!(yard.crew.busy.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_loop_lets_the_running_attempt_finish_and_starts_none() {
    let (set, figures) = hot();
    let yard = Yard::new(1);
    for n in 0..3 {
        set.put(&n.to_string(), n);
    }
    let (finished, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (count, tell) = (finished.clone(), done.clone());
    let work = yard.start(&set, move |_| {
        let (count, tell) = (count.clone(), tell.clone());
        async move {
            sleep(secs(10)).await;
            count.fetch_add(1, Ordering::SeqCst);
            tell.notify_one();
            Requeue::Backoff
        }
    });
    sleep(secs(1)).await;
    stop(work).await;
    assert_eq!(yard.crew.tasks.len(), 1, "one is still running");
    assert!(
        figures.lock().unwrap().waiting.is_empty(),
        "nobody waits for a loop that is gone"
    );
    done.notified().await;
    sleep(secs(100)).await;
    assert_eq!(finished.load(Ordering::SeqCst), 1);
    assert_eq!(yard.log.lock().unwrap().len(), 1);
    assert_eq!(yard.crew.tasks.len(), 0);
    at_rest(&figures);
    assert_eq!(set.remembered(), (0, 1), "its failure counts for the next loop");
}

#[tokio::test(start_paused = true)]
async fn a_new_loop_lines_up_all_that_is_hot_but_waits_for_an_attempt_of_the_old_one() {
    let (set, figures) = hot();
    let yard = Yard::new(4);
    set.put("slow", 1);
    let slow = |row| async move {
        if row == 1 {
            sleep(secs(10)).await;
        }
        Requeue::AwaitChange
    };
    let old = yard.start(&set, slow);
    sleep(secs(1)).await;
    stop(old).await;
    set.put("meanwhile", 2);
    sleep(secs(1)).await;
    assert_eq!(yard.starts(2), [] as [u64; 0], "no loop, no attempt");
    let new = yard.start(&set, slow);
    sleep(secs(1)).await;
    assert_eq!(yard.starts(2), [2]);
    assert_eq!(yard.starts(1), [0], "its old attempt still runs");
    sleep(secs(60)).await;
    assert_eq!(yard.starts(1), [0, 10]);
    at_rest(&figures);
    stop(new).await;

    // And when the second loop goes as well before the old attempt ends, nothing more is started.
    let old = yard.start(&set, slow);
    sleep(secs(1)).await;
    stop(old).await;
    let new = yard.start(&set, slow);
    sleep(secs(1)).await;
    stop(new).await;
    sleep(secs(100)).await;
    assert_eq!(yard.starts(1), [0, 10, 63]);
    at_rest(&figures);
    assert_eq!((yard.crew.busy.len(), yard.crew.tasks.len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn keeping_a_row_wakes_nobody_until_somebody_asks() {
    let (set, figures) = hot();
    let yard = Yard::new(1);
    let _loop = yard.start(&set, |_| async { Requeue::AwaitChange });
    sleep(secs(1)).await;
    set.keep("a", 1);
    sleep(secs(10)).await;
    assert_eq!(yard.starts(1), [] as [u64; 0]);
    set.wake("a");
    sleep(secs(1)).await;
    assert_eq!(yard.starts(1), [11]);
    at_rest(&figures);
}

/// Everything that can happen to a line, in an order that a seed chooses.
#[tokio::test(start_paused = true)]
async fn the_line_balances_under_any_interleaving() {
    for seed in 0..200 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let (set, figures) = hot();
        let yard = Yard::new(dice.u16(1..4));
        let running = Arc::new(Mutex::new(HashMap::<u32, u32>::new()));
        let attempt = {
            let outcomes = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
            let running = running.clone();
            move |row: u32| {
                let (outcomes, running) = (outcomes.clone(), running.clone());
                let change = move |by: i32| {
                    let mut running = running.lock().unwrap();
                    let count = running.entry(row).or_default();
                    *count = count.checked_add_signed(by).unwrap();
                    assert!(*count <= 1, "seed {seed}: two attempts for {row}");
                };
                async move {
                    let (nap, outcome) = {
                        let mut dice = outcomes.lock().unwrap();
                        (dice.u64(0..2000), dice.u8(0..5))
                    };
                    change(1);
                    sleep(Duration::from_millis(nap)).await;
                    change(-1);
                    match outcome {
                        0 | 1 => Requeue::AwaitChange,
                        2 => Requeue::Backoff,
                        3 => Requeue::After(Duration::from_millis(nap)),
                        _ => panic!("a defect of seed {seed}"),
                    }
                }
            }
        };
        let mut work = yard.start(&set, attempt.clone());
        for _ in 0..60 {
            let n = dice.u32(0..5);
            match dice.u8(0..8) {
                0..3 => set.put(&n.to_string(), n),
                3 => drop(set.remove(&n.to_string())),
                4 => set.wake(&n.to_string()),
                5 if dice.u8(0..4) == 0 => {
                    stop(work).await;
                    work = yard.start(&set, attempt.clone());
                }
                6 => tokio::task::yield_now().await,
                _ => advance(Duration::from_millis(dice.u64(0..1500))).await,
            }
        }
        for n in 0..5 {
            set.remove(&n.to_string());
        }
        sleep(secs(100)).await;
        at_rest(&figures);
        // The fence swallows the assertion as well, but the lock remembers it.
        assert!(!running.is_poisoned(), "seed {seed}: two attempts at once");
        assert_eq!(set.remembered(), (0, 0), "seed {seed}");
        assert_eq!(
            (yard.crew.busy.len(), yard.crew.tasks.len()),
            (0, 0),
            "seed {seed}"
        );
        stop(work).await;
    }
}

#[test]
fn the_line_balances_on_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (set, figures) = hot();
        let yard = Yard::new(8);
        let work = yard.start(&set, |row| async move {
            tokio::task::yield_now().await;
            if row % 3 == 0 {
                Requeue::After(Duration::from_micros(50))
            } else {
                Requeue::AwaitChange
            }
        });
        let hands = (0..4_u64).map(|seed| {
            let set = set.clone();
            tokio::spawn(async move {
                let mut dice = fastrand::Rng::with_seed(seed);
                for _ in 0..5_000 {
                    let n = dice.u32(0..16);
                    match dice.u8(0..4) {
                        0 => drop(set.remove(&n.to_string())),
                        1 => set.wake(&n.to_string()),
                        _ => set.put(&n.to_string(), n),
                    }
                    if dice.u8(0..20) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        for hand in hands.collect::<Vec<_>>() {
            hand.await.unwrap();
        }
        for n in 0..16 {
            set.remove(&n.to_string());
        }
        while !yard.crew.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
        stop(work).await;
        at_rest(&figures);
        assert_eq!((set.remembered(), yard.crew.busy.len()), ((0, 0), 0));
    });
}
