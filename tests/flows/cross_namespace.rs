//! Volumes whose source is in another namespace.

use sandbox::{World, driver::Trouble};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::{
    sidecar::{CLAIMS, HOME, Look, Sidecar, finalizers, secs},
    sources::{self, SNAPSHOTS},
};

const GATE: &str = "--feature-gates=CrossNamespaceVolumeDataSource=true";
const RIGHTS: &str = include_str!("../../manifests/components/cross-namespace/rbac.yaml");
const GRANTS: &str = "referencegrants";
const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";

/// The source that the claims name, and its resource.
#[derive(Clone, Copy, PartialEq)]
enum From {
    Snapshot,
    Claim,
}

const BOTH: [From; 2] = [From::Snapshot, From::Claim];

impl From {
    /// Plural and name.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Snapshot => (SNAPSHOTS, "backup"),
            Self::Claim => (CLAIMS, "source"),
        }
    }

    fn names(self, claim: &mut Value) {
        let (_, name) = self.place();
        claim["spec"]["dataSourceRef"] = match self {
            Self::Snapshot => json!({"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": name}),
            Self::Claim => json!({"kind": "PersistentVolumeClaim", "name": name}),
        };
        claim["spec"]["dataSourceRef"]["namespace"] = "lab".into();
    }

    fn granted(self, world: &World) {
        let to = match self {
            Self::Snapshot => json!({"group": SNAPSHOT_GROUP, "kind": "VolumeSnapshot"}),
            Self::Claim => json!({"group": "", "kind": "PersistentVolumeClaim"}),
        };
        let from = json!({"group": "", "kind": "PersistentVolumeClaim", "namespace": "default"});
        let grant = json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1",
            "kind": "ReferenceGrant",
            "metadata": {"name": "shared"},
            "spec": {"from": [from], "to": [to]},
        });
        world.api.create(GRANTS, "lab", grant);
    }

    fn is_kept(self, world: &World) -> bool {
        let (plural, name) = self.place();
        let source = world.api.get(plural, "lab", name).unwrap();
        finalizers(&source)
            .iter()
            .any(|it| it.contains("protection") && it.starts_with("provisioner"))
    }
}

/// A snapshot and a claim in the namespace `lab`, and a server that knows grants.
async fn lab(flags: &[&str]) -> (World, Sidecar) {
    let world = sources::copying().namespace("lab").rbac(RIGHTS, HOME);
    world.api.reveal(GRANTS);
    world.add_snapshot("lab", "backup", |_| {});
    world.add_claim("lab", "source", "1Gi", |_| {});
    let sidecar = Sidecar::with(&world, flags);
    world
        .eventually("the sources stand", |world| {
            world.claim_phase("lab", "source") == "Bound" && world.bound("origin")
        })
        .await;
    (world, sidecar)
}

