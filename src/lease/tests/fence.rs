//! Until when the lease is certainly ours: compared with the clock by who acts, and by nobody's leave.

use std::{pin::pin, sync::Arc, time::Duration};

use http::Method;
use tokio::{
    sync::watch,
    time::{advance, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    api::{Api, Fault},
    candidate, start,
};
use crate::{
    cluster::active::Active,
    lease::{Election, Leadership, Over},
};

#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_beyond_its_lease_does_not_lead_before_anybody_tells_it() {
    let api = Api::new();
    let active = Active::default();
    let election = Election::new(
        api.client(),
        candidate("a"),
        active.clone(),
        Arc::default(),
        || {},
    );
    let leadership = election.leadership();
    let (_compete, wanted) = watch::channel(true);
    let mut running = pin!(election.run(wanted, CancellationToken::new()));
    assert!(!active.leads(), "not before the election has said so");
    tokio::select! {
        () = &mut running => panic!("it does not end"),
        () = sleep(Duration::from_secs(5)) => {}
    }
    assert!(active.leads());
    // From here on the election is not polled: the whole process stands still. Its last renewal was sent at 3.5 s.
    advance(Duration::from_millis(11_900)).await;
    assert!(active.leads(), "13.4 s after the renewal");
    advance(Duration::from_millis(200)).await;
    assert!(!active.leads(), "13.6 s after it");
    assert!(matches!(&*leadership.borrow(), Leadership::Leading(_)));
    // It goes on: that term ends, nobody works any more, and the lease is still its own.
    tokio::select! {
        () = &mut running => panic!("it does not end"),
        () = sleep(Duration::from_secs(30)) => {}
    }
    assert!(active.leads());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_read_late_does_not_revive_a_term_that_has_lapsed() {
    let api = Api::new();
    let active = Active::default();
    let election = Election::new(
        api.client(),
        candidate("a"),
        active.clone(),
        Arc::default(),
        || {},
    );
    let mut leadership = election.leadership();
    let (_compete, wanted) = watch::channel(true);
    let mut running = pin!(election.run(wanted, CancellationToken::new()));
    tokio::select! {
        () = &mut running => panic!("it does not end"),
        () = sleep(Duration::from_millis(3_400)) => {}
    }
    // Whoever works keeps the term, so that the next one does not begin before this one is looked at.
    let _work = leadership.borrow().clone();
    // The renewal is sent at 3.5 s and answered a second later, and nobody is awake to read that until the first term
    // has lapsed at 13.5 s. By that answer the lease would be ours until 17 s.
    api.fault(Fault::Slow(Duration::from_secs(1)));
    tokio::select! {
        () = &mut running => panic!("it does not end"),
        () = sleep(Duration::from_millis(200)) => {}
    }
    advance(Duration::from_secs(10)).await;
    assert!(!active.leads());
    tokio::select! {
        () = &mut running => panic!("it does not end"),
        over = leadership.wait_for(|now| matches!(now, Leadership::Over { .. })) => {
            assert!(matches!(&*over.unwrap(), Leadership::Over { why: Over::Deadline, .. }));
        }
    }
    assert!(!active.leads());
}

#[tokio::test(start_paused = true)]
async fn who_resigns_ends_the_term_reads_and_leads_again_by_a_lease_that_is_its_own() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    assert!(work.undisturbed);
    api.with(|server| server.seen.clear());
    a.active.resign();
    assert!(!a.active.leads());
    assert_eq!(a.over().await, Over::Taken { by: None });
    sleep(Duration::from_secs(30)).await;
    assert!(!a.active.leads(), "not before the work has stopped");
    assert_eq!(api.with(|server| server.seen.len()), 0);
    let term = a.next_term(work).await;
    assert!(a.active.leads());
    let seen = api.with(|server| server.seen.clone());
    let methods: Vec<_> = seen.into_iter().map(|(method, _)| method).collect();
    assert_eq!(methods, [Method::GET, Method::PUT]);
    assert_eq!(api.lease()["spec"]["leaseTransitions"], 0);
    assert!(!term.undisturbed, "somebody else was seen at work");
    // And it keeps the lease.
    sleep(Duration::from_secs(60)).await;
    assert!(a.active.leads());
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn who_resigns_while_a_renewal_hangs_is_heard_at_once() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let _work = a.term().await;
    api.fault(Fault::Mute);
    sleep(Duration::from_secs(4)).await;
    a.active.resign();
    let heard = tokio::time::timeout(Duration::from_millis(100), a.over());
    assert_eq!(heard.await, Ok(Over::Taken { by: None }));
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_was_asked_for_leaves_the_lease_certain_until_it_is_released() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    a.stop.cancel();
    assert_eq!(a.over().await, Over::Stopped);
    for _ in 0..60 {
        sleep(Duration::from_secs(1)).await;
        assert!(a.active.leads(), "what runs is finished under the lease");
    }
    // The release counts at the server and is not answered: from then on somebody else may lead.
    api.fault(Fault::Mute);
    drop(work);
    while !api.holder().is_empty() {
        assert!(!a.task.is_finished());
        tokio::task::yield_now().await;
    }
    assert!(!a.active.leads());
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_the_certainty_nine_tenths_of_the_lease_after_the_last_renewal() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let _work = a.term().await;
    api.fault(Fault::Answers(500));
    sleep(Duration::from_millis(13_400)).await;
    assert!(a.active.leads());
    sleep(Duration::from_millis(200)).await;
    assert!(!a.active.leads());
    assert_eq!(a.over().await, Over::Deadline);
    a.kill();
}
