//! The finalizer is on a source exactly while somebody needs it.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sandbox::{ADMIN, Api};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::task::TaskTracker;

use super::reconcile::Protection;
use crate::{
    base::backoff::Backoff,
    cluster::{
        active::{Active, ActiveGuard},
        api::ApiClient,
        source::{Source, SourceKind},
        workers::WorkerPool,
    },
    csi::DriverInfo,
};

mod holders;
mod order;
mod release;
mod sweep;

const DRIVER: &str = "lab.csi.example.com";
const SNAPSHOTS: &str = "volumesnapshots";
const CONTENTS: &str = "volumesnapshotcontents";
const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const OTHERS: &str = "example.com/other";
const SECOND: Duration = Duration::from_secs(1);

/// A cluster, and the controller at work in it.
struct Lab {
    api: Api,
    protection: Arc<Protection>,
    /// By the UID of a claim.
    needs: Arc<Mutex<BTreeMap<String, Source>>>,
    run: Option<JoinHandle<()>>,
    _active: ActiveGuard,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run.iter().for_each(JoinHandle::abort);
    }
}

fn source(kind: SourceKind, name: &str) -> Source {
    Source {
        kind,
        namespace: "default".into(),
        name: name.into(),
    }
}

fn backup() -> Source {
    source(SourceKind::Snapshot, "backup")
}

impl Lab {
    fn new(change: fn(&mut DriverInfo), sweep_interval: Option<Duration>) -> Self {
        let api = Api::new();
        let needs = Arc::new(Mutex::new(BTreeMap::<String, Source>::new()));
        let named = needs.clone();
        let mut driver = DriverInfo {
            name: DRIVER.into(),
            create_delete_snapshot: true,
            clone: true,
            ..DriverInfo::default()
        };
        change(&mut driver);
        let backoff = Backoff {
            start: SECOND,
            max: SECOND * 8,
        };
        let pool = WorkerPool::new(
            NonZeroUsize::MIN,
            backoff,
            TaskTracker::new(),
            Box::new(|_| {}),
            || {},
        );
        let active = Active::default();
        let protection = Protection::new(
            &driver,
            ApiClient::new(api.client(ADMIN), None),
            active.clone(),
            pool,
            Box::new(move || named.lock().clone().into_iter().collect()),
            sweep_interval,
        );
        Self {
            api,
            protection: Arc::new(protection),
            needs,
            run: None,
            _active: active.set(),
        }
    }

    fn plain() -> Self {
        Self::new(|_| {}, None)
    }

    /// A term begins.
    async fn start(mut self) -> Self {
        self.protection.begin_term();
        let protection = self.protection.clone();
        self.run = Some(tokio::spawn(async move {
            protection.run().await;
        }));
        sleep(SECOND).await;
        self
    }

    /// A snapshot of this driver, and what is on it.
    fn snapshot(self, name: &str, driver: &str, finalizers: &[&str]) -> Self {
        let content = format!("content-{name}");
        let snapshot = json!({
            "kind": "VolumeSnapshot",
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "metadata": {"name": name, "finalizers": finalizers},
            "spec": {"source": {"persistentVolumeClaimName": "origin"}},
        });
        let made = self.api.create(SNAPSHOTS, "default", snapshot);
        let status = json!({"boundVolumeSnapshotContentName": content, "readyToUse": true});
        self.api
            .edit(SNAPSHOTS, "default", name, |it| it["status"] = status);
        let content = json!({
            "kind": "VolumeSnapshotContent",
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "metadata": {"name": content},
            "spec": {
                "deletionPolicy": "Delete",
                "driver": driver,
                "source": {"volumeHandle": "vol-1"},
                "volumeSnapshotRef": {
                    "kind": "VolumeSnapshot", "namespace": "default", "name": name, "uid": made["metadata"]["uid"],
                },
            },
        });
        self.api.create(CONTENTS, "", content);
        self
    }

    /// A claim whose volume is of this driver, and what is on it.
    fn origin(self, name: &str, driver: &str, finalizers: &[&str]) -> Self {
        let claim = json!({
            "metadata": {"name": name, "finalizers": finalizers},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
                "volumeName": format!("pv-{name}"),
            },
        });
        self.api.create(CLAIMS, "default", claim);
        let volume = json!({
            "metadata": {"name": format!("pv-{name}")},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": {"storage": "1Gi"},
                "csi": {"driver": driver, "volumeHandle": format!("vol-{name}")},
            },
        });
        self.api.create(VOLUMES, "", volume);
        self
    }

    /// A claim waits for a volume of ours, or a record is open for it.
    fn need(&self, claim: &str, source: &Source) {
        self.needs.lock().insert(claim.into(), source.clone());
    }

    /// The claim has its volume or is gone, and so is its record.
    fn need_no_more(&self, claim: &str) {
        self.needs.lock().remove(claim);
        self.protection.reconciled(claim);
    }

    fn object(&self, source: &Source) -> Option<Value> {
        self.api.get(plural(source.kind), &source.namespace, &source.name)
    }

    fn finalizers(&self, source: &Source) -> Vec<String> {
        let object = self.object(source).unwrap_or_default();
        let finalizers = object["metadata"]["finalizers"].as_array().cloned();
        let finalizers = finalizers.unwrap_or_default().into_iter();
        finalizers
            .map(|it| it.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn is_on(&self, source: &Source) -> bool {
        self.finalizers(source)
            .iter()
            .any(|it| it == source.kind.finalizer())
    }
}

fn plural(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Snapshot => SNAPSHOTS,
        SourceKind::Claim => CLAIMS,
    }
}
