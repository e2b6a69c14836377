//! What the kubelet writes: the id, the labels and the CSINode of its node.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::Node,
        storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Step, Troubles};
use crate::driver::proto::NodeGetInfoResponse;

/// The annotation of a Node that says what each driver calls it.
pub(crate) const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";
/// Between the four tries of a write.
const WAITS: [u64; 3] = [10, 50, 250];

/// The node that a kubelet stands for.
#[derive(Clone)]
pub(crate) struct ThisNode {
    pub(crate) name: String,
    client: Client,
    troubles: Troubles,
}

impl ThisNode {
    pub(crate) fn new(name: &str, client: Client, troubles: Troubles) -> Self {
        let name = name.to_owned();
        Self {
            name,
            client,
            troubles,
        }
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    fn csi_nodes(&self) -> Api<CSINode> {
        Api::all(self.client.clone())
    }

    /// The Node and its CSINode exist.
    pub(crate) async fn begin(&self) -> Result<(), String> {
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..Default::default()
            },
            ..Default::default()
        };
        let known = self.nodes().get_opt(&self.name).await.map_err(text)?;
        if known.is_none() {
            self.nodes()
                .create(&PostParams::default(), &node)
                .await
                .map_err(text)?;
        }
        self.csi_node().await.map(drop)
    }

    /// A driver is on this node.
    pub(crate) async fn install(&self, driver: &str, info: &NodeGetInfoResponse) -> Result<(), String> {
        if info.node_id.is_empty() {
            return Err(format!("driver {driver} has no id for the node"));
        }
        let labels = info.accessible_topology.clone().unwrap_or_default().segments;
        self.identify(driver, Some(&info.node_id), &labels).await?;
        let most = i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX);
        let entry = CSINodeDriver {
            name: driver.to_owned(),
            node_id: info.node_id.clone(),
            topology_keys: (!labels.is_empty()).then(|| labels.keys().cloned().collect()),
            allocatable: (info.max_volumes_per_node > 0).then_some(VolumeNodeResources { count: Some(most) }),
        };
        self.list(driver, Some(&entry)).await
    }

    /// A driver is not on this node any more. Its labels stay.
    pub(crate) async fn uninstall(&self, driver: &str) -> Result<(), String> {
        self.list(driver, None).await?;
        self.identify(driver, None, &BTreeMap::new()).await
    }

    /// Sets or takes off what a driver calls the node, and adds labels.
    async fn identify(
        &self,
        driver: &str,
        id: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        for wait in WAITS {
            if self.try_identify(driver, id, labels).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(wait)).await;
        }
        self.try_identify(driver, id, labels).await
    }

    async fn try_identify(
        &self,
        driver: &str,
        id: Option<&str>,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        if id.is_some() {
            self.troubles.meet(Step::Node)?;
        }
        let node = self.nodes().get(&self.name).await.map_err(text)?;
        let annotations = node.metadata.annotations.unwrap_or_default();
        let present = node.metadata.labels.unwrap_or_default();
        let annotated = annotations.get(NODE_ID);
        let ids: Option<BTreeMap<String, String>> = annotated
            .map(|ids| serde_json::from_str(ids))
            .transpose()
            .map_err(|error| format!("annotation {NODE_ID} of node {}: {error}", self.name))?;
        let mut ids = ids.unwrap_or_default();
        for (key, value) in labels {
            if let Some(other) = present.get(key).filter(|it| *it != value) {
                return Err(format!(
                    "topology value collision: the driver says {key}={value}, the node {} has {key}={other}",
                    self.name
                ));
            }
        }
        match id {
            Some(id) => drop(ids.insert(driver.to_owned(), id.to_owned())),
            None => drop(ids.remove(driver)),
        }
        let written = match ids.is_empty() {
            true => Value::Null,
            false => json!(json!(ids).to_string()),
        };
        let patch = json!({"metadata": {
            "resourceVersion": node.metadata.resource_version, "labels": labels, "annotations": {NODE_ID: written},
        }});
        let labelled = labels.keys().all(|key| present.contains_key(key));
        if labelled && written.as_str() == annotated.map(String::as_str) {
            return Ok(());
        }
        let patched = self
            .nodes()
            .patch(&self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.map(drop).map_err(text)
    }

    /// Sets or takes off the entry of a driver in the CSINode.
    async fn list(&self, driver: &str, entry: Option<&CSINodeDriver>) -> Result<(), String> {
        for wait in WAITS {
            if self.try_list(driver, entry).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(wait)).await;
        }
        self.try_list(driver, entry).await
    }

    async fn try_list(&self, driver: &str, entry: Option<&CSINodeDriver>) -> Result<(), String> {
        if entry.is_some() {
            self.troubles.meet(Step::CsiNode)?;
        }
        let mut csi_node = self.csi_node().await?;
        let drivers = &mut csi_node.spec.drivers;
        let present = drivers.iter().find(|it| it.name == driver);
        if present == entry {
            return Ok(());
        }
        drivers.retain(|it| it.name != driver);
        drivers.extend(entry.cloned());
        let replaced = self
            .csi_nodes()
            .replace(&self.name, &PostParams::default(), &csi_node)
            .await;
        replaced.map(drop).map_err(text)
    }

    async fn csi_node(&self) -> Result<CSINode, String> {
        if let Some(known) = self.csi_nodes().get_opt(&self.name).await.map_err(text)? {
            return Ok(known);
        }
        let node = self.nodes().get(&self.name).await.map_err(text)?;
        let owner = OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: self.name.clone(),
            uid: node.metadata.uid.unwrap_or_default(),
            ..Default::default()
        };
        let csi_node = CSINode {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                owner_references: Some(vec![owner]),
                ..Default::default()
            },
            spec: CSINodeSpec::default(),
        };
        let made = self.csi_nodes().create(&PostParams::default(), &csi_node).await;
        made.map_err(text)
    }
}

fn text(error: kube::Error) -> String {
    error.to_string()
}
