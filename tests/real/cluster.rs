//! The one control plane of the run: started at first use, or the cluster that `TEST_KUBECONFIG` names.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use k8s_openapi::{
    api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    api::core::v1::{Pod, ServiceAccount},
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig, NamedAuthInfo},
};
use serde_json::{Value, json};

use crate::supervisor::Supervisor;

pub(crate) struct Cluster {
    /// Of [`programs`].
    pub(crate) bin: PathBuf,
    pub(crate) supervisor: Supervisor,
    /// Of an administrator.
    pub(crate) kubeconfig: PathBuf,
    rights: Mutex<BTreeMap<Rights, Vec<Value>>>,
}

/// Whose RBAC the sidecar's ServiceAccount gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rights {
    /// `manifests/`
    Ours,
    /// The same with these of its components.
    OursWith(&'static [&'static str]),
    /// The example in upstream's module, read where Go keeps it.
    Upstream,
}

static CLUSTER: OnceLock<Result<Cluster, String>> = OnceLock::new();

/// Where tests/cluster/build.sh puts the programs, once they are there.
pub(crate) fn programs() -> Result<PathBuf, String> {
    static PROGRAMS: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        let what = if is_given() { "small" } else { "all" };
        let printed = output(Command::new(sources().join("build.sh")).arg(what))?;
        Ok(PathBuf::from(printed.trim()))
    };
    PROGRAMS.get_or_init(build).clone()
}

/// Whether the user named a cluster.
pub(crate) fn is_given() -> bool {
    std::env::var_os("TEST_KUBECONFIG").is_some()
}

pub(crate) fn get() -> Result<&'static Cluster, String> {
    CLUSTER.get_or_init(Cluster::start).as_ref().map_err(Clone::clone)
}

pub(crate) fn stop() {
    if let Some(Ok(cluster)) = CLUSTER.get() {
        cluster.supervisor.stop();
    }
}

impl Cluster {
    fn start() -> Result<Self, String> {
        let given = std::env::var_os("TEST_KUBECONFIG").map(PathBuf::from);
        let bin = programs()?;
        let flag = if given.is_some() { "-none" } else { "-scheduler" };
        let supervisor = Supervisor::start(&bin.join("up"), &[flag])?;
        // A given cluster keeps what it has.
        if given.is_none() {
            install_crds(&bin, &supervisor.kubeconfig)?;
        }
        let kubeconfig = given.unwrap_or_else(|| supervisor.kubeconfig.clone());
        Ok(Self {
            bin,
            supervisor,
            kubeconfig,
            rights: Mutex::default(),
        })
    }

