//! What kube-scheduler decides by: nodes, what a driver registers on them, Pods. Nobody runs the nodes; they are
//! objects as a kubelet would keep them.
//!
//! All scenarios share the cluster's nodes, and several of them run at once. So names, label keys and Pods are those
//! of one world, and a Pod can only come to a node of its own world.

use k8s_openapi::{
    api::apps::v1::ReplicaSet,
    api::core::v1::{Node, Pod},
    api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    driver::{Driver, Labels},
    world::{SOON, World, eventually, text},
};

/// Each node has it, with the namespace of its world.
const SCENARIO: &str = "volwright.dev/scenario";

impl World {
    /// Labels under keys that no other world has: `zone` stands for `<namespace>.example.com/zone`.
    pub(crate) fn labels<const N: usize>(&self, pairs: [(&str, &str); N]) -> Labels {
        let label = |(key, value): (&str, &str)| {
            let key = format!("{}.example.com/{key}", self.namespace);
            (key, value.to_owned())
        };
        pairs.into_iter().map(label).collect()
    }

    /// The name of a node across the cluster.
    pub(crate) fn node_name(&self, name: &str) -> String {
        format!("{}-{name}", self.namespace)
    }

    /// A ready node with these labels, on which the driver is registered with their keys; gives its name.
    pub(crate) async fn node(&self, name: &str, driver: &str, labels: &Labels) -> String {
        let node = self.bare_node(name, labels).await;
        let keys: Vec<_> = labels.keys().map(String::as_str).collect();
        self.register(&node, driver, &keys).await;
        node
    }

