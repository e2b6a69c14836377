//! What one scenario has for itself: a namespace, a ServiceAccount with rights,
//! a driver name, classes and claims. And how it waits.

use std::{fmt::Display, time::Duration};

use k8s_openapi::{
    api::coordination::v1::Lease,
    api::core::v1::{
        Event, Namespace, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, Secret,
    },
    api::storage::v1::{StorageClass, VolumeAttributesClass},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::cluster::{self, Cluster, Rights};

/// Long enough for anything that happens at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) cluster: &'static Cluster,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    /// Name of the ServiceAccount.
    pub(crate) account: String,
    pub(crate) claims: Api<PersistentVolumeClaim>,
    pub(crate) volumes: Api<PersistentVolume>,
}

impl World {
    pub(crate) async fn new(cluster: &'static Cluster, name: &str, rights: Rights) -> Self {
        let client = cluster.client().await;
        // A given cluster may keep what an earlier run left there.
        let namespace = if cluster::is_given() {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            format!("volwright-{name}-{:x}", now.as_millis() & 0xff_ffff)
        } else {
            name.to_owned()
        };
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(client.clone())
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
        let mut world = Self {
            cluster,
            account: String::new(),
            claims: Api::namespaced(client.clone(), &namespace),
            volumes: Api::all(client.clone()),
            client,
            namespace,
        };
        for object in cluster.rights(rights) {
            world.grant(object).await;
        }
        world
    }

