//! Rights of one scenario, beside those of upstream's example.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::file::RightsFile;
use crate::world::World;

/// What the example leaves to those who need it.
const USUAL: [&str; 2] = ["get secrets", "get volumeattributesclasses"];
/// Upstream's sweep takes finalizers off the snapshots of all drivers, so that it would reach into other scenarios: it
/// is granted in the scenario's own namespace.
const AT_HOME: &str = "update volumesnapshots";

pub(super) async fn grant(world: &World, file: &RightsFile) {
    let client = &world.client;
    let mut without = file.without.clone();
    let at_home = !without.iter().any(|right| right == AT_HOME);
    without.push(AT_HOME.to_owned());
    let suffix = format!(":{}", world.namespace);
    let roles: Api<ClusterRole> = Api::all(client.clone());
    for role in roles.list(&Default::default()).await.unwrap() {
        if role.name_any().ends_with(&suffix) {
            let rules = less(role.rules.clone(), &without);
            patch(&roles, &role.name_any(), json!({"rules": rules})).await;
        }
    }
    let roles: Api<Role> = Api::namespaced(client.clone(), &world.namespace);
    for role in roles.list(&Default::default()).await.unwrap() {
        let rules = less(role.rules.clone(), &without);
        patch(&roles, &role.name_any(), json!({"rules": rules})).await;
    }

    let all = file.also.iter().map(String::as_str).chain(USUAL);
    let also: Vec<_> = all
        .filter(|right| !without.iter().any(|it| it == right))
        .map(rule)
        .collect();
    let name = format!("also{suffix}");
    let subjects = json!([{"kind": "ServiceAccount", "name": world.account, "namespace": world.namespace}]);
    let role = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let object = json!({"metadata": {"name": name}, "rules": also});
    create::<ClusterRole>(Api::all(client.clone()), object).await;
    let binding = json!({"metadata": {"name": name}, "subjects": subjects, "roleRef": role("ClusterRole")});
    create::<ClusterRoleBinding>(Api::all(client.clone()), binding).await;
    if at_home {
        let object = json!({"metadata": {"name": name}, "rules": [rule(AT_HOME)]});
        create::<Role>(home(client, world), object).await;
        let binding = json!({"metadata": {"name": name}, "subjects": subjects, "roleRef": role("Role")});
        create::<RoleBinding>(home(client, world), binding).await;
    }
}

fn home<K>(client: &Client, world: &World) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), &world.namespace)
}

fn rule(right: &str) -> Value {
    let (verb, resource) = right.split_once(' ').unwrap();
    json!({"apiGroups": ["*"], "resources": [resource], "verbs": [verb]})
}

fn less(rules: Option<Vec<PolicyRule>>, without: &[String]) -> Vec<PolicyRule> {
    let mut rules = rules.unwrap_or_default();
    for rule in &mut rules {
        let resources = rule.resources.clone().unwrap_or_default();
        let denied = |verb: &String| {
            let right = |resource: &String| without.contains(&format!("{verb} {resource}"));
            resources.iter().any(right)
        };
        rule.verbs.retain(|verb| !denied(verb));
    }
    // The API server refuses a rule without verbs.
    rules.retain(|rule| !rule.verbs.is_empty());
    rules
}

async fn patch<K>(api: &Api<K>, name: &str, patch: Value)
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = Patch::Merge(patch);
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

async fn create<K>(api: Api<K>, object: Value)
where
    K: Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}
