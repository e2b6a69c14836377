//! What `kubectl apply -k` makes of `manifests/` and of overlays with its components.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{self, Cluster};

/// The shapes in which the sidecars run, by their components.
const SHAPES: [&[&str]; 8] = [
    &["secrets"],
    &["cross-namespace"],
    &["topology"],
    &["capacity"],
    &["topology", "capacity"],
    &["node-deployment"],
    &["node-deployment", "node-deployment/capacity"],
    &["node"],
];

/// Checked by the API server and its admission.
pub(crate) async fn apply(cluster: &'static Cluster) {
    assert!(!cluster::is_given());
    applies(cluster, &cluster::manifests());
    for components in SHAPES {
        applies(cluster, &cluster.overlay(None, components));
    }
    b9_secrets_are_granted_by_an_overlay_with_the_component_only(cluster);
    each_shape_has_its_flags_variables_and_roles(cluster);
    a_component_that_does_not_fit_is_refused(cluster);
    the_node_side_joins_driver_and_kubelet_and_has_no_rights(cluster);
}

fn applies(cluster: &Cluster, folder: &Path) {
    let path = folder.to_str().unwrap();
    let (_, said) = cluster.kubectl_warns(&["apply", "-k", path]).unwrap();
    // A Pod below what its namespace asks for is let in with a warning.
    assert!(!said.contains("Warning"), "{said}");
    let again = cluster.kubectl(&["apply", "-k", path]).unwrap();
    for line in again.lines() {
        assert!(
            line.ends_with("unchanged"),
            "the second time changes nothing, but: {line}"
        );
    }
}

fn b9_secrets_are_granted_by_an_overlay_with_the_component_only(cluster: &Cluster) {
    let plain = json!(cluster.printed("-k", &cluster::manifests())).to_string();
    assert!(!plain.contains("\"secrets\""), "{plain}");
    let objects = cluster.printed("-k", &cluster.overlay(Some("elsewhere"), &["secrets"]));
    let named = |kind: &str| {
        let named = |object: &&Value| {
            object["kind"] == kind && object["metadata"]["name"] == "csi-provisioner-secrets"
        };
        objects
            .iter()
            .find(named)
            .unwrap_or_else(|| panic!("no {kind} in {objects:#?}"))
    };
    assert_eq!(named("ClusterRole")["rules"][0]["resources"], json!(["secrets"]));
    assert_eq!(
        named("ClusterRoleBinding")["subjects"][0]["namespace"],
        "elsewhere"
    );
}

/// What the sidecar gets in addition to what it gets everywhere.
struct Expected {
    components: &'static [&'static str],
    workload: &'static str,
    flags: &'static [&'static str],
    variables: &'static [&'static str],
    /// Of the namespace.
    roles: &'static [&'static str],
}

fn each_shape_has_its_flags_variables_and_roles(cluster: &Cluster) {
    let shapes = [
        Expected {
            components: &["topology"],
            workload: "Deployment",
            flags: &["--leader-election"],
            variables: &["POD_NAMESPACE"],
            roles: &["csi-provisioner"],
        },
        Expected {
            components: &["topology", "capacity"],
            workload: "Deployment",
            flags: &[
                "--capacity-ownerref-level=2",
                "--enable-capacity",
                "--leader-election",
            ],
            variables: &["NAMESPACE", "POD_NAME", "POD_NAMESPACE"],
            roles: &["csi-provisioner", "csi-provisioner-capacity"],
        },
        Expected {
            components: &["node-deployment"],
            workload: "DaemonSet",
            flags: &["--node-deployment"],
            variables: &["NODE_NAME", "POD_NAMESPACE"],
            roles: &["csi-provisioner"],
        },
        Expected {
            components: &["node-deployment", "node-deployment/capacity"],
            workload: "DaemonSet",
            flags: &[
                "--capacity-ownerref-level=0",
                "--enable-capacity",
                "--node-deployment",
            ],
            variables: &["NAMESPACE", "NODE_NAME", "POD_NAME", "POD_NAMESPACE"],
            roles: &["csi-provisioner", "csi-provisioner-node-capacity"],
        },
    ];
    for expected in shapes {
        for namespace in [None, Some("elsewhere")] {
            let objects = cluster.printed("-k", &cluster.overlay(namespace, expected.components));
            check(&expected, &objects, namespace.unwrap_or("csi-system"));
        }
    }
}

