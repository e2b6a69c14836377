//! What the API server wrote down about the sidecars: each request of a ServiceAccount is one line of its audit log.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cluster::{self, Cluster, Rights},
    ledger::SHARD,
    world::{SOON, World, eventually},
};

/// What a Lease of the ledger is called in counts.
pub(crate) const LEDGER: &str = "ledger leases";
const WRITES: [&str; 4] = ["create", "update", "patch", "delete"];

/// One request that was answered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
    #[serde(rename = "requestURI")]
    uri: String,
    /// When the API server had it, and when it had answered.
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
    /// Its body; of Leases only.
    #[serde(default)]
    request_object: Value,
}

#[derive(Deserialize)]
struct User {
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize, Default)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    name: String,
}

impl Request {
    /// What it is about; a Lease of the ledger is not one of the election.
    fn resource(&self) -> &str {
        match self.object_ref.resource.as_str() {
            "leases" if self.is_of_a_shard() => LEDGER,
            resource => resource,
        }
    }

    /// The name of what is created stands in the body.
    fn is_of_a_shard(&self) -> bool {
        let created = self.request_object["metadata"]["name"]
            .as_str()
            .unwrap_or_default();
        self.object_ref.name.contains(SHARD) || created.contains(SHARD)
    }

    /// Whether it came from this Pod, whose name is in its token.
    fn is_of_pod(&self, pod: &str) -> bool {
        let names = self.user.extra.get("authentication.kubernetes.io/pod-name");
        names.is_some_and(|names| names.iter().any(|name| name == pod))
    }

    fn is_since(&self, at: SystemTime) -> bool {
        SystemTime::from(self.request_received_timestamp) >= at
    }
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: u16,
}

fn requests(cluster: &Cluster, user: &str) -> Vec<Request> {
    let text = std::fs::read_to_string(&cluster.supervisor.audit).unwrap();
    text.lines()
        .filter(|line| line.contains(user))
        // The last line may be half written.
        .filter_map(|line| serde_json::from_str::<Request>(line).ok())
        .filter(|request| request.user.username == user)
        .collect()
}

/// The writes of one user so far, by verb and resource.
pub(crate) fn writes(cluster: &Cluster, user: &str) -> BTreeMap<String, usize> {
    count(cluster, user, &WRITES)
}

/// The objects that one user has read by name so far, by verb and resource.
pub(crate) fn reads(cluster: &Cluster, user: &str) -> BTreeMap<String, usize> {
    count(cluster, user, &["get"])
}

fn count(cluster: &Cluster, user: &str, verbs: &[&str]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests(cluster, user) {
        if verbs.contains(&request.verb.as_str()) {
            *counts
                .entry(format!("{} {}", request.verb, request.resource()))
                .or_default() += 1;
        }
    }
    counts
}

/// Nothing that the sidecar asked for was refused for want of a right.
pub(crate) fn assert_nothing_denied(world: &World) {
    if cluster::is_given() {
        return;
    }
    let denied = |request: &Request| [401, 403].contains(&request.response_status.code);
    let denied: Vec<_> = requests(world.cluster, &world.user())
        .into_iter()
        .filter(denied)
        .map(|request| format!("{} {}", request.verb, request.uri))
        .collect();
    assert!(denied.is_empty(), "denied: {denied:#?}");
}

/// Waits until the sidecars have sent such a request.
pub(crate) async fn asked(world: &World, verb: &str, resource: &str) {
    let fits = |request: &Request| request.verb == verb && request.resource() == resource;
    eventually(
        &format!("somebody asked to {verb} {resource}"),
        SOON,
        async || match requests(world.cluster, &world.user()).iter().any(fits) {
            true => Ok(()),
            false => Err("nobody did".to_owned()),
        },
    )
    .await;
}

