//! Put on before the first creation, taken off after the last.

use futures::future::join_all;
use sandbox::{Fault, Harm};

use super::*;

fn writes(lab: &Lab) -> usize {
    lab.api.count("update", SNAPSHOTS) + lab.api.count("update", CLAIMS)
}

#[tokio::test(start_paused = true)]
async fn five_hundred_restores_cost_one_write_on_and_one_off() {
    let lab = Lab::plain().snapshot("backup", DRIVER, &[OTHERS]).start().await;
    let before = lab.object(&backup()).unwrap();
    let uids: Vec<_> = (0..500).map(|n| format!("uid-{n}")).collect();
    let source = backup();
    let held = join_all(uids.iter().map(|uid| {
        lab.need(uid, &source);
        lab.hold(&source, uid)
    }));
    assert!(held.await.iter().all(Result::is_ok));
    assert_eq!((writes(&lab), lab.is_on(&source)), (1, true));
    for (n, uid) in uids.iter().enumerate() {
        assert!(lab.is_on(&source), "{n}");
        lab.need_no_more(uid);
        sleep(SECOND / 100).await;
    }
    sleep(SECOND).await;
    assert_eq!(
        (writes(&lab), lab.finalizers(&source)),
        (2, vec![OTHERS.to_owned()])
    );
    let mut after = lab.object(&source).unwrap();
    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    assert_eq!(after, before, "D-52: and nothing else has changed");
}

