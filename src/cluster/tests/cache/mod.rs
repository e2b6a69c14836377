//! What the watches tell.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use sandbox::{ADMIN, Api};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant, sleep, timeout},
};

use crate::cluster::{
    cache::{Cache, CacheEvent, Need, NodeSource, Predicates, Watched},
    objects::{Claim, PROVISIONED_BY, PROVISIONER, Volume},
};

mod lists;
mod nodes;
mod objects;
mod watches;

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const ATTACHMENTS: &str = "volumeattachments";
const CLASSES: &str = "storageclasses";

/// A sandbox, what the cache makes of it, and which objects there was a reason to reconcile.
struct World {
    api: Api,
    cache: Arc<Cache>,
    departed: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<BTreeMap<String, u32>>>,
    reflectors: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.reflectors.abort();
    }
}

impl World {
    fn new(api: &Api, client: kube::Client) -> Self {
        let departed = Arc::new(Mutex::<Vec<String>>::default());
        let events = Arc::new(Mutex::<BTreeMap<String, u32>>::default());
        let (left, seen) = (departed.clone(), events.clone());
        let predicates = Predicates {
            claim: |claim: &Claim, driver| !claim.has_volume && claim.provisioner() == Some(driver),
            volume: |volume: &Volume, _| volume.phase == "Released",
        };
        let watched = Watched {
            attachments: true,
            ..Watched::default()
        };
        let cache = Arc::new_cyclic(|cache: &Weak<Cache>| {
            let cache = cache.clone();
            let on_event = move |event: CacheEvent<'_>| {
                let cache = cache.upgrade().unwrap();
                let name = match event {
                    CacheEvent::Claim(uid) => cache.claim(uid).map(|claim| claim.name.clone()),
                    CacheEvent::Volume(uid) => cache.volume(uid).map(|volume| volume.name.clone()),
                    CacheEvent::VolumeOfClaim { .. }
                    | CacheEvent::Class(_)
                    | CacheEvent::Topology
                    | CacheEvent::Capacity(_) => return,
                };
                match (name, event) {
                    (Some(name), _) => *seen.lock().entry(name).or_default() += 1,
                    (None, CacheEvent::Claim(uid)) => left.lock().push(uid.to_owned()),
                    (None, _) => {}
                }
            };
            Cache::new("drv", predicates, watched, Box::new(on_event))
        });
        let running = cache.clone();
        let reflectors = tokio::spawn(async move {
            running.run(client).await;
        });
        Self {
            api: api.clone(),
            cache,
            departed,
            events,
            reflectors,
        }
    }

    /// How often there was a reason to reconcile the object of this name.
    fn events(&self, name: &str) -> u32 {
        self.events.lock().get(name).copied().unwrap_or_default()
    }

    fn claims(&self) -> Vec<String> {
        let uids = self.cache.claim_uids().into_iter();
        let mut names: Vec<_> = uids
            .filter_map(|uid| self.cache.claim(&uid))
            .map(|claim| claim.name.clone())
            .collect();
        names.sort();
        names
    }

    fn departed(&self, uid: &str) -> bool {
        self.departed.lock().iter().any(|left| left == uid)
    }

    async fn complete(&self) {
        let mut status = self.cache.sync_status();
        let waited = timeout(
            Duration::from_secs(600),
            status.wait_for(|status| status.has_synced(Need::Volumes)),
        )
        .await;
        let missing = self.cache.sync_status().borrow().missing(Need::Volumes);
        waited
            .unwrap_or_else(|_| panic!("still missing: {missing:?}"))
            .unwrap();
        sleep(Duration::from_millis(10)).await;
    }

    /// How many requests of this kind were answered so far, and with what.
    fn codes(&self, verb: &str, resource: &str) -> Vec<u16> {
        let all = self.api.requests().into_iter();
        all.filter(|request| request.verb.rbac() == verb && request.resource == resource)
            .map(|request| request.code)
            .collect()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(900);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn claim(api: &Api, name: &str, driver: &str) -> String {
    let object = api.create(
        CLAIMS,
        "default",
        json!({"metadata": {"name": name, "annotations": {PROVISIONER: driver}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "fast"}}),
    );
    uid(&object)
}

fn volume(api: &Api, name: &str, driver: &str, claim: &str, phase: &str) -> String {
    let object = api.create(
        VOLUMES,
        "",
        json!({"metadata": {"name": name, "annotations": {PROVISIONED_BY: driver}},
            "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": driver, "volumeHandle": name},
                "claimRef": {"namespace": "default", "name": "c", "uid": claim}}}),
    );
    api.edit(VOLUMES, "", name, |object| {
        object["status"]["phase"] = phase.into()
    });
    uid(&object)
}

fn attachment(api: &Api, name: &str, driver: &str, volume: &str) {
    api.create(
        ATTACHMENTS,
        "",
        json!({"metadata": {"name": name},
            "spec": {"attacher": driver, "nodeName": "n1", "source": {"persistentVolumeName": volume}}}),
    );
}

fn class(api: &Api, name: &str, driver: &str) {
    api.create(
        CLASSES,
        "",
        json!({"metadata": {"name": name}, "provisioner": driver, "parameters": {"a": "b"}}),
    );
}

fn remove(api: &Api, plural: &str, namespace: &str, name: &str) {
    api.edit(plural, namespace, name, |object| {
        object["metadata"]["finalizers"] = json!([]);
    });
    api.delete(plural, namespace, name);
    assert!(api.get(plural, namespace, name).is_none());
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// A cluster with something of every kind.
fn furnished() -> Api {
    let api = Api::new();
    claim(&api, "ours", "drv");
    claim(&api, "theirs", "other");
    volume(&api, "bound", "drv", "c1", "Bound");
    volume(&api, "released", "drv", "c2", "Released");
    volume(&api, "foreign", "other", "c3", "Released");
    attachment(&api, "held", "drv", "released");
    attachment(&api, "not-ours", "other", "foreign");
    class(&api, "fast", "drv");
    class(&api, "slow", "other");
    api
}

fn sees_what_is_there(world: &World) {
    assert_eq!(world.claims(), ["ours"]);
    assert_eq!(world.cache.volume_uids().len(), 1);
    assert_eq!(world.cache.claim_of_volume("bound").as_deref(), Some("c1"));
    assert_eq!(world.cache.claim_of_volume("foreign"), None);
    assert_eq!(world.cache.node_of_volume("released").as_deref(), Some("n1"));
    assert_eq!(world.cache.node_of_volume("foreign"), None);
    let class = |name| world.cache.class(name).unwrap();
    assert_eq!(class("fast").parameters.len(), 1);
    assert_eq!(
        class("slow").parameters.len(),
        0,
        "only the provisioner of a foreign class is kept"
    );
    assert_eq!(
        world.cache.remembered(),
        [1, 2, 2, 1, 1],
        "what is foreign leaves nothing behind"
    );
}
