//! Whatever happens in whatever order.

use std::collections::HashMap;

use tokio::time::advance;

use super::*;

/// Everything that can happen to a pool, in an order that a seed chooses.
#[tokio::test(start_paused = true)]
async fn the_queue_balances_under_any_interleaving() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let objects = Objects::new(random.usize(1..4));
        // A lock that remembers a panic.
        let running = Arc::new(std::sync::Mutex::new(HashMap::<u32, u32>::new()));
        let reconcile = {
            let outcomes = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
            let running = running.clone();
            move |object: u32| {
                let (outcomes, running) = (outcomes.clone(), running.clone());
                let change = move |by: i32| {
                    let mut running = running.lock().unwrap();
                    let count = running.entry(object).or_default();
                    *count = count.checked_add_signed(by).unwrap();
                    assert!(*count <= 1, "seed {seed}: two reconciles for {object}");
                };
                async move {
                    let (nap, outcome) = {
                        let mut random = outcomes.lock();
                        (random.u64(0..2000), random.u8(0..5))
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
        let mut work = objects.run(reconcile.clone());
        for _ in 0..60 {
            let n = random.u32(0..5);
            match random.u8(0..8) {
                0..3 => objects.put(&n.to_string(), n),
                3 => objects.remove(&n.to_string()),
                4 => objects.pool.add(&n.to_string()),
                5 if random.u8(0..4) == 0 => {
                    stop(work).await;
                    work = objects.run(reconcile.clone());
                }
                6 => tokio::task::yield_now().await,
                _ => advance(Duration::from_millis(random.u64(0..1500))).await,
            }
        }
        for n in 0..5 {
            objects.remove(&n.to_string());
        }
        sleep(secs(100)).await;
        objects.is_at_rest();
        // A panic in a reconcile is caught, but the lock remembers it.
        assert!(!running.is_poisoned(), "seed {seed}: two reconciles at once");
        assert_eq!((objects.pool.len(), objects.tasks.len()), (0, 0), "seed {seed}");
        stop(work).await;
    }
}

#[test]
fn the_queue_balances_on_many_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let objects = Objects::new(8);
        let work = objects.run(|object| async move {
            tokio::task::yield_now().await;
            if object % 3 == 0 {
                Requeue::After(Duration::from_micros(50))
            } else {
                Requeue::AwaitChange
            }
        });
        let writers = (0..4_u64).map(|seed| {
            let objects = objects.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..5_000 {
                    let n = random.u32(0..16);
                    match random.u8(0..4) {
                        0 => objects.remove(&n.to_string()),
                        1 => objects.pool.add(&n.to_string()),
                        _ => objects.put(&n.to_string(), n),
                    }
                    if random.u8(0..20) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        for n in 0..16 {
            objects.remove(&n.to_string());
        }
        // Stopped first: until then the run may still start what the removals have added.
        stop(work).await;
        while !objects.tasks.is_empty() {
            tokio::task::yield_now().await;
        }
        objects.is_at_rest();
        assert_eq!(objects.pool.len(), 0);
    });
}
