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
        lab.protection.hold(&source, uid)
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
    assert_eq!(after, before, "and nothing else has changed");
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
            lab.protection.hold(&source, "uid").await.unwrap();
            assert!(lab.is_on(&source), "{what}");
        }
        change(&lab);
        // One claim has one source: the other one is somebody else's.
        lab.need_no_more("uid");
        lab.protection.hold(&backup(), "uid").await.unwrap();
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
    lab.protection.hold(&backup(), "uid").await.unwrap();
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
    lab.api.delete(SNAPSHOTS, "default", "going");
    for name in ["going", "backup"] {
        let source = source(SourceKind::Snapshot, name);
        assert_eq!(lab.protection.hold(&source, "uid").await, Ok(()), "{name}");
    }
    assert_eq!(writes(&lab), 2);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_write_the_volume_is_made_all_the_same() {
    let rows = [
        ("update is forbidden", Harm::Status(403), true),
        ("the server fails", Harm::Status(503), false),
        ("it is written again and again", Harm::Status(409), false),
    ];
    for (what, harm, is_held) in rows {
        let lab = Lab::plain().snapshot("backup", DRIVER, &[]).start().await;
        lab.api.harm(Fault::new(harm).on("update", SNAPSHOTS));
        let held = lab.protection.hold(&backup(), "uid").await;
        assert_eq!(held.is_ok(), is_held, "{what}");
        assert!(!lab.is_on(&backup()), "{what}");
        lab.api.heal();
        lab.need("uid", &backup());
        assert_eq!(lab.protection.hold(&backup(), "uid").await, Ok(()), "{what}");
        assert!(lab.is_on(&backup()), "{what}");
    }
}
