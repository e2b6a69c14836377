//! Ways to the API server: what the kubelet mounts, and `KUBECONFIG`.

use std::{path::PathBuf, time::Duration};

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::{
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Access, Sidecar, under_test},
    world::{SOON, World},
};

/// The ServiceAccount's files where the kubelet mounts them, the variables that
/// it sets, and no flag.
pub(crate) async fn in_cluster(cluster: &'static Cluster) {
    works(cluster, "in-cluster", Access::Mounted).await;
}

/// `KUBECONFIG` wins over the flag, which names nothing that is there.
pub(crate) async fn variable(cluster: &'static Cluster) {
    works(cluster, "variable", Access::Variable).await;
}

async fn works(cluster: &'static Cluster, name: &str, access: Access) {
    let world = World::new(cluster, name, Rights::Ours).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let flags = ["--leader-election"];
    let sidecar = Sidecar::start_by(&world, under_test(), &driver, "sidecar-0", &flags, access).await;
    world.claim("data", &class).await;
    let volume = world.bound("data", SOON).await;
    world.delete_claim("data").await;
    world.gone(&volume, SOON).await;
    sidecar.assert_runs();
}

/// Writes the files of a ServiceAccount, and gives their folder and the two
/// variables that say where the API server is.
pub(crate) async fn mounted(world: &World, kubeconfig: &PathBuf) -> (PathBuf, [(String, String); 2]) {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let authority = read.clusters[0].cluster.as_ref().unwrap();
    let authority = authority.certificate_authority.clone().unwrap();
    let user = read.auth_infos[0].auth_info.as_ref().unwrap();
    let token = user.token_file.clone().unwrap();
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .unwrap();

    let dir = world
        .cluster
        .supervisor
        .dir
        .join(format!("{}-account", world.namespace));
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(authority, dir.join("ca.crt")).unwrap();
    std::fs::copy(token, dir.join("token")).unwrap();
    std::fs::write(dir.join("namespace"), &world.namespace).unwrap();
    let variable = |name: &str, value: String| (format!("KUBERNETES_SERVICE_{name}"), value);
    let url = config.cluster_url;
    (
        dir,
        [
            variable("HOST", url.host().unwrap().to_owned()),
            variable("PORT", url.port_u16().unwrap().to_string()),
        ],
    )
}
