//! Claims of every sort that a driver without topology gets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::{coordination::v1::Lease, core::v1::PersistentVolume};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{Differences, seen::Seen};
use crate::{
    driver::Driver,
    sidecar::{Binary, Sidecar},
    world::{SOON, World, eventually, text},
};

pub(super) const DIFFERENCES: Differences = Differences {
    allowed: &[
        (
            "event on Lease <driver>: Normal LeaderElection",
            "one reporter for all of our events; upstream's elections have another",
        ),
        (
            "event on PersistentVolumeClaim half: Normal Provisioning ",
            "a claim whose class cannot work is not begun",
        ),
        (
            "event on PersistentVolumeClaim odd: Normal Provisioning ",
            "a claim whose class cannot work is not begun",
        ),
        (
            "event on PersistentVolumeClaim half: Warning ProvisioningFailed ",
            "the text names the class, what is missing and what to do",
        ),
        (
            "event on PersistentVolumeClaim odd: Warning ProvisioningFailed ",
            "the text names the class and the key",
        ),
        (
            "event on PersistentVolumeClaim secretless: Warning ProvisioningFailed ",
            "the text says what to do",
        ),
    ],
    peer_6_3: &[],
};

/// Claims that get a volume: name, class, and what is laid over an ordinary spec.
fn wanted() -> [(&'static str, &'static str, Value); 5] {
    [
        ("files", "gold", json!({})),
        (
            "shared",
            "gold",
            json!({"accessModes": ["ReadWriteMany", "ReadOnlyMany"], "resources": {"requests": {"storage": "1500M"}}}),
        ),
        ("disk", "raw", json!({"volumeMode": "Block"})),
        (
            "kept",
            "keep",
            json!({"resources": {"requests": {"storage": "3000000001"}}}),
        ),
        (
            "kept-disk",
            "keep",
            json!({"volumeMode": "Block", "accessModes": ["ReadWriteOncePod"]}),
        ),
    ]
}

/// Claims that never get one, and a part of the reason.
fn hopeless() -> [(&'static str, &'static str, Value, &'static str); 4] {
    [
        ("secretless", "gold", json!({}), "secretless-access"),
        (
            "huge",
            "raw",
            json!({"resources": {"requests": {"storage": "100Ti"}}}),
            "OutOfRange",
        ),
        ("odd", "odd", json!({}), "csi.storage.k8s.io/colour"),
        ("half", "half", json!({}), "secret"),
    ]
}

pub(super) async fn nine_claims(world: &World, binary: Binary) -> BTreeSet<String> {
    let driver = Driver::start(world, Duration::ZERO).await;
    let flags = [
        "--leader-election",
        "--extra-create-metadata",
        "--default-fstype=ext4",
    ];
    let sidecar = Sidecar::start(world, binary, &driver, "sidecar-0", &flags).await;
    let mut seen = Seen::new(world);
    seen.call(&world.new_leader(&driver.name, None, SOON).await, "<leader>");
    classes(world, &driver).await;
    for claim in ["files", "shared"] {
        world
            .secret(
                &format!("{claim}-access"),
                json!({"user": "admin", "key": "wont-tell"}),
            )
            .await;
    }

    let plain = wanted().map(|(name, class, more)| (name, class, more));
    let failing = hopeless().map(|(name, class, more, _)| (name, class, more));
    for (claim, class, more) in plain.into_iter().chain(failing) {
        seen.claim(claim, class, more).await;
    }
    let mut volumes = BTreeMap::new();
    for (claim, ..) in wanted() {
        volumes.insert(claim, seen.bound(claim).await);
    }
    for (claim, _, _, reason) in hopeless() {
        world.event(claim, "ProvisioningFailed", 1, reason).await;
        world.delete_claim(claim).await;
    }
    for (claim, volume) in &volumes {
        world.delete_claim(claim).await;
        if claim.starts_with("kept") {
            let released = released(world, volume).await;
            seen.volume(&format!("released volume of {claim}"), claim, &released);
        } else {
            world.gone(volume, SOON).await;
        }
    }
    sidecar.assert_runs();

    seen.calls(&driver);
    seen.events(&driver).await;
    lease(&mut seen, &driver).await;
    seen.lines
}

async fn classes(world: &World, driver: &Driver) {
    let mut gold = json!({"tier": "gold", "csi.storage.k8s.io/fstype": "xfs"});
    for purpose in ["", "node-publish-", "controller-expand-"] {
        gold[format!("csi.storage.k8s.io/{purpose}secret-name")] = json!("${pvc.name}-access");
        gold[format!("csi.storage.k8s.io/{purpose}secret-namespace")] = json!("${pvc.namespace}");
    }
    for (name, class) in [
        (
            "gold",
            json!({"parameters": gold, "mountOptions": ["noatime", "ro"]}),
        ),
        ("raw", json!({})),
        (
            "keep",
            json!({"reclaimPolicy": "Retain", "parameters": {"fstype": "btrfs"}}),
        ),
        ("odd", json!({"parameters": {"csi.storage.k8s.io/colour": "red"}})),
        (
            "half",
            json!({"parameters": {"csi.storage.k8s.io/provisioner-secret-name": "alone"}}),
        ),
    ] {
        world.class(name, &driver.name, class).await;
    }
}

/// Waits until it is, and nothing of a provisioner holds it any more.
async fn released(world: &World, volume: &PersistentVolume) -> PersistentVolume {
    eventually("the kept volume is left alone", SOON, async || {
        let seen = world.volumes.get(&volume.name_any()).await.map_err(text)?;
        let phase = seen.status.as_ref().and_then(|status| status.phase.clone());
        match (phase.as_deref(), seen.finalizers()) {
            (Some("Released"), [_]) => Ok(seen),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn lease(seen: &mut Seen<'_>, driver: &Driver) {
    let leases: Api<Lease> = Api::namespaced(seen.world.client.clone(), &seen.world.namespace);
    let lease = leases.get(&driver.name.replace('.', "-")).await.unwrap();
    let mut spec = serde_json::to_value(lease.spec.unwrap()).unwrap();
    for moment in ["acquireTime", "renewTime"] {
        spec.as_object_mut().unwrap().remove(moment).unwrap();
    }
    seen.fields(&format!("lease {}", lease.metadata.name.unwrap()), "", &spec);
}
