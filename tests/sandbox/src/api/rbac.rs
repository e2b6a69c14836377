//! Who may do what: Roles and their bindings, read from the same manifests that are shipped.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde::Deserialize;
use serde_json::Value;

/// The user that may do everything.
pub const ADMIN: &str = "admin";

/// One right: verb, API group, resource with subresource (`persistentvolumes/status`).
pub type Right = (String, String, String);

#[derive(Default)]
pub(crate) struct Rbac {
    roles: Vec<Role>,
    bindings: Vec<Binding>,
}

struct Role {
    name: String,
    /// `None` for a ClusterRole.
    namespace: Option<String>,
    rules: Vec<PolicyRule>,
}

struct Binding {
    users: Vec<String>,
    role: (String, String),
    /// `None` for a ClusterRoleBinding.
    namespace: Option<String>,
}

impl Rbac {
    /// Adds every Role, ClusterRole and binding of a YAML stream; other documents are skipped. Namespaced documents
    /// without a namespace get `namespace`, as kustomize would give them.
    pub(crate) fn load(&mut self, manifests: &str, namespace: &str) -> Result<(), String> {
        // An empty document (comments only) is null.
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(manifests).map_err(|error| error.to_string())?;
        for document in documents {
            let kind = document["kind"].as_str().unwrap_or_default();
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let home = text(&document["metadata"]["namespace"]).unwrap_or(namespace.to_owned());
            let home = (!kind.starts_with("Cluster")).then_some(home);
            match kind {
                "Role" | "ClusterRole" => {
                    let rules = Vec::<PolicyRule>::deserialize(&document["rules"]);
                    self.roles.push(Role {
                        name: text(&document["metadata"]["name"]).unwrap_or_default(),
                        namespace: home,
                        rules: rules.map_err(|error| format!("{kind}: rules: {error}"))?,
                    });
                }
                "RoleBinding" | "ClusterRoleBinding" => {
                    let role = &document["roleRef"];
                    let subjects = document["subjects"].as_array().into_iter().flatten();
                    self.bindings.push(Binding {
                        users: subjects.map(|subject| user(subject, namespace)).collect(),
                        role: (
                            text(&role["kind"]).unwrap_or_default(),
                            text(&role["name"]).unwrap_or_default(),
                        ),
                        namespace: home,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes one right out of every rule that spells it out.
    pub(crate) fn withdraw(&mut self, verb: &str, group: &str, resource: &str) {
        for role in &mut self.roles {
            let rules = std::mem::take(&mut role.rules);
            let left = rules
                .into_iter()
                .flat_map(|rule| without(rule, verb, group, resource));
            role.rules = left.collect();
        }
    }

    pub(crate) fn knows(&self, user: &str) -> bool {
        user == ADMIN
            || self
                .bindings
                .iter()
                .any(|binding| binding.users.iter().any(|u| u == user))
    }

    pub(crate) fn allows(
        &self,
        user: &str,
        (verb, group, resource): (&str, &str, &str),
        namespace: Option<&str>,
        name: &str,
    ) -> bool {
        let matches = |list: Option<&Vec<String>>, wanted: &str| {
            list.into_iter()
                .flatten()
                .any(|item| item == wanted || item == "*")
        };
        user == ADMIN
            || self.rules(user, namespace).any(|rule| {
                let named = rule.resource_names.as_deref().unwrap_or_default();
                rule.verbs.iter().any(|v| v == verb || v == "*")
                    && matches(rule.api_groups.as_ref(), group)
                    && matches(rule.resources.as_ref(), resource)
                    && (named.is_empty() || named.iter().any(|n| n == name))
            })
    }

    /// Everything granted to a user anywhere, one right per verb and resource.
    pub(crate) fn granted(&self, user: &str) -> BTreeSet<Right> {
        let rules = self.of(user).flat_map(|(role, _)| &role.rules);
        let mut rights = BTreeSet::new();
        for rule in rules {
            for group in rule.api_groups.iter().flatten() {
                for resource in rule.resources.iter().flatten() {
                    let right = |verb: &String| (verb.clone(), group.clone(), resource.clone());
                    rights.extend(rule.verbs.iter().map(right));
                }
            }
        }
        rights
    }

    fn rules(&self, user: &str, namespace: Option<&str>) -> impl Iterator<Item = &PolicyRule> {
        self.of(user)
            .filter(move |(_, binding)| {
                binding.namespace.is_none() || binding.namespace.as_deref() == namespace
            })
            .flat_map(|(role, _)| &role.rules)
    }

    fn of(&self, user: &str) -> impl Iterator<Item = (&Role, &Binding)> {
        let bound = move |binding: &&Binding| binding.users.iter().any(|u| u == user);
        self.bindings.iter().filter(bound).flat_map(|binding| {
            let (kind, name) = &binding.role;
            let home = if kind == "ClusterRole" {
                None
            } else {
                binding.namespace.clone()
            };
            let named = move |role: &&Role| role.name == *name && role.namespace == home;
            self.roles.iter().filter(named).map(move |role| (role, binding))
        })
    }
}

/// A rule without one right: its other verbs, and this verb for its other resources and groups.
fn without(rule: PolicyRule, verb: &str, group: &str, resource: &str) -> Vec<PolicyRule> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (groups, resources) = (list(&rule.api_groups), list(&rule.resources));
    let has = |list: &[String], wanted: &str| list.iter().any(|item| item == wanted);
    if !(has(&rule.verbs, verb) && has(&groups, group) && has(&resources, resource)) {
        return vec![rule];
    }
    let but = |list: &[String], gone: &str| -> Vec<String> {
        list.iter().filter(|item| *item != gone).cloned().collect()
    };
    let part = |verbs, groups, resources| PolicyRule {
        verbs,
        api_groups: Some(groups),
        resources: Some(resources),
        ..rule.clone()
    };
    let verb_only = vec![verb.to_owned()];
    vec![
        part(but(&rule.verbs, verb), groups.clone(), resources.clone()),
        part(verb_only.clone(), groups.clone(), but(&resources, resource)),
        part(verb_only, but(&groups, group), vec![resource.to_owned()]),
    ]
}

fn user(subject: &Value, namespace: &str) -> String {
    let name = subject["name"].as_str().unwrap_or_default();
    match subject["kind"].as_str() {
        Some("ServiceAccount") => {
            let namespace = subject["namespace"].as_str().unwrap_or(namespace);
            format!("system:serviceaccount:{namespace}:{name}")
        }
        _ => name.to_owned(),
    }
}
