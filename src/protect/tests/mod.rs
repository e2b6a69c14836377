//! The finalizer is on a source exactly while somebody needs it.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use sandbox::{ADMIN, Api};
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::task::TaskTracker;

use super::reconcile::{NeededBy, Protection, SourceNeeds};
use crate::{
    base::backoff::Backoff,
    cluster::{
        active::{Active, ActiveGuard},
        api::ApiClient,
        source::{NotHeld, Source, SourceKind},
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
    needs: Arc<Mutex<BTreeMap<String, (Source, NeededBy)>>>,
    /// How often all of them were asked for.
    asked: Arc<AtomicUsize>,
    /// There may be others.
    incomplete: Arc<AtomicBool>,
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
        let needs = Arc::new(Mutex::new(BTreeMap::<String, (Source, NeededBy)>::new()));
        let (all, of, source_of) = (needs.clone(), needs.clone(), needs.clone());
        let (asked, incomplete) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, unknown) = (asked.clone(), incomplete.clone());
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
            SourceNeeds {
                all: Box::new(move || {
                    count.fetch_add(1, Relaxed);
                    let all = all.lock().clone().into_iter();
                    all.map(|(claim, (source, _))| (claim, source)).collect()
                }),
                of: Box::new(move |source| {
                    let needs = of.lock();
                    let of_source = needs.values().filter(|(needed, _)| needed == source);
                    of_source.fold(NeededBy::Nobody, |most, (_, by)| match most {
                        NeededBy::Record => most,
                        _ => *by,
                    })
                }),
                source_of: Box::new(move |claim| {
                    let needs = source_of.lock();
                    needs.get(claim).map(|(source, _)| source.clone())
                }),
                is_complete: Box::new(move || !unknown.load(Relaxed)),
            },
            sweep_interval,
        );
        Self {
            api,
            protection: Arc::new(protection),
            needs,
            asked,
            incomplete,
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

    /// A claim waits for a volume of ours.
    fn need(&self, claim: &str, source: &Source) {
        let need = (source.clone(), NeededBy::Claim);
        self.needs.lock().insert(claim.into(), need);
    }

    /// A record is open for it.
    fn record(&self, claim: &str, source: &Source) {
        let need = (source.clone(), NeededBy::Record);
        self.needs.lock().insert(claim.into(), need);
    }

    /// As a reconcile does that has read the source.
    async fn hold(&self, source: &Source, claim: &str) -> Result<(), NotHeld> {
        let uid = self.uid(source);
        self.protection.hold(source, Some(&uid), claim).await
    }

    fn uid(&self, source: &Source) -> String {
        let object = self.object(source).unwrap_or_default();
        object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
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
