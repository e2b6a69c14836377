//! The writer against an API server that refuses, hangs, forgets to answer, or is edited by hand.

use std::sync::Arc;

use parking_lot::Mutex;
use sandbox::{ADMIN, Api, Fault, Harm};
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    super::{Ledger, LedgerEvent, LedgerSettings, OpenError, Origin, TermFacts},
    MS, Note, S, note, settings, term,
};
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{active::Active, leases::Leases},
};

pub(super) const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
pub(super) const OTHER: &str = "01234567-89ab-cdef-0123-456789abcde0";

/// A process with its ledger.
pub(super) struct Process {
    pub(super) ledger: Arc<Ledger<Note>>,
    pub(super) active: Active,
    pub(super) told: Arc<Mutex<Vec<String>>>,
    pub(super) run: JoinHandle<()>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.run.abort();
    }
}

impl Process {
    pub(super) fn new(api: &Api, settings: LedgerSettings) -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        let on_event = Box::new(move |event: LedgerEvent<'_>| match event {
            LedgerEvent::Held { lease, why, .. } => {
                heard
                    .lock()
                    .push(format!("held in {} {}: {why}", lease.name, lease.uid));
            }
            LedgerEvent::Unreadable { uid, lease, why } => {
                let text = format!("unreadable in {} {}: {uid}, {why}", lease.name, lease.uid);
                heard.lock().push(text);
            }
            LedgerEvent::Settle { uid } => heard.lock().push(format!("settle {uid}")),
            LedgerEvent::Status(_) | LedgerEvent::Written(_) => {}
        });
        let active = Active::elected();
        active.lead_until(Some(Instant::now() + S(1_000_000)));
        let leases = Leases::new(api.client(ADMIN), "default");
        let ledger = Arc::new(Ledger::new(settings, leases, active.clone(), on_event));
        let running = ledger.clone();
        let run = tokio::spawn(async move {
            running.run().await;
        });
        Self {
            ledger,
            active,
            told,
            run,
        }
    }

    pub(super) async fn leading(api: &Api, settings: LedgerSettings) -> Self {
        let process = Self::new(api, settings);
        process.take_over(&term(), true).await.unwrap();
        process
    }

    /// Whether what is opened now outlives the process.
    pub(super) fn keeps(&self) -> bool {
        self.ledger.status().in_memory.is_none()
    }

    pub(super) async fn take_over(&self, term: &TermFacts, waits: bool) -> Result<(), ApiError> {
        self.ledger
            .take_over(Some(term), |_: Arc<Note>| async move { Ok(waits) })
            .await
    }

    pub(super) async fn open(&self, uid: &str) -> Result<(), OpenError> {
        self.ledger.open(uid, note(uid, 900)).await
    }
}

pub(super) fn shard(api: &Api, number: usize) -> Option<Value> {
    api.get("leases", "default", &format!("lab-ledger-{number}"))
}

pub(super) fn shard_uid(api: &Api) -> String {
    shard(api, 0).unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Keys of the annotations of the first shard.
pub(super) fn keys(api: &Api) -> Vec<String> {
    let shard = shard(api, 0).unwrap();
    let annotations = shard["metadata"]["annotations"].as_object().cloned();
    annotations.unwrap_or_default().keys().cloned().collect()
}

pub(super) fn key(prefix: &str, uid: &str) -> String {
    format!("{prefix}.volwright.dev/{uid}")
}

pub(super) fn take_out(api: &Api, key: &str) {
    assert!(api.edit("leases", "default", "lab-ledger-0", |lease| {
        lease["metadata"]["annotations"]
            .as_object_mut()
            .unwrap()
            .remove(key)
            .unwrap();
    }));
}

#[tokio::test(start_paused = true)]
async fn what_is_open_is_on_the_server_with_identity_time_and_labels() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    let shard = shard(&api, 0).unwrap();
    assert_eq!(shard["spec"]["holderIdentity"], "we");
    assert_eq!(shard["metadata"]["labels"]["team"], "storage");
    let value = shard["metadata"]["annotations"][key("ledger", UID)]
        .as_str()
        .unwrap();
    assert!(value.starts_with(&format!("shop/{UID} pvc-{UID} ")), "{value}");
    assert!(process.keeps());
    assert_eq!(process.ledger.status().records, 1);
}

