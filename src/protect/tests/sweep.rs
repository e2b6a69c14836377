//! What others have left.

use sandbox::{Fault, Harm};

use super::*;
use crate::cluster::source::{CLONE_FINALIZER, SNAPSHOT_FINALIZER};

const MINUTES: Duration = Duration::from_secs(300);

fn left(change: fn(&mut DriverInfo), interval: Option<Duration>) -> Lab {
    let on = [OTHERS, SNAPSHOT_FINALIZER];
    Lab::new(change, interval)
        .snapshot("backup", DRIVER, &on)
        .snapshot("needed", DRIVER, &on)
        .snapshot("foreign", "other.example.com", &on)
        .snapshot("free", DRIVER, &[OTHERS])
        .origin("origin", DRIVER, &[CLONE_FINALIZER])
        .origin("elsewhere", "other.example.com", &[CLONE_FINALIZER])
}

/// The sources that have our finalizer.
fn protected(lab: &Lab) -> Vec<String> {
    let names = ["backup", "needed", "foreign", "free"].map(|name| source(SourceKind::Snapshot, name));
    let claims = ["origin", "elsewhere"].map(|name| source(SourceKind::Claim, name));
    let all = names.into_iter().chain(claims);
    all.filter(|source| lab.is_on(source))
        .map(|source| source.name)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_nobody_needs_is_freed_at_the_start_of_a_term_and_only_that() {
    let ids = [
        "sweep.single-case-functions.07",
        "sweep.single-case-functions.08",
        "clone.CloneFinalizerRemoval.06",
    ];
    let lab = left(|_| {}, Some(MINUTES));
    lab.need("uid", &source(SourceKind::Snapshot, "needed"));
    let free = lab.object(&source(SourceKind::Snapshot, "free"));
    let lab = lab.start().await;
    assert_eq!(
        protected(&lab),
        ["needed", "foreign", "elsewhere"],
        "D-48: {ids:?}"
    );
    assert_eq!(lab.object(&source(SourceKind::Snapshot, "free")), free);
    assert_eq!(lab.finalizers(&backup()), [OTHERS]);
    // One that this process has never held.
    lab.needs.lock().clear();
    sleep(MINUTES + SECOND).await;
    assert_eq!(protected(&lab), ["foreign", "elsewhere"]);
}

#[tokio::test(start_paused = true)]
async fn only_kinds_that_the_driver_copies_are_swept_and_nothing_without_an_interval() {
    type Case = (&'static str, fn(&mut DriverInfo), Option<Duration>, [usize; 2]);
    let rows: [Case; 4] = [
        ("both", |_| {}, Some(MINUTES), [1, 1]),
        (
            "sweep.single-case-functions.06",
            |driver| driver.create_delete_snapshot = false,
            Some(MINUTES),
            [0, 1],
        ),
        ("no clones", |driver| driver.clone = false, Some(MINUTES), [1, 0]),
        ("never", |_| {}, None, [0, 0]),
    ];
    for (what, change, interval, lists) in rows {
        let lab = Lab::new(change, interval).start().await;
        let listed = [SNAPSHOTS, CLAIMS].map(|plural| lab.api.count("list", plural));
        assert_eq!(listed, lists, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_takes_nothing_off_and_is_tried_at_the_next_sweep() {
    let id = "sweep.single-case-functions.05";
    for harm in [Harm::Status(403), Harm::Status(404), Harm::Status(503), Harm::Cut] {
        let lab = left(|_| {}, Some(MINUTES));
        for plural in [SNAPSHOTS, CLAIMS] {
            lab.api.harm(Fault::new(harm.clone()).on("list", plural));
        }
        let all = protected(&lab);
        let lab = lab.start().await;
        sleep(MINUTES * 2).await;
        assert_eq!(protected(&lab), all, "{id} {harm:?}");
        lab.api.heal();
        sleep(MINUTES + SECOND).await;
        assert_eq!(protected(&lab), ["foreign", "elsewhere"], "{harm:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_off_by_hand_is_put_on_for_the_next_claim() {
    let lab = Lab::new(|_| {}, Some(MINUTES))
        .snapshot("backup", DRIVER, &[])
        .start()
        .await;
    lab.need("first", &backup());
    lab.hold(&backup(), "first").await.unwrap();
    let bare = |it: &mut Value| it["metadata"]["finalizers"] = json!([]);
    lab.api.edit(SNAPSHOTS, "default", "backup", bare);
    sleep(MINUTES + SECOND).await;
    lab.need("second", &backup());
    lab.hold(&backup(), "second").await.unwrap();
    assert!(lab.is_on(&backup()));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_are_freed_and_who_needs_them_is_asked_in_memory_and_once() {
    let mut lab = Lab::new(|_| {}, Some(MINUTES));
    for n in 0..1000 {
        lab = lab.snapshot(&format!("s-{n}"), DRIVER, &[SNAPSHOT_FINALIZER]);
    }
    let lab = lab.start().await;
    sleep(SECOND * 60).await;
    assert_eq!(lab.api.count("update", SNAPSHOTS), 1000);
    assert_eq!(lab.api.count("list", CLAIMS), 1, "for their finalizers");
    let asked = lab.asked.load(Relaxed);
    assert_eq!(asked, 3, "at the start of the term, and for each kind");
}

#[tokio::test(start_paused = true)]
async fn while_records_may_be_unknown_nothing_is_taken_off() {
    let lab = left(|_| {}, Some(MINUTES));
    let all = protected(&lab);
    lab.incomplete.store(true, Relaxed);
    let lab = lab.start().await;
    sleep(MINUTES).await;
    lab.need("uid", &backup());
    lab.need_no_more("uid");
    sleep(MINUTES * 2).await;
    assert_eq!(protected(&lab), all);
    lab.incomplete.store(false, Relaxed);
    sleep(MINUTES + SECOND).await;
    assert_eq!(protected(&lab), ["foreign", "elsewhere"]);
}
