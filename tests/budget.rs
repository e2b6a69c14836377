//! What the sidecar costs, as a test: what it remembers of each object, and how high memory climbs while it reads a
//! large cluster.
//!
//! What is asked of the allocator is counted, so the figures are the same on every machine. The server makes up its
//! objects one by one as they are read, so that it costs nothing itself; and all is measured in one test, because
//! another one beside it would be counted as well.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{
    convert::Infallible,
    mem::size_of,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use volwright::{
    base::backoff::Backoff,
    cluster::{
        cache::{Cache, Need, NodeSource, Predicates, Watched},
        client::Client,
        objects::{Attachment, Claim, Class, PROVISIONED_BY, PROVISIONER, Volume},
        queue::{Requeue, WorkQueue},
    },
    provision, reclaim,
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const MANY: usize = 20_000;
const OURS: usize = 10_000;
const WAITING: usize = 2_000;
const NODES: usize = 5_000;

/// Stands for the number of an object.
const MARK: &str = "deadbeef";

/// So many objects like this one.
#[derive(Clone)]
struct Like(usize, Arc<str>);

impl Like {
    fn new(count: usize, object: &Value) -> Self {
        Self(count, object.to_string().into())
    }

    fn nth(&self, n: usize) -> String {
        self.1.replace(MARK, &format!("{n:08x}"))
    }
}

/// An API server with so many claims, volumes and nodes, made when they are asked for.
#[derive(Clone)]
struct Server {
    claims: Like,
    volumes: Like,
    snapshots: Like,
    nodes: Like,
    csi_nodes: Like,
    /// Streaming lists are served.
    streaming: bool,
    /// Where the watch of the claims gets more lines from.
    more: Arc<Mutex<Option<mpsc::UnboundedReceiver<Bytes>>>>,
}

impl Server {
    fn new(claims: Like, volumes: Like, streaming: bool) -> Self {
        Self {
            claims,
            volumes,
            snapshots: Like::new(0, &Value::Null),
            nodes: Like::new(0, &Value::Null),
            csi_nodes: Like::new(0, &Value::Null),
            streaming,
            more: Arc::default(),
        }
    }

    fn answer(&self, request: &Request<Body>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let query = request.uri().query().unwrap_or_default();
        let path = request.uri().path();
        let of_claims = path.ends_with("persistentvolumeclaims");
        let like = match path {
            _ if of_claims => self.claims.clone(),
            _ if path.ends_with("persistentvolumes") => self.volumes.clone(),
            _ if path.ends_with("volumesnapshots") => self.snapshots.clone(),
            _ if path.ends_with("csinodes") => self.csi_nodes.clone(),
            _ if path.ends_with("nodes") => self.nodes.clone(),
            _ => Like::new(0, &Value::Null),
        };
        let count = like.0;
        let wanted = |name: &str| {
            let pairs = form_urlencoded::parse(query.as_bytes());
            pairs
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
                .next()
        };
        if wanted("watch").is_none() {
            let from: usize = wanted("continue").map_or(0, |from| from.parse().unwrap());
            let size: usize = wanted("limit").map_or(count, |limit| limit.parse().unwrap());
            let to = (from + size).min(count);
            let items: Vec<String> = (from..to).map(|n| like.nth(n)).collect();
            let next = if to < count { to.to_string() } else { String::new() };
            let page = format!(
                "{{\"kind\":\"List\",\"metadata\":{{\"resourceVersion\":\"1\",\"continue\":\"{next}\"}},\"items\":[{}]}}",
                items.join(",")
            );
            return whole(200, page);
        }
        if wanted("sendInitialEvents").is_none() {
            return Response::new(lines(stream::pending().boxed()));
        }
        if !self.streaming {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422,
                "reason": "Invalid", "message": "not served"});
            return whole(422, status.to_string());
        }
        let events = stream::iter(0..count).map(move |n| line("ADDED", &like.nth(n)));
        let end = line(
            "BOOKMARK",
            &json!({"kind": "X", "apiVersion": "v1", "metadata": {"resourceVersion": "1",
                "annotations": {"k8s.io/initial-events-end": "true"}}})
            .to_string(),
        );
        let more = self.more.lock().unwrap().take_if(|_| of_claims);
        let more = stream::unfold(more, async |more| {
            let mut more = more?;
            Some((more.recv().await?, Some(more)))
        });
        let events = events
            .chain(stream::iter([end]))
            .chain(more)
            .chain(stream::pending());
        Response::new(lines(events.boxed()))
    }
}

fn line(kind: &str, object: &str) -> Bytes {
    // The type comes first, as the API server has it.
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

fn lines(lines: stream::BoxStream<'static, Bytes>) -> UnsyncBoxBody<Bytes, Infallible> {
    BodyExt::boxed_unsync(StreamBody::new(lines.map(|line| Ok(Frame::data(line)))))
}

fn whole(code: u16, text: String) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let body = lines(stream::iter([text.into()]).boxed());
    Response::builder().status(code).body(body).unwrap()
}

