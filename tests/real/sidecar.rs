//! A provisioner as a process: ours, or upstream's beside it.

use std::{net::SocketAddr, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::PostParams};
use serde_json::json;

use crate::{access, built::built, driver::Driver, supervisor::Process, world::World};

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Binary {
    Ours,
    Upstream,
}

/// The binary that the scenarios are about.
pub(crate) fn under_test() -> Binary {
    match std::env::var("SIDECAR").as_deref() {
        Ok("upstream") => Binary::Upstream,
        Ok("ours") | Err(_) => Binary::Ours,
        Ok(other) => panic!("SIDECAR is {other:?}, it must be ours or upstream"),
    }
}

/// Whether the figures of ours are those of a build that is shipped.
pub(crate) fn is_release() -> bool {
    std::env::var_os("SIDECARS").is_some() || !cfg!(debug_assertions)
}

/// How the sidecar is told where the API server is.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    /// `--kubeconfig`
    Flag,
    /// `KUBECONFIG`, beside a flag that names no file.
    Variable,
    /// By the files and variables that a container gets, and no flag.
    Mounted,
    /// The same through a proxy at this address, under the name that a cluster gives its API server.
    Proxied(SocketAddr),
}

/// What a Pod may have, or not.
#[derive(Clone, Copy, Default)]
pub(crate) struct Shape<'a> {
    /// The UID of the ReplicaSet that controls it.
    pub(crate) owner: Option<&'a str>,
    /// Variables that it does not set.
    pub(crate) without: &'a [&'a str],
}

pub(crate) struct Sidecar {
    pub(crate) process: Process,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    pod: String,
}

impl Sidecar {
    /// Starts it under a token bound to a Pod of this name, which exists as an
    /// object only: what the sidecar may do and who it is are real.
    pub(crate) async fn start(
        world: &World,
        binary: Binary,
        driver: &Driver,
        pod: &str,
        flags: &[&str],
    ) -> Self {
        Self::start_by(world, binary, driver, pod, flags, Access::Flag).await
    }

    /// The same in a Pod that is not like the others.
    pub(crate) async fn start_in(
        world: &World,
        binary: Binary,
        driver: &Driver,
        pod: &str,
        flags: &[&str],
        shape: Shape<'_>,
    ) -> Self {
        Self::start_so(world, binary, driver, pod, flags, Access::Flag, shape).await
    }

    /// The same with another way to the API server.
    pub(crate) async fn start_by(
        world: &World,
        binary: Binary,
        driver: &Driver,
        pod: &str,
        flags: &[&str],
        access: Access,
    ) -> Self {
        Self::start_so(world, binary, driver, pod, flags, access, Shape::default()).await
    }

    async fn start_so(
        world: &World,
        binary: Binary,
        driver: &Driver,
        pod: &str,
        flags: &[&str],
        access: Access,
        shape: Shape<'_>,
    ) -> Self {
        let owner = |uid: &str| json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "owner", "uid": uid, "controller": true});
        let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
        let object: Pod = serde_json::from_value(json!({
            "metadata": {"name": pod, "ownerReferences": shape.owner.map(owner).into_iter().collect::<Vec<_>>()},
            "spec": {
                "serviceAccountName": world.account,
                // The scheduler leaves such a Pod alone.
                "schedulingGates": [{"name": "volwright.dev/never"}],
                "containers": [{"name": "csi-provisioner", "image": "none"}],
            },
        }))
        .unwrap();
        let object = pods.create(&PostParams::default(), &object).await.unwrap();
        let kubeconfig = world
            .cluster
            .kubeconfig_of(&world.client, &world.account, &object)
            .await;

        let program = match binary {
            Binary::Ours => built("csi-provisioner"),
            Binary::Upstream => world
                .cluster
                .bin
                .join("upstream-provisioner")
                .to_str()
                .unwrap()
                .to_owned(),
        };
        let mut argv = Vec::new();
        if binary == Binary::Upstream && flags.contains(&"--leader-election") {
            // Upstream calls itself by the host's name, so that two of them on one
            // host would both lead: each gets a name of its own, as in a Pod.
            argv.extend(
                [
                    "unshare",
                    "--map-root-user",
                    "--uts",
                    "sh",
                    "-c",
                    "hostname \"$0\"; exec \"$@\"",
                    pod,
                ]
                .map(String::from),
            );
        }
        let mut env = vec![
            ("POD_NAME".to_owned(), pod.to_owned()),
            ("POD_NAMESPACE".to_owned(), world.namespace.clone()),
            ("NAMESPACE".to_owned(), world.namespace.clone()),
        ];
        env.extend(driver.node.clone().map(|node| ("NODE_NAME".to_owned(), node)));
        env.retain(|(name, _)| !shape.without.contains(&name.as_str()));
        let mut told = None;
        match access {
            Access::Flag => told = Some(format!("--kubeconfig={}", kubeconfig.display())),
            Access::Variable => {
                told = Some("--kubeconfig=/nowhere".to_owned());
                env.push(("KUBECONFIG".to_owned(), kubeconfig.display().to_string()));
            }
            Access::Mounted | Access::Proxied(_) => {
                let (dir, variables) = access::mounted(world, &kubeconfig).await;
                env.extend(variables);
                if let Access::Proxied(proxy) = access {
                    let url = format!("http://joe:p%40ss@{proxy}");
                    env.push(("HTTPS_PROXY".to_owned(), url));
                    // The last of two counts.
                    env.push((
                        "KUBERNETES_SERVICE_HOST".to_owned(),
                        "kubernetes.default.svc".to_owned(),
                    ));
                }
                // A folder of its own over /run, seen by nobody else.
                let mount = "run=$(readlink -f /var/run); mount -t tmpfs tmpfs \"$run\"; \
                     mkdir -p \"$run/secrets/kubernetes.io\"; \
                     cp -r \"$0\" \"$run/secrets/kubernetes.io/serviceaccount\"; exec \"$@\"";
                argv.extend(["unshare", "--map-root-user", "--mount", "sh", "-ec", mount].map(String::from));
                argv.push(dir.display().to_string());
            }
        }
        argv.push(program);
        argv.extend(told);
        argv.push(format!("--csi-address={}", driver.socket.display()));
        argv.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Self::run(world, argv, env, pod.to_owned())
    }

    /// Starts it once more after its end, as the kubelet starts a container again in the same Pod.
    pub(crate) fn again(self, world: &World) -> Self {
        Self::run(world, self.argv.clone(), self.env.clone(), self.pod.clone())
    }

    fn run(world: &World, argv: Vec<String>, env: Vec<(String, String)>, pod: String) -> Self {
        let supervisor = &world.cluster.supervisor;
        let log = supervisor.dir.join(format!("{}-{pod}.log", world.namespace));
        let process = supervisor.run(&argv, &env, log);
        Self {
            process,
            argv,
            env,
            pod,
        }
    }

    /// Waits until the process has ended by itself and gives its exit code.
    pub(crate) async fn ended(&self, limit: Duration) -> i32 {
        self.process.ended(limit).await
    }

    pub(crate) fn assert_runs(&self) {
        self.process.assert_runs();
    }
}
