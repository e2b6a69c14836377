//! What is kept beside the work: records, hot rows, and the page of metrics, with a thousand others at hand.

use std::time::Duration;

use divan::{Bencher, black_box};
use volwright::{app::provisioner::metrics::Metrics, cluster::hot::HotSet, ledger::Ledger};

const OTHERS: usize = 1000;

fn main() {
    divan::main();
}

#[divan::bench]
fn record_and_erase(bencher: Bencher) {
    let ledger = Ledger::new(Box::new(|_| {}), Box::new(|_| {}));
    (0..OTHERS).for_each(|n| ledger.record(&format!("uid-{n}"), n));
    bencher.bench(|| {
        ledger.record(black_box("uid"), 0);
        ledger.erase("uid");
    });
}

#[divan::bench]
fn row_in_and_out(bencher: Bencher) {
    let rows = HotSet::new(Box::new(|_| {}));
    (0..OTHERS).for_each(|n| rows.put(&format!("uid-{n}"), n));
    bencher.bench(|| {
        rows.put(black_box("uid"), 0);
        rows.remove("uid")
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
