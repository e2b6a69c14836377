//! The kubelet double: that it keeps the contract of a kubelet, and that it misbehaves as it is told.

use std::{sync::Arc, time::Duration};

use futures::lock::Mutex;
use sandbox::{
    ADMIN, Api, Kubelet,
    contract::kubelet::{Target, run},
    kubelet::Options,
};

const TICK: Duration = Duration::from_millis(100);

fn options(folder: &std::path::Path) -> Options {
    Options {
        tick: TICK,
        ..Options::new(&folder.join("registry"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_double_keeps_the_contract_of_a_kubelet() {
    let folder = tempfile::tempdir().unwrap();
    let api = Api::new();
    let options = options(folder.path());
    let kubelet = Kubelet::start(&api, options.clone()).await.unwrap();
    let (running, client) = (Arc::new(Mutex::new(Some(kubelet))), api.client(ADMIN));
    let again = options.clone();
    let target = Target {
        registry: options.registry.clone(),
        plugins: folder.path().to_owned(),
        node: options.node.clone(),
        client,
        tick: TICK,
        restart: Some(Box::new(move || {
            let (running, api, again) = (running.clone(), api.clone(), again.clone());
            Box::pin(async move {
                let mut running = running.lock().await;
                if let Some(kubelet) = running.take() {
                    kubelet.stop().await;
                }
                *running = Some(Kubelet::start(&api, again).await.unwrap());
            })
        })),
    };
    let (ran, failed) = run(target).await;
    let failed: Vec<_> = failed
        .iter()
        .map(|(name, why)| format!("{name}:\n    {why}"))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {ran} cases failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}
