//! Ways to the API server: what the kubelet mounts, and `KUBECONFIG`.

use std::{path::PathBuf, time::Duration};

use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Access, Sidecar, under_test},
    world::{SOON, World},
};

/// The ServiceAccount's files where the kubelet mounts them and the variables that it sets, under the rights that upstream's
/// manifests give: swapped in where upstream ran with `--csi-address` and `--timeout=150s` and nothing else.
pub(crate) async fn in_cluster(cluster: &'static Cluster) {
    let world = World::new(cluster, "in-cluster", Rights::Upstream).await;
    works(&world, Access::Mounted, &["--timeout=150s"]).await;
}

/// A proxy on the way, which is asked with a password to connect to the name, and TLS through it.
pub(crate) async fn c19_proxied(cluster: &'static Cluster) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    let server = config.clusters[0]
        .cluster
        .as_ref()
        .unwrap()
        .server
        .clone()
        .unwrap();
    let server = server.strip_prefix("https://").unwrap().to_owned();
    let proxy = tokio::spawn(async move {
        let mut tunnels = JoinSet::new();
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let server = server.clone();
            tunnels.spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let asked = head.starts_with("CONNECT kubernetes.default.svc:")
                    && head.contains("Proxy-Authorization: Basic am9lOnBAc3M=\r\n");
                if !asked {
                    return client.write_all(b"HTTP/1.1 407 No\r\n\r\n").await;
                }
                let mut server = TcpStream::connect(&*server).await?;
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                copy_bidirectional(&mut client, &mut server).await.map(drop)
            });
        }
    });
    let world = World::new(cluster, "proxied", Rights::Ours).await;
    works(&world, Access::Proxied(address), &["--leader-election"]).await;
    proxy.abort();
}

/// `KUBECONFIG` wins over the flag, which names nothing that is there.
pub(crate) async fn variable(cluster: &'static Cluster) {
    let world = World::new(cluster, "variable", Rights::Ours).await;
    works(&world, Access::Variable, &["--leader-election"]).await;
}

async fn works(world: &World, access: Access, flags: &[&str]) {
    let driver = Driver::start(world, Duration::ZERO).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let sidecar = Sidecar::start_by(world, under_test(), &driver, "sidecar-0", flags, access).await;
    world.claim("data", &class).await;
    let volume = world.bound("data", SOON).await;
    world.delete_claim("data").await;
    world.gone(&volume, SOON).await;
    sidecar.assert_runs();
}

/// Writes the files of a ServiceAccount that we need (not its namespace), and gives their folder and the two
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