    /// Creates one RBAC object here: in our namespace, or under a name with ours.
    async fn grant(&mut self, mut object: Value) {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let namespace = self.namespace.clone();
        // With a dash it could be the name of a role in manifests/.
        let ours = |name: &Value| json!(format!("{}:{namespace}", name.as_str().unwrap()));
        match kind.as_str() {
            "ServiceAccount" => self.account = object["metadata"]["name"].as_str().unwrap().to_owned(),
            "ClusterRole" | "ClusterRoleBinding" => {
                object["metadata"]["name"] = ours(&object["metadata"]["name"])
            }
            "Role" | "RoleBinding" => {}
            // The rest of manifests/: nothing runs it here.
            _ => return,
        }
        let namespaced = !kind.starts_with("Cluster");
        if namespaced {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if object["roleRef"]["kind"] == "ClusterRole" {
            object["roleRef"]["name"] = ours(&object["roleRef"]["name"]);
        }
        for subject in object["subjects"].as_array_mut().into_iter().flatten() {
            subject["namespace"] = json!(namespace);
        }
        let (group, version) = object["apiVersion"]
            .as_str()
            .unwrap()
            .split_once('/')
            .unwrap_or(("", "v1"));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
        let api: Api<DynamicObject> = match namespaced {
            true => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            false => Api::all_with(self.client.clone(), &resource),
        };
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }

    /// How the API server calls the sidecar's ServiceAccount.
    pub(crate) fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.account)
    }

    /// A class of this driver, named like it has to be across the cluster; `more` is laid over it.
    pub(crate) async fn class(&self, name: &str, driver: &str, more: Value) -> String {
        let name = format!("{}-{name}", self.namespace);
        let mut class = json!({"metadata": {"name": name}, "provisioner": driver, "reclaimPolicy": "Delete"});
        class
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let class: StorageClass = serde_json::from_value(class).unwrap();
        Api::all(self.client.clone())
            .create(&PostParams::default(), &class)
            .await
            .unwrap();
        name
    }

    /// A VolumeAttributesClass of this driver, named like it has to be across the cluster.
    pub(crate) async fn attributes_class(&self, name: &str, driver: &str, parameters: Value) -> String {
        let name = format!("{}-{name}", self.namespace);
        let class: VolumeAttributesClass = serde_json::from_value(
            json!({"metadata": {"name": name}, "driverName": driver, "parameters": parameters}),
        )
        .unwrap();
        Api::all(self.client.clone())
            .create(&PostParams::default(), &class)
            .await
            .unwrap();
        name
    }

    /// The name is that across the cluster.
    pub(crate) async fn delete_class(&self, name: &str) {
        let classes: Api<StorageClass> = Api::all(self.client.clone());
        classes.delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn secret(&self, name: &str, data: Value) {
        let secret: Secret =
            serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data})).unwrap();
        Api::namespaced(self.client.clone(), &self.namespace)
            .create(&PostParams::default(), &secret)
            .await
            .unwrap();
    }

    /// Creates a claim for 1 GiB.
    pub(crate) async fn claim(&self, name: &str, class: &str) -> PersistentVolumeClaim {
        self.claim_with(name, class, json!({})).await
    }

    /// As [`World::claim`]; `more` is laid over its spec.
    pub(crate) async fn claim_with(&self, name: &str, class: &str, more: Value) -> PersistentVolumeClaim {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class,
            "resources": {"requests": {"storage": "1Gi"}},
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.claims.create(&PostParams::default(), &claim).await.unwrap()
    }

    /// Creates claims `prefix-0` and so on, eight at a time.
    pub(crate) async fn many_claims(&self, prefix: &str, class: &str, count: usize) {
        use futures::StreamExt;
        futures::stream::iter(0..count)
            .for_each_concurrent(8, async |i| _ = self.claim(&format!("{prefix}-{i}"), class).await)
            .await;
    }

    pub(crate) async fn delete_claim(&self, name: &str) {
        self.claims.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until the claim is Bound and gives its volume.
    pub(crate) async fn bound(&self, name: &str, limit: Duration) -> PersistentVolume {
        let volume = eventually(&format!("claim {name} is Bound"), limit, async || {
            let claim = self.claims.get(name).await.map_err(text)?;
            match claim.status.and_then(|status| status.phase).as_deref() {
                Some("Bound") => Ok(claim.spec.unwrap().volume_name.unwrap()),
                phase => Err(format!("phase {phase:?}")),
            }
        })
        .await;
        self.volumes.get(&volume).await.unwrap()
    }

    /// Waits until the claim has an event with this reason and text, this many times.
    pub(crate) async fn event(&self, claim: &str, reason: &str, times: i32, text_part: &str) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        eventually(
            &format!("claim {claim} has the event {reason}, {text_part:?}"),
            SOON,
            async || {
                let list = events.list(&ListParams::default()).await.map_err(text)?;
                let of = |event: &&Event| event.involved_object.name.as_deref() == Some(claim);
                let seen: Vec<_> = list
                    .iter()
                    .filter(of)
                    .map(|event| (&event.reason, &event.message, event.count))
                    .collect();
                let fits = |(of, message, count): &(&Option<String>, &Option<String>, Option<i32>)| {
                    of.as_deref() == Some(reason)
                        && message
                            .as_deref()
                            .is_some_and(|message| message.contains(text_part))
                        && count.unwrap_or(1) >= times
                };
                if seen.iter().any(fits) {
                    Ok(())
                } else {
                    Err(format!("{seen:?}"))
                }
            },
        )
        .await;
    }

    /// Waits until so many claims are Bound here.
    pub(crate) async fn all_bound(&self, count: usize, limit: Duration) {
        eventually(&format!("{count} claims are Bound"), limit, async || {
            let claims = self.claims.list(&ListParams::default()).await.map_err(text)?;
            let bound = |claim: &PersistentVolumeClaim| {
                claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
            };
            let seen = claims.iter().filter(|claim| bound(claim)).count();
            if seen == count {
                Ok(())
            } else {
                Err(format!("{seen} of {} are", claims.items.len()))
            }
        })
        .await;
    }

    /// The volumes of this driver that the API server knows, by name.
    pub(crate) async fn volumes_of(&self, driver: &str) -> Result<Vec<PersistentVolume>, String> {
        let list = self.volumes.list(&ListParams::default()).await.map_err(text)?;
        let ours = |volume: &PersistentVolume| {
            let spec: Option<&PersistentVolumeSpec> = volume.spec.as_ref();
            spec.and_then(|spec| spec.csi.as_ref())
                .is_some_and(|csi| csi.driver == driver)
        };
        Ok(list.items.into_iter().filter(ours).collect())
    }

    /// Waits until the API server knows exactly so many volumes of this driver.
    pub(crate) async fn volume_count(&self, driver: &str, count: usize, limit: Duration) {
        eventually(
            &format!("{count} PersistentVolumes of {driver}"),
            limit,
            async || {
                let seen = self.volumes_of(driver).await?.len();
                if seen == count {
                    Ok(())
                } else {
                    Err(format!("there are {seen}"))
                }
            },
        )
        .await;
    }

    pub(crate) async fn gone(&self, volume: &PersistentVolume, limit: Duration) {
        let name = volume.name_any();
        eventually(
            &format!("PersistentVolume {name} is gone"),
            limit,
            async || match self.volumes.get_opt(&name).await.map_err(text)? {
                None => Ok(()),
                Some(volume) => Err(format!(
                    "phase {:?}, finalizers {:?}",
                    volume.status.as_ref().and_then(|status| status.phase.clone()),
                    volume.finalizers()
                )),
            },
        )
        .await;
    }

    /// Who holds the driver's lease, if anybody does.
    pub(crate) async fn leader(&self, driver: &str) -> Option<String> {
        // The name that upstream gives it: everything odd becomes a dash.
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let lease = leases.get_opt(&driver.replace('.', "-")).await.ok()??;
        lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
    }

    /// Waits until somebody leads who is not `before`.
    pub(crate) async fn new_leader(&self, driver: &str, before: Option<&str>, limit: Duration) -> String {
        eventually("somebody else leads", limit, async || {
            match self.leader(driver).await {
                Some(holder) if Some(holder.as_str()) != before => Ok(holder),
                other => Err(format!("the lease is held by {other:?}")),
            }
        })
        .await
    }
}

/// A given cluster gets back what it was lent; ours ends with the run.
impl Drop for World {
    fn drop(&mut self) {
        if !cluster::is_given() {
            return;
        }
        let suffix = format!(":{}", self.namespace);
        let names = |kind: &str| {
            let list = self
                .cluster
                .kubectl(&["get", kind, "-o", "name"])
                .unwrap_or_default();
            list.lines().map(String::from).collect::<Vec<_>>()
        };
        let mut doomed = vec![format!("namespace/{}", self.namespace)];
        doomed.extend(
            names("clusterrole,clusterrolebinding")
                .into_iter()
                .filter(|name| name.ends_with(&suffix)),
        );
        doomed.extend(
            names("storageclass")
                .into_iter()
                .filter(|name| name.contains(&format!("/{}-", self.namespace))),
        );
        let mut arguments = vec!["delete", "--wait=false"];
        arguments.extend(doomed.iter().map(String::as_str));
        if let Err(error) = self.cluster.kubectl(&arguments) {
            eprintln!("left behind in the given cluster: {doomed:?}: {error}");
        }
    }
}

/// Asks until it is so, and says what was seen last when it never is.
pub(crate) async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        let seen = match look().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(
            Instant::now() < end,
            "waited {limit:?} until {what}; seen instead: {seen}"
        );
        sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) fn text(error: impl Display) -> String {
    error.to_string()
}
