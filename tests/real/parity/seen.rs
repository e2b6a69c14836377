//! What could be seen of a scenario, as lines without what differs from run to run.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use futures::{Stream, StreamExt};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::CSIStorageCapacity,
};
use kube::{
    ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    driver::Driver,
    world::{SOON, World, eventually, text},
};

const SELECTED: &str = "volume.kubernetes.io/selected-node";
const PROVISIONER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

pub(super) struct Seen<'a> {
    pub(super) world: &'a World,
    /// The version of the claims before the first one.
    began: String,
    /// Values, and what to write instead.
    names: Vec<(String, String)>,
    /// What the driver was asked for when it gave a volume this handle.
    handles: BTreeMap<String, String>,
    /// Which node the lines with this text are about, where that is chance.
    pub(super) winners: BTreeMap<String, String>,
    pub(super) lines: BTreeSet<String>,
}

impl<'a> Seen<'a> {
    pub(super) async fn new(world: &'a World) -> Self {
        let claims = world.claims.list(&ListParams::default().limit(1)).await;
        Self {
            world,
            began: claims.unwrap().metadata.resource_version.unwrap(),
            names: Vec::new(),
            handles: BTreeMap::new(),
            winners: BTreeMap::new(),
            lines: BTreeSet::new(),
        }
    }

    /// From now on lines have `name` where this value is.
    pub(super) fn call(&mut self, value: &str, name: &str) {
        self.names.push((value.to_owned(), name.to_owned()));
    }

    /// A text of the file with the values for their names.
    pub(super) fn expand(&self, text: &str, driver: &str) -> String {
        let mut text = text
            .replace("<lease>", &driver.replace('.', "-"))
            .replace("<world>", &self.world.namespace)
            .replace("<driver>", driver);
        for (value, name) in self.names.iter().rev() {
            text = text.replace(name, value);
        }
        text
    }

    pub(super) fn line(&mut self, line: String) {
        self.lines.insert(self.shown(line));
    }

    /// With names for the values.
    pub(super) fn shown(&self, mut line: String) -> String {
        for (text, winner) in &self.winners {
            if line.contains(text) {
                line = line.replace(winner, "<winner>");
            }
        }
        for (value, name) in &self.names {
            line = line.replace(value, name);
        }
        line.replace(&self.world.namespace, "<world>")
    }

    /// A line for each field.
    pub(super) fn fields(&mut self, what: &str, path: &str, value: &Value) {
        match value.as_object() {
            Some(object) if !object.is_empty() => {
                for (key, value) in object {
                    self.fields(what, &format!("{path} {key}"), value);
                }
            }
            _ => self.line(format!("{what}:{path} = {value}")),
        }
    }

    /// The object as it is, without what the API server adds.
    pub(super) fn object(&mut self, what: &str, mut object: Value) {
        let metadata = object["metadata"].as_object_mut().unwrap();
        let added = [
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "managedFields",
            "generation",
        ];
        for added in [&added[..], &["deletionGracePeriodSeconds"]].concat() {
            metadata.remove(added);
        }
        if let Some(when) = metadata.get_mut("deletionTimestamp") {
            *when = json!("<a moment>");
        }
        if let Some(Value::Array(finalizers)) = metadata.get_mut("finalizers") {
            finalizers.sort_by_key(Value::to_string);
        }
        if let Some(Value::String(name)) = metadata.remove("generateName") {
            // The API server's five letters.
            metadata.insert("name".to_owned(), json!(name));
        }
        for moment in ["acquireTime", "renewTime"] {
            object["spec"]
                .as_object_mut()
                .and_then(|spec| spec.remove(moment));
        }
        self.fields(what, "", &object);
    }

    /// The driver counts its volumes, in the order in which it is asked for them.
    pub(super) fn handles(&mut self, driver: &Driver) {
        for call in driver.calls_of("CreateVolume") {
            let name = call.request["name"].as_str().unwrap_or_default();
            self.handles
                .insert(call.volume_id.clone(), format!("<handle of {name}>"));
        }
    }

    /// Upstream's order is not the same each time, and the identity is another one in each process.
    pub(super) fn volume(&mut self, what: &str, volume: &PersistentVolume) {
        let mut volume = volume.clone();
        let phase = volume.status.as_ref().and_then(|status| status.phase.clone());
        let spec = volume.spec.as_mut().unwrap();
        // It comes off a volume that is to stay, soon after: whether before we look
        // is a race. The released volume is looked at when it is off.
        if spec.persistent_volume_reclaim_policy.as_deref() == Some("Retain")
            && phase.as_deref() != Some("Released")
        {
            let finalizers = volume.metadata.finalizers.as_mut().unwrap();
            finalizers.retain(|finalizer| finalizer != PROVISIONER);
        }
        if let Some(claim) = spec.claim_ref.as_mut() {
            claim.resource_version.take();
        }
        let affinity = spec.node_affinity.as_mut().and_then(|it| it.required.as_mut());
        for term in affinity.into_iter().flat_map(|it| &mut it.node_selector_terms) {
            let expressions = term.match_expressions.as_mut().unwrap();
            expressions.sort_by(|left, right| left.key.cmp(&right.key));
        }
        if let Some(csi) = spec.csi.as_mut()
            && let Some(name) = self.handles.get(&csi.volume_handle)
        {
            csi.volume_handle = name.clone();
        }
        let attributes = spec.csi.as_mut().and_then(|csi| csi.volume_attributes.as_mut());
        if let Some(identity) =
            attributes.and_then(|it| it.get_mut("storage.kubernetes.io/csiProvisionerIdentity"))
        {
            // <milliseconds>-<random>-<driver>
            *identity = identity.splitn(3, '-').last().unwrap().to_owned();
        }
        let mut value = serde_json::to_value(&volume).unwrap();
        value["status"]
            .as_object_mut()
            .unwrap()
            .remove("lastPhaseTransitionTime");
        self.object(what, value);
    }

