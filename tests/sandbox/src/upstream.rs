//! A provisioner that keeps no ledger, as upstream's is: it takes the Lease by client-go's rules, makes volumes for
//! the claims that wait under the same names as ours, deletes released ones, and goes. It acts on the store at once,
//! without rights and without failing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    Api, Driver, World,
    binder::{CLAIMS, PROVISIONED_BY, VOLUMES, annotation, deleting, place, text},
    driver::Volume,
};

const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// client-go's retry period.
const RETRY: Duration = Duration::from_secs(5);
const DURATION: u64 = 15;
/// Nobody keeps a Lease for longer whom a test has ended.
const PATIENCE: Duration = Duration::from_secs(600);

/// One replica of it.
pub struct Upstream {
    api: Api,
    driver: Driver,
    name: String,
    namespace: String,
    lease: String,
}

impl Upstream {
    /// One that uses the driver of a world and competes for this Lease.
    pub fn new(world: &World, namespace: &str, lease: &str) -> Self {
        Self {
            api: world.api.clone(),
            driver: world.driver.clone(),
            name: world.driver_name(),
            namespace: namespace.to_owned(),
            lease: lease.to_owned(),
        }
    }

    /// Takes the Lease by client-go's rules: when it is nobody's, or has not changed for as long as it says.
    ///
    /// # Panics
    /// When somebody else keeps it.
    pub async fn lead(&self) {
        let begun = Instant::now();
        let mut seen = (Value::Null, begun);
        loop {
            assert!(begun.elapsed() < PATIENCE, "the Lease is kept: {}", seen.0);
            let lease = self.api.get("leases", &self.namespace, &self.lease);
            let spec = lease.map(|lease| lease["spec"].clone()).unwrap_or_default();
            if spec != seen.0 {
                seen = (spec.clone(), Instant::now());
            }
            let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or_default();
            let free = text(&spec, "/holderIdentity").is_empty();
            if free || seen.1.elapsed() >= Duration::from_secs(seconds) {
                return self.seize();
            }
            sleep(RETRY).await;
        }
    }

    /// Takes the Lease, whatever it says. Annotations stay, as they do with client-go.
    pub fn seize(&self) {
        let now = format!("{}.000000Z", self.api.now().trim_end_matches('Z'));
        let write = |lease: &mut Value| {
            let transitions = lease["spec"]["leaseTransitions"].as_i64();
            lease["spec"] = json!({
                "holderIdentity": "upstream", "leaseDurationSeconds": DURATION, "acquireTime": now, "renewTime": now,
                "leaseTransitions": transitions.map_or(0, |count| count + 1),
            });
        };
        if !self.api.edit("leases", &self.namespace, &self.lease, write) {
            let mut lease = json!({"metadata": {"name": self.lease}});
            write(&mut lease);
            self.api.create("leases", &self.namespace, lease);
        }
    }

    /// Does all there is to do.
    pub fn work(&self) {
        for claim in self.api.list(CLAIMS) {
            let asked = annotation(&claim, "volume.kubernetes.io/storage-provisioner") == self.name;
            if asked && text(&claim, "/spec/volumeName").is_empty() && !deleting(&claim) {
                self.provision(&claim);
            }
        }
        let released = |pv: &Value| {
            annotation(pv, PROVISIONED_BY) == self.name
                && text(pv, "/status/phase") == "Released"
                && text(pv, "/spec/persistentVolumeReclaimPolicy") == "Delete"
        };
        for volume in self.api.filter(VOLUMES, released) {
            self.remove(&volume);
        }
    }

    /// Gives the Lease back.
    pub fn leave(&self) {
        self.api.edit("leases", &self.namespace, &self.lease, |lease| {
            lease["spec"]["holderIdentity"] = "".into();
            lease["spec"]["leaseDurationSeconds"] = 1.into();
        });
    }

    fn provision(&self, claim: &Value) {
        let name = format!("pvc-{}", text(claim, "/metadata/uid"));
        let class = self
            .api
            .get("storageclasses", "", text(claim, "/spec/storageClassName"));
        let (Some(class), None) = (class, self.api.get(VOLUMES, "", &name)) else {
            return;
        };
        let size = text(claim, "/spec/resources/requests/storage").to_owned();
        let Some(volume) = self.driver.make(&name, &size) else {
            return;
        };
        let (namespace, claim_name) = place(claim);
        let context = self.driver.state.lock().context(&volume.id);
        self.api.create(
            VOLUMES,
            "",
            json!({
                "metadata": {
                    "name": name, "annotations": {PROVISIONED_BY: self.name}, "finalizers": [FINALIZER],
                },
                "spec": {
                    "capacity": {"storage": size}, "accessModes": claim["spec"]["accessModes"],
                    "storageClassName": claim["spec"]["storageClassName"],
                    "persistentVolumeReclaimPolicy": class["reclaimPolicy"],
                    "csi": {"driver": self.name, "volumeHandle": volume.id, "volumeAttributes": context},
                    "claimRef": {
                        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace,
                        "name": claim_name, "uid": claim["metadata"]["uid"],
                    },
                },
            }),
        );
    }

    fn remove(&self, volume: &Value) {
        let (_, name) = place(volume);
        if !self.driver.unmake(text(volume, "/spec/csi/volumeHandle")) {
            return;
        }
        self.api.delete(VOLUMES, "", name);
        self.api.edit(VOLUMES, "", name, |volume| {
            if let Some(all) = volume["metadata"]["finalizers"].as_array_mut() {
                all.retain(|finalizer| finalizer != FINALIZER);
            }
        });
    }
}

impl Driver {
    /// CreateVolume of another caller; none while work on this name goes on.
    fn make(&self, name: &str, size: &str) -> Option<Volume> {
        let mut state = self.state.lock();
        if state.is_busy(name) {
            return None;
        }
        if let Some(known) = state.volumes.values().find(|volume| volume.name == name) {
            return Some(known.clone());
        }
        let bytes = size.trim_end_matches("Gi").parse::<i64>().unwrap_or(1) << 30;
        let made = Volume {
            id: state.new_id(name),
            name: name.to_owned(),
            bytes,
            parameters: Default::default(),
        };
        state.keep(made.clone());
        Some(made)
    }

    /// DeleteVolume of another caller; false while work on this volume goes on.
    fn unmake(&self, id: &str) -> bool {
        let mut state = self.state.lock();
        if state.is_busy(id) {
            return false;
        }
        if let Some(volume) = state.volumes.remove(id) {
            state.asked.remove(&volume.name);
        }
        true
    }
}
