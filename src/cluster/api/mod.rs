//! What is read once and what is written: one function per request, each with a deadline.
//!
//! The verbs are those of the role that upstream's users have installed: volumes are created, patched and deleted,
//! never updated. Nothing is retried here; who asks knows whether asking again makes sense.

mod attributes_class;
mod capacities;
mod claims;
mod events;
mod grants;
mod handles;
mod owners;
mod raw;
mod secret;
mod snapshots;
mod sources;
mod volumes;

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use k8s_openapi::ByteString;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions},
    core::Request,
};
use serde::Deserialize;
use tokio::time::timeout;

pub use self::{
    capacities::CapacityObject,
    claims::{LiveClaim, SelectOutcome},
    handles::LiveVolumes,
    owners::OwnerError,
    sources::{LiveSource, ProtectedSource},
    volumes::SaveOutcome,
};
use super::{
    active::Active,
    decode::{Decoded, Object},
    rate_limiter::RateLimit,
    throttle::Throttle,
};
use crate::base::api_error::{ApiError, Reason};

/// How long any single request may take. The API server itself gives up after 60 s.
const DEADLINE: Duration = Duration::from_secs(30);

/// The API server, as a place to read single objects and to write.
#[derive(Clone)]
pub struct ApiClient {
    client: Client,
    throttle: Throttle,
    active: Active,
}

impl ApiClient {
    /// A client with a rate limiter of its own: `limit`, or what the server's answers allow. Clones share it.
    pub fn new(client: Client, limit: Option<RateLimit>) -> Self {
        Self {
            client,
            throttle: Throttle::new(limit),
            active: Active::default(),
        }
    }

    /// The same, but volumes are written only while `active` leads.
    pub fn fenced(self, active: Active) -> Self {
        Self { active, ..self }
    }

    /// The same server, with a rate limiter of its own: what is asked for here slows nothing else down.
    pub fn with_rate_limit(&self, limit: Option<RateLimit>) -> Self {
        Self::new(self.client.clone(), limit).fenced(self.active.clone())
    }

    async fn ask<T>(
        &self,
        verb: &'static str,
        group: impl Into<Cow<'static, str>>,
        resource: impl Into<Cow<'static, str>>,
        name: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        let (group, resource) = (group.into(), resource.into());
        let answered = async {
            match timeout(DEADLINE, request).await {
                Ok(answer) => answer.map_err(|error| ApiError::from_kube(verb, group, resource, name, error)),
                Err(_) => Err(ApiError::late(verb, group, resource, name, DEADLINE)),
            }
        };
        self.throttle.send(answered).await
    }

    /// One object, `None` if it does not exist.
    async fn read_lean<R: Object>(
        &self,
        api: Api<Decoded<R>>,
        place: &str,
        name: &str,
    ) -> Result<Option<R>, ApiError> {
        let read = self.ask("get", R::GROUP, R::PLURAL, place, api.get(name)).await;
        let odd = |_| ApiError::odd("get", R::PLURAL, place, "it is not what the API promises");
        let object = ApiError::found(read)?.map(|decoded| decoded.object.map_err(odd));
        object.transpose()
    }

    /// Sends a write that only the leader may make. The rate limiter may have held it back for long.
    async fn ask_leading<T>(
        &self,
        verb: &'static str,
        resource: &'static str,
        name: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ApiError> {
        let answered = async {
            match self.active.while_leading(timeout(DEADLINE, request)).await {
                Some(Ok(answer)) => {
                    answer.map_err(|error| ApiError::from_kube(verb, "", resource, name, error))
                }
                Some(Err(_)) => Err(ApiError::late(verb, "", resource, name, DEADLINE)),
                None => Err(ApiError::not_leading(verb, "", resource, name)),
            }
        };
        self.throttle.send(answered).await
    }

    /// The data of a secret as strings, `None` if there is no such secret.
    ///
    /// # Errors
    /// [`ApiError`]; also for data that is no text: CSI knows strings only, and a volume that is made with an altered
    /// key is worse than none. The text names the key, and nothing of its value.
    pub async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>, ApiError> {
        let place = format!("{namespace}/{name}");
        let request = secret::get(&self.client, namespace, name);
        let read = self.ask("get", "", "secrets", &place, request).await;
        let Some(secret) = ApiError::found(read)? else {
            return Ok(None);
        };
        let text = |(key, value): (String, ByteString)| match String::from_utf8(value.0) {
            Ok(value) => Ok((key, value)),
            Err(_) => {
                let text = format!(
                    "the value of key {key:?} is not UTF-8, and CSI drivers can be given text only: store it in the \
                     form that the driver expects, for instance as base64 text"
                );
                Err(ApiError::new(Reason::Invalid, "get", "", "secrets", &place, text))
            }
        };
        let data = secret.data.unwrap_or_default().into_iter().map(text);
        data.collect::<Result<_, _>>().map(Some)
    }

    /// Whether the server serves VolumeAttributesClass at v1 (Kubernetes 1.34 and later).
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn serves_attributes_classes(&self) -> Result<bool, ApiError> {
        #[derive(Deserialize)]
        struct Resources {
            resources: Vec<ServedKind>,
        }
        #[derive(Deserialize)]
        struct ServedKind {
            kind: String,
        }
        let request = Request::new("/apis").get("storage.k8s.io/v1", &kube::api::GetParams::default());
        let request = request.map_err(|error| ApiError::odd("get", "apis", "", &error.to_string()))?;
        let list = self.client.request::<Resources>(request);
        let list = self.ask("get", "", "apis", "storage.k8s.io/v1", list).await;
        let kinds = ApiError::found(list)?.map_or_else(Vec::new, |list| list.resources);
        Ok(kinds.iter().any(|kind| kind.kind == "VolumeAttributesClass"))
    }
}

/// Deletes the object of this UID and no other that has its name by now.
fn of_uid(uid: &str) -> DeleteParams {
    let preconditions = Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    };
    DeleteParams::default().preconditions(preconditions)
}
