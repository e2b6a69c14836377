//! What becomes of records where Leases cannot be written.

use sandbox::{Api, Fault, Harm};
use tokio::time::sleep;

use super::{
    super::{CrashSafe, LedgerSettings, OpenError, Origin},
    S,
    faults::{OTHER, Process, UID, key, keys},
    settings, term,
};

#[tokio::test(start_paused = true)]
async fn without_the_right_records_are_in_memory_until_it_is_there() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Status(403)).on("get", "leases"));
    let process = Process::leading(&api, settings()).await;
    assert!(!process.keeps());
    process.open(UID).await.unwrap();
    let text = process.ledger.status().in_memory.unwrap();
    assert!(text.contains("verbs: [\"get\"]"), "{text}");
    let tried = api.requests().len();
    sleep(S(590)).await;
    assert_eq!(api.requests().len(), tried, "it is left alone for ten minutes");
    api.heal();
    // The shards were not read, so they are taken over now, as the app does it.
    process.ledger.became_readable().await;
    process.take_over(&term(), true).await.unwrap();
    sleep(S(1)).await;
    assert!(process.keeps());
    assert_eq!(keys(&api), [key("ledger", UID)], "what was in memory is stored");
    assert_eq!(process.ledger.get(UID).unwrap().origin, Origin::Own);
    process.open(OTHER).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_its_namespace_or_under_a_name_that_is_too_long_records_are_in_memory() {
    let nowhere = LedgerSettings {
        namespace: "nowhere".to_owned(),
        ..settings()
    };
    let too_long = LedgerSettings {
        name: "x".repeat(250),
        ..settings()
    };
    for settings in [nowhere, too_long] {
        let api = Api::new();
        let process = Process::leading(&api, settings).await;
        assert!(!process.keeps());
        process.open(UID).await.unwrap();
        assert!(process.ledger.get(UID).is_some());
        let text = process.ledger.status().in_memory.unwrap();
        assert!(text.contains("leases"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_in_the_middle_of_a_term_looks_the_same() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    api.harm(Fault::new(Harm::Status(403)).on("update", "leases").times(1));
    process.open(OTHER).await.unwrap();
    assert!(!process.keeps());
    process.ledger.erase(UID);
    sleep(S(620)).await;
    assert!(process.keeps());
    assert_eq!(keys(&api), [key("ledger", OTHER)]);
}

#[tokio::test(start_paused = true)]
async fn where_it_is_required_claims_wait() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Status(403)).on("update", "leases").times(1));
    let required = LedgerSettings {
        mode: CrashSafe::Required,
        ..settings()
    };
    let process = Process::leading(&api, required).await;
    let error = process.open(UID).await.unwrap_err();
    assert!(matches!(error, OpenError::NotDurable(_)), "{error:?}");
    assert!(process.ledger.entries().is_empty());
    sleep(S(620)).await;
    process.open(UID).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn switched_off_no_lease_is_touched() {
    let api = Api::new();
    let off = LedgerSettings {
        mode: CrashSafe::Off,
        ..settings()
    };
    let process = Process::leading(&api, off).await;
    process.open(UID).await.unwrap();
    assert!(!process.keeps() && process.ledger.erase(UID));
    process.ledger.flush().await;
    assert_eq!(
        process.ledger.status().in_memory.as_deref(),
        Some("--crash-safe=off")
    );
    assert!(api.requests().is_empty(), "{:?}", api.requests());
}