#[tokio::test(start_paused = true)]
async fn a_source_is_copied_once_it_is_granted_and_kept_meanwhile() {
    for from in BOTH {
        let (world, sidecar) = lab(&[GATE]).await;
        let slow = Trouble::Refuse(Code::DeadlineExceeded, "slow");
        world.driver.upset("CreateVolume", usize::MAX, slow);
        world.add_claim("default", "data", "1Gi", |claim| from.names(claim));
        let words = [
            "ProvisioningFailed",
            "no ReferenceGrant there allows that",
            "namespace default",
        ];
        world.is_told("data", &words).await;
        sleep(secs(600)).await;
        assert!(world.api.count("list", GRANTS) < 15, "at the pace of failures");
        assert!(!from.is_kept(&world), "nobody has allowed that");
        from.granted(&world);
        world.is_told("data", &["ProvisioningFailed", "slow"]).await;
        sleep(secs(10)).await;
        assert!(from.is_kept(&world));
        world.driver.heal();
        world.becomes_bound("data").await;
        world
            .eventually("it is freed", |world| !from.is_kept(world))
            .await;
        let (_, name) = from.place();
        let copied = world.driver.creations().pop().unwrap().volume_content_source;
        assert!(copied.is_some(), "{name}");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn behind_the_closed_gate_the_source_is_refused_and_no_grant_is_read() {
    for from in BOTH {
        let (world, sidecar) = lab(&[]).await;
        from.granted(&world);
        world.add_claim("default", "data", "1Gi", |claim| from.names(claim));
        let words = ["ProvisioningFailed", "CrossNamespaceVolumeDataSource"];
        world.is_told("data", &words).await;
        sleep(secs(60)).await;
        assert_eq!(world.api.count("list", GRANTS), 0);
        assert_eq!(world.driver.count("CreateVolume"), 2, "those of the sources");
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_grants_and_a_missing_right_to_read_them_are_named_on_the_claim() {
    type Change = fn(&World);
    let rows: [(&str, Change, Change); 2] = [
        (
            "does not serve referencegrants",
            |world| world.api.hide(GRANTS),
            |world| world.api.reveal(GRANTS),
        ),
        (
            "add to its role: apiGroups: [\"gateway.networking.k8s.io\"], resources: [\"referencegrants\"], verbs: [\"list\"]",
            |world| world.api.withdraw("list", "gateway.networking.k8s.io", GRANTS),
            |world| world.api.load_rbac(RIGHTS, HOME).expect("the component"),
        ),
    ];
    for (words, break_it, mend) in rows {
        let (world, sidecar) = lab(&[GATE]).await;
        From::Snapshot.granted(&world);
        break_it(&world);
        world.add_claim("default", "data", "1Gi", |claim| From::Snapshot.names(claim));
        world.add_claim("default", "plain", "1Gi", |_| {});
        world.is_told("data", &["ProvisioningFailed", words]).await;
        world.becomes_bound("plain").await;
        mend(&world);
        world.becomes_bound("data").await;
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_finished_also_when_its_grant_is_revoked_midway() {
    for refusals in [0, usize::MAX] {
        let (world, sidecar) = lab(&[GATE]).await;
        From::Snapshot.granted(&world);
        let down = Trouble::Refuse(Code::Internal, "the backend is down");
        world
            .driver
            .upset("CreateVolume", 1, Trouble::RefuseAfter(Code::Unavailable, "busy"))
            .upset("CreateVolume", refusals, down);
        world.add_claim("default", "data", "1Gi", |claim| From::Snapshot.names(claim));
        world.is_told("data", &["ProvisioningFailed", "busy"]).await;
        world.api.delete(GRANTS, "lab", "shared");
        if refusals > 0 {
            // Two final answers, further apart than --timeout: the claim may get another request, and has no right to.
            sleep(secs(40)).await;
        }
        sidecar.kill();
        let sidecar = Sidecar::with(&world, &[GATE]);
        world.driver.heal();
        world.becomes_bound("data").await;
        world.add_claim("default", "late", "1Gi", |claim| From::Snapshot.names(claim));
        world
            .is_told("late", &["ProvisioningFailed", "no ReferenceGrant"])
            .await;
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_grant_keeps_nothing_in_another_namespace() {
    let (world, sidecar) = lab(&[GATE, "--snapshot-orphan-sweep-interval=1m"]).await;
    world.add_claim("default", "data", "1Gi", |claim| From::Snapshot.names(claim));
    world
        .is_told("data", &["ProvisioningFailed", "no ReferenceGrant"])
        .await;
    let left = |it: &mut Value| {
        let finalizer = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
        it["metadata"]["finalizers"] = json!([finalizer]);
    };
    world.api.edit(SNAPSHOTS, "lab", "backup", left);
    world.api.delete(SNAPSHOTS, "lab", "backup");
    world
        .eventually("it goes", |world| {
            world.api.get(SNAPSHOTS, "lab", "backup").is_none()
        })
        .await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_that_comes_and_goes_with_each_try_is_no_reason_for_another_one() {
    for from in BOTH {
        let (world, sidecar) = lab(&[GATE]).await;
        from.granted(&world);
        let before = world.driver.count("CreateVolume");
        let full = Trouble::Refuse(Code::ResourceExhausted, "full");
        world.driver.upset("CreateVolume", usize::MAX, full);
        world.add_claim("default", "data", "1Gi", |claim| from.names(claim));
        world.is_told("data", &["ProvisioningFailed", "full"]).await;
        sleep(secs(120)).await;
        let tries = world.driver.count("CreateVolume") - before;
        assert!(tries < 9, "{tries} tries in two minutes");
        world.driver.heal();
        world.becomes_bound("data").await;
        sidecar.end(&world).await;
    }
}