/// Metadata as long as it is in the field, with two managers.
fn metadata(name: &str, namespace: &str, annotations: Value) -> Value {
    let managed = |manager: &str| {
        json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:annotations": {".": {}, "f:a": {}, "f:b": {}},
            "f:finalizers": {".": {}, "v:\"kubernetes.io/pv-protection\"": {}}}, "f:spec": {"f:accessModes": {},
            "f:capacity": {".": {}, "f:storage": {}}, "f:claimRef": {".": {}, "f:name": {}, "f:uid": {}},
            "f:csi": {".": {}, "f:driver": {}, "f:volumeHandle": {}, "f:volumeAttributes": {".": {}}}}}})
    };
    json!({"name": name, "namespace": namespace, "uid": uid(1, MARK), "resourceVersion": "1",
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "database", "tier": "storage"},
        "annotations": annotations, "managedFields": [managed("kube-controller-manager"), managed("csi-provisioner")]})
}

fn uid(kind: usize, n: &str) -> String {
    format!("{n}-0000-4000-8000-{kind:012x}")
}

fn claim(driver: &str) -> Value {
    json!({"kind": "PersistentVolumeClaim", "apiVersion": "v1",
        "metadata": metadata(&format!("data-database-{MARK}"), "production", json!({PROVISIONER: driver,
            "volume.beta.kubernetes.io/storage-provisioner": driver})),
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": "fast", "volumeMode": "Filesystem"},
        "status": {"phase": "Pending"}})
}

fn volume(driver: &str) -> Value {
    let name = format!("pvc-{}", uid(2, MARK));
    json!({"kind": "PersistentVolume", "apiVersion": "v1",
        "metadata": metadata(&name, "", json!({PROVISIONED_BY: driver})),
        "spec": {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
            "claimRef": {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "production",
                "name": format!("data-database-{MARK}"), "uid": uid(2, MARK), "resourceVersion": "1"},
            "csi": {"driver": driver, "volumeHandle": name, "fsType": "ext4",
                "volumeAttributes": {"storage.kubernetes.io/csiProvisionerIdentity": "1700000000000-1-drv"}},
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "fast"},
        "status": {"phase": "Bound"}})
}

fn snapshot() -> Value {
    json!({"kind": "VolumeSnapshot", "apiVersion": "snapshot.storage.k8s.io/v1",
        "metadata": metadata(&format!("backup-{MARK}"), "production", json!({})),
        "spec": {"source": {"persistentVolumeClaimName": format!("data-database-{MARK}")},
            "volumeSnapshotClassName": "fast"},
        "status": {"boundVolumeSnapshotContentName": format!("snapcontent-{MARK}"), "readyToUse": true,
            "restoreSize": "10Gi", "creationTime": "2026-01-01T00:00:00Z"}})
}

