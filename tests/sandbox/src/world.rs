//! A whole world for one test: the API, the binder, the scheduler, a driver, some objects,
//! and waiting until something becomes true, in virtual time.

use std::{fmt::Write, time::Duration};

use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};

use crate::{ADMIN, Api, Driver, Scheduler, binder};

/// The longest that anything may take in a world, in virtual time.
const PATIENCE: Duration = Duration::from_secs(60 * 60);
/// How often a condition is looked at when the API is quiet.
const GLANCE: Duration = Duration::from_millis(100);

/// An API with its binder, its scheduler and one driver. Build it inside a tokio runtime
/// with paused time; what it started ends when it is dropped.
pub struct World {
    /// The Kubernetes API.
    pub api: Api,
    /// The CSI driver.
    pub driver: Driver,
    /// Places pods; without pods it does nothing.
    pub scheduler: Scheduler,
    controllers: [JoinHandle<()>; 2],
    class: String,
}

impl Drop for World {
    fn drop(&mut self) {
        self.controllers.iter().for_each(JoinHandle::abort);
        self.driver.stop();
    }
}

impl World {
    /// A world with a driver of this name and nothing else. Requests to its
    /// API take a millisecond, so that a loop without a pause shows.
    pub fn new(driver: &str) -> Self {
        let api = Api::new();
        api.latency(Duration::from_millis(1));
        let scheduler = Scheduler::default();
        let controllers = [binder::start(&api), scheduler.start(&api)];
        Self {
            api,
            driver: Driver::new(driver),
            scheduler,
            controllers,
            class: String::new(),
        }
    }

