//! Plays kube-scheduler for pods whose claims wait for their first consumer: chooses a node, names it on the claims,
//! chooses again when the name is taken off, and binds the pod when its claims are bound.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    Api,
    api::capacity::bytes,
    binder::{CLAIMS, SELECTED_NODE, VOLUMES, annotation, deleting, place, text},
};

/// The backoff of a pod that could not be placed: one second, doubled up to ten.
const MOST: u64 = 10;

/// What a test may tell the scheduler. Clones share the same state.
#[derive(Clone, Default)]
pub struct Scheduler {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    preferred: Vec<String>,
    /// By the pod's UID.
    attempts: HashMap<String, Attempts>,
}

#[derive(Default)]
struct Attempts {
    /// How often each node was chosen.
    nodes: BTreeMap<String, u32>,
    /// Not again before.
    next: Option<Instant>,
}

impl Scheduler {
    /// These nodes, best first, before all others, which come in the order of their names. A node that was chosen for
    /// a pod less often always goes first.
    pub fn prefer(&self, nodes: &[&str]) {
        self.state.lock().preferred = nodes.iter().map(|node| (*node).to_owned()).collect();
    }

    /// Starts it; it acts on every change until the task is aborted.
    pub(crate) fn start(&self, api: &Api) -> JoinHandle<()> {
        let (scheduler, api) = (self.clone(), api.clone());
        let mut changes = api.changes();
        tokio::spawn(async move {
            loop {
                changes.mark_unchanged();
                let again = scheduler.step(&api);
                let backoff = async {
                    match again {
                        Some(at) => tokio::time::sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = backoff => {}
                }
            }
        })
    }

    /// Looks at every pod without a node; says when the first backoff ends.
    fn step(&self, api: &Api) -> Option<Instant> {
        let pods = api.filter("pods", |pod| {
            text(pod, "/spec/nodeName").is_empty() && !deleting(pod)
        });
        pods.iter().filter_map(|pod| self.schedule(api, pod)).min()
    }

    fn schedule(&self, api: &Api, pod: &Value) -> Option<Instant> {
        let (namespace, name) = place(pod);
        let claims = claims_of(pod).map(|claim| api.get(CLAIMS, namespace, claim));
        // One that is missing is waited for.
        let claims: Vec<Value> = claims.collect::<Option<_>>()?;
        if claims.iter().any(deleting) {
            return None;
        }
        let is_bound = |claim: &&Value| text(claim, "/status/phase") == "Bound";
        let (bound, unbound): (Vec<_>, Vec<_>) = claims.iter().partition(is_bound);
        let classes = unbound.iter().map(|claim| waiting_class(api, claim));
        let classes: Vec<Value> = classes.collect::<Option<_>>()?;
        let volumes = bound
            .iter()
            .filter_map(|claim| api.get(VOLUMES, "", text(claim, "/spec/volumeName")));
        let volumes: Vec<_> = volumes.collect();

        let named = |claim: &&Value| !annotation(claim, SELECTED_NODE).is_empty();
        let (selected, open): (Vec<_>, Vec<_>) = unbound.iter().copied().partition(named);
        let suits = |node: &Value| {
            node["spec"]["unschedulable"] != true
                && matches(&pod["spec"]["nodeSelector"], node)
                && selected
                    .iter()
                    .all(|claim| annotation(claim, SELECTED_NODE) == place(node).1)
                && volumes.iter().all(|volume| is_reachable(volume, node))
                && unbound
                    .iter()
                    .zip(&classes)
                    .all(|(claim, class)| is_allowed(class, node) && has_room(api, class, claim, node))
        };
        let nodes: Vec<_> = api.filter("nodes", suits);
        if unbound.is_empty() {
            let mut before = bound.iter().map(|claim| annotation(claim, SELECTED_NODE));
            let before = before.rfind(|node| !node.is_empty()).unwrap_or_default();
            let stays = nodes.iter().any(|node| place(node).1 == before);
            let node = if stays {
                before.to_owned()
            } else {
                self.choose(pod, &nodes)?
            };
            api.edit("pods", namespace, name, |pod| {
                pod["spec"]["nodeName"] = node.into()
            });
            return None;
        }
        if open.is_empty() {
            // It is the provisioner's turn.
            return None;
        }
        let uid = text(pod, "/metadata/uid");
        let next = self
            .state
            .lock()
            .attempts
            .get(uid)
            .and_then(|attempts| attempts.next);
        if let Some(next) = next.filter(|next| *next > Instant::now()) {
            return Some(next);
        }
        let node = self.choose(pod, &nodes)?;
        for claim in open {
            let (namespace, name) = place(claim);
            api.edit(CLAIMS, namespace, name, |claim| {
                claim["metadata"]["annotations"][SELECTED_NODE] = node.clone().into();
            });
        }
        None
    }

    /// The node that was chosen least often, by preference and by name.
    fn choose(&self, pod: &Value, nodes: &[Value]) -> Option<String> {
        let mut state = self.state.lock();
        let State { preferred, attempts } = &mut *state;
        let mine = attempts.entry(text(pod, "/metadata/uid").to_owned()).or_default();
        let names = nodes.iter().map(|node| place(node).1);
        let node = names.min_by_key(|name| {
            let rank = preferred.iter().position(|node| node == name);
            (mine.nodes.get(*name).copied(), rank.unwrap_or(usize::MAX), *name)
        })?;
        *mine.nodes.entry(node.to_owned()).or_default() += 1;
        let times = mine.nodes.values().sum::<u32>().min(5);
        let delay = (1 << (times - 1)).min(MOST);
        mine.next = Some(Instant::now() + Duration::from_secs(delay));
        Some(node.to_owned())
    }
}

/// The names of the claims that a pod uses.
pub(crate) fn claims_of(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["persistentVolumeClaim"]["claimName"].as_str())
}

