//! The cases that keep the sandbox honest, against the real API server: one of its own without controllers, because the
//! cases watch what they write themselves, and because it is made to forget.

use std::{sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use sandbox::contract::{self, Target};

use crate::{
    cluster::{self, Cluster},
    kubelet::Kubelet,
    supervisor::Supervisor,
};

pub(crate) async fn holds() {
    let programs = cluster::programs().unwrap();
    let plane = Arc::new(Supervisor::start(&programs.join("up"), &["-bare"]).unwrap());
    let config = async |user: &str| {
        let kubeconfig = Kubeconfig::read_from(&plane.kubeconfig).unwrap();
        let options = KubeConfigOptions {
            context: Some(user.to_owned()),
            ..Default::default()
        };
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        // A 504 is an answer to check here, not a reason to ask again.
        config.default_retry = false;
        config
    };
    let mut nobody = config("stranger").await;
    nobody.auth_info.token = Some("unknown".to_owned().into());

    let (crds, bare) = (programs.clone(), plane.kubeconfig.clone());
    let forgetful = Arc::clone(&plane);
    let target = Target {
        admin: Client::try_from(config("admin").await).unwrap(),
        stranger: Client::try_from(config("stranger").await).unwrap(),
        stranger_name: "stranger".into(),
        nobody: Client::try_from(nobody).unwrap(),
        expire: Some(Box::new(move || {
            let plane = Arc::clone(&forgetful);
            Box::pin(async move { plane.forget() })
        })),
        install: Some(Box::new(move || {
            cluster::install_crds(&crds, &bare).unwrap();
            Box::pin(async {})
        })),
        patient: true,
    };
    let (ran, failed) = contract::run(target).await;
    all_hold(ran, failed.iter().map(|(case, why)| format!("{case}: {why}")));
}

/// The cases that keep the sandbox's kubelet honest, against a real one, of its own because it gets killed.
pub(crate) async fn of_kubelet_holds(cluster: &'static Cluster) {
    let kubelet = Arc::new(Kubelet::new(cluster, "pact").await);
    let killed = Arc::clone(&kubelet);
    let target = contract::kubelet::Target {
        registry: kubelet.registry(),
        plugins: kubelet.root(),
        node: kubelet.name.into(),
        client: cluster.client().await,
        tick: Duration::from_secs(1),
        restart: Some(Box::new(move || {
            killed.stop();
            killed.start();
            Box::pin(async {})
        })),
    };
    let (ran, failed) = contract::kubelet::run(target).await;
    all_hold(ran, failed.iter().map(|(case, why)| format!("{case}: {why}")));
}

fn all_hold(ran: usize, failed: impl Iterator<Item = String>) {
    assert!(ran > 0);
    let failed: Vec<_> = failed.collect();
    assert!(
        failed.is_empty(),
        "{} of {ran} cases:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