    /// A StorageClass of the driver with these parameters, reclaim policy
    /// Delete. Claims made after it are of this class.
    pub fn class(self, name: &str, parameters: &[(&str, &str)]) -> Self {
        let parameters: serde_json::Map<_, _> = parameters
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::from(*value)))
            .collect();
        self.class_with(name, |class| class["parameters"] = parameters.into())
    }

    /// As [`World::class`], with anything changed before it is created.
    pub fn class_with(mut self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let provisioner = self.driver_name();
        let mut class = json!({"metadata": {"name": name}, "provisioner": provisioner});
        change(&mut class);
        self.api.create("storageclasses", "", class);
        self.class = name.to_owned();
        self
    }

    /// A namespace; `default` is there already.
    pub fn namespace(self, name: &str) -> Self {
        self.api
            .create("namespaces", "", json!({"metadata": {"name": name}}));
        self
    }

    /// A Secret with these values.
    pub fn secret(self, namespace: &str, name: &str, values: &[(&str, &str)]) -> Self {
        let mut secret = json!({"metadata": {"name": name}});
        for (key, value) in values {
            secret["stringData"][key] = (*value).into();
        }
        self.api.create("secrets", namespace, secret);
        self
    }

    /// A ReadWriteOnce claim of the latest class.
    pub fn claim(self, namespace: &str, name: &str, size: &str) -> Self {
        self.claim_with(namespace, name, size, |_| {})
    }

    /// As [`World::claim`], with anything changed before it is created.
    pub fn claim_with(
        self,
        namespace: &str,
        name: &str,
        size: &str,
        change: impl FnOnce(&mut Value),
    ) -> Self {
        self.add_claim(namespace, name, size, change);
        self
    }

    /// A claim that comes while the world is running; gives its UID.
    pub fn add_claim(
        &self,
        namespace: &str,
        name: &str,
        size: &str,
        change: impl FnOnce(&mut Value),
    ) -> String {
        let mut claim = json!({
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}},
                "storageClassName": self.class,
            },
        });
        change(&mut claim);
        let made = self.api.create("persistentvolumeclaims", namespace, claim);
        made["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
    }

    /// A snapshot that is ready, of 1Gi, with the content that it is bound to, at the driver as
    /// `snap-<namespace>-<name>`; gives the content's name. What changes may concern status as well.
    pub fn add_snapshot(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> String {
        let driver = self.driver_name();
        let handle = format!("snap-{namespace}-{name}");
        let content_name = format!("snapcontent-{namespace}-{name}");
        let group = json!("snapshot.storage.k8s.io/v1");
        let mut snapshot = json!({
            "kind": "VolumeSnapshot",
            "apiVersion": group,
            "metadata": {"name": name},
            "spec": {"source": {"persistentVolumeClaimName": "source"}},
            "status": {
                "boundVolumeSnapshotContentName": content_name,
                "readyToUse": true,
                "restoreSize": "1Gi",
            },
        });
        change(&mut snapshot);
        let status = snapshot["status"].take();
        let made = self.api.create("volumesnapshots", namespace, snapshot);
        let content = json!({
            "kind": "VolumeSnapshotContent",
            "apiVersion": group,
            "metadata": {"name": content_name},
            "spec": {
                "deletionPolicy": "Delete",
                "driver": driver,
                "source": {"volumeHandle": "vol-source"},
                "sourceVolumeMode": "Filesystem",
                "volumeSnapshotRef": {
                    "kind": "VolumeSnapshot",
                    "apiVersion": group,
                    "namespace": namespace,
                    "name": name,
                    "uid": made["metadata"]["uid"],
                },
            },
        });
        self.api.create("volumesnapshotcontents", "", content);
        let known = json!({"snapshotHandle": handle, "readyToUse": true, "restoreSize": 1_i64 << 30});
        let set = |status: Value| move |object: &mut Value| object["status"] = status;
        self.api
            .edit("volumesnapshotcontents", "", &content_name, set(known));
        self.driver.add_snapshot(&handle);
        // The snapshot is ready last, as by the snapshot controller.
        self.api.edit("volumesnapshots", namespace, name, set(status));
        content_name
    }

    /// Everybody may do what a YAML stream of RBAC documents grants them.
    ///
    /// # Panics
    /// When the documents can not be read.
    pub fn rbac(self, manifests: &str, namespace: &str) -> Self {
        if let Err(error) = self.api.load_rbac(manifests, namespace) {
            panic!("cannot read the RBAC manifests: {error}");
        }
        self
    }

    /// A client that may do everything.
    pub fn client(&self) -> kube::Client {
        self.api.client(ADMIN)
    }

    /// The phase of a claim, empty when it is absent.
    pub fn claim_phase(&self, namespace: &str, name: &str) -> String {
        let claim = self
            .api
            .get("persistentvolumeclaims", namespace, name)
            .unwrap_or_default();
        claim["status"]["phase"].as_str().unwrap_or_default().to_owned()
    }

    /// The events about an object, as `Reason: message`, oldest first.
    pub fn events(&self, name: &str) -> Vec<String> {
        let mine = self
            .api
            .filter("events", |event| event["involvedObject"]["name"] == name);
        let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        mine.iter()
            .map(|event| format!("{}: {}", text(event, "reason"), text(event, "message")))
            .collect()
    }

    /// Waits until a condition holds, an hour of virtual time at most.
    ///
    /// # Panics
    /// When it never does; prints the world then.
    pub async fn eventually(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + PATIENCE;
        let mut changes = self.api.changes();
        while !condition(self) {
            assert!(
                Instant::now() < limit,
                "never in an hour: {what}\n{}",
                self.print()
            );
            // Either way it is time to look again.
            let _ = tokio::time::timeout(GLANCE, changes.changed()).await;
        }
    }

    /// Makes sure that a condition holds for all of this time.
    ///
    /// # Panics
    /// When it stops holding; prints the world then.
    pub async fn always(&self, what: &str, time: Duration, condition: impl Fn(&Self) -> bool) {
        let limit = Instant::now() + time;
        let mut changes = self.api.changes();
        while Instant::now() < limit {
            assert!(condition(self), "not any more: {what}\n{}", self.print());
            let _ = tokio::time::timeout(GLANCE, changes.changed()).await;
        }
    }

    /// What the world looks like, for a test that fails.
    pub fn print(&self) -> String {
        let mut out = String::new();
        let text =
            |object: &Value, path: &str| object.pointer(path).map(Value::to_string).unwrap_or_default();
        for plural in [
            "persistentvolumeclaims",
            "persistentvolumes",
            "volumesnapshots",
            "leases",
        ] {
            for object in self.api.list(plural) {
                let _ = writeln!(
                    out,
                    "{plural} {} phase {} deleting {} finalizers {} annotations {}",
                    text(&object, "/metadata/name"),
                    text(&object, "/status/phase"),
                    text(&object, "/metadata/deletionTimestamp"),
                    text(&object, "/metadata/finalizers"),
                    text(&object, "/metadata/annotations"),
                );
            }
        }
        for event in self.api.list("events") {
            let _ = writeln!(
                out,
                "event {} {}: {}",
                text(&event, "/involvedObject/name"),
                text(&event, "/reason"),
                text(&event, "/message")
            );
        }
        for volume in self.driver.volumes() {
            let _ = writeln!(out, "at the driver: {volume:?}");
        }
        let calls = self.driver.calls();
        for call in &calls[calls.len().saturating_sub(60)..] {
            let _ = writeln!(
                out,
                "call {} {} {:?} at {:?}",
                call.method, call.target, call.code, call.at
            );
        }
        let requests = self.api.requests();
        for r in &requests[requests.len().saturating_sub(60)..] {
            let _ = writeln!(
                out,
                "request {:?} {} {}/{} {} at {:?}",
                r.verb, r.resource, r.namespace, r.name, r.code, r.at
            );
        }
        for breach in self.driver.breaches() {
            let _ = writeln!(out, "BREACH {breach}");
        }
        out
    }

    pub(crate) fn driver_name(&self) -> String {
        let mut name = String::new();
        self.driver.configure(|identity| name.clone_from(&identity.name));
        name
    }
}
