//! Sources that change at any moment of a creation.

use sandbox::{
    Api, Line, World,
    driver::{Capability, Trouble},
};
use serde_json::Value;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    look::nothing_is_lost,
    sidecar::{CLAIMS, Look, Pod, Sidecar, finalizers, secs, world},
    sources::{CONTENTS, SNAPSHOTS, asked, cloned, restored, snapshot},
};

const CONTENT: &str = "snapcontent-default-backup";

/// A world whose driver can copy, with the snapshot `backup` and nothing else.
fn backed_up() -> World {
    let world = world();
    world.driver.configure(|identity| {
        let more = [Capability::CreateDeleteSnapshot, Capability::CloneVolume];
        identity.capabilities.extend(more);
    });
    world.add_snapshot("default", "backup", |_| {});
    world
}

/// What the claim `data` asks for, and how what it is told of its source begins.
type Asked = (fn(&mut Value), &'static str);
const RESTORE: Asked = (restored, "VolumeSnapshot default/backup: ");
const CLONE: Asked = (cloned, "PersistentVolumeClaim default/origin: ");

/// Makes the volume once for each effect that the sidecar has meanwhile, with this change at that effect.
async fn at_each_step(asked: Asked, change: fn(&Api), then: impl AsyncFn(&World)) {
    let uncut = async |world: &World| world.becomes_bound("data").await;
    let count = at_step(usize::MAX, asked, change, uncut).await;
    assert!(count > 8, "only {count} steps");
    for number in 0..count {
        at_step(number, asked, change, &then).await;
    }
}

/// How many effects there were.
async fn at_step(number: usize, (from, told): Asked, change: fn(&Api), then: impl AsyncFn(&World)) -> usize {
    let world = backed_up();
    world.driver.add_snapshot("other");
    let line = Line::new();
    let sidecar = Sidecar::on(&world, &line, Pod::default(), &[]);
    world.add_claim("default", "origin", "1Gi", |_| {});
    world.becomes_bound("origin").await;
    let (api, before) = (world.api.clone(), line.count());
    line.on_effect(move |effect| {
        if effect
            .number
            .is_some_and(|it| it >= before && it - before == number)
        {
            change(&api);
        }
    });
    world.add_claim("default", "data", "1Gi", from);
    let told = ["ProvisioningFailed", told];
    world
        .eventually("there is a volume, or a reason for none", |world| {
            world.bound("data") || world.told("data", &told)
        })
        .await;
    then(&world).await;
    nothing_is_lost(&world);
    let count = line.count() - before;
    sidecar.stop();
    sidecar.ended().await.expect("a clean end");
    count
}

fn content(api: &Api, edit: impl FnMut(&mut Value)) {
    api.edit(CONTENTS, "", CONTENT, edit);
}

/// The source that was deleted goes, or has been copied, and nothing is left when the claims are gone.
async fn goes_without_a_trace(world: &World, plural: &str, name: &str) {
    world
        .eventually("nobody keeps it", |world| {
            world.api.get(plural, "default", name).is_none() || world.bound("data")
        })
        .await;
    for claim in ["data", "origin"] {
        world.api.delete(CLAIMS, "default", claim);
    }
    world.becomes_clean().await;
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_deleted_at_any_step_is_copied_or_gone_and_nothing_is_left() {
    let change = |api: &Api| {
        api.delete(SNAPSHOTS, "default", "backup");
    };
    at_each_step(RESTORE, change, async |world| {
        goes_without_a_trace(world, SNAPSHOTS, "backup").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_deleted_at_any_step_of_its_clone_goes_and_nothing_is_left() {
    let change = |api: &Api| {
        api.delete(CLAIMS, "default", "origin");
    };
    at_each_step(CLONE, change, async |world| {
        goes_without_a_trace(world, CLAIMS, "origin").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_is_swapped_at_any_step_gives_one_volume_of_one_of_them() {
    let change = |api: &Api| content(api, |it| it["status"]["snapshotHandle"] = "other".into());
    at_each_step(RESTORE, change, async |world| {
        world.becomes_bound("data").await;
        let of = asked(world).expect("a source");
        assert!(
            [snapshot("snap-default-backup"), snapshot("other")].contains(&of),
            "{of:?}"
        );
        assert_eq!(world.driver.volumes().len(), 2, "the origin's and this one");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_content_that_becomes_another_drivers_at_any_step_is_told_or_copied() {
    let change = |api: &Api| content(api, |it| it["spec"]["driver"] = "other.example.com".into());
    at_each_step(RESTORE, change, async |world| {
        if !world.bound("data") {
            let words = ["ProvisioningFailed", CONTENT, "is of driver other.example.com"];
            world.is_told("data", &words).await;
            let driver = crate::sidecar::DRIVER;
            content(&world.api, |it| it["spec"]["driver"] = driver.into());
        }
        world.becomes_bound("data").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_ten_restores_of_one_snapshot_one_that_fails_and_one_that_goes_hold_up_no_other() {
    let world = backed_up();
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let mut uids = Vec::new();
    for number in 0..10 {
        uids.push(world.add_claim("default", &format!("data-{number}"), "1Gi", restored));
    }
    let full = Trouble::Refuse(Code::ResourceExhausted, "full");
    world
        .driver
        .upset_for("CreateVolume", &format!("pvc-{}", uids[0]), 1000, full)
        .upset("CreateVolume", 9, Trouble::Delay(secs(3)));
    world
        .eventually("all are asked for", |world| {
            world.driver.count("CreateVolume") > 9
        })
        .await;
    world.api.delete(CLAIMS, "default", "data-1");
    for number in 2..10 {
        world.becomes_bound(&format!("data-{number}")).await;
    }
    world.is_told("data-0", &["ProvisioningFailed", "full"]).await;
    let is_kept = |world: &World| {
        let backup = world.api.get(SNAPSHOTS, "default", "backup");
        backup.is_some_and(|it| finalizers(&it).iter().any(|it| it.contains("source-protection")))
    };
    sleep(secs(60)).await;
    assert!(is_kept(&world), "one waits still");
    world.driver.heal();
    world.becomes_bound("data-0").await;
    world.eventually("it is freed", |world| !is_kept(world)).await;
    let volumes = |world: &World| world.driver.volumes().len() == 9;
    world
        .eventually("the volume of the one that went is gone", volumes)
        .await;
    assert_eq!(world.api.count("update", SNAPSHOTS), 2, "one write on, one off");
    sidecar.end(&world).await;
}
