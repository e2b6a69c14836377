//! What could be seen of a life, as lines without what differs from life to life.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::{Event, PersistentVolume},
    storage::v1::CSIStorageCapacity,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    driver::Driver,
    world::{SOON, World, eventually, text},
};

pub(super) const SELECTED: &str = "volume.kubernetes.io/selected-node";

pub(super) struct Seen<'a> {
    pub(super) world: &'a World,
    /// UIDs by name.
    claims: BTreeMap<String, String>,
    /// Claims by the handles of their volumes.
    handles: BTreeMap<String, String>,
    /// What to write instead.
    names: Vec<(String, String)>,
    pub(super) lines: BTreeSet<String>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self {
            world,
            claims: BTreeMap::new(),
            handles: BTreeMap::new(),
            names: Vec::new(),
            lines: BTreeSet::new(),
        }
    }

    /// From now on lines have `name` where this value is.
    pub(super) fn call(&mut self, value: &str, name: &str) {
        self.names.push((value.to_owned(), name.to_owned()));
    }

    /// What was called last by another name has its own again.
    pub(super) fn uncall(&mut self) {
        self.names.pop();
    }

    /// A claim for 1 GiB with `more` laid over its spec.
    pub(super) async fn claim(&mut self, name: &str, class: &str, more: Value) {
        self.create(name, class, json!({}), more).await;
    }

    /// A claim as the scheduler leaves it when it wants the volume for this node.
    pub(super) async fn claim_on(&mut self, name: &str, class: &str, node: &str) {
        self.create(name, class, json!({SELECTED: node}), json!({})).await;
    }

    /// A claim with these annotations and with `more` laid over its spec.
    pub(super) async fn create(&mut self, name: &str, class: &str, annotations: Value, more: Value) {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": format!("{}-{class}", self.world.namespace),
            "resources": {"requests": {"storage": "1Gi"}},
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let claim = json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec});
        let claim = serde_json::from_value(claim).unwrap();
        let claim = self
            .world
            .claims
            .create(&PostParams::default(), &claim)
            .await
            .unwrap();
        let uid = claim.uid().unwrap();
        self.call(&uid, &format!("<uid of {name}>"));
        self.claims.insert(name.to_owned(), uid);
    }

    /// The scheduler wants it for this node.
    pub(super) async fn select(&self, claim: &str, node: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {SELECTED: node}}}));
        let claims = &self.world.claims;
        claims
            .patch(claim, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Waits until the scheduler is to choose again, and looks at the claim.
    pub(super) async fn returned(&mut self, claim: &str) {
        eventually(&format!("{claim} has no node"), SOON, async || {
            let seen = self.world.claims.get(claim).await.map_err(text)?;
            match seen.annotations().get(SELECTED) {
                None => Ok(()),
                Some(node) => Err(node.clone()),
            }
        })
        .await;
        self.look_at(&format!("returned claim {claim}"), claim).await;
    }

    /// Waits until the claim has its volume, and looks at both.
    pub(super) async fn bound(&mut self, claim: &str) -> PersistentVolume {
        let volume = self.world.bound(claim, SOON).await;
        self.volume(&format!("volume of {claim}"), claim, &volume);
        self.look_at(&format!("claim {claim}"), claim).await;
        self.world.event(claim, "ProvisioningSucceeded", 1, "").await;
        volume
    }

    /// The same of many, which then go away.
    pub(super) async fn bound_and_deleted(&mut self, claims: &[&str]) {
        let mut volumes = Vec::new();
        for claim in claims {
            volumes.push(self.bound(claim).await);
        }
        for claim in claims {
            self.world.delete_claim(claim).await;
        }
        for volume in volumes {
            self.world.gone(&volume, SOON).await;
        }
    }

    /// The claim as it is.
    pub(super) async fn look_at(&mut self, what: &str, claim: &str) {
        let seen = self.world.claims.get(claim).await.unwrap();
        let mut value = serde_json::to_value(&seen).unwrap();
        let metadata = value["metadata"].as_object_mut().unwrap();
        for added in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            metadata.remove(added).unwrap();
        }
        self.fields(what, "", &value);
    }

    pub(super) fn line(&mut self, mut line: String) {
        for (value, name) in &self.names {
            line = line.replace(value, name);
        }
        self.lines.insert(line.replace(&self.world.namespace, "<world>"));
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

    pub(super) fn volume(&mut self, what: &str, claim: &str, volume: &PersistentVolume) {
        let mut volume = volume.clone();
        assert_eq!(volume.name_any(), format!("pvc-{}", self.claims[claim]));
        let finalizers = volume.metadata.finalizers.as_mut().unwrap();
        finalizers.sort();
        // It comes off a volume that is to stay, soon after: whether before we look
        // is a race. The released volume is looked at when it is off.
        if claim.starts_with("kept") && !what.starts_with("released") {
            finalizers.retain(|finalizer| finalizer != "external-provisioner.volume.kubernetes.io/finalizer");
        }
        let spec = volume.spec.as_mut().unwrap();
        spec.claim_ref.as_mut().unwrap().resource_version.take().unwrap();
        // Upstream writes the keys of a term in the order of a Go map.
        let affinity = spec.node_affinity.as_mut().and_then(|it| it.required.as_mut());
        for term in affinity.into_iter().flat_map(|it| &mut it.node_selector_terms) {
            let expressions = term.match_expressions.as_mut().unwrap();
            expressions.sort_by(|left, right| left.key.cmp(&right.key));
        }
        let csi = spec.csi.as_mut().unwrap();
        self.handles.insert(csi.volume_handle.clone(), claim.to_owned());
        // Numbers of the driver's, after the node where each node has a driver.
        let number = csi.volume_handle.rfind('/').map_or(0, |slash| slash + 1);
        csi.volume_handle.truncate(number);
        let identity = "storage.kubernetes.io/csiProvisionerIdentity";
        let identity = csi.volume_attributes.as_mut().unwrap().get_mut(identity).unwrap();
        // <milliseconds>-<random>-<driver>
        *identity = identity.splitn(3, '-').last().unwrap().to_owned();
        let mut value = serde_json::to_value(&volume).unwrap();
        value["status"]
            .as_object_mut()
            .unwrap()
            .remove("lastPhaseTransitionTime");
        let metadata = value["metadata"].as_object_mut().unwrap();
        for added in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            metadata.remove(added).unwrap();
        }
        self.fields(what, "", &value);
    }

    /// How often it is asked, with failures in between, is chance; what, and after what, is not.
    pub(super) fn calls(&mut self, driver: &Driver) {
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let at = driver
            .node
            .as_ref()
            .map_or(String::new(), |node| format!(" at {node}"));
        for call in driver.calls() {
            let mut request = call.request.clone();
            let claim = match call.method.as_str() {
                "CreateVolume" => format!("{}", request["name"]),
                "DeleteVolume" => {
                    request.as_object_mut().unwrap().remove("volume_id").unwrap();
                    self.handles[&call.volume_id].clone()
                }
                "GetCapacity" => {
                    self.line(format!("GetCapacity{at}: {} for {request}", call.code));
                    continue;
                }
                _ => continue,
            };
            let what = format!("{}{at} for {claim}", call.method);
            let places = match &request["accessibility_requirements"] {
                Value::Null => "anywhere".to_owned(),
                places => places.to_string(),
            };
            request
                .as_object_mut()
                .unwrap()
                .remove("accessibility_requirements");
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

    /// What was said of claims, and of leading.
    pub(super) async fn events(&mut self, driver: &Driver) {
        let events: Api<Event> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        for event in events.list(&ListParams::default()).await.unwrap() {
            let reporter = event
                .source
                .and_then(|source| source.component)
                .unwrap_or_default();
            let object = &event.involved_object;
            let kind = object.kind.as_deref().unwrap_or_default();
            // The scheduler's are about Pods.
            if reporter == "persistentvolume-controller" || kind == "Pod" {
                continue;
            }
            assert_eq!(event.reporting_component.as_ref(), Some(&reporter));
            // <driver>_<host>_<random>, and the lease's name where it is about that.
            let reporter = reporter.split('_').next().unwrap_or_default();
            let name = object.name.as_deref().unwrap_or_default();
            self.line(format!(
                "event on {kind} {}: {} {} {:?}, {} by {reporter}",
                name.replace(&driver.name.replace('.', "-"), "<driver>"),
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
                object.api_version.as_deref().unwrap_or_default(),
            ));
        }
    }

    /// Waits until the managed objects are exactly these, each as class, values of the topology and mebibytes; and
    /// looks at them.
    pub(super) async fn capacities(&mut self, when: &str, wanted: &[(&str, &str, i64)]) {
        let mut wanted: Vec<_> = wanted
            .iter()
            .map(|(class, place, room)| format!("{class} in {place}: {room} Mi"))
            .collect();
        wanted.sort();
        let objects = eventually(&format!("{when} there are {wanted:?}"), SOON, async || {
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
            let what = format!("{when}, capacity of {}", self.short(&object));
            let mut value = serde_json::to_value(&object).unwrap();
            let metadata = value["metadata"].as_object_mut().unwrap();
            for added in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
                metadata.remove(added).unwrap();
            }
            let name = object.name_any();
            // The API server's five letters.
            metadata["name"] = json!(name[..name.len() - 5]);
            self.fields(&what, "", &value);
        }
    }

    fn short(&self, object: &CSIStorageCapacity) -> String {
        let topology = object.node_topology.clone().unwrap_or_default();
        let places: Vec<_> = topology.match_labels.unwrap_or_default().into_values().collect();
        let class = object
            .storage_class_name
            .strip_prefix(&format!("{}-", self.world.namespace));
        let room = object.capacity.as_ref().map_or("none", |room| &room.0);
        let room = room
            .strip_suffix("Gi")
            .map(|room| (1024 * room.parse::<i64>().unwrap()).to_string())
            .or(room.strip_suffix("Mi").map(str::to_owned))
            .unwrap_or_else(|| room.to_owned());
        format!(
            "{} in {}: {room} Mi",
            class.unwrap_or(&object.storage_class_name),
            places.join("/")
        )
    }
}
