//! What becomes of records where Leases cannot be written.

use sandbox::{Api, Fault, Harm};
use tokio::time::sleep;

use super::{
    super::{CrashSafe, LedgerSettings, OpenError, Origin},
    S,
    faults::{OTHER, Process, UID, key, keys, shard},
    note, settings, term,
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
    process.open(OTHER).await.unwrap();
    process.ledger.hold(OTHER, "tired");
    // It stands in no shard, so the leader's Lease has the event.
    assert_eq!(*process.told.lock(), ["held in lab lease-1: tired"]);
    let tried = api.requests().len();
    sleep(S(590)).await;
    assert_eq!(api.requests().len(), tried, "it is left alone for ten minutes");
    api.heal();
    // The shards were not read, so they are taken over now, as the app does it.
    process.ledger.became_readable().await;
    process.take_over(&term(), true).await.unwrap();
    sleep(S(1)).await;
    assert!(process.keeps());
    let stored = [key("held", OTHER), key("ledger", UID)];
    assert_eq!(keys(&api), stored, "what was in memory is stored");
    assert_eq!(process.ledger.get(UID).unwrap().origin, Origin::Own);
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
async fn a_quota_on_new_leases_leaves_those_that_are_there() {
    let third = "01234567-89ab-cdef-0123-456789abcde1";
    for mode in [CrashSafe::Auto, CrashSafe::Required] {
        let api = Api::new();
        let process = Process::leading(&api, LedgerSettings { mode, ..settings() }).await;
        process.open(UID).await.unwrap();
        api.harm(Fault::new(Harm::Quota).on("create", "leases"));
        let large = process.ledger.open(OTHER, note(OTHER, 60_000)).await;
        assert_eq!(large.is_ok(), mode == CrashSafe::Auto, "{large:?}");
        assert_eq!(
            process.keeps(),
            mode == CrashSafe::Required,
            "one is in memory only"
        );
        process.open(third).await.unwrap();
        assert_eq!(keys(&api), [key("ledger", third), key("ledger", UID)]);
        // Once each ten minutes.
        let tried = || api.requests().iter().filter(|r| r.code == 403).count();
        assert_eq!(tried(), 1);
        sleep(S(610)).await;
        api.heal();
        sleep(S(610)).await;
        process.ledger.open(OTHER, note(OTHER, 60_000)).await.unwrap();
        sleep(S(1)).await;
        assert!(process.keeps());
        assert!(
            shard(&api, 1)
                .unwrap()
                .to_string()
                .contains(&key("ledger", OTHER))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_term_begins_with_the_shards_that_are_there_where_no_others_may_be() {
    let api = Api::new();
    let required = LedgerSettings {
        mode: CrashSafe::Required,
        ..settings()
    };
    let process = Process::leading(&api, required.clone()).await;
    process.open(UID).await.unwrap();
    process.ledger.open(OTHER, note(OTHER, 60_000)).await.unwrap();
    drop(process);
    assert!(api.delete("leases", "default", "lab-ledger-0"));
    api.harm(Fault::new(Harm::Quota).on("create", "leases"));
    let process = Process::leading(&api, required).await;
    assert!(process.keeps());
    process.ledger.erase(OTHER);
    process.open(UID).await.unwrap();
    assert!(shard(&api, 1).unwrap().to_string().contains(&key("ledger", UID)));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_shard_that_may_not_be_made_anew_moves_to_another() {
    let api = Api::new();
    let process = Process::leading(&api, settings()).await;
    process.open(UID).await.unwrap();
    process.ledger.open(OTHER, note(OTHER, 60_000)).await.unwrap();
    api.harm(Fault::new(Harm::Quota).on("create", "leases"));
    assert!(api.delete("leases", "default", "lab-ledger-0"));
    process.ledger.erase(OTHER);
    sleep(S(2)).await;
    // It is found by the next write of it.
    sleep(S(301)).await;
    assert!(process.keeps());
    assert!(shard(&api, 1).unwrap().to_string().contains(&key("ledger", UID)));
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