    /// A ready node with these labels and no driver; gives its name.
    pub(crate) async fn bare_node(&self, name: &str, labels: &Labels) -> String {
        let name = self.node_name(name);
        let mut all = labels.clone();
        all.insert(SCENARIO.to_owned(), self.namespace.clone());
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": all},
            "status": {
                "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }))
        .unwrap();
        Api::all(self.client.clone())
            .create(&PostParams::default(), &node)
            .await
            .unwrap();
        name
    }

    /// What the kubelet writes when this driver, and no other, is there; the name is that across the cluster.
    pub(crate) async fn register(&self, node: &str, driver: &str, keys: &[&str]) {
        let drivers: CSINode = serde_json::from_value(json!({
            "metadata": {"name": node},
            "spec": {"drivers": [{"name": driver, "nodeID": node, "topologyKeys": keys}]},
        }))
        .unwrap();
        Api::all(self.client.clone())
            .create(&PostParams::default(), &drivers)
            .await
            .unwrap();
    }

    /// The capacity objects of this world that say that a provisioner of ours manages them.
    pub(crate) async fn capacities(&self) -> kube::Result<Vec<CSIStorageCapacity>> {
        let objects: Api<CSIStorageCapacity> = Api::namespaced(self.client.clone(), &self.namespace);
        let label = "csi.storage.k8s.io/managed-by";
        let list = objects.list(&ListParams::default().labels(label)).await?;
        let ours = |object: &CSIStorageCapacity| object.labels()[label].starts_with("external-provisioner");
        Ok(list.items.into_iter().filter(ours).collect())
    }

    /// Waits until the provisioner has taken away all of them.
    pub(crate) async fn no_capacities(&self) {
        eventually("no capacity is published", SOON, async || {
            match self.capacities().await.map_err(text)?.len() {
                0 => Ok(()),
                left => Err(format!("{left} objects")),
            }
        })
        .await;
    }

    /// What controls the Pod of a sidecar, and is itself controlled by a Deployment; gives its UID.
    pub(crate) async fn replica_set(&self) -> String {
        let labels = json!({"app": "sidecar"});
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": {
                "name": "owner",
                "ownerReferences": [{
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": "above",
                    "uid": "0a4c8d0e-58c1-4b0a-9a51-6a1f6a0f3b77",
                    "controller": true,
                }],
            },
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": "main", "image": "none"}]},
                },
            },
        }))
        .unwrap();
        let sets = Api::namespaced(self.client.clone(), &self.namespace);
        let set: ReplicaSet = sets.create(&PostParams::default(), &set).await.unwrap();
        set.uid().unwrap()
    }

    /// The node goes, and what was registered on it; the name is that across the cluster.
    /// Makes a node of the cluster one of this world, besides: its Pods may come there.
    pub(crate) async fn adopt(&self, node: &str) {
        let label = json!({"metadata": {"labels": {SCENARIO: self.namespace}}});
        Api::<Node>::all(self.client.clone())
            .patch(node, &PatchParams::default(), &Patch::Merge(label))
            .await
            .unwrap();
    }

    pub(crate) async fn delete_node(&self, name: &str) {
        let (nodes, drivers): (Api<Node>, Api<CSINode>) =
            (Api::all(self.client.clone()), Api::all(self.client.clone()));
        nodes.delete(name, &DeleteParams::default()).await.unwrap();
        drivers.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// The CSIDriver object, by which the scheduler knows whether to look at capacities.
    pub(crate) async fn csi_driver(&self, driver: &Driver, storage_capacity: bool) {
        let object: CSIDriver = serde_json::from_value(json!({
            "metadata": {"name": driver.name},
            "spec": {"attachRequired": false, "storageCapacity": storage_capacity},
        }))
        .unwrap();
        Api::all(self.client.clone())
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    /// A Pod with these claims that the scheduler may put on any node of this world that has these labels.
    pub(crate) async fn pod(&self, name: &str, claims: &[&str], labels: &Labels) {
        let mut selector = labels.clone();
        selector.insert(SCENARIO.to_owned(), self.namespace.clone());
        let volumes: Vec<Value> = claims
            .iter()
            .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
            .collect();
        // A kubelet mounts only what a container has.
        let mounts: Vec<Value> = claims
            .iter()
            .map(|claim| json!({"name": claim, "mountPath": format!("/{claim}")}))
            .collect();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                // Admission gives each new node this taint; who takes it off does not run.
                "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}],
                "nodeSelector": selector,
                "containers": [{"name": "main", "image": "none", "volumeMounts": mounts}],
                "volumes": volumes,
            },
        }))
        .unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    pub(crate) async fn pod_uid(&self, name: &str) -> String {
        self.pods().get(name).await.unwrap().uid().unwrap()
    }

    /// Waits until the scheduler has put the Pod on a node, and gives that.
    pub(crate) async fn placed(&self, pod: &str) -> String {
        eventually(&format!("Pod {pod} is on a node"), SOON, async || {
            let pod = self.pods().get(pod).await.map_err(text)?;
            let conditions = pod.status.and_then(|status| status.conditions);
            let node = pod.spec.and_then(|spec| spec.node_name);
            node.ok_or_else(|| format!("{conditions:?}"))
        })
        .await
    }

    /// Waits until the scheduler says of the Pod that it fits nowhere, with this text.
    pub(crate) async fn unschedulable(&self, pod: &str, text_part: &str) {
        eventually(
            &format!("Pod {pod} is unschedulable: {text_part}"),
            SOON,
            async || {
                let pod = self.pods().get(pod).await.map_err(text)?;
                let conditions = pod.status.and_then(|status| status.conditions);
                let says = |message: Option<&str>| message.is_some_and(|it| it.contains(text_part));
                let mut all = conditions.iter().flatten();
                match all.any(|it| it.type_ == "PodScheduled" && says(it.message.as_deref())) {
                    true => Ok(()),
                    false => Err(format!("{conditions:?}")),
                }
            },
        )
        .await;
    }

    /// The Pods of this world that are on a node.
    pub(crate) async fn all_placed(&self) -> Vec<String> {
        let pods = self.pods().list(&ListParams::default()).await.unwrap();
        let placed = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
        pods.iter()
            .filter(|pod| placed(pod))
            .map(ResourceExt::name_any)
            .collect()
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
