//! Giving the lease up.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{
    api::{Api, Fault},
    start,
};
use crate::lease::{Leadership, Over};

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_work_while_renewing_and_then_hands_over() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    a.stop.cancel();
    assert_eq!(a.over().await, Over::Stopped);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(api.holder(), "a");
    assert!(matches!(&*b.leadership.borrow(), Leadership::Standby { .. }));
    // Somebody else's write must not keep us from releasing.
    api.edit(|lease| lease["metadata"]["annotations"] = json!({"x": "y"}));
    drop(work);
    let stopped = Instant::now();
    a.until(|now| matches!(now, Leadership::Ended)).await;
    a.task.await.unwrap();
    b.term().await;
    assert!(
        stopped.elapsed() < Duration::from_secs(13),
        "{:?}",
        stopped.elapsed()
    );
    assert_eq!(api.lease()["metadata"]["annotations"]["x"], "y");
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn a_release_leaves_an_empty_holder_and_one_second() {
    let api = Api::new();
    let mut a = start(&api, "a");
    drop(a.term().await);
    a.stop.cancel();
    a.task.await.unwrap();
    let lease = api.lease();
    assert_eq!(
        (
            &lease["spec"]["holderIdentity"],
            &lease["spec"]["leaseDurationSeconds"]
        ),
        (&json!(""), &json!(1))
    );
    assert_eq!(lease["metadata"]["labels"], json!({"team": "storage"}));
}

#[tokio::test(start_paused = true)]
async fn a_standby_stops_at_once_and_leaves_the_lease_alone() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    api.fault(Fault::Deaf);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stopping = Instant::now();
    b.stop.cancel();
    b.task.await.unwrap();
    assert!(
        stopping.elapsed() < Duration::from_millis(100),
        "D-10: {:?}",
        stopping.elapsed()
    );
    assert_eq!(api.holder(), "a");
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn who_shall_not_compete_gives_the_lease_up_until_it_shall() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    a.compete.send(false).unwrap();
    assert_eq!(a.over().await, Over::Yielded);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(api.holder(), "a");
    drop(work);
    a.until(|now| matches!(now, Leadership::Standby { .. })).await;
    assert_eq!(api.holder(), "");
    let requests = api.with(|server| server.seen.len());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(
        (api.holder(), api.with(|server| server.seen.len())),
        (String::new(), requests)
    );
    a.compete.send(true).unwrap();
    a.term().await;
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_cleaned_up_on_stop() {
    let api = Api::new();
    api.fault(Fault::Mute);
    let a = start(&api, "a");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.holder(), "a");
    api.fault(Fault::None);
    a.stop.cancel();
    a.task.await.unwrap();
    assert_eq!(api.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_term_that_ran_out_is_released_on_stop_all_the_same() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    api.fault(Fault::Answers(500));
    assert_eq!(a.over().await, Over::Deadline);
    a.stop.cancel();
    api.fault(Fault::None);
    drop(work);
    a.task.await.unwrap();
    assert_eq!(api.holder(), "");
}
