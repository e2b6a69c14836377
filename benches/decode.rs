//! What another driver's volumes cost at start: the view, which forgets them while it reads, beside the usual way, a
//! watch of typed objects. Same answer, same client, same watcher; divan counts the memory of each.

use std::{collections::BTreeMap, convert::Infallible, pin::pin, sync::Arc};

use bytes::Bytes;
use divan::{AllocProfiler, Bencher, counter::BytesCount};
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{
    Api, Client,
    client::Body,
    runtime::watcher::{Config, Event, watcher},
};
use serde_json::{Value, json};
use volwright::{
    cluster::cache::{Cache, Need, Predicates, Watched},
    provision, reclaim,
};

const VOLUMES: usize = 1000;

#[global_allocator]
static MEMORY: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A volume as a cluster shows it, some 2 kB, most of it managed fields.
fn volume(n: usize) -> Value {
    let field = |key: &str| (format!("f:{key}"), json!({}));
    let fields: BTreeMap<_, _> = (0..28).map(|n| field(&format!("some-field-{n}"))).collect();
    json!({"type": "ADDED", "object": {
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": format!("pvc-{n:08}-6a4b-4f0e-9d43-2d8a1f1c0b7e"), "uid": format!("uid-{n}"),
            "resourceVersion": format!("{n}"), "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"pv.kubernetes.io/provisioned-by": "other.csi.example.com"},
            "finalizers": ["kubernetes.io/pv-protection"],
            "managedFields": [{"manager": "other-provisioner", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": fields, "f:spec": fields}}],
        },
        "spec": {
            "capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "other",
            "persistentVolumeReclaimPolicy": "Delete", "volumeMode": "Filesystem",
            "claimRef": {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": format!("data-{n}"), "uid": "u"},
            "csi": {"driver": "other.csi.example.com", "volumeHandle": format!("vol-{n}"),
                "volumeAttributes": {"storage.kubernetes.io/csiProvisionerIdentity": "1-1-other"}},
        },
        "status": {"phase": "Bound"},
    }})
}

/// The lines of a streaming list.
fn answer(kind: &str, objects: impl Iterator<Item = Value>) -> Bytes {
    let end = json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": kind,
        "metadata": {"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}}, "spec": {}}});
    let lines: Vec<_> = objects.chain([end]).map(|line| line.to_string()).collect();
    Bytes::from(lines.join("\n") + "\n")
}

/// An API server that knows these volumes and nothing else; its watches stay open.
fn client(volumes: Bytes) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let lines = match request.uri().path().rsplit('/').next() {
            Some("persistentvolumes") => volumes.clone(),
            Some("storageclasses") => answer("StorageClass", [].into_iter()),
            _ => answer("PersistentVolumeClaim", [].into_iter()),
        };
        let frames = stream::iter([Ok::<_, Infallible>(Frame::data(lines))]).chain(stream::pending());
        std::future::ready(Ok::<_, Infallible>(Response::new(StreamBody::new(frames))))
    });
    Client::new(service, "default")
}

fn bench<F: Future>(bencher: Bencher, follow: impl Fn(Client) -> F) {
    let volumes = answer("PersistentVolume", (0..VOLUMES).map(volume));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    bencher
        .counter(BytesCount::new(volumes.len()))
        .bench_local(|| runtime.block_on(async { follow(client(volumes.clone())).await }));
}

#[divan::bench]
fn foreign_volumes_in_the_view(bencher: Bencher) {
    bench(bencher, async |client| {
        let predicates = Predicates {
            claim: provision::decide::concerns,
            volume: reclaim::decide::concerns,
        };
        let watched = Watched::default();
        let cache = Cache::new("bench.csi.example.com", predicates, watched, Box::new(|_| {}));
        let mut status = cache.sync_status();
        tokio::select! {
            complete = status.wait_for(|status| status.has_synced(Need::Volumes)) => drop(complete),
            never = cache.run(client) => match never {},
        }
        cache
    });
}

#[divan::bench]
fn foreign_volumes_typed(bencher: Bencher) {
    bench(bencher, async |client| {
        let all = Api::<PersistentVolume>::all(client);
        let mut events = pin!(watcher(all, Config::default().streaming_lists()));
        let mut kept = Vec::new();
        while let Some(Ok(event)) = events.next().await {
            match event {
                Event::InitApply(volume) => kept.push(Arc::new(volume)),
                Event::InitDone => break,
                _ => {}
            }
        }
        kept
    });
}