fn check(expected: &Expected, objects: &[Value], namespace: &str) {
    let what = expected.components;
    let workload = |object: &&Value| !object["spec"]["template"].is_null();
    let workloads: Vec<_> = objects.iter().filter(workload).collect();
    let [workload] = workloads[..] else {
        panic!("{what:?}: {workloads:#?}");
    };
    assert_eq!(workload["kind"], expected.workload, "{what:?}");
    let container = &workload["spec"]["template"]["spec"]["containers"][0];
    let image = concat!("volwright/csi-provisioner:", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image, "{what:?}");
    let everywhere = ["--csi-address=/run/csi/socket", "--http-endpoint=:8080"];
    let mut flags = texts(container["args"].as_array().unwrap(), "");
    flags.retain(|flag| !everywhere.contains(&flag.as_str()));
    assert_eq!(flags, expected.flags, "{what:?}");
    let variables = texts(container["env"].as_array().unwrap(), "/name");
    assert_eq!(variables, expected.variables, "{what:?}");

    let of_kind = |kind: &str| {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.cloned().collect::<Vec<_>>()
    };
    for kind in ["Role", "RoleBinding"] {
        assert_eq!(
            texts(&of_kind(kind), "/metadata/name"),
            expected.roles,
            "{what:?}"
        );
    }
    for kind in [expected.workload, "ServiceAccount", "Role", "RoleBinding"] {
        for object in of_kind(kind) {
            assert_eq!(object["metadata"]["namespace"], namespace, "{object:#}");
        }
    }
    for kind in ["RoleBinding", "ClusterRoleBinding"] {
        for object in of_kind(kind) {
            assert_eq!(object["subjects"][0]["namespace"], namespace, "{object:#}");
        }
    }
}

fn the_node_side_joins_driver_and_kubelet_and_has_no_rights(cluster: &Cluster) {
    let objects = cluster.printed("-k", &cluster.overlay(Some("elsewhere"), &["node"]));
    let node = objects
        .iter()
        .find(|object| object["kind"] == "DaemonSet")
        .unwrap();
    assert_eq!(node["metadata"]["namespace"], "elsewhere");
    let pod = &node["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    let at = |volume: &str| {
        let volumes = pod["volumes"].as_array().unwrap();
        let found = volumes.iter().find(|it| it["name"] == volume).unwrap();
        found["hostPath"]["path"].as_str().unwrap().to_owned()
    };
    assert_eq!(at("registration"), "/var/lib/kubelet/plugins_registry");
    let sidecar = |name: &str, image: &str| {
        let containers = pod["containers"].as_array().unwrap();
        let found = containers.iter().find(|it| it["name"] == name).unwrap();
        let wanted = format!("volwright/{image}:{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(found["image"], wanted);
        found
    };
    let registrar = sidecar("node-driver-registrar", "csi-node-driver-registrar");
    let path = format!("--kubelet-registration-path={}/csi.sock", at("plugin"));
    assert!(
        registrar["args"].as_array().unwrap().contains(&json!(path)),
        "{registrar:#}"
    );
    sidecar("livenessprobe", "livenessprobe");
}

/// The texts under this pointer, sorted.
fn texts(list: &[Value], pointer: &str) -> Vec<String> {
    let text = |item: &Value| item.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let mut texts: Vec<_> = list.iter().map(text).collect();
    texts.sort();
    texts
}

/// The flags would be missing, and nobody would be told.
fn a_component_that_does_not_fit_is_refused(cluster: &Cluster) {
    for components in [
        &["node-deployment", "capacity"] as &[&str],
        &["node-deployment/capacity"],
    ] {
        let overlay = cluster.overlay(None, components);
        let refused = cluster.kubectl(&["kustomize", overlay.to_str().unwrap()]);
        let why = refused.expect_err("an overlay without flags");
        assert!(why.contains("nothing selected by"), "{why}");
    }
}
