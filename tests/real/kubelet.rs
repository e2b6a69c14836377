//! A real kubelet without containers (tests/cluster/kubelet), on a node of its own, and our registrar beside it.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use k8s_openapi::api::{
    core::v1::Node,
    storage::v1::{CSINode, CSINodeDriver},
};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{
    built::built,
    cluster::Cluster,
    driver::Driver,
    supervisor::Process,
    world::{SOON, World, eventually, text},
};

/// The node that scenarios share; they differ by their drivers.
pub(crate) const NODE: &str = "real";

/// Stopped when it is dropped.
pub(crate) struct Kubelet {
    cluster: &'static Cluster,
    client: Client,
    /// The name of its node, across the cluster.
    pub(crate) name: &'static str,
    /// Held for writing by a scenario that stops it.
    turns: RwLock<()>,
}

impl Kubelet {
    /// The one that scenarios share, ready: the first who asks starts it, and it ends with the run.
    pub(crate) async fn shared(cluster: &'static Cluster) -> &'static Self {
        static SHARED: OnceCell<Kubelet> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::new(cluster, NODE)).await
    }

    /// One more, ready.
    pub(crate) async fn new(cluster: &'static Cluster, name: &'static str) -> Self {
        let kubelet = Self {
            cluster,
            client: cluster.client().await,
            name,
            turns: RwLock::new(()),
        };
        kubelet.start();
        eventually("the node is ready", SOON, async || {
            let node = kubelet.node().await?;
            let conditions = node.status.and_then(|status| status.conditions);
            let mut all = conditions.iter().flatten();
            match all.any(|it| it.type_ == "Ready" && it.status == "True") {
                true => Ok(()),
                false => Err(format!("{conditions:?}")),
            }
        })
        .await;
        kubelet
    }

    /// For a scenario that only uses it.
    pub(crate) async fn stays(&self) -> RwLockReadGuard<'_, ()> {
        self.turns.read().await
    }

    /// For a scenario that stops it.
    pub(crate) async fn may_stop(&self) -> RwLockWriteGuard<'_, ()> {
        self.turns.write().await
    }

    pub(crate) fn stop(&self) {
        self.ask("stop");
    }

    pub(crate) fn start(&self) {
        self.ask("start");
    }

    fn ask(&self, what: &str) {
        let process = format!("kubelet/{}", self.name);
        self.cluster.supervisor.plane(what, &process);
    }

    /// What it keeps over a restart.
    pub(crate) fn root(&self) -> PathBuf {
        self.cluster.supervisor.dir.join("n").join(self.name)
    }

    /// Where it looks for registration sockets.
    pub(crate) fn registry(&self) -> PathBuf {
        self.root().join("plugins_registry")
    }

    pub(crate) async fn node(&self) -> Result<Node, String> {
        Api::all(self.client.clone()).get(self.name).await.map_err(text)
    }

    /// What the Node says that its drivers call it: by their names.
    pub(crate) async fn node_ids(&self) -> Result<Value, String> {
        let node = self.node().await?;
        let annotation = node.annotations().get("csi.volume.kubernetes.io/nodeid");
        match annotation {
            Some(ids) => serde_json::from_str(ids).map_err(text),
            None => Ok(Value::Null),
        }
    }

    pub(crate) async fn drivers(&self) -> Result<Vec<CSINodeDriver>, String> {
        let node: CSINode = Api::all(self.client.clone()).get(self.name).await.map_err(text)?;
        Ok(node.spec.drivers)
    }

    /// Waits until this driver is registered with what `fits`, and gives that.
    pub(crate) async fn registers_with(
        &self,
        driver: &str,
        fits: impl Fn(&CSINodeDriver) -> bool,
    ) -> CSINodeDriver {
        eventually(&format!("{driver} is registered"), SOON, async || {
            let drivers = self.drivers().await?;
            let found = drivers.iter().find(|it| it.name == driver && fits(it));
            found.cloned().ok_or_else(|| format!("{drivers:?}"))
        })
        .await
    }

    pub(crate) async fn registers(&self, driver: &str) -> CSINodeDriver {
        self.registers_with(driver, |_| true).await
    }

    /// Waits until this driver is not known here any more, neither on the Node nor on the CSINode.
    pub(crate) async fn forgets(&self, driver: &str) {
        eventually(&format!("{driver} is not registered"), SOON, async || {
            let drivers = self.drivers().await?;
            let ids = self.node_ids().await?;
            match drivers.iter().any(|it| it.name == driver) || ids.get(driver).is_some() {
                true => Err(format!("{drivers:?}, {ids}")),
                false => Ok(()),
            }
        })
        .await;
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts our `csi-node-driver-registrar`, as it stands beside a driver on a node.
pub(crate) fn start_registrar(world: &World, kubelet: &Kubelet, driver: &Driver) -> Process {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let supervisor = &world.cluster.supervisor;
    let argv = [
        built("csi-node-driver-registrar"),
        format!("--csi-address={}", driver.socket.display()),
        format!("--kubelet-registration-path={}", driver.socket.display()),
        format!("--plugin-registration-path={}", kubelet.registry().display()),
        "--v=5".to_owned(),
    ];
    // A log for each start, so that it tells of that one only.
    let log = format!("registrar-{}.log", STARTED.fetch_add(1, Ordering::Relaxed));
    supervisor.run(&argv, &[], supervisor.dir.join(log))
}