/// Waits until the sidecar in this Pod has asked for such objects since then.
pub(crate) async fn asked_since(world: &World, pod: &str, at: SystemTime, resource: &str) {
    let fits = |request: &Request| {
        request.object_ref.resource == resource && request.is_of_pod(pod) && request.is_since(at)
    };
    eventually(
        &format!("{pod} asks for {resource}"),
        SOON,
        async || match requests(world.cluster, &world.user()).iter().any(fits) {
            true => Ok(()),
            false => Err("it did not".to_owned()),
        },
    )
    .await;
}

/// What the sidecar in this Pod has written since then, but for events and the Lease that it competes for.
pub(crate) fn written_since(world: &World, pod: &str, at: SystemTime) -> Vec<String> {
    requests(world.cluster, &world.user())
        .into_iter()
        .filter(|request| request.is_of_pod(pod) && request.is_since(at))
        .filter(|request| WRITES.contains(&request.verb.as_str()))
        .filter(|request| !["events", "leases"].contains(&request.resource()))
        .map(|request| {
            let after = SystemTime::from(request.request_received_timestamp).duration_since(at);
            format!("{} {} after {after:?}", request.verb, request.uri)
        })
        .collect()
}

/// A write of a Lease as the API server saw it.
pub(crate) struct LeaseWrite {
    /// Of the Lease; empty where it is created.
    pub(crate) name: String,
    pub(crate) is_of_a_shard: bool,
    pub(crate) received: SystemTime,
    /// How long the API server took.
    pub(crate) took: Duration,
    /// Of its body.
    pub(crate) bytes: usize,
}

/// The writes of Leases by one user so far that were answered with success.
pub(crate) fn lease_writes(cluster: &Cluster, user: &str) -> Vec<LeaseWrite> {
    requests(cluster, user)
        .into_iter()
        .filter(|request| request.object_ref.resource == "leases")
        .filter(|request| WRITES.contains(&request.verb.as_str()))
        .filter(|request| (200..300).contains(&request.response_status.code))
        .map(|request| {
            let took = request
                .stage_timestamp
                .duration_since(request.request_received_timestamp);
            LeaseWrite {
                is_of_a_shard: request.is_of_a_shard(),
                name: request.object_ref.name,
                received: request.request_received_timestamp.into(),
                took: took.unsigned_abs(),
                bytes: request.request_object.to_string().len(),
            }
        })
        .collect()
}

/// Every right of these has been used by now.
pub(crate) async fn all_rights_are_used(world: &World, rights: Rights) {
    are_used(world, granted(world.cluster, rights)).await;
}

/// Every right that the last of these components adds to the others has been used by now.
pub(crate) async fn component_is_used(world: &World, components: &'static [&'static str]) {
    let (_, others) = components.split_last().unwrap();
    let granted = |components| granted(world.cluster, Rights::OursWith(components));
    are_used(world, &granted(components) - &granted(others)).await;
}

/// Verbs and resources.
fn granted(cluster: &Cluster, rights: Rights) -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for role in cluster.rights(rights) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            for resource in rule["resources"].as_array().unwrap() {
                for verb in rule["verbs"].as_array().unwrap() {
                    granted.insert(format!(
                        "{} {}",
                        verb.as_str().unwrap(),
                        resource.as_str().unwrap()
                    ));
                }
            }
        }
    }
    granted
}

async fn are_used(world: &World, granted: BTreeSet<String>) {
    if cluster::is_given() {
        return;
    }
    assert!(!granted.is_empty());
    eventually(
        "every granted right is used",
        Duration::from_secs(10),
        async || {
            let mut unused = granted.clone();
            for request in requests(world.cluster, &world.user()) {
                unused.remove(&format!("{} {}", request.verb, request.object_ref.resource));
                if request.verb == "watch" {
                    // A streaming list is a watch; servers without it are asked for a list.
                    unused.remove(&format!("list {}", request.object_ref.resource));
                }
            }
            if unused.is_empty() {
                Ok(())
            } else {
                Err(format!("never used: {unused:?}"))
            }
        },
    )
    .await;
}