#[tokio::test(start_paused = true)]
async fn a_source_is_freed_when_the_last_claim_is_done_whatever_else_is_about_it() {
    type Change = fn(&Lab);
    let rows: [(&[&str], &str, Change, bool); 7] = [
        (
            &[
                "clone.CloneFinalizerRemoval.01",
                "clone.CloneFinalizerRemoval.05",
                "sweep.single-case-functions.01",
                "sweep.single-case-functions.03",
            ],
            "nobody needs it",
            |_| {},
            false,
        ),
        (
            &[
                "clone.CloneFinalizerRemoval.02",
                "clone.CloneFinalizerRemoval.03",
                "sweep.single-case-functions.02",
                "sweep.single-case-functions.04",
            ],
            "another claim waits",
            |lab| {
                for source in [backup(), source(SourceKind::Claim, "origin")] {
                    lab.need(&source.to_string(), &source);
                }
            },
            true,
        ),
        (
            &["clone.CloneFinalizerRemoval.04"],
            "a claim waits for its namesake in another namespace",
            |lab| {
                for kind in [SourceKind::Snapshot, SourceKind::Claim] {
                    let namespace = "lab".to_owned();
                    let name = source(kind, "").name
                        + if kind == SourceKind::Claim {
                            "origin"
                        } else {
                            "backup"
                        };
                    let other = Source {
                        kind,
                        namespace,
                        name,
                    };
                    lab.need(&other.to_string(), &other);
                }
            },
            false,
        ),
        (
            &[],
            "it is of another driver by now",
            |lab| {
                lab.api.edit(CONTENTS, "", "content-backup", |it| {
                    it["spec"]["driver"] = "x".into()
                });
                lab.api.edit(VOLUMES, "", "pv-origin", |it| {
                    it["spec"]["csi"]["driver"] = "x".into()
                });
            },
            true,
        ),
        (
            &[],
            "its content is gone",
            |lab| {
                lab.api.delete(CONTENTS, "", "content-backup");
                lab.api.delete(VOLUMES, "", "pv-origin");
            },
            false,
        ),
        (
            &[],
            "somebody writes it at the same time",
            |lab| {
                for plural in [SNAPSHOTS, CLAIMS] {
                    let fault = Fault::new(Harm::Status(409)).on("update", plural);
                    lab.api.harm(fault.times(3));
                }
            },
            false,
        ),
        (
            &[],
            "the answer is lost",
            |lab| {
                for plural in [SNAPSHOTS, CLAIMS] {
                    lab.api
                        .harm(Fault::new(Harm::LoseReply).on("update", plural).times(1));
                }
            },
            false,
        ),
    ];
    for (ids, what, change, stays) in rows {
        let lab = Lab::plain()
            .snapshot("backup", DRIVER, &[])
            .origin("origin", DRIVER, &[])
            .start()
            .await;
        for source in [backup(), source(SourceKind::Claim, "origin")] {
            lab.need("uid", &source);
            lab.hold(&source, "uid").await.unwrap();
            assert!(lab.is_on(&source), "{what}");
        }
        change(&lab);
        // One claim has one source: the other one is somebody else's.
        lab.need_no_more("uid");
        lab.hold(&backup(), "uid").await.unwrap();
        lab.protection.reconciled("uid");
        sleep(SECOND * 60).await;
        for source in [backup(), source(SourceKind::Claim, "origin")] {
            assert_eq!(lab.is_on(&source), stays, "{source}: {what} {ids:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_goes_away_is_freed_and_one_that_cannot_be_kept_is_no_failure() {
    let lab = Lab::plain()
        .snapshot("backup", DRIVER, &[])
        .snapshot("going", DRIVER, &[OTHERS])
        .start()
        .await;
    lab.need("uid", &backup());
    lab.hold(&backup(), "uid").await.unwrap();
    lab.api.delete(SNAPSHOTS, "default", "backup");
    sleep(SECOND * 60).await;
    let ids = [
        "clone.EnqueueClaimUpadate.01",
        "clone.EnqueueClaimUpadate.02: the finalizer on a source comes off when",
    ];
    assert!(lab.object(&backup()).is_some(), "the finalizer keeps it {ids:?}");
    lab.need_no_more("uid");
    sleep(SECOND).await;
    assert!(lab.object(&backup()).is_none());
    assert_eq!(writes(&lab), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_has_changed_since_it_was_read_begins_nothing_and_one_on_record_goes_on() {
    let lab = Lab::plain()
        .snapshot("going", DRIVER, &[OTHERS])
        .snapshot("again", DRIVER, &[])
        .start()
        .await;
    let [going, again, gone] = ["going", "again", "gone"].map(|name| source(SourceKind::Snapshot, name));
    let before = lab.uid(&again);
    lab.api.delete(SNAPSHOTS, "default", "again");
    lab.api.delete(CONTENTS, "", "content-again");
    let lab = lab.snapshot("again", DRIVER, &[]);
    lab.api.delete(SNAPSHOTS, "default", "going");
    let uid = lab.uid(&going);
    for (source, read, expected) in [
        (&gone, "u", Err(NotHeld::Gone)),
        (&again, &*before, Err(NotHeld::MadeAnew)),
        (&going, &*uid, Err(NotHeld::BeingDeleted)),
    ] {
        let held = lab.protection.hold(source, Some(read), "uid").await;
        assert_eq!(held, expected, "{source}");
        lab.protection.reconciled("uid");
    }
    assert_eq!(writes(&lab), 0);
    // The driver has what is on record, whoever has the name now.
    lab.record("uid", &again);
    assert_eq!(lab.protection.hold(&again, None, "uid").await, Ok(()));
    assert!(lab.is_on(&again));
    // What is known to be protected is not read again, unless it is another one.
    let reads = || lab.api.count("get", SNAPSHOTS);
    let before = reads();
    assert_eq!(lab.hold(&again, "other").await, Ok(()));
    assert_eq!(reads(), before);
    let held = lab.protection.hold(&again, Some("u"), "other").await;
    assert_eq!(held, Err(NotHeld::MadeAnew));
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_being_deleted_is_freed_unless_a_clone_of_it_is_on_record() {
    let origin = source(SourceKind::Claim, "origin");
    for on_record in [false, true] {
        let lab = Lab::new(|_| {}, Some(SECOND * 300))
            .origin("origin", DRIVER, &[])
            .start()
            .await;
        lab.record("copy", &origin);
        lab.hold(&origin, "copy").await.unwrap();
        lab.need("waits", &origin);
        if !on_record {
            lab.need("copy", &origin);
        }
        lab.protection.reconciled("copy");
        sleep(SECOND * 60).await;
        assert!(lab.is_on(&origin), "it can be cloned still");
        lab.api.delete(CLAIMS, "default", "origin");
        // Nobody tells, but the sweep finds it.
        sleep(SECOND * 300).await;
        assert_eq!(lab.is_on(&origin), on_record, "D-19");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_forgotten_although_another_claim_needs_the_source_for_ever() {
    let lab = Lab::plain().snapshot("golden", DRIVER, &[]).start().await;
    let golden = source(SourceKind::Snapshot, "golden");
    lab.need("hopeless", &golden);
    for n in 0..100 {
        let claim = n.to_string();
        lab.record(&claim, &golden);
        lab.hold(&golden, &claim).await.unwrap();
        lab.need_no_more(&claim);
    }
    sleep(SECOND).await;
    assert_eq!(lab.protection.holders.lock().len(), 0);
    assert_eq!(writes(&lab), 1);
    // It has never come to hold the source.
    lab.protection.reconciled("hopeless");
    sleep(SECOND).await;
    assert!(lab.is_on(&golden));
    lab.need_no_more("hopeless");
    sleep(SECOND).await;
    assert!(!lab.is_on(&golden));
}

#[tokio::test(start_paused = true)]
async fn what_a_term_has_not_come_to_is_looked_at_in_the_next_one() {
    let mut lab = Lab::plain().snapshot("backup", DRIVER, &[]).start().await;
    lab.record("uid", &backup());
    lab.hold(&backup(), "uid").await.unwrap();
    lab.run.take().unwrap().abort();
    sleep(SECOND).await;
    lab.need_no_more("uid");
    sleep(SECOND).await;
    assert!(lab.is_on(&backup()), "the queue takes nothing between terms");
    let lab = lab.start().await;
    assert!(!lab.is_on(&backup()));
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_that_panics_is_over_too() {
    let lab = Lab::plain().snapshot("backup", DRIVER, &[]).start().await;
    let (protection, uid) = (lab.protection.clone(), lab.uid(&backup()));
    let panicked = tokio::spawn(async move {
        let _at_work = protection.reconciling("uid");
        protection.hold(&backup(), Some(&uid), "uid").await.unwrap();
        panic!("a defect");
    });
    assert!(panicked.await.is_err());
    sleep(SECOND).await;
    assert!(!lab.is_on(&backup()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_while_a_write_fails_fails_with_it_and_the_next_one_tries_again() {
    let lab = Lab::plain().snapshot("backup", DRIVER, &[]).start().await;
    let slow = || Fault::new(Harm::Status(503)).on("update", SNAPSHOTS).times(1);
    lab.api.harm(slow());
    lab.api.latency(SECOND);
    let uids: Vec<_> = (0..100).map(|n| format!("uid-{n}")).collect();
    let source = backup();
    let held = join_all(uids.iter().map(|uid| lab.hold(&source, uid))).await;
    assert!(
        held.iter().all(Result::is_err),
        "a second write would not have failed"
    );
    assert_eq!(lab.hold(&source, "uid").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_write_the_volume_is_made_all_the_same() {
    let rows = [
        ("update is forbidden", Harm::Status(403), true),
        ("the server fails", Harm::Status(503), false),
        ("it is written again and again", Harm::Status(409), false),
    ];
    for (what, harm, is_held) in rows {
        for source in [backup(), source(SourceKind::Claim, "origin")] {
            let lab = Lab::plain()
                .snapshot("backup", DRIVER, &[])
                .origin("origin", DRIVER, &[])
                .start()
                .await;
            let fault = Fault::new(harm.clone()).on("update", plural(source.kind));
            lab.api.harm(fault);
            let held = lab.hold(&source, "uid").await;
            assert_eq!(held.is_ok(), is_held, "{source}: {what}");
            assert!(!lab.is_on(&source), "{source}: {what}");
            lab.api.heal();
            lab.need("uid", &source);
            assert_eq!(lab.hold(&source, "uid").await, Ok(()), "{source}: {what}");
            assert!(lab.is_on(&source), "{source}: {what}");
        }
    }
}
