//! What a scenario is played on: drivers, nodes, objects and sidecars as its file has them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{ResourceExt, api::PostParams};
use serde_json::{Map, Value, json};

use super::{
    file::{ClaimFile, DriverFile, NodeFile, ScenarioFile, Step},
    objects::{Object, usual},
    rights,
    seen::Seen,
};
use crate::{
    driver::{Driver, Labels, NodeInfo, Options, Segment},
    sidecar::{Binary, Shape, Sidecar},
    world::{SOON, World},
};

const GIB: i64 = 1 << 30;
const SELECTED: &str = "volume.kubernetes.io/selected-node";

/// A driver, and the sidecar beside it.
pub(super) struct Place {
    pub(super) driver: Driver,
    options: Options,
    pub(super) sidecar: Option<Sidecar>,
}

pub(super) struct Stage<'a> {
    pub(super) world: &'a World,
    pub(super) file: &'a ScenarioFile,
    pub(super) binary: Binary,
    pub(super) places: Vec<Place>,
    pub(super) seen: Seen<'a>,
    /// UIDs by name.
    pub(super) claims: BTreeMap<String, String>,
    /// The names of their volumes.
    pub(super) volumes: BTreeMap<String, String>,
}

impl<'a> Stage<'a> {
    pub(super) async fn set(file: &'a ScenarioFile, world: &'a World, binary: Binary) -> Self {
        rights::grant(world, &file.rights).await;
        let mut stage = Self {
            world,
            file,
            binary,
            places: Vec::new(),
            seen: Seen::new(world).await,
            claims: BTreeMap::new(),
            volumes: BTreeMap::new(),
        };
        let beside = file.nodes.iter().filter(|(_, node)| node.sidecar);
        let mut nodes: Vec<_> = beside.map(|(name, node)| Some((name, node))).collect();
        if nodes.is_empty() {
            nodes.push(None);
        }
        for node in nodes {
            let info = node.map(|(name, node)| NodeInfo {
                id: world.node_name(name),
                labels: stage.labels(&node.at),
                ..NodeInfo::default()
            });
            let mut options = Options {
                node: info,
                ..Options::default()
            };
            stage.lay_over(&mut options, &file.driver);
            let driver = Driver::with(world, options.clone()).await;
            stage.places.push(Place {
                driver,
                options,
                sidecar: None,
            });
        }
        stage.nodes(&file.nodes).await;
        // A snapshot comes before its content, which has its UID.
        stage.create(&file.objects).await;
        if !file.pod.idle {
            stage.start().await;
        }
        stage
    }

    /// The name that all drivers of the scenario have.
    pub(super) fn driver(&self) -> &str {
        &self.places[0].driver.name
    }

    pub(super) async fn start(&mut self) {
        let is_measured = self
            .file
            .steps
            .iter()
            .any(|step| matches!(step, Step::Metrics(_) | Step::Pages(_)));
        let mut flags: Vec<_> = self.file.flags.iter().map(String::as_str).collect();
        if is_measured {
            flags.push("--http-endpoint=127.0.0.1:0");
        }
        let owner = match self.file.pod.owned {
            true => Some(self.world.replica_set().await),
            false => None,
        };
        if let Some(uid) = &owner {
            self.seen.call(uid, "<uid of owner>");
        }
        let without: Vec<_> = self.file.pod.without.iter().map(String::as_str).collect();
        let shape = Shape {
            owner: owner.as_deref(),
            without: &without,
        };
        let mut pods = Vec::new();
        for place in &mut self.places {
            let pod = match &place.driver.node {
                None => "sidecar-0".to_owned(),
                Some(node) => node.replace(&self.world.namespace, "sidecar"),
            };
            let driver = &place.driver;
            let sidecar = Sidecar::start_in(self.world, self.binary, driver, &pod, &flags, shape).await;
            let uid = self.world.pod_uid(&pod).await;
            pods.push((uid, format!("<uid of {pod}>")));
            place.sidecar = Some(sidecar);
        }
        if flags.contains(&"--leader-election") {
            let leader = self.world.new_leader(self.driver(), None, SOON).await;
            self.seen.call(&leader, "<leader>");
        }
        // After the leader, whose name may have the UID of its Pod.
        for (uid, name) in pods {
            self.seen.call(&uid, &name);
        }
    }

    /// Keys that no other scenario has.
    pub(super) fn labels(&self, short: &BTreeMap<String, String>) -> Labels {
        let label = |(key, value): (&String, &String)| (self.key(key), self.text(value));
        short.iter().map(label).collect()
    }

    fn key(&self, short: &str) -> String {
        format!("{}.example.com/{short}", self.world.namespace)
    }

    fn lay_over(&self, options: &mut Options, file: &DriverFile) {
        if let Some(segments) = &file.segments {
            let segments = segments.iter().map(|segment| Segment {
                labels: self.labels(&segment.at),
                bytes: segment.gib.map(|gib| gib * GIB),
                volumes: None,
            });
            // The driver of a node knows what is there.
            let here = |segment: &Segment| {
                options
                    .node
                    .as_ref()
                    .is_none_or(|node| node.labels == segment.labels)
            };
            options.segments = segments.filter(here).collect();
        }
        if let Some(script) = &file.script {
            let expand = |value: &Option<Value>| value.as_ref().map(|value| self.expand(value));
            options.script = script.clone();
            for upset in &mut options.script {
                upset.when = expand(&upset.when);
                upset.answer = expand(&upset.answer);
            }
        }
        options.without = file
            .without
            .clone()
            .unwrap_or(std::mem::take(&mut options.without));
        options.with = file.with.clone().unwrap_or(std::mem::take(&mut options.with));
    }

