//! Runs the contract suite against a real API server.
//!
//! `contract KUBECONFIG STRANGER TOKEN [COMMAND]`: the kubeconfig of an administrator, the name and the token of a user
//! without rights, and a command that compacts etcd and starts kube-apiserver anew.

use sandbox::contract;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("missing argument: {what}"));
    let (kubeconfig, stranger_name, token) = (next("KUBECONFIG")?, next("STRANGER")?, next("TOKEN")?);
    let forget = next("COMMAND").ok();

    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    // A 504 is an answer to check here, not a reason to ask again.
    config.default_retry = false;
    let with_token = |token: &str| {
        let mut config = config.clone();
        config.auth_info = kube::config::AuthInfo::default();
        config.auth_info.token = Some(token.to_owned().into());
        kube::Client::try_from(config)
    };
    let target = contract::Target {
        admin: kube::Client::try_from(config.clone())?,
        stranger: with_token(&token)?,
        stranger_name,
        nobody: with_token("unknown")?,
        expire: forget.map(|forget| -> contract::Expire {
            Box::new(move || {
                let forget = forget.clone();
                Box::pin(async move {
                    let status = tokio::process::Command::new("sh")
                        .args(["-c", &forget])
                        .status()
                        .await;
                    assert!(status.is_ok_and(|status| status.success()), "{forget} failed");
                })
            })
        }),
        install: None,
        patient: true,
    };
    let (ran, failed) = contract::run(target).await;
    for (name, why) in &failed {
        println!("{name}:\n    {why}");
    }
    println!("{} passed, {} failed", ran - failed.len(), failed.len());
    if failed.is_empty() {
        Ok(())
    } else {
        Err("the contract does not hold".into())
    }
}
