//! What is read once and what is written: one function per request, each with a deadline.
//!
//! The verbs are those of the role that upstream's users have installed: volumes are created, patched and deleted,
//! never updated. Nothing is retried here; who asks knows whether asking again makes sense.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{PersistentVolume, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::Request,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;
use tokio::time::timeout;

use super::{
    decode::Decoded,
    objects::{VOLUME_FINALIZER, Volume},
    rate_limiter::RateLimit,
    throttle::Throttle,
};
use crate::base::api_error::{ApiError, Reason};

/// How long any single request may take. The API server itself gives up after 60 s.
const DEADLINE: Duration = Duration::from_secs(30);
const VOLUMES: &str = "persistentvolumes";

/// The API server, as a place to read single objects and to write.
#[derive(Clone)]
pub struct ApiClient {
    client: Client,
    throttle: Throttle,
}

/// How the creation of a volume object ended.
#[derive(Debug, PartialEq, Eq)]
pub enum SaveOutcome {
    /// It stands now.
    Created,
    /// It stood already, for the same claim: an earlier request had arrived after all.
    AlreadySaved,
    /// An object of that name is there, and it is for somebody else.
    NameTaken {
        /// UID of the claim that the other object is for; "" if for none.
        by: String,
    },
}

impl ApiClient {
    /// A door with a pace of its own: `limit`, or what the server's answers allow. Clones share it.
    pub fn new(client: Client, limit: Option<RateLimit>) -> Self {
        Self {
            client,
            throttle: Throttle::new(limit),
        }
    }

    async fn ask<T>(
        &self,
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        name: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        let answered = async {
            match timeout(DEADLINE, request).await {
                Ok(answer) => answer.map_err(|error| ApiError::from_kube(verb, group, resource, name, error)),
                Err(_) => Err(ApiError::late(verb, group, resource, name, DEADLINE)),
            }
        };
        self.throttle.send(answered).await
    }