#[tokio::test(start_paused = true)]
async fn a_killed_process_is_followed_by_one_that_inherits() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    process.open(OTHER).await.unwrap();
    process.ledger.erase(OTHER);
    process.ledger.flush().await;
    drop(process);
    let next = Process::leading(&api, settings()).await;
    assert_eq!(next.ledger.claim_uids(), [UID]);
    let entry = next.ledger.get(UID).unwrap();
    assert_eq!(entry.origin, Origin::Inherited { distrust: None });
    assert_eq!(entry.record, note(UID, 900));
}

#[tokio::test(start_paused = true)]
async fn a_write_of_the_leader_before_conflicts_and_ends_its_term() {
    let api = Api::new();
    let old = Process::leading(&api, settings()).await;
    old.open(UID).await.unwrap();
    let new = Process::new(
        &api,
        LedgerSettings {
            identity: "they".to_owned(),
            ..settings()
        },
    );
    let facts = TermFacts {
        transitions: 8,
        undisturbed: false,
        ..term()
    };
    new.take_over(&facts, true).await.unwrap();
    assert_eq!(old.open(OTHER).await, Err(OpenError::NotLeading));
    assert!(!old.active.leads());
    old.active.resigned().await;
    assert_eq!(keys(&api), [key("ledger", UID)]);
    assert_eq!(new.ledger.claim_uids(), [UID]);
}

