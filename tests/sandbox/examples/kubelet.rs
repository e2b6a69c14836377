//! Runs the cases of a kubelet against a real one on this machine.
//!
//! `kubelet KUBECONFIG NODE ROOT PLUGINS [COMMAND]`: the kubeconfig of an administrator, the kubelet's node and root
//! folder, a folder for the sockets of drivers, and a command that restarts the kubelet.

use std::{path::PathBuf, time::Duration};

use sandbox::contract::kubelet::{Restart, Target, run};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("missing argument: {what}"));
    let (kubeconfig, node) = (next("KUBECONFIG")?, next("NODE")?);
    let (root, plugins) = (PathBuf::from(next("ROOT")?), PathBuf::from(next("PLUGINS")?));
    let restart = next("COMMAND").ok();

    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let target = Target {
        registry: root.join("plugins_registry"),
        plugins,
        node,
        client: kube::Client::try_from(config)?,
        tick: Duration::from_secs(1),
        restart: restart.map(|restart| -> Restart {
            Box::new(move || {
                let restart = restart.clone();
                Box::pin(async move {
                    let status = tokio::process::Command::new("sh")
                        .args(["-c", &restart])
                        .status()
                        .await;
                    assert!(status.is_ok_and(|status| status.success()), "{restart} failed");
                })
            })
        }),
    };
    let (ran, failed) = run(target).await;
    for (name, why) in &failed {
        println!("FAILED {name}: {why}");
    }
    println!("{} of {ran} cases failed", failed.len());
    if failed.is_empty() {
        return Ok(());
    }
    Err("the kubelet and the cases do not agree".into())
}
