//! What is shown of records that nobody acts upon.

use sandbox::Api;
use tokio::time::sleep;

use super::{
    MS, S, TermFacts,
    faults::{Process, UID, key, shard_uid, take_out},
    settings, term,
};

#[tokio::test(start_paused = true)]
async fn when_the_writer_is_dropped_nothing_is_shown_as_held_that_another_looks_after() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    process.ledger.hold(UID, "tired");
    sleep(S(1)).await;
    assert_eq!(process.ledger.locked.lock().status.held, 1, "as it was told");
    process.run.abort();
    sleep(MS(1)).await;
    assert_eq!(process.ledger.locked.lock().status.held, 0);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_once_a_term_and_looked_at_every_minute() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    drop(process);
    assert!(api.edit("leases", "default", "lab-ledger-0", |lease| {
        lease["metadata"]["annotations"][key("ledger", UID)] = "a b 2026-11-21T04:36:01Z v2 c".into();
    }));
    let process = Process::leading(&api, settings()).await;
    let text = format!(
        "unreadable in lab-ledger-0 {}: {UID}, it was written in another version",
        shard_uid(&api)
    );
    assert_eq!(process.told.lock().join(";"), text);
    process.take_over(&term(), true).await.unwrap();
    assert_eq!(process.told.lock().len(), 1, "the same term");
    let next = TermFacts {
        transitions: 9,
        ..term()
    };
    process.take_over(&next, true).await.unwrap();
    assert_eq!(*process.told.lock(), [text.clone(), text]);
    assert_eq!(process.ledger.status().held, 1);
    take_out(&api, &key("ledger", UID));
    sleep(S(61)).await;
    assert_eq!(process.ledger.status().held, 0);
}
