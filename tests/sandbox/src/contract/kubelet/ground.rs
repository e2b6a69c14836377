//! What a case stands on: the kubelet under test, and what it has written.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::Node,
    storage::v1::{CSINode, CSINodeDriver},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    Target,
    plugin::{Call, Heard, Plugin},
};
use crate::kubelet::NODE_ID;

/// Of the names of all drivers.
const DOMAIN: &str = "contract.example.com";
/// What a busy machine may add to the kubelet's own pace.
const SLACK: Duration = Duration::from_secs(10);

/// See the module. Clones share everything.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) target: Arc<Target>,
    made: Arc<AtomicUsize>,
}

impl Ground {
    pub(crate) fn new(target: Target) -> Self {
        Self {
            target: Arc::new(target),
            made: Arc::default(),
        }
    }

    /// A driver of its own name.
    pub(crate) fn plugin(&self) -> Result<Plugin, String> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let name = format!("d{number}-{}.{DOMAIN}", std::process::id());
        let socket = self.target.registry.join(format!("{name}-reg.sock"));
        let endpoint = self.target.plugins.join(format!("{name}.sock"));
        Plugin::new(name, socket, endpoint).map_err(|error| error.to_string())
    }

    pub(crate) fn ticks(&self, count: u32) -> Duration {
        self.target.tick * count
    }

    /// How long to wait for what takes this many ticks.
    pub(crate) fn limit(&self, ticks: u32) -> Duration {
        self.ticks(ticks) + SLACK
    }

    /// Time for the kubelet to do what it should not.
    pub(crate) async fn quiet(&self) {
        sleep(self.ticks(4)).await;
    }

    /// Waits until a plugin has been told for this many times that it is registered.
    pub(crate) async fn registered(&self, plugin: &Plugin, times: usize) -> Result<Vec<Heard>, String> {
        let is = |call: &Call| *call == Call::Registered;
        plugin.wait("registered", self.limit(8), times, is).await
    }

    /// Waits until a plugin has been refused this many times.
    pub(crate) async fn refused(&self, plugin: &Plugin, times: usize) -> Result<Vec<Heard>, String> {
        let is = |call: &Call| matches!(call, Call::Refused(_));
        plugin.wait("refused", self.limit(12), times, is).await
    }

    async fn node(&self) -> Result<Node, String> {
        let nodes: Api<Node> = Api::all(self.target.client.clone());
        nodes
            .get(&self.target.node)
            .await
            .map_err(|error| error.to_string())
    }

    /// The entry of a driver in the CSINode.
    pub(crate) async fn entry(&self, driver: &str) -> Result<Option<CSINodeDriver>, String> {
        let csi_nodes: Api<CSINode> = Api::all(self.target.client.clone());
        let csi_node = csi_nodes.get(&self.target.node).await;
        let drivers = csi_node.map_err(|error| error.to_string())?.spec.drivers;
        Ok(drivers.into_iter().find(|it| it.name == driver))
    }

    /// What the Node says that a driver calls it.
    pub(crate) async fn node_id(&self, driver: &str) -> Result<Option<String>, String> {
        let annotations = self.node().await?.metadata.annotations.unwrap_or_default();
        let Some(ids) = annotations.get(NODE_ID) else {
            return Ok(None);
        };
        let mut ids: BTreeMap<String, String> =
            serde_json::from_str(ids).map_err(|error| format!("{ids}: {error}"))?;
        Ok(ids.remove(driver))
    }

    /// A label of the Node.
    pub(crate) async fn label(&self, key: &str) -> Result<Option<String>, String> {
        let mut labels = self.node().await?.metadata.labels.unwrap_or_default();
        Ok(labels.remove(key))
    }

    /// Waits until neither Node nor CSINode know a driver.
    pub(crate) async fn gone(&self, driver: &str) -> Result<(), String> {
        let (begun, limit) = (Instant::now(), self.limit(8));
        loop {
            let left = (self.entry(driver).await?, self.node_id(driver).await?);
            if left == (None, None) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(format!("after {limit:?} there still are {left:?}"));
            }
            sleep(self.target.tick / 4).await;
        }
    }

    /// Takes the labels off that the cases have left.
    pub(crate) async fn clean(&self) -> Result<(), String> {
        let labels = self.node().await?.metadata.labels.unwrap_or_default();
        let ours = labels.into_keys().filter(|key| key.contains(DOMAIN));
        let labels: serde_json::Map<_, _> = ours.map(|key| (key, Value::Null)).collect();
        let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
        let nodes: Api<Node> = Api::all(self.target.client.clone());
        let patched = nodes
            .patch(&self.target.node, &PatchParams::default(), &patch)
            .await;
        patched.map(drop).map_err(|error| error.to_string())
    }
}