/// Of a Node only the metadata is asked for.
fn node() -> Value {
    let mut metadata = metadata(
        &format!("node-{MARK}"),
        "",
        json!({"csi.volume.kubernetes.io/nodeid": MARK}),
    );
    metadata["labels"] = json!({"kubernetes.io/hostname": MARK, "topology.example.com/zone": "zone-a",
        "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": "large"});
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn csi_node() -> Value {
    let driver = |name: &str| {
        json!({"name": name, "nodeID": MARK, "allocatable": {"count": 32},
            "topologyKeys": ["kubernetes.io/hostname", "topology.example.com/zone"]})
    };
    json!({"kind": "CSINode", "apiVersion": "storage.k8s.io/v1",
        "metadata": metadata(&format!("node-{MARK}"), "", json!({})),
        "spec": {"drivers": [driver("drv"), driver("other")]}})
}

/// What is asked of the allocator while a cache reads the cluster: at most at a time, and in the end.
async fn read(server: Server) -> (usize, usize, Arc<Cache>, impl Sized) {
    // What ended before is freed by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = MEMORY.current_usage();
    let predicates = Predicates {
        claim: provision::decide::concerns,
        volume: reclaim::decide::concerns,
    };
    let watched = Watched {
        attachments: true,
        snapshots: true,
        nodes: NodeSource::Watched(Need::Volumes),
        ..Watched::default()
    };
    let cache = Cache::new("drv", predicates, watched, Box::new(|_| {}));
    let cache = Arc::new(cache);
    MEMORY.reset_peak_usage();
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = server.answer(&request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let client = Client::new(service, "default");
    let following = tokio::spawn({
        let cache = cache.clone();
        async move {
            cache.run(client).await;
        }
    });
    let mut status = cache.sync_status();
    status
        .wait_for(|status| status.has_synced(Need::Volumes))
        .await
        .unwrap();
    drop(status);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let grown = |usage: usize| usage.saturating_sub(before);
    let (peak, kept) = (grown(MEMORY.peak_usage()), grown(MEMORY.current_usage()));
    let stop = tokio_util::task::AbortOnDropHandle::new(following);
    (peak, kept, cache, stop)
}

fn holds(what: &str, bytes: usize, limit: usize) {
    println!("{what}: {bytes} bytes, at most {limit}");
    assert!(bytes <= limit, "{what}: {bytes} bytes are more than {limit}");
}

#[tokio::test(start_paused = true)]
async fn memory_keeps_to_its_budget() {
    let none = Like::new(0, &Value::Null);
    // Once for all that is allocated only once.
    drop(read(Server::new(none.clone(), none.clone(), true)).await);
    let (_, floor, _, stop) = read(Server::new(none.clone(), none.clone(), true)).await;
    drop(stop);

    for (name, streaming, peak_limit) in [("streamed", true, 256 << 10), ("paged", false, 7 << 20)] {
        let (claims, volumes) = (
            Like::new(MANY, &claim("other")),
            Like::new(MANY, &volume("other")),
        );
        let (peak, kept, cache, stop) = read(Server::new(claims, volumes, streaming)).await;
        // Some buffers of the connection, however many objects there are: less than one byte each.
        holds(
            &format!("{MANY} foreign claims and volumes, {name}"),
            kept.saturating_sub(floor),
            2 * MANY,
        );
        holds(&format!("at most while they are {name}"), peak, peak_limit);
        assert!(cache.claim_uids().is_empty());
        drop((cache, stop));
    }

    for streaming in [true, false] {
        let mut foreign = Server::new(none.clone(), none.clone(), streaming);
        foreign.snapshots = Like::new(MANY, &snapshot());
        let (peak, kept, ..) = read(foreign).await;
        holds("20,000 foreign snapshots", kept.saturating_sub(floor), 2 * MANY);
        holds("at most while they are read", peak, 2_000_000);
    }

    let ours = Server::new(none.clone(), Like::new(OURS, &volume("drv")), true);
    let (_, kept, cache, stop) = read(ours).await;
    let claim_of_one = uid(2, "00000007");
    assert_eq!(
        cache.claim_of_volume(&format!("pvc-{claim_of_one}")),
        Some(claim_of_one)
    );
    let handle = format!("pvc-{}", uid(2, "00000007"));
    assert!(cache.may_share_handle(&handle, "another"));
    // Of these the hash of the handle takes 8, and as much again where the table has just grown.
    holds("a bound volume of ours", (kept - floor) / OURS, 200);
    drop((cache, stop));

    let mut nodes = Server::new(none.clone(), none.clone(), true);
    (nodes.nodes, nodes.csi_nodes) = (Like::new(NODES, &node()), Like::new(NODES, &csi_node()));
    let (peak, _, cache, stop) = read(nodes).await;
    assert_eq!(cache.topology().terms().len(), NODES);
    let kept = MEMORY.current_usage().saturating_sub(floor);
    holds(
        "a node with the driver, its segment and its term",
        kept / NODES,
        1000,
    );
    holds("at most while nodes are streamed", peak, 3 << 20);
    drop((cache, stop));

    let mut restored = claim("drv");
    restored["spec"]["dataSource"] = json!({"kind": "VolumeSnapshot", "name": format!("backup-{MARK}")});
    for (what, claim, limit) in [
        ("a claim that waits for its volume", claim("drv"), 2500),
        ("the same with its snapshot", restored, 3500),
    ] {
        let (tell, more) = mpsc::unbounded_channel();
        let claims = Like::new(WAITING, &claim);
        let mut waiting = Server::new(claims.clone(), none.clone(), true);
        waiting.snapshots = Like::new(MANY, &snapshot());
        *waiting.more.lock().unwrap() = Some(more);
        let before = MEMORY.current_usage();
        let (_, kept, cache, _stop) = read(waiting).await;
        assert_eq!(cache.claim_uids().len(), WAITING);
        holds(what, (kept - floor) / WAITING, limit);
        for n in 0..WAITING {
            tell.send(line("DELETED", &claims.nth(n))).unwrap();
        }
        while !cache.claim_uids().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = MEMORY.current_usage().saturating_sub(before + floor);
        holds("what stays of them when they have gone", left, 32 << 10);
    }

    let second = Duration::from_secs(1);
    let backoff = Backoff {
        start: second,
        max: second,
    };
    let mut queue = WorkQueue::new(10, backoff, Box::new(|_| {}));
    queue.open();
    let before = MEMORY.current_usage();
    for round in 0..3 {
        for n in 0..WAITING {
            queue.add(&uid(round, &n.to_string()), second);
        }
        while let Some(key) = queue.take(second) {
            queue.done(&key, Requeue::AwaitChange, second);
        }
    }
    holds(
        "an emptied work queue",
        MEMORY.current_usage().saturating_sub(before),
        1 << 10,
    );
}

#[test]
fn objects_and_decisions_stay_small() {
    let sizes = [
        ("Claim", size_of::<Claim>(), 440),
        ("Volume", size_of::<Volume>(), 360),
        ("Class", size_of::<Class>(), 184),
        ("Attachment", size_of::<Attachment>(), 96),
        ("Decision", size_of::<provision::decide::Decision>(), 96),
    ];
    for (name, size, limit) in sizes {
        holds(name, size, limit);
    }
}
