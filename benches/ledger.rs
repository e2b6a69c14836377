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
    base::{backoff::Backoff, names::UidLength},
    cluster::{
        active::Active,
        leases::Leases,
        objects::{Claim, Class, PROVISIONER, SELECTED_NODE},
        queue::{Requeue, WorkQueue},
        topology::{ClusterTopology, NodeState, Registration},
        workers::WorkerPool,
    },
    csi::DriverInfo,
    ledger::{CrashSafe, Ledger, LedgerSettings, Opening, annotation_value, read_annotation},
    provision::{
        decide::{Decision, Facts, decide},
        policy::Policy,
        record::Record,
        settle::Doubt,
    },
};

const DRIVER: &str = "bench.csi.example.com";
const UID: &str = "2f6c1f0e-6a4b-4f0e-9d43-2d8a1f1c0b7e";

const WORKERS: NonZeroUsize = NonZeroUsize::new(100).unwrap();
const BACKOFF: Backoff = Backoff {
    start: Duration::from_secs(1),
    max: Duration::from_secs(300),
};

fn main() {
    divan::main();
}

fn node(number: usize) -> NodeState {
    NodeState {
        name: format!("node-{number}"),
        labels: Some([("zone", format!("zone-{number}"))].into_iter().collect()),
        registration: Registration::Keys(Arc::new(["zone".to_owned()].into())),
        vanished: None,
    }
}

/// What is recorded of a claim where the driver runs on so many nodes, each in a zone of its own.
fn record(nodes: usize) -> Option<Record> {
    let driver = DriverInfo {
        name: DRIVER.to_owned(),
        controller_service: true,
        create_delete_volume: true,
        topology: nodes > 0,
        ..DriverInfo::default()
    };
    let mut claim = Claim {
        uid: UID.to_owned(),
        namespace: "shop".to_owned(),
        name: "data-0".to_owned(),
        annotations: [(PROVISIONER.to_owned(), DRIVER.to_owned())].into(),
        class_name: Some("fast".to_owned()),
        access_modes: vec!["ReadWriteOnce".to_owned()],
        storage_request: Some("10Gi".to_owned()),
        ..Claim::default()
    };
    if nodes > 0 {
        let selected = (SELECTED_NODE.to_owned(), "node-7".to_owned());
        claim.annotations.extend([selected]);
    }
    let topology = (nodes > 0).then(|| ClusterTopology::new((0..nodes).map(node), false));
    let class = Class {
        name: "fast".to_owned(),
        uid: "c".to_owned(),
        provisioner: DRIVER.to_owned(),
        parameters: [("type".to_owned(), "ssd".to_owned())].into(),
        ..Class::default()
    };
    let policy = Policy {
        name_prefix: "pvc".to_owned(),
        uid_length: UidLength::Whole,
        default_fs_type: String::new(),
        extra_metadata: true,
        publish_read_only: false,
        topology: true,
        strict_topology: false,
        immediate_topology: true,
        attributes_classes: true,
        node: None,
        identity: "0-0-bench".to_owned(),
    };
    let name = format!("pvc-{UID}");
    let decision = decide(Facts {
        claim: &claim,
        class: Some(&class),
        driver: &driver,
        policy: &policy,
        topology: topology.as_ref(),
        in_progress: false,
        infeasible: None,
        name: Ok(&name),
        name_used_by: None,
        saved: None,
        rescheduled: None,
    });
    match decision {
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
        metrics.sidecar.call("bench.csi.example.com", method, "OK", took);
    }
    bencher.bench(|| metrics.registry.page(&[]));
}
