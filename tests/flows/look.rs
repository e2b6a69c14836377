//! What a test asks of a world again and again.

use std::collections::BTreeSet;

use sandbox::World;
use serde_json::{Value, json};

use crate::sidecar::VOLUMES;

pub(crate) const SNAPSHOTS: &str = "volumesnapshots";

/// The claim's content is to come from the snapshot `backup`.
pub(crate) fn restored(claim: &mut Value) {
    claim["spec"]["dataSource"] =
        json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "backup"});
}

/// Every volume at the driver has its object, and the driver saw no breach of its rules.
pub(crate) fn nothing_is_lost(world: &World) {
    let breaches = world.driver.breaches();
    assert!(breaches.is_empty(), "{breaches:?}\n{}", world.print());
    let known: BTreeSet<_> = world
        .api
        .list(VOLUMES)
        .iter()
        .map(|pv| handle(pv).to_owned())
        .collect();
    let real: BTreeSet<_> = world
        .driver
        .volumes()
        .into_iter()
        .map(|volume| volume.id)
        .collect();
    assert_eq!(
        real,
        known,
        "volumes at the driver, volumes in Kubernetes\n{}",
        world.print()
    );
}

/// What the driver calls the volume of an object.
pub(crate) fn handle(pv: &Value) -> &str {
    let paths = [
        "/spec/csi/volumeHandle",
        "/spec/awsElasticBlockStore/volumeID",
        "/spec/portworxVolume/volumeID",
    ];
    let handles = paths.map(|path| text(pv, path));
    handles
        .into_iter()
        .find(|handle| !handle.is_empty())
        .unwrap_or_default()
}

/// A string in an object; empty when it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// What holds an object.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let all = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    all.filter_map(|finalizer| finalizer.as_str().map(str::to_owned))
        .collect()
}

/// What a test asks of a world again and again.
pub(crate) trait Look {
    fn bound(&self, claim: &str) -> bool;
    /// Whether some event about the object begins with the reason and has the words.
    fn told(&self, object: &str, words: &[&str]) -> bool;
    /// The volume of a claim, by the claim's UID.
    fn volume_of(&self, uid: &str) -> Option<Value>;
    /// No volume anywhere.
    fn is_clean(&self) -> bool;
    async fn becomes_bound(&self, claim: &str);
    async fn becomes_clean(&self);
    async fn is_told(&self, object: &str, words: &[&str]);
}

impl Look for World {
    fn bound(&self, claim: &str) -> bool {
        self.claim_phase("default", claim) == "Bound"
    }

    fn told(&self, object: &str, words: &[&str]) -> bool {
        self.events(object)
            .iter()
            .any(|event| words.iter().all(|word| event.contains(word)))
    }

    fn volume_of(&self, uid: &str) -> Option<Value> {
        self.api
            .filter(VOLUMES, |pv| text(pv, "/spec/claimRef/uid") == uid)
            .pop()
    }

    fn is_clean(&self) -> bool {
        self.driver.volumes().is_empty() && self.api.len(VOLUMES) == 0
    }

    async fn becomes_bound(&self, claim: &str) {
        self.eventually(&format!("{claim} is bound"), |world| world.bound(claim))
            .await;
    }

    async fn becomes_clean(&self) {
        self.eventually("no volume is left anywhere", Self::is_clean)
            .await;
    }

    async fn is_told(&self, object: &str, words: &[&str]) {
        self.eventually(&format!("an event on {object} says {words:?}"), |world| {
            world.told(object, words)
        })
        .await;
    }
}
