//! Whom a pod belongs to: upstream's cases, which look the owner up in one namespace.

use sandbox::{ADMIN, Api};
use serde_json::{Value, json};

use crate::cluster::api::{ApiClient, OwnerError};

const HOME: &str = "default";

/// Makes an object, owned by a controller of this kind and name if one is given, which need not exist.
fn make(api: &Api, plural: &str, namespace: &str, name: &str, owner: Option<(&str, &str)>) {
    let mut object = json!({"metadata": {"name": name}});
    if plural == "pods" {
        object["spec"] = json!({"containers": [{"name": "c", "image": "i"}]});
    }
    if let Some((kind, name)) = owner {
        object["metadata"]["ownerReferences"] = json!([
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "no-controller", "uid": "0"},
            {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": format!("uid-of-{name}"), "controller": true,
             "blockOwnerDeletion": true},
        ]);
    }
    api.create(plural, namespace, object);
}

async fn owner(api: &Api, level: u32) -> Result<Value, OwnerError> {
    let client = ApiClient::new(api.client(ADMIN), None);
    client.owner(HOME, "pod", level).await.map(|owner| json!(owner))
}

#[tokio::test(start_paused = true)]
async fn the_owner_is_so_many_controllers_above_the_pod() {
    const SET: Option<(&str, &str)> = Some(("ReplicaSet", "set"));
    /// The id, what there is, the level, and kind and name of the owner or what the error says.
    type Row = (
        &'static str,
        fn(&Api),
        u32,
        Result<(&'static str, &'static str), &'static str>,
    );
    let rows: [Row; 8] = [
        ("owner.NodeTopology.01", |_| {}, 0, Err("pods \"pod\" not found")),
        (
            "owner.NodeTopology.02",
            |api| make(api, "pods", HOME, "pod", None),
            0,
            Ok(("Pod", "pod")),
        ),
        (
            "owner.NodeTopology.03",
            |api| make(api, "pods", HOME, "pod", None),
            1,
            Err("Pod default/pod, which is 0 levels above the pod, belongs to no controller"),
        ),
        (
            "owner.NodeTopology.04",
            |api| make(api, "pods", HOME, "pod", Some(("StatefulSet", "set"))),
            1,
            Ok(("StatefulSet", "set")),
        ),
        (
            "owner.NodeTopology.05",
            |api| make(api, "pods", HOME, "pod", SET),
            2,
            Err("get replicasets default/set"),
        ),
        (
            "owner.NodeTopology.06",
            |api| {
                make(api, "pods", HOME, "pod", SET);
                make(api, "replicasets", HOME, "other", Some(("Deployment", "top")));
            },
            2,
            Err("get replicasets default/set"),
        ),
        (
            "owner.NodeTopology.07",
            |api| {
                make(api, "pods", HOME, "pod", SET);
                api.create("namespaces", "", json!({"metadata": {"name": "elsewhere"}}));
                make(
                    api,
                    "replicasets",
                    "elsewhere",
                    "set",
                    Some(("Deployment", "top")),
                );
            },
            2,
            Err("get replicasets default/set"),
        ),
        (
            "owner.NodeTopology.08",
            |api| {
                make(api, "pods", HOME, "pod", SET);
                make(api, "replicasets", HOME, "set", Some(("Deployment", "top")));
            },
            2,
            Ok(("Deployment", "top")),
        ),
    ];
    for (id, prepare, level, expected) in rows {
        let api = Api::new();
        prepare(&api);
        match (owner(&api, level).await, expected) {
            (Ok(owner), Ok((kind, name))) => {
                assert_eq!(
                    (&owner["kind"], &owner["name"]),
                    (&kind.into(), &name.into()),
                    "{id}"
                );
                assert_eq!(owner["controller"], true, "{id}");
                assert_eq!(owner["blockOwnerDeletion"], Value::Null, "{id}");
                assert!(owner["uid"].as_str().is_some_and(|uid| !uid.is_empty()), "{id}");
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{id}: {error}"),
            (other, _) => panic!("{id}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_served_is_named() {
    let api = Api::new();
    make(&api, "pods", HOME, "pod", Some(("Rollout", "top")));
    let error = owner(&api, 2).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the API server does not say how to read the kind Rollout of apps/v1"
    );
}