/// The class of an unbound claim; `None` when the claim is the volume controller's to bind.
fn waiting_class(api: &Api, claim: &Value) -> Option<Value> {
    let class = api.get("storageclasses", "", text(claim, "/spec/storageClassName"))?;
    (text(&class, "/volumeBindingMode") == "WaitForFirstConsumer").then_some(class)
}

/// Whether a node has all these labels.
fn matches(labels: &Value, node: &Value) -> bool {
    let mut labels = labels.as_object().into_iter().flatten();
    labels.all(|(key, value)| node["metadata"]["labels"][key] == *value)
}

/// Whether a node's labels satisfy all these expressions.
fn satisfies(expressions: &Value, node: &Value) -> bool {
    let mut expressions = expressions.as_array().into_iter().flatten();
    expressions.all(|one| {
        let label = &node["metadata"]["labels"][text(one, "/key")];
        let listed = one["values"]
            .as_array()
            .is_some_and(|values| values.contains(label));
        match one["operator"].as_str().unwrap_or("In") {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => !label.is_null(),
            _ => label.is_null(),
        }
    })
}

fn is_reachable(volume: &Value, node: &Value) -> bool {
    let terms = volume.pointer("/spec/nodeAffinity/required/nodeSelectorTerms");
    let fits =
        |term: &Value| !term["matchExpressions"].is_null() && satisfies(&term["matchExpressions"], node);
    terms
        .and_then(Value::as_array)
        .is_none_or(|terms| terms.iter().any(fits))
}

fn is_allowed(class: &Value, node: &Value) -> bool {
    let terms = class["allowedTopologies"]
        .as_array()
        .filter(|terms| !terms.is_empty());
    terms.is_none_or(|terms| {
        terms
            .iter()
            .any(|term| satisfies(&term["matchLabelExpressions"], node))
    })
}

/// Whether a capacity of the class says that the claim has room on the node; only asked where the driver publishes.
fn has_room(api: &Api, class: &Value, claim: &Value, node: &Value) -> bool {
    let driver = api
        .get("csidrivers", "", text(class, "/provisioner"))
        .unwrap_or_default();
    if driver["spec"]["storageCapacity"] != true {
        return true;
    }
    let size = bytes(text(claim, "/spec/resources/requests/storage"));
    let holds = |capacity: &Value| {
        let limit = match text(capacity, "/maximumVolumeSize") {
            "" => text(capacity, "/capacity"),
            most => most,
        };
        let segment = &capacity["nodeTopology"];
        capacity["storageClassName"] == class["metadata"]["name"]
            && segment.is_object()
            && matches(&segment["matchLabels"], node)
            && satisfies(&segment["matchExpressions"], node)
            && bytes(limit).is_some_and(|limit| size.is_some_and(|size| size <= limit))
    };
    !api.filter("csistoragecapacities", holds).is_empty()
}