    /// An administrator's client, for the runtime that it is made in.
    pub(crate) async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    /// What it printed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_warns(arguments).map(|(printed, _)| printed)
    }

    /// What it printed, and what it said beside that on standard error, such as the API server's warnings.
    pub(crate) fn kubectl_warns(&self, arguments: &[&str]) -> Result<(String, String), String> {
        outputs(
            Command::new(self.bin.join("kubectl"))
                .env_remove("KUBECONFIG")
                .arg("--kubeconfig")
                .arg(&self.kubeconfig)
                .arg("--cache-dir")
                .arg(self.supervisor.dir.join("kubectl"))
                .args(arguments),
        )
    }

    /// The objects of these rights as they are in their source.
    pub(crate) fn rights(&self, rights: Rights) -> Vec<Value> {
        // Locked all the while: several kubectl would race for the cache of discovery.
        let mut known = self.rights.lock().unwrap_or_else(PoisonError::into_inner);
        let read = || match rights {
            Rights::Ours => self.printed("-k", &manifests()),
            Rights::OursWith(components) => self.printed("-k", &self.overlay(None, components)),
            Rights::Upstream => self.printed("-f", &upstream_example()),
        };
        known.entry(rights).or_insert_with(read).clone()
    }

    /// The objects that `kubectl create` would make of a file or, with `-k`, of a folder for kustomize.
    pub(crate) fn printed(&self, kind: &str, path: &Path) -> Vec<Value> {
        let path = path.to_str().unwrap();
        let list = self
            .kubectl(&["create", "--dry-run=client", "-o", "json", kind, path])
            .unwrap();
        // A list, or with kustomize one document after the other.
        let documents = serde_json::Deserializer::from_str(&list).into_iter::<Value>();
        documents
            .map(Result::unwrap)
            .flat_map(|document| match document["items"].as_array() {
                Some(items) => items.clone(),
                None => vec![document],
            })
            .collect()
    }

    /// An overlay as a user writes it: `manifests/` with these of its components, in the namespace of the base or in
    /// this one.
    pub(crate) fn overlay(&self, namespace: Option<&str>, components: &[&str]) -> PathBuf {
        let name = components.join("-").replace('/', "-");
        let overlay = self
            .supervisor
            .dir
            .join(format!("overlay-{}-{name}", namespace.unwrap_or_default()));
        std::fs::create_dir_all(&overlay).unwrap();
        // kustomize takes relative paths only.
        let root = "../".repeat(overlay.canonicalize().unwrap().components().count() - 1);
        let relative = |path: PathBuf| format!("{root}{}", path.strip_prefix("/").unwrap().display());
        let components: Vec<_> = components
            .iter()
            .map(|component| relative(manifests().join("components").join(component)))
            .collect();
        let mut text = json!({"resources": [relative(manifests())], "components": components});
        if let Some(namespace) = namespace {
            text["namespace"] = json!(namespace);
        }
        std::fs::write(overlay.join("kustomization.yaml"), text.to_string()).unwrap();
        overlay
    }

    /// A kubeconfig with a token as the kubelet would mount it into this Pod.
    pub(crate) async fn kubeconfig_of(&self, client: &Client, account: &str, pod: &Pod) -> PathBuf {
        let (name, namespace) = (
            pod.metadata.name.clone().unwrap(),
            pod.metadata.namespace.clone().unwrap(),
        );
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
                ..Default::default()
            },
            ..Default::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
        let reply = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .unwrap();
        let token = self.supervisor.dir.join(format!("{namespace}-{name}.token"));
        std::fs::write(&token, reply.status.unwrap().token).unwrap();

        let mut kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let user = AuthInfo {
            token_file: token.to_str().map(String::from),
            ..Default::default()
        };
        for context in kubeconfig
            .contexts
            .iter_mut()
            .filter_map(|named| named.context.as_mut())
        {
            context.user = Some("sidecar".into());
        }
        let named: NamedAuthInfo =
            serde_json::from_value(json!({"name": "sidecar", "user": serde_json::to_value(user).unwrap()}))
                .unwrap();
        kubeconfig.auth_infos = vec![named];
        let path = self.supervisor.dir.join(format!("{namespace}-{name}.kubeconfig"));
        std::fs::write(&path, serde_json::to_string(&kubeconfig).unwrap()).unwrap();
        path
    }
}

/// Installs what build.sh found of CRDs, and waits until the API server has taken them.
pub(crate) fn install_crds(programs: &Path, kubeconfig: &Path) -> Result<(), String> {
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(programs.join("kubectl"));
        command.env_remove("KUBECONFIG").current_dir(programs);
        output(command.arg("--kubeconfig").arg(kubeconfig).args(arguments))
    };
    kubectl(&["create", "-f", "crds"])?;
    kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "-f",
        "crds",
    ])
    .map(drop)
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster")
}

pub(crate) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")
}

fn upstream_example() -> PathBuf {
    let module = "github.com/kubernetes-csi/external-provisioner/v6";
    // Fetches the module, should only the built binary be cached.
    output(
        Command::new("go")
            .current_dir(sources())
            .args(["mod", "download", module]),
    )
    .unwrap();
    let dir = output(
        Command::new("go")
            .current_dir(sources())
            .args(["list", "-m", "-f", "{{.Dir}}", module]),
    )
    .unwrap();
    Path::new(dir.trim()).join("deploy/kubernetes/rbac.yaml")
}

/// Its standard output.
fn output(command: &mut Command) -> Result<String, String> {
    outputs(command).map(|(printed, _)| printed)
}

/// Its standard output and its standard error.
fn outputs(command: &mut Command) -> Result<(String, String), String> {
    let out = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let [printed, said] = [&out.stdout, &out.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if out.status.success() {
        return Ok((printed, said));
    }
    Err(format!("{command:?}: {}: {said}", out.status))
}
