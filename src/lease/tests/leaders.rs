//! The chain of leaders that keep a ledger, as it goes through the Lease.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::json;
use tokio::time::sleep;

use super::{Running, api::Api, start, start_keeping};
use crate::lease::Term;

const LEADERS: &str = "/metadata/annotations/ledger.volwright.dev~1leaders";

fn leaders(api: &Api) -> String {
    let lease = api.lease();
    lease
        .pointer(LEADERS)
        .and_then(|text| text.as_str())
        .unwrap_or("none")
        .to_owned()
}

fn counts(term: &Term) -> (i64, i64) {
    (term.first_transitions, term.transitions)
}

/// Ends its term and gives the lease up.
async fn stop(running: Running, work: Term) {
    running.stop.cancel();
    drop(work);
    running.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_acquisition_carries_the_chain_on_in_its_own_write() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    assert_eq!((counts(&work), leaders(&api).as_str()), ((0, 0), "0-0"));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(leaders(&api), "0-0", "renewals keep it");
    // After a release.
    stop(a, work).await;
    assert_eq!(leaders(&api), "0-0", "and so does the release");
    api.with(|server| server.seen.clear());
    let mut b = start(&api, "b");
    assert_eq!((counts(&b.term().await), leaders(&api).as_str()), ((0, 1), "0-1"));
    let writes = api.with(|server| server.seen.iter().filter(|(method, _)| method == "PUT").count());
    assert_eq!(writes, 1);
    // Restarted without release: the count stays.
    b.kill();
    let mut b = start(&api, "b");
    assert_eq!((counts(&b.term().await), leaders(&api).as_str()), ((0, 1), "0-1"));
    // After it ran out.
    b.kill();
    let mut a = start(&api, "a");
    assert_eq!((counts(&a.term().await), leaders(&api).as_str()), ((0, 2), "0-2"));
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_keeps_no_ledger_breaks_the_chain_whether_it_says_so_or_not() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    stop(a, work).await;
    // Upstream raises the count, and leaves what it does not know.
    api.edit(|lease| lease["spec"]["leaseTransitions"] = json!(1));
    let mut a = start(&api, "a");
    let work = a.term().await;
    assert_eq!((counts(&work), leaders(&api).as_str()), ((2, 2), "2-2"));
    stop(a, work).await;
    let mut b = start_keeping(&api, "b", false);
    let work = b.term().await;
    assert_eq!((counts(&work), leaders(&api).as_str()), ((3, 3), "none"));
    stop(b, work).await;
    let mut a = start(&api, "a");
    assert_eq!((counts(&a.term().await), leaders(&api).as_str()), ((4, 4), "4-4"));
    // Its ledger fails, and comes back.
    a.keeps_ledger.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(leaders(&api), "none");
    a.keeps_ledger.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(leaders(&api), "4-4");
    a.kill();
}
