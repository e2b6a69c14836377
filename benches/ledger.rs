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
use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use volwright::{
    app::provisioner::metrics::Metrics,
    base::backoff::Backoff,
    cluster::{
        active::Active,
        leases::Leases,
        queue::{Requeue, WorkQueue},
        workers::WorkerPool,
    },
    ledger::{CrashSafe, Ledger, LedgerSettings, Opening, annotation_value, read_annotation},
    provision::{
        decide::{Decision, decide},
        record::Record,
        settle::Doubt,
    },
};

mod world;

use world::{DRIVER, UID, World};

const WORKERS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
const BACKOFF: Backoff = Backoff {
    start: Duration::from_secs(1),
    max: Duration::from_secs(300),
};

fn main() {
    divan::main();
}

/// What is recorded of a claim where the driver runs on so many nodes, each in a zone of its own.
fn record(nodes: usize) -> Option<Record> {
    match decide(World::new(nodes).facts()) {
        Decision::Provision(plan) => Some(Record {
            uid: UID.to_owned(),
            key: "shop/data-0".to_owned(),
            begun: Duration::ZERO,
            plan: Arc::new(*plan),
            earlier: Vec::new(),
            secrets: None,
            created: None,
            asked: false,
            doubt: Doubt::FRESH,
            renewable: false,
        }),
        _ => None,
    }
}

fn opening() -> Opening {
    Opening {
        at: jiff::Timestamp::UNIX_EPOCH,
        driver: DRIVER.to_owned(),
        lease_uid: UID.to_owned(),
        transitions: 7,
        was_stale: false,
    }
}

#[divan::bench(args = [0, 10, 5_000])]
fn record_to_annotation(bencher: Bencher, nodes: usize) {
    let Some(record) = record(nodes) else { return };
    let opening = opening();
    bencher.bench(|| annotation_value(black_box(&record), &opening));
}

#[divan::bench(args = [0, 10, 5_000])]
fn annotation_to_record(bencher: Bencher, nodes: usize) {
    let Some(record) = record(nodes) else { return };
    let value = annotation_value(&record, &opening());
    bencher.bench(|| read_annotation::<Record>(UID, black_box(&value)).is_ok());
}

/// Of what is remembered only, with so many others: nothing is sent.
#[divan::bench(args = [1_000, 16_000])]
fn record_and_erase(bencher: Bencher, others: usize) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
        return;
    };
    let _entered = runtime.enter();
    let server = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
    });
    let settings = LedgerSettings {
        name: "bench".to_owned(),
        namespace: "default".to_owned(),
        identity: "bench".to_owned(),
        labels: [].into(),
        mode: CrashSafe::Off,
        elected: false,
        driver: DRIVER.to_owned(),
    };
    let leases = Leases::new(kube::Client::new(server, "default"), "default");
    let ledger = Ledger::new(settings, leases, Active::default(), Box::new(|_| {}));
    let Some(record) = record(0).map(Arc::new) else {
        return;
    };
    let open = |uid: &str| ledger.open(uid, record.clone()).now_or_never().is_some();
    (0..others).for_each(|n| assert!(open(&format!("uid-{n}"))));
    bencher.bench_local(|| {
        open(black_box("uid"));
        ledger.erase("uid")
    });
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
        metrics
            .calls
            .call("bench.csi.example.com", method, "OK", None, took);
    }
    bencher.bench(|| metrics.registry.page(&[]));
}
