//! What a world has for topology: nodes, what is registered on them, pods.

use serde_json::{Value, json};

use crate::{World, binder};

impl World {
    /// A Node with these labels, on which the world's driver is registered with their keys.
    pub fn node(self, name: &str, labels: &[(&str, &str)]) -> Self {
        self.add_node(name, labels);
        let keys: Vec<_> = labels.iter().map(|(key, _)| *key).collect();
        self.register(name, &keys);
        self
    }

    /// A Node with these labels that comes while the world is running; no driver is registered on it.
    pub fn add_node(&self, name: &str, labels: &[(&str, &str)]) {
        let mut node = json!({"metadata": {"name": name}});
        for (key, value) in labels {
            node["metadata"]["labels"][*key] = (*value).into();
        }
        self.api.create("nodes", "", node);
    }

    /// A Node goes, and its CSINode with it.
    pub fn remove_node(&self, name: &str) {
        self.api.delete("nodes", "", name);
        self.api.delete("csinodes", "", name);
    }

    /// Sets or takes off a label of a Node.
    pub fn label(&self, node: &str, key: &str, value: Option<&str>) {
        self.api.edit("nodes", "", node, |node| {
            let labels = &mut node["metadata"]["labels"];
            match value {
                Some(value) => labels[key] = value.into(),
                None => drop(labels.as_object_mut().and_then(|labels| labels.remove(key))),
            }
        });
    }

    /// The node plugin of the world's driver registers with these topology keys, anew if it was there.
    pub fn register(&self, node: &str, keys: &[&str]) {
        let name = self.driver_name();
        if self.api.get("csinodes", "", node).is_none() {
            let empty = json!({"metadata": {"name": node}, "spec": {"drivers": []}});
            self.api.create("csinodes", "", empty);
        }
        self.edit_drivers(node, |drivers| {
            drivers.retain(|driver| driver["name"] != name);
            drivers.push(json!({"name": name, "nodeID": node, "topologyKeys": keys}));
        });
    }

    /// The node plugin is gone; the CSINode stays.
    pub fn unregister(&self, node: &str) {
        let name = self.driver_name();
        self.edit_drivers(node, |drivers| drivers.retain(|driver| driver["name"] != name));
    }

    fn edit_drivers(&self, node: &str, edit: impl FnOnce(&mut Vec<Value>)) {
        self.api.edit("csinodes", "", node, |csi| {
            if csi["spec"]["drivers"].is_null() {
                csi["spec"]["drivers"] = json!([]);
            }
            if let Some(drivers) = csi["spec"]["drivers"].as_array_mut() {
                edit(drivers);
            }
        });
    }

    /// The CSIDriver of the world's driver; with `capacity` the scheduler looks at what is published.
    pub fn csi_driver(self, capacity: bool) -> Self {
        let driver = json!({"metadata": {"name": self.driver_name()}, "spec": {"storageCapacity": capacity}});
        self.api.create("csidrivers", "", driver);
        self
    }

    /// A pod that uses these claims.
    pub fn pod(self, namespace: &str, name: &str, claims: &[&str]) -> Self {
        self.add_pod(namespace, name, claims);
        self
    }

    /// A pod that comes while the world is running; gives its UID.
    pub fn add_pod(&self, namespace: &str, name: &str, claims: &[&str]) -> String {
        let volume = |claim: &&str| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}});
        let pod = json!({
            "metadata": {"name": name},
            "spec": {
                "containers": [{"name": "main", "image": "example.com/main"}],
                "volumes": claims.iter().map(volume).collect::<Vec<_>>(),
            },
        });
        let made = self.api.create("pods", namespace, pod);
        made["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
    }

    /// The node that a pod is bound to, empty while there is none.
    pub fn pod_node(&self, namespace: &str, name: &str) -> String {
        let pod = self.api.get("pods", namespace, name).unwrap_or_default();
        binder::text(&pod, "/spec/nodeName").to_owned()
    }

    /// The node that the scheduler has named on a claim, empty while there is none.
    pub fn selected_node(&self, namespace: &str, claim: &str) -> String {
        let claim = self.api.get(binder::CLAIMS, namespace, claim).unwrap_or_default();
        binder::annotation(&claim, binder::SELECTED_NODE).to_owned()
    }
}
