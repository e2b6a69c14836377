//! Keeping the lease, and losing it.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{
    api::{Api, Fault},
    start,
};
use crate::lease::{Leadership, Over};

#[tokio::test(start_paused = true)]
async fn an_outage_ends_the_term_before_anybody_may_take_over_and_there_is_a_way_back() {
    for fault in [
        Fault::Deaf,
        Fault::Mute,
        Fault::Answers(500),
        Fault::Answers(403),
        Fault::Answers(429),
    ] {
        let api = Api::new();
        let mut a = start(&api, "a");
        let work = a.term().await;
        tokio::time::sleep(Duration::from_millis(5_100)).await;
        api.fault(fault);
        let broken = Instant::now();
        let why = a.over().await;
        let took = broken.elapsed();
        assert_eq!(why, Over::Deadline, "{fault:?}");
        // 13.5 s after the last renewal, which was 1.6 s old; the lease ends 15 s after it.
        assert!(
            took > Duration::from_millis(11_800) && took < Duration::from_millis(12_000),
            "{fault:?}: {took:?}"
        );
        assert_eq!(a.health.check(), Ok(()));
        api.fault(Fault::None);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(
            matches!(&*a.leadership.borrow(), Leadership::Over { .. }),
            "not before the work has stopped"
        );
        a.next_term(work).await;
        a.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_or_deleted_by_hand_ends_the_term() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    api.edit(|lease| lease["spec"]["holderIdentity"] = json!("you"));
    assert_eq!(
        a.over().await,
        Over::Taken {
            by: Some("you".into())
        }
    );
    drop(work);
    a.standby("you").await;
    let work = a.term().await;
    api.with(|server| server.lease = None);
    assert_eq!(a.over().await, Over::Taken { by: None });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(api.with(|server| server.lease.clone()), None);
    a.next_term(work).await;
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_is_ill_after_the_lease_and_twenty_seconds() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let health = a.health.clone();
    a.kill();
    tokio::time::sleep(Duration::from_secs(34)).await;
    assert_eq!(health.check(), Ok(()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(health.check().unwrap_err().contains("not renewed for 36 s"));
}

#[tokio::test(start_paused = true)]
async fn a_leader_tells_its_work_to_stop_even_while_the_api_server_is_silent() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    api.fault(Fault::Deaf);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let stopping = Instant::now();
    a.stop.cancel();
    assert_eq!(a.over().await, Over::Stopped);
    assert!(
        stopping.elapsed() < Duration::from_millis(100),
        "{:?}",
        stopping.elapsed()
    );
    api.fault(Fault::None);
    drop(work);
    a.task.await.unwrap();
    assert_eq!(api.holder(), "");
}