    /// The volume as the API server has it at this moment, not as a watch told.
    ///
    /// # Errors
    /// [`ApiError`]; a volume that does not exist is `Ok(None)`.
    pub async fn volume(&self, name: &str) -> Result<Option<Volume>, ApiError> {
        let api = Api::<Decoded<Volume>>::all(self.client.clone());
        match self.ask("get", "", VOLUMES, name, api.get(name)).await {
            Ok(decoded) => decoded
                .object
                .map(Some)
                .map_err(|name| ApiError::odd("get", VOLUMES, &name, "it is not what the API promises")),
            Err(error) if error.reason == Reason::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates the object for a volume that exists at the driver.
    ///
    /// A create whose answer was lost may have been done, so a volume of that name that is bound to the same claim,
    /// by UID, counts as saved.
    ///
    /// # Errors
    /// [`ApiError`]; the object may stand all the same if that says unreachable.
    pub async fn create_volume(&self, volume: &PersistentVolume) -> Result<SaveOutcome, ApiError> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let api = Api::<PersistentVolume>::all(self.client.clone());
        let created = self
            .ask(
                "create",
                "",
                VOLUMES,
                name,
                api.create(&PostParams::default(), volume),
            )
            .await;
        match created {
            Ok(_) => return Ok(SaveOutcome::Created),
            Err(error) if error.reason == Reason::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let wanted = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref()?.uid.clone());
        match self.volume(name).await? {
            Some(standing) => {
                let by = standing.claim.map(|claim| claim.uid).unwrap_or_default();
                Ok(if Some(&by) == wanted.as_ref() {
                    SaveOutcome::AlreadySaved
                } else {
                    SaveOutcome::NameTaken { by }
                })
            }
            None => Err(ApiError::odd(
                "create",
                VOLUMES,
                name,
                "it existed a moment ago and is gone now",
            )),
        }
    }

    /// Deletes the object of this UID and no other. Returns the finalizers that hold it still, `None` if it is gone.
    ///
    /// # Errors
    /// [`ApiError`], [`Reason::Conflict`] when another object has that name now.
    pub async fn delete_volume(&self, name: &str, uid: &str) -> Result<Option<Vec<String>>, ApiError> {
        let preconditions = Some(Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        });
        let params = DeleteParams {
            preconditions,
            ..DeleteParams::default()
        };
        let api = Api::<Decoded<Volume>>::all(self.client.clone());
        match self
            .ask("delete", "", VOLUMES, name, api.delete(name, &params))
            .await
        {
            Ok(answer) => Ok(answer
                .left()
                .map(|decoded| decoded.object.unwrap_or_default().finalizers)
                // Volumes that go at once are returned all the same, as they were.
                .filter(|finalizers| !finalizers.is_empty())),
            Err(error) if error.reason == Reason::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts our finalizer on a volume, or takes it off, if the finalizers are still the ones that were seen.
    ///
    /// A JSON patch with a test: upstream patches without one and can wipe finalizers that others added meanwhile.
    ///
    /// # Errors
    /// [`ApiError`], [`Reason::Invalid`] or [`Reason::Conflict`] when the finalizers have changed.
    pub async fn protect_volume(&self, name: &str, seen: &[String], protect: bool) -> Result<(), ApiError> {
        // Nothing can be tested in a list that is absent, so the whole object has to be the one that was seen. That
        // hardly ever happens: the control plane puts a finalizer of its own on each volume.
        let fresh = if protect && seen.is_empty() {
            let Some(fresh) = self.volume(name).await? else {
                return Ok(());
            };
            fresh
        } else {
            Volume {
                finalizers: seen.to_vec(),
                ..Volume::default()
            }
        };
        let Some(patch) = finalizer_patch(&fresh, protect) else {
            return Ok(());
        };
        let patch: json_patch::Patch = serde_json::from_value(patch)
            .map_err(|error| ApiError::odd("patch", VOLUMES, name, &error.to_string()))?;
        let api = Api::<Decoded<Volume>>::all(self.client.clone());
        let (params, patch) = (PatchParams::default(), Patch::<()>::Json(patch));
        match self
            .ask("patch", "", VOLUMES, name, api.patch(name, &params, &patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.reason == Reason::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The data of a secret as strings, `None` if there is no such secret. Bytes that are not UTF-8 are replaced, as
    /// CSI knows strings only.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, ApiError> {
        let api = Api::<Secret>::namespaced(self.client.clone(), namespace);
        let secret = match self
            .ask(
                "get",
                "",
                "secrets",
                &format!("{namespace}/{name}"),
                api.get(name),
            )
            .await
        {
            Ok(secret) => secret,
            Err(error) if error.reason == Reason::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Some(
            secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, text(value.0)))
                .collect(),
        ))
    }

    /// Whether the server serves VolumeAttributesClass at v1 (Kubernetes 1.34 and later).
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn serves_attributes_classes(&self) -> Result<bool, ApiError> {
        #[derive(Deserialize)]
        struct Resources {
            resources: Vec<Kind>,
        }
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        let request = Request::new("/apis").get("storage.k8s.io/v1", &kube::api::GetParams::default());
        let request = request.map_err(|error| ApiError::odd("get", "apis", "", &error.to_string()))?;
        match self
            .ask(
                "get",
                "",
                "apis",
                "storage.k8s.io/v1",
                self.client.request::<Resources>(request),
            )
            .await
        {
            Ok(list) => Ok(list
                .resources
                .iter()
                .any(|kind| kind.kind == "VolumeAttributesClass")),
            Err(error) if error.reason == Reason::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn create_event(
        &self,
        namespace: &str,
        event: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let body = event.to_string().into_bytes();
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/events"))
            .create(&PostParams::default(), body)
            .map_err(|error| ApiError::odd("create", "events", namespace, &error.to_string()))?;
        self.ask(
            "create",
            "",
            "events",
            namespace,
            self.client.request::<IgnoredAny>(request),
        )
        .await
        .map(|_| ())
    }

    pub(super) async fn patch_event(
        &self,
        namespace: &str,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let request = Request::new(format!("/api/v1/namespaces/{namespace}/events"))
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .map_err(|error| ApiError::odd("patch", "events", name, &error.to_string()))?;
        self.ask(
            "patch",
            "",
            "events",
            name,
            self.client.request::<IgnoredAny>(request),
        )
        .await
        .map(|_| ())
    }
}

/// The patch that adds or removes our finalizer, `None` if nothing is to be done.
fn finalizer_patch(volume: &Volume, protect: bool) -> Option<serde_json::Value> {
    let seen = &volume.finalizers;
    let place = seen.iter().position(|finalizer| finalizer == VOLUME_FINALIZER);
    match (place, protect) {
        (None, true) if seen.is_empty() => Some(json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": volume.resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": [VOLUME_FINALIZER]},
        ])),
        (None, true) => Some(json!([
            {"op": "test", "path": "/metadata/finalizers", "value": seen},
            {"op": "add", "path": "/metadata/finalizers/-", "value": VOLUME_FINALIZER},
        ])),
        (Some(place), false) => Some(json!([
            {"op": "test", "path": format!("/metadata/finalizers/{place}"), "value": VOLUME_FINALIZER},
            {"op": "remove", "path": format!("/metadata/finalizers/{place}")},
        ])),
        (None, false) | (Some(_), true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_patch_tests_what_it_changes() {
        let ours = VOLUME_FINALIZER.to_owned();
        let other = "kubernetes.io/pv-protection".to_owned();
        let volume = |finalizers: &[&String]| Volume {
            finalizers: finalizers.iter().map(|it| (*it).clone()).collect(),
            ..Volume::default()
        };
        let remove = finalizer_patch(&volume(&[&other, &ours]), false);
        let expected = json!([
            {"op": "test", "path": "/metadata/finalizers/1", "value": VOLUME_FINALIZER},
            {"op": "remove", "path": "/metadata/finalizers/1"},
        ]);
        assert_eq!(remove, Some(expected));
        let add = finalizer_patch(&volume(&[&other]), true);
        assert_eq!(add.map(|patch| patch[0]["value"].clone()), Some(json!([other])));
        assert_eq!(
            finalizer_patch(&volume(&[]), true).map(|patch| patch[1]["value"].clone()),
            Some(json!([ours]))
        );
        assert_eq!(finalizer_patch(&volume(&[&other]), false), None);
        assert_eq!(finalizer_patch(&volume(&[&ours]), true), None);
    }
}
