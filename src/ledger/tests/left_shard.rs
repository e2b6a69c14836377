//! A term begins without a shard that cannot be read or written, and takes it up when it can.

use sandbox::{Api, Fault, Harm};
use tokio::time::{Instant, sleep, timeout};

use super::{
    super::{CrashSafe, LedgerSettings, shard::SHARDS},
    MS, S, TermFacts,
    faults::{OTHER, Process, UID, key, shard},
    note, settings, term,
};
use crate::base::api_error::Reason;

/// A leader that was killed, and has left a record in each of the first two shards.
async fn left() -> Api {
    let api = Api::new();
    let they = LedgerSettings {
        identity: "they".to_owned(),
        ..settings()
    };
    let process = Process::leading(&api, they).await;
    process.open(UID).await.unwrap();
    process.ledger.open(OTHER, note(OTHER, 60_000)).await.unwrap();
    api
}

fn required() -> LedgerSettings {
    LedgerSettings {
        mode: CrashSafe::Required,
        ..settings()
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_without_a_shard_that_cannot_be_read_and_takes_it_over_later() {
    let api = left().await;
    let bad = || {
        Fault::new(Harm::Status(500))
            .on("get", "leases")
            .named("lab-ledger-1")
    };
    api.harm(bad());
    let process = Process::new(&api, required());
    process.take_over(&term(), true).await.unwrap_err();
    drop(process);
    let process = Process::leading(&api, settings()).await;
    assert_eq!(process.ledger.claim_uids(), [UID]);
    let status = process.ledger.status();
    assert!(status.left_alone[0].contains("lab-ledger-1"), "{status:?}");
    assert!(!process.ledger.has_read_all());
    process.ledger.erase(UID);
    sleep(S(300)).await;
    api.heal();
    timeout(S(61), process.ledger.became_readable()).await.unwrap();
    process.take_over(&term(), true).await.unwrap();
    assert_eq!(process.ledger.claim_uids(), [OTHER]);
    assert!(process.ledger.status().left_alone.is_empty());
    assert!(process.ledger.has_read_all());
}

#[tokio::test(start_paused = true)]
async fn no_term_begins_when_the_api_server_goes_down_in_the_middle() {
    let api = left().await;
    api.harm(
        Fault::new(Harm::Status(500))
            .on("get", "leases")
            .named("lab-ledger-1"),
    );
    api.harm(
        Fault::new(Harm::Status(500))
            .on("get", "leases")
            .after(SHARDS - 1),
    );
    let process = Process::new(&api, settings());
    process.take_over(&term(), true).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_without_a_shard_that_cannot_be_written_and_writes_it_later() {
    for harm in [Harm::Status(500), Harm::Deny(1), Harm::Cut] {
        let api = left().await;
        api.harm(
            Fault::new(harm.clone())
                .on("update", "leases")
                .named("lab-ledger-1"),
        );
        let process = Process::new(&api, required());
        process.take_over(&term(), true).await.unwrap_err();
        drop(process);
        api.forget_requests();
        let process = Process::leading(&api, settings()).await;
        let answered = (api.count("get", "leases"), api.count("update", "leases"));
        assert_eq!(answered, (2, 1), "{harm:?}: not all over again");
        let status = process.ledger.status();
        assert!(status.left_alone[0].contains("lab-ledger-1"), "{status:?}");
        sleep(S(300)).await;
        assert!(
            process.active.leads(),
            "{harm:?}: the leader before is no other one"
        );
        api.heal();
        sleep(S(61)).await;
        assert_eq!(shard(&api, 1).unwrap()["spec"]["holderIdentity"], "we");
        assert!(process.ledger.status().left_alone.is_empty(), "{harm:?}");
        assert!(process.active.leads() && process.ledger.claim_uids().len() == 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_before_writes_to_a_shard_that_was_left_is_taken_over() {
    let api = left().await;
    api.harm(
        Fault::new(Harm::Deny(1))
            .on("update", "leases")
            .named("lab-ledger-1"),
    );
    let process = Process::leading(&api, settings()).await;
    let late = "01234567-89ab-cdef-0123-456789abcde1";
    assert!(api.edit("leases", "default", "lab-ledger-1", |lease| {
        let record = lease["metadata"]["annotations"][key("ledger", OTHER)].clone();
        lease["metadata"]["annotations"][key("ledger", late)] = record;
    }));
    api.heal();
    timeout(S(61), process.ledger.became_readable()).await.unwrap();
    process.take_over(&term(), true).await.unwrap();
    assert!(process.ledger.get(late).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_without_a_shard_that_a_policy_denies_whichever_is_answered_first() {
    for (bad, mode) in [
        (0, CrashSafe::Auto),
        (1, CrashSafe::Auto),
        (0, CrashSafe::Required),
        (1, CrashSafe::Required),
    ] {
        let api = left().await;
        let name = format!("lab-ledger-{bad}");
        api.harm(Fault::new(Harm::Status(403)).on("update", "leases").named(&name));
        let process = Process::leading(&api, LedgerSettings { mode, ..settings() }).await;
        let status = process.ledger.status();
        assert_eq!(status.in_memory, None, "{bad} {mode:?}");
        assert!(status.left_alone[0].contains(&name), "{status:?}");
        let late = "01234567-89ab-cdef-0123-456789abcde1";
        process.open(late).await.unwrap();
        let there = |number| shard(&api, number).is_some_and(|it| it.to_string().contains(late));
        assert!((0..3).any(|number| number != bad && there(number)));
        sleep(S(300)).await;
        assert!(process.keeps() && process.active.leads());
        api.heal();
        sleep(S(61)).await;
        assert!(process.ledger.status().left_alone.is_empty());
        assert_eq!(shard(&api, bad).unwrap()["spec"]["holderIdentity"], "we");
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_in_memory_where_no_shard_may_be_written() {
    let api = left().await;
    api.harm(Fault::new(Harm::Status(403)).on("update", "leases"));
    let process = Process::leading(&api, settings()).await;
    assert!(!process.keeps());
    process
        .open("01234567-89ab-cdef-0123-456789abcde1")
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_term_that_ends_while_it_begins_is_no_fault_of_the_shards() {
    let api = left().await;
    let hang = || {
        Fault::new(Harm::Hang)
            .on("update", "leases")
            .named("lab-ledger-1")
    };
    api.harm(hang());
    let process = Process::new(&api, settings());
    process.active.lead_until(Some(Instant::now() + S(3)));
    process.take_over(&term(), true).await.unwrap_err();
    assert!(process.ledger.status().left_alone.is_empty());
    // Before anything is written.
    let process = Process::new(&api, settings());
    let other = TermFacts {
        lease_uid: "lease-2".to_owned(),
        ..term()
    };
    let active = &process.active;
    let ended = process.ledger.take_over(Some(&other), |_| async move {
        active.lead_until(None);
        Ok(true)
    });
    assert_eq!(ended.await.unwrap_err().reason, Reason::NotLeading);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_hangs_costs_the_others_two_seconds_when_it_is_left_alone() {
    let api = left().await;
    let process = Process::leading(&api, settings()).await;
    api.harm(
        Fault::new(Harm::Hang)
            .on("update", "leases")
            .named("lab-ledger-1"),
    );
    process.ledger.erase(OTHER);
    let mut slowest = S(0);
    for n in 0..400 {
        let began = Instant::now();
        let left = !process.ledger.status().left_alone.is_empty();
        process.ledger.open(UID, note(UID, 900 + n)).await.unwrap();
        if left {
            slowest = slowest.max(began.elapsed());
        }
        sleep(MS(500)).await;
    }
    assert!((S(1)..S(3)).contains(&slowest), "{slowest:?}");
}
