//! What a burst costs, against an API server that takes five milliseconds.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use sandbox::{ADMIN, Api};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    super::{Ledger, LedgerEvent},
    MS, Note, S, note, settings, term,
};
use crate::cluster::{active::Active, leases::Leases};

fn uid(n: usize) -> String {
    format!("01234567-89ab-cdef-0123-{n:012}")
}

struct Kept {
    api: Api,
    ledger: Arc<Ledger<Note>>,
    writes: Arc<Mutex<usize>>,
}

async fn kept() -> Kept {
    let api = Api::new();
    api.latency(MS(5));
    let writes = Arc::new(Mutex::new(0));
    let counted = writes.clone();
    let on_event = Box::new(move |event: LedgerEvent<'_>| {
        if let LedgerEvent::Written(_) = event {
            *counted.lock() += 1;
        }
    });
    let leases = Leases::new(api.client(ADMIN), "default");
    let ledger = Arc::new(Ledger::new(settings(), leases, Active::default(), on_event));
    let waits = |_: Arc<Note>| async { Ok(true) };
    ledger.take_over(Some(&term()), waits).await.unwrap();
    let running = ledger.clone();
    tokio::spawn(async move { running.run().await });
    *writes.lock() = 0;
    Kept { api, ledger, writes }
}

/// So many claims a second, with a hundred workers: each records, calls the driver, and erases.
async fn burst(per_second: usize) -> usize {
    let Kept { api, ledger, writes } = kept().await;
    let driver = S(1) * 100 / u32::try_from(per_second).unwrap();
    let next = Arc::new(Mutex::new(0..1_000));
    let mut workers = JoinSet::new();
    let slowest = Arc::new(Mutex::new(Duration::ZERO));
    for _ in 0..100 {
        let (next, ledger, slowest) = (next.clone(), ledger.clone(), slowest.clone());
        workers.spawn(async move {
            loop {
                let Some(n) = next.lock().next() else { return };
                let began = Instant::now();
                ledger.open(&uid(n), note(&uid(n), 900)).await.unwrap();
                {
                    let mut slowest = slowest.lock();
                    *slowest = slowest.max(began.elapsed());
                }
                // Drivers differ a little from call to call.
                let end = began + driver.mul_f64(0.5 + (n * 37 % 100) as f64 / 100.0);
                sleep_until(end).await;
                assert!(ledger.erase(&uid(n)));
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    ledger.flush().await;
    assert!(ledger.entries().is_empty());
    let left: Vec<_> = api.filter("leases", |lease| {
        lease.to_string().contains("ledger.volwright.dev/")
    });
    assert!(left.is_empty(), "{left:?}");
    assert!(*slowest.lock() < MS(600), "{:?}", slowest.lock());
    let writes = *writes.lock();
    assert_eq!(
        api.count("update", "leases") + api.count("create", "leases"),
        writes + 1
    );
    writes
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_fifty_a_second_cost_less_than_a_write_per_five() {
    let writes = burst(50).await;
    assert!(writes < 200, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_a_hundred_and_fifty_a_second_cost_less_than_a_write_per_five() {
    let writes = burst(150).await;
    assert!(writes < 200, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_at_five_hundred_a_second_cost_less_than_a_write_per_five() {
    let writes = burst(500).await;
    assert!(writes < 200, "{writes}");
}

#[tokio::test(start_paused = true)]
async fn one_claim_after_quiet_is_one_write_at_once() {
    let Kept { ledger, writes, .. } = kept().await;
    sleep(S(60)).await;
    let began = Instant::now();
    ledger.open(&uid(1), note(&uid(1), 900)).await.unwrap();
    assert!(began.elapsed() <= MS(6), "{:?}", began.elapsed());
    assert_eq!(*writes.lock(), 1);
    ledger.erase(&uid(1));
    sleep(S(1)).await;
    assert_eq!(*writes.lock(), 2);
}
