//! What is kept beside the work: records, the work queue, and the page of metrics, with a thousand others at hand.

use std::{sync::Arc, time::Duration};

use divan::{Bencher, black_box};
use futures::FutureExt as _;
use volwright::{
    app::provisioner::metrics::Metrics,
    base::backoff::Backoff,
    cluster::queue::{Requeue, WorkQueue},
    ledger::Ledger,
};

const OTHERS: usize = 1000;

fn main() {
    divan::main();
}

#[divan::bench]
fn record_and_erase(bencher: Bencher) {
    let ledger = Ledger::new(Box::new(|_| {}));
    let record = |uid: &str| ledger.record(uid, Arc::new(0)).now_or_never();
    (0..OTHERS).for_each(|n| drop(record(&format!("uid-{n}"))));
    bencher.bench(|| {
        drop(record(black_box("uid")));
        ledger.erase("uid");
    });
}

/// A key's way through the queue, with others waiting: 16 times as many must not cost more than half again as much.
#[divan::bench(args = [1_000, 16_000])]
fn add_take_done(bencher: Bencher, waiting: usize) {
    let backoff = Backoff {
        start: Duration::from_secs(1),
        max: Duration::from_secs(300),
    };
    let mut queue = WorkQueue::new(100, backoff, Box::new(|_| {}));
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
