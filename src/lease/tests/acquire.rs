//! Getting the lease: the first leader, and whoever follows a leader that is gone.

use std::{sync::atomic::Ordering, time::Duration};

use http::Method;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{
    Running,
    api::{Api, FORBIDDEN, Fault},
    start,
};
use crate::{cluster::leases::Leases, lease::Leadership};

#[tokio::test(start_paused = true)]
async fn the_first_creates_the_lease_and_renews_it_with_one_request_each() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let term = a.term().await;
    assert_eq!(
        (term.lease.uid.as_str(), term.lease.name.as_str()),
        ("uid-1", "lab")
    );
    let lease = api.lease();
    assert_eq!(lease["metadata"]["labels"], json!({"team": "storage"}));
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    api.edit(|lease| {
        lease["spec"]["strategy"] = json!("new");
        lease["metadata"]["labels"] = json!({"theirs": "1"});
    });
    api.with(|server| server.seen.clear());
    tokio::time::sleep(Duration::from_secs(61)).await;
    // The edit from outside costs a conflict and one renewal that reads again; the term goes on.
    assert_eq!(a.slow.load(Ordering::Relaxed), 1);
    let requests = api.with(|server| server.seen.clone());
    // Every 3.5 s, so that one may take the renew deadline.
    assert!((18..=20).contains(&requests.len()), "{requests:?}");
    assert_eq!(
        requests
            .iter()
            .filter(|(method, _)| method == Method::GET)
            .count(),
        1
    );
    assert_eq!(
        requests[0].1,
        "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lab"
    );
    let lease = api.lease();
    assert_eq!(lease["spec"]["strategy"], "new");
    assert_eq!(
        lease["metadata"]["labels"],
        json!({"theirs": "1", "team": "storage"})
    );
    assert_ne!(lease["spec"]["renewTime"], json!(null));
    assert!(
        matches!(&*a.leadership.borrow(), Leadership::Leading(now) if now._alive.same_channel(&term._alive))
    );
    assert_eq!(a.health.check(), Ok(()));
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_from_a_killed_leader_after_the_lease_duration() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    a.kill();
    let killed = Instant::now();
    b.term().await;
    let took = killed.elapsed();
    // 15 s from the last renewal, which the standby sees when it is made.
    assert!(
        took > Duration::from_secs(11) && took < Duration::from_secs(16),
        "{took:?}"
    );
    assert_eq!(api.lease()["spec"]["leaseTransitions"], 1);
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_the_standby_has_just_not_polled_counts_from_when_it_was_made() {
    // Without a watch a standby learns of a renewal at its next poll, up to 2.2 retry periods later.
    for (may_watch, at_most) in [(true, 15_100), (false, 26_100)] {
        for killed_after in (100..12_000).step_by(700) {
            let api = Api::new();
            api.with(|server| server.may_watch = may_watch);
            let mut a = start(&api, "a");
            a.term().await;
            let mut b = start(&api, "b");
            b.standby("a").await;
            tokio::time::sleep(Duration::from_millis(killed_after)).await;
            let renewed = Instant::now() - Duration::from_millis(killed_after % 3_500);
            a.kill();
            b.term().await;
            let took = renewed.elapsed();
            assert!(
                took >= Duration::from_secs(15) && took <= Duration::from_millis(at_most),
                "may watch: {may_watch}, killed after {killed_after} ms, took {took:?} from the last renewal"
            );
            b.kill();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_with_a_watch_asks_for_nothing_while_the_leader_renews() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    api.with(|server| server.seen.clear());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let reads = api.with(|server| {
        server
            .seen
            .iter()
            .filter(|(method, _)| method == Method::GET)
            .count()
    });
    assert_eq!(reads, 0);
    a.kill();
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_may_not_watch_the_lease_tries_again_every_ten_minutes() {
    let api = Api::new();
    api.with(|server| server.may_watch = false);
    let mut a = start(&api, "a");
    a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    let began = Instant::now();
    // A poll, which opens the watch, takes up to 11 s to come round.
    for (seconds, tries) in [(590, 1), (612, 2), (1190, 2), (1224, 3)] {
        tokio::time::sleep_until(began + Duration::from_secs(seconds)).await;
        let asked = api.with(|server| server.watches_asked);
        assert_eq!(asked, tries, "after {seconds} s");
    }
    api.with(|server| server.may_watch = true);
    tokio::time::sleep(Duration::from_secs(620)).await;
    api.with(|server| server.seen.clear());
    tokio::time::sleep(Duration::from_secs(600)).await;
    let is_read = |(method, _): &&(Method, String)| method == Method::GET;
    assert_eq!(api.with(|server| server.seen.iter().filter(is_read).count()), 0);
    a.kill();
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn c12_a_term_after_the_lease_was_made_anew_is_not_undisturbed() {
    let api = Api::new();
    let mut a = start(&api, "a");
    assert!(a.term().await.undisturbed);
    a.compete.send(false).unwrap();
    a.standby("").await;
    api.with(|server| server.lease = None);
    let mut b = start(&api, "b");
    b.term().await;
    b.stop.cancel();
    b.task.await.unwrap();
    // As often as if nobody else had led.
    a.compete.send(true).unwrap();
    let term = a.term().await;
    assert_eq!(api.lease()["spec"]["leaseTransitions"], 1);
    assert!(!term.undisturbed);
    // Nobody else leads from here on.
    a.compete.send(false).unwrap();
    drop(term);
    a.standby("").await;
    a.compete.send(true).unwrap();
    assert!(a.term().await.undisturbed);
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn a_restarted_container_leads_again_at_once() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let acquired = api.lease()["spec"]["acquireTime"].clone();
    a.kill();
    let killed = Instant::now();
    let mut again = start(&api, "a");
    again.term().await;
    assert!(killed.elapsed() < Duration::from_secs(1));
    assert_eq!(api.lease()["spec"]["leaseTransitions"], 0);
    assert_eq!(api.lease()["spec"]["acquireTime"], acquired);
    again.kill();
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_at_once_when_the_lease_is_released() {
    for (may_watch, at_most) in [
        (true, Duration::from_millis(100)),
        (false, Duration::from_secs(11)),
    ] {
        let api = Api::new();
        api.with(|server| server.may_watch = may_watch);
        let mut first = start(&api, "a");
        drop(first.term().await);
        let mut second = start(&api, "b");
        second.standby("a").await;
        // Long after the standby's first look, so that its watch is all it goes by.
        tokio::time::sleep(Duration::from_secs(61)).await;
        first.stop.cancel();
        first.until(|now| matches!(now, Leadership::Ended)).await;
        let released = Instant::now();
        second.term().await;
        let took = released.elapsed();
        assert!(took <= at_most, "may watch: {may_watch}, took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_that_start_together_have_one_leader() {
    let api = Api::new();
    let (mut a, mut b) = (start(&api, "a"), start(&api, "b"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let leads = |one: &mut Running| matches!(&*one.leadership.borrow_and_update(), Leadership::Leading(_));
    assert!(leads(&mut a) != leads(&mut b));
    a.kill();
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_names_the_rule_to_add() {
    let api = Api::new();
    api.fault(Fault::Answers(403));
    let leases = Leases::new(api.client(), "ns");
    let error = leases.get("lab", Instant::now() + Duration::from_secs(5)).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        format!(
            "get leases ns/lab: {FORBIDDEN}; add to its role: apiGroups: [\"coordination.k8s.io\"], \
             resources: [\"leases\"], verbs: [\"get\"]"
        )
    );
}

#[tokio::test(start_paused = true)]
async fn without_anybody_to_say_whether_to_compete_the_last_word_stands() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let (gone, _) = watch::channel(true);
    drop(std::mem::replace(&mut a.compete, gone));
    a.term().await;
    let requests = api.with(|server| server.seen.len());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(api.with(|server| server.seen.len()) < requests + 20);
    a.stop.cancel();
    a.task.await.unwrap();
}
