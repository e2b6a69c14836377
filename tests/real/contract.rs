//! The cases that keep the sandbox honest, against the real API server: one of its own without controllers, because the
//! cases watch what they write themselves, and because it is made to forget.

use std::sync::Arc;

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use sandbox::contract::{self, Target};

use crate::{cluster, supervisor::Supervisor};

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
    assert!(ran > 0);
    let failed: Vec<_> = failed
        .iter()
        .map(|(case, why)| format!("{case}: {why}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {ran} cases:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