    /// How often it is asked, with failures in between, is chance; what, and after what, is not.
    pub(super) fn calls(&mut self, driver: &Driver) {
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        self.handles(driver);
        let at = driver
            .node
            .as_ref()
            .map_or(String::new(), |node| format!(" at {node}"));
        for call in driver.calls() {
            let mut request = call.request.clone();
            let volume = match call.method.as_str() {
                "CreateVolume" => request["name"].as_str().unwrap_or_default().to_owned(),
                "DeleteVolume" => {
                    let handle = &mut request["volume_id"];
                    let name = self
                        .handles
                        .get(&call.volume_id)
                        .unwrap_or(&call.volume_id)
                        .clone();
                    *handle = json!(name);
                    name
                }
                "GetCapacity" => {
                    self.line(format!("GetCapacity{at}: {} for {request}", call.code));
                    continue;
                }
                _ => continue,
            };
            let copied = request.pointer_mut("/volume_content_source/Type/Volume/volume_id");
            if let Some(handle) = copied
                && let Some(name) = handle.as_str().and_then(|it| self.handles.get(it))
            {
                *handle = json!(name);
            }
            let what = format!("{}{at} of {volume}", call.method);
            let places = match &request["accessibility_requirements"] {
                Value::Null => "anywhere".to_owned(),
                places => places.to_string(),
            };
            let rest = request.as_object_mut().unwrap();
            rest.remove("accessibility_requirements");
            if !call.secrets.is_empty() {
                rest.insert("digest of secrets".to_owned(), json!(call.secrets));
            }
            let history = histories.entry(what.clone()).or_default();
            let now = format!("{}, {places}", call.code);
            if history.last() != Some(&now) {
                history.push(now);
            }
            self.fields(&what, "", &request);
        }
        for (what, history) in histories {
            self.line(format!("{what}: {}", history.join(", then ")));
        }
    }

    /// Waits until the managed objects are exactly these, each as class and values of the topology, with the room in
    /// GiB; and looks at them.
    pub(super) async fn capacities(&mut self, wanted: &BTreeMap<String, f64>) {
        let mut wanted: Vec<_> = wanted
            .iter()
            .map(|(place, gib)| format!("{place}: {gib}"))
            .collect();
        wanted.sort();
        let objects = eventually(&format!("there is the capacity {wanted:?}"), SOON, async || {
            let objects = self.world.capacities().await.map_err(text)?;
            let mut seen: Vec<_> = objects.iter().map(|it| self.short(it)).collect();
            seen.sort();
            if seen == wanted {
                Ok(objects)
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await;
        for object in objects {
            let short = self.short(&object);
            let (place, _) = short.rsplit_once(": ").unwrap();
            self.call(&object.name_any(), &format!("<capacity {place}>"));
            let what = format!("capacity {short}");
            self.object(&what, serde_json::to_value(&object).unwrap());
        }
    }

    fn short(&self, object: &CSIStorageCapacity) -> String {
        let world = &self.world.namespace;
        let topology = object.node_topology.clone().unwrap_or_default();
        let places: Vec<_> = topology.match_labels.unwrap_or_default().into_values().collect();
        let class = object.storage_class_name.strip_prefix(&format!("{world}-"));
        let room = object.capacity.as_ref().map_or("-1", |room| &room.0);
        let number = |digits: &str| digits.parse::<f64>().unwrap_or(f64::NAN);
        let gib = match (room.strip_suffix("Gi"), room.strip_suffix("Mi")) {
            (Some(gib), _) => number(gib),
            (_, Some(mib)) => number(mib) / 1024.0,
            _ => number(room) / f64::from(1 << 30),
        };
        let class = class.unwrap_or(&object.storage_class_name);
        let place = places.join("/").replace(&format!("{world}-"), "");
        format!("{class} {place}: {gib}").replace(" :", ":")
    }

    /// Waits until the scheduler is to choose again, and looks at the version of the claim that says so. A claim that
    /// needs no scheduler has a later one at once.
    pub(super) async fn returned(&mut self, claim: &str) {
        let only = WatchParams::default().fields(&format!("metadata.name={claim}"));
        let seen = timeout(SOON, async {
            loop {
                // The API server ends a watch that reads too slowly.
                let changes = self.world.claims.watch(&only, &self.began).await.unwrap();
                if let Some(seen) = first_returned(changes).await {
                    return seen;
                }
            }
        });
        let seen = seen
            .await
            .unwrap_or_else(|_| panic!("{claim} keeps its node for {SOON:?}"));
        self.object(
            &format!("returned claim {claim}"),
            serde_json::to_value(seen).unwrap(),
        );
    }
}

async fn first_returned(
    changes: impl Stream<Item = kube::Result<WatchEvent<PersistentVolumeClaim>>>,
) -> Option<PersistentVolumeClaim> {
    let mut changes = pin!(changes);
    let mut had_node = false;
    while let Some(change) = changes.next().await {
        let claim = match change.unwrap() {
            WatchEvent::Added(claim) | WatchEvent::Modified(claim) => claim,
            other => panic!("{other:?} while a claim was to lose its node"),
        };
        let has_node = claim.annotations().contains_key(SELECTED);
        if had_node && !has_node {
            return Some(claim);
        }
        had_node = has_node;
    }
    None
}
