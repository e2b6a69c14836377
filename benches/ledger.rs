//! What is kept beside the work: records, the work queue, and the page of metrics, with a thousand others at hand.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use divan::{Bencher, black_box, counter::ItemsCount};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use volwright::{
    app::provisioner::metrics::Metrics,
    base::backoff::Backoff,
    cluster::{
        queue::{Requeue, WorkQueue},
        workers::WorkerPool,
    },
};

const WORKERS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
const BACKOFF: Backoff = Backoff {
    start: Duration::from_secs(1),
    max: Duration::from_secs(300),
};

fn main() {
    divan::main();
}

/// A key's way through the queue, with others waiting: 16 times as many must not cost more than half again as much.
#[divan::bench(args = [1_000, 16_000])]
fn add_take_done(bencher: Bencher, waiting: usize) {
    let mut queue = WorkQueue::new(WORKERS.get(), BACKOFF, Box::new(|_| {}));
    queue.open();
    (0..waiting).for_each(|n| queue.add(&format!("uid-{n}"), Duration::ZERO));
    bencher.bench_local(|| {
        // Whoever is first goes to the end.
        if let Some(key) = queue.take(black_box(Duration::ZERO)) {
            queue.done(&key, Requeue::AwaitChange, Duration::ZERO);
            queue.add(&key, Duration::ZERO);
        }
    });
}

/// All keys' way through a pool of workers, their futures included: what each costs must not grow with their number
/// either.
#[divan::bench(args = [1_000, 16_000])]
fn pool_of_workers(bencher: Bencher, keys: usize) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    let names: Vec<_> = (0..keys).map(|n| format!("uid-{n}")).collect();
    bencher.counter(ItemsCount::new(keys)).bench_local(|| {
        runtime.block_on(async {
            let (left, ended) = (Arc::new(AtomicUsize::new(keys)), Arc::new(Notify::new()));
            let (count, tell) = (left.clone(), ended.clone());
            let pool = WorkerPool::new(WORKERS, BACKOFF, TaskTracker::new(), Box::new(|_| {}), || {});
            let run = pool.run(
                || names.clone(),
                move |key| {
                    let (count, tell) = (count.clone(), tell.clone());
                    async move {
                        tokio::task::yield_now().await;
                        black_box(key);
                        if count.fetch_sub(1, Ordering::Relaxed) == 1 {
                            tell.notify_one();
                        }
                        Requeue::AwaitChange
                    }
                },
            );
            tokio::select! {
                _ = run => {}
                () = ended.notified() => {}
            }
        });
    });
}

#[divan::bench]
fn page_of_metrics(bencher: Bencher) {
    let Ok(metrics) = Metrics::new() else { return };
    let took = Duration::from_millis(40);
    for class in ["fast", "slow", "bulk"] {
        metrics.provision.provision_succeeded(class, "", took);
        metrics.reclaim.delete_succeeded(class, took);
    }
    for method in [
        "/csi.v1.Controller/CreateVolume",
        "/csi.v1.Controller/DeleteVolume",
    ] {
        metrics.sidecar.call("bench.csi.example.com", method, "OK", took);
    }
    bencher.bench(|| metrics.registry.page(&[]));
}