#[tokio::test(start_paused = true)]
async fn what_another_leader_erased_meanwhile_is_forgotten() {
    let api = Api::new();
    let old = Process::leading(&api, settings()).await;
    old.open(UID).await.unwrap();
    old.open(OTHER).await.unwrap();
    let new = Process::new(
        &api,
        LedgerSettings {
            identity: "they".to_owned(),
            ..settings()
        },
    );
    new.take_over(
        &TermFacts {
            transitions: 8,
            ..term()
        },
        true,
    )
    .await
    .unwrap();
    new.ledger.erase(UID);
    new.ledger.flush().await;
    old.take_over(
        &TermFacts {
            transitions: 9,
            undisturbed: false,
            ..term()
        },
        true,
    )
    .await
    .unwrap();
    assert_eq!(old.ledger.claim_uids(), [OTHER]);
    let origin = old.ledger.get(OTHER).unwrap().origin;
    assert_eq!(origin, Origin::Inherited { distrust: None });
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_fails_the_open_and_nothing_is_left() {
    for harm in [Harm::LoseReply, Harm::Cut, Harm::Status(500), Harm::Hang] {
        let api = Api::new();
        let process = Process::leading(&api, settings()).await;
        api.harm(Fault::new(harm.clone()).on("update", "leases").times(1));
        let error = process.open(UID).await.unwrap_err();
        assert!(matches!(error, OpenError::Api(_)), "{harm:?}: {error:?}");
        assert_eq!(process.ledger.get(UID).map(|entry| entry.record), None);
        sleep(S(3)).await;
        assert!(keys(&api).is_empty(), "{harm:?}: {:?}", keys(&api));
        process.open(UID).await.unwrap();
        assert_eq!(keys(&api), [key("ledger", UID)], "{harm:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_was_deleted_by_hand_is_made_anew() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    assert!(api.delete("leases", "default", "lab-ledger-0"));
    // To the API server this is a creation with a resourceVersion, which it answers with 500.
    process.open(OTHER).await.unwrap_err();
    process.open(OTHER).await.unwrap();
    assert_eq!(keys(&api), [key("ledger", OTHER), key("ledger", UID)]);
}

#[tokio::test(start_paused = true)]
async fn a_running_record_that_was_taken_out_is_put_back_and_a_held_one_is_not() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    process.open(OTHER).await.unwrap();
    process.ledger.hold(OTHER, "tired");
    sleep(S(1)).await;
    let lease = shard_uid(&api);
    assert_eq!(
        *process.told.lock(),
        [format!("held in lab-ledger-0 {lease}: tired")]
    );
    assert_eq!(keys(&api), [key("held", OTHER), key("ledger", UID)]);
    assert_eq!(
        (process.ledger.status().records, process.ledger.status().held),
        (1, 1)
    );
    take_out(&api, &key("ledger", UID));
    take_out(&api, &key("held", OTHER));
    // It is looked at every minute.
    sleep(S(62)).await;
    assert_eq!(keys(&api), [key("ledger", UID)]);
    assert_eq!(
        (process.ledger.status().records, process.ledger.status().held),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_person_has_a_held_record_settled() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    process.ledger.hold(UID, "tired");
    sleep(S(1)).await;
    assert!(api.edit("leases", "default", "lab-ledger-0", |lease| {
        lease["metadata"]["annotations"][key("settle", UID)] = "yes".into();
    }));
    sleep(S(62)).await;
    assert_eq!(keys(&api), [key("ledger", UID)]);
    assert_eq!(process.told.lock().last(), Some(&format!("settle {UID}")));
    let origin = process.ledger.get(UID).unwrap().origin;
    assert_eq!(origin, Origin::Inherited { distrust: None });
}

#[tokio::test(start_paused = true)]
async fn when_the_writer_is_dropped_whoever_waits_hears_of_it() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    api.harm(Fault::new(Harm::Hang).on("update", "leases"));
    let ledger = process.ledger.clone();
    let waiting = tokio::spawn(async move { ledger.open(UID, note(UID, 900)).await });
    sleep(MS(100)).await;
    drop(process);
    assert_eq!(waiting.await.unwrap(), Err(OpenError::NotLeading));
}

#[tokio::test(start_paused = true)]
async fn after_the_lease_nothing_is_sent() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    process.active.lead_until(None);
    api.forget_requests();
    process.ledger.erase(UID);
    assert_eq!(process.open(OTHER).await, Err(OpenError::NotLeading));
    process.ledger.flush().await;
    sleep(S(1_000)).await;
    assert!(api.requests().is_empty(), "{:?}", api.requests());
}

#[tokio::test(start_paused = true)]
async fn a_request_does_not_outlast_the_lease() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    api.harm(Fault::new(Harm::Hang).on("update", "leases"));
    let began = Instant::now();
    process.active.lead_until(Some(began + S(3)));
    process.open(UID).await.unwrap_err();
    assert!(began.elapsed() < S(4), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_take_over_that_fails_is_told_and_can_be_repeated() {
    let api = Api::new();
    let first = Process::leading(&api, settings()).await;
    first.open(UID).await.unwrap();
    drop(first);
    // A read that fails alone is made again at once.
    let process = Process::new(&api, settings());
    api.harm(Fault::new(Harm::Status(500)).on("get", "leases").times(1));
    process.take_over(&term(), true).await.unwrap();
    drop(process);
    for (verb, harm) in [("get", Harm::Status(500)), ("update", Harm::LoseReply)] {
        let process = Process::new(&api, settings());
        api.harm(Fault::new(harm).on(verb, "leases"));
        let failed = process.take_over(&term(), true).await.unwrap_err();
        assert_eq!(failed.reason, Reason::Unavailable, "{verb}");
        api.heal();
        process.take_over(&term(), true).await.unwrap();
        assert_eq!(process.ledger.claim_uids(), [UID], "{verb}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_of_a_record_replaces_only_what_its_caller_knew() {
    let process = Process::leading(&Api::new(), settings()).await;
    process.open(UID).await.unwrap();
    let update = |before: &Arc<Note>, bytes| process.ledger.update(UID, before, note(UID, bytes));
    let before = process.ledger.get(UID).unwrap().record;
    assert!(!update(&note(UID, 900), 1_000), "alike is not the same");
    assert!(update(&before, 1_000));
    assert!(!update(&before, 1_100), "somebody else was faster");
    let last = process.ledger.get(UID).unwrap().record;
    assert_eq!(last, note(UID, 1_000));
    process.ledger.erase(UID);
    assert!(!update(&last, 1_200), "what is erased stays so");
}