    pub(super) fn configure(&mut self, file: &DriverFile) {
        for index in 0..self.places.len() {
            let mut options = self.places[index].options.clone();
            self.lay_over(&mut options, file);
            self.places[index].driver.configure(&options);
            self.places[index].options = options;
        }
    }

    pub(super) async fn nodes(&self, nodes: &BTreeMap<String, NodeFile>) {
        for (name, node) in nodes {
            let labels = self.labels(&node.at);
            let keys = match &node.keys {
                Some(keys) => keys.iter().map(|key| self.key(key)).collect(),
                None => labels.keys().cloned().collect::<Vec<_>>(),
            };
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            let name = self.world.bare_node(name, &labels).await;
            match node.driver.as_deref() {
                None => self.world.register(&name, self.driver(), &keys).await,
                Some("") => {}
                Some(other) => self.world.register(&name, &self.text(other), &keys).await,
            }
        }
    }

    pub(super) fn text(&self, text: &str) -> String {
        let driver = self.places.first().map_or("", |place| &place.driver.name);
        self.seen.expand(text, driver)
    }

    pub(super) fn expand(&self, value: &Value) -> Value {
        serde_json::from_str(&self.text(&value.to_string())).unwrap()
    }

    /// By kind and name; a bare name is a claim, and a volume may be named by its claim. Other names across the cluster
    /// begin with the scenario's.
    pub(super) fn object(&self, what: &str) -> Object {
        let (kind, name) = what.split_once('/').unwrap_or(("PersistentVolumeClaim", what));
        let name = match kind {
            "PersistentVolume" => {
                let usual = |uid: &String| format!("pvc-{uid}");
                let volume = self.volumes.get(name).cloned();
                volume.or(self.claims.get(name).map(usual))
            }
            _ => None,
        }
        .unwrap_or_else(|| {
            let name = self.text(name);
            let is_whole = name.starts_with(&self.world.namespace) || name.starts_with("pvc-");
            if Object::is_namespaced(kind) || is_whole {
                name
            } else {
                format!("{}-{name}", self.world.namespace)
            }
        });
        Object::new(self.world, kind, &name)
    }

    pub(super) async fn create(&mut self, objects: &BTreeMap<String, Value>) {
        for (what, given) in objects {
            let (kind, name) = what
                .split_once('/')
                .unwrap_or_else(|| panic!("{what}: kind and name"));
            let mut object = usual(kind, name, &self.world.namespace, self.driver());
            json_patch::merge(&mut object, given);
            let created = self.object(what).create(self.expand(&object)).await;
            self.seen
                .call(&created.uid().unwrap(), &format!("<uid of {what}>"));
        }
    }

    /// Creates a claim of the file.
    pub(super) async fn claim(&mut self, name: &str) {
        let file = self.file;
        let claim = file
            .claims
            .get(name)
            .unwrap_or_else(|| panic!("there is no claim {name}"));
        let claim = self.expand(&self.manifest(name, claim));
        let claim: PersistentVolumeClaim = serde_json::from_value(claim).unwrap();
        let claims = &self.world.claims;
        let created = claims.create(&PostParams::default(), &claim).await;
        let uid = created
            .unwrap_or_else(|error| panic!("claim {name}: {error}"))
            .uid()
            .unwrap();
        self.seen.call(&uid, &format!("<uid of {name}>"));
        let digits = uid.replace('-', "");
        for flag in &file.flags {
            if let Some(length) = flag.strip_prefix("--volume-name-uuid-length=") {
                let start = &digits[..length.parse().unwrap()];
                self.seen
                    .call(start, &format!("<uid of {name}, {length} digits>"));
            }
        }
        self.claims.insert(name.to_owned(), uid);
    }

    fn manifest(&self, name: &str, claim: &ClaimFile) -> Value {
        let mut spec = json!({
            "accessModes": claim.modes.clone().unwrap_or(vec!["ReadWriteOnce".to_owned()]),
            "resources": {"requests": {"storage": claim.size.as_deref().unwrap_or("1Gi")}},
        });
        if let Some(class) = &claim.class {
            spec["storageClassName"] = json!(format!("<world>-{class}"));
        }
        if let Some((kind, source)) = claim.from.as_ref().and_then(|from| from.split_once('/')) {
            spec["dataSource"] = json!({"kind": kind, "name": source});
            if kind == "VolumeSnapshot" {
                spec["dataSource"]["apiGroup"] = json!("snapshot.storage.k8s.io");
            }
        }
        json_patch::merge(
            &mut spec,
            &match &claim.spec {
                Value::Null => json!({}),
                more => more.clone(),
            },
        );
        let mut annotations: Map<String, Value> = Map::new();
        annotations.extend(
            claim
                .node
                .iter()
                .map(|node| (SELECTED.to_owned(), json!(self.world.node_name(node)))),
        );
        annotations.extend(
            claim
                .annotations
                .iter()
                .map(|(key, value)| (key.clone(), json!(value))),
        );
        json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec})
    }
}
