//! What is read once and what is written: one function per request, each with a deadline.
//!
//! The verbs are those of the role that upstream's users have installed: volumes are created, patched and deleted,
//! never updated. Nothing is retried here; who asks knows whether asking again makes sense.

mod events;
mod secret;
mod volumes;

use std::{collections::BTreeMap, time::Duration};

use kube::{Client, core::Request};
use serde::Deserialize;
use tokio::time::timeout;

pub use self::volumes::SaveOutcome;
use super::{rate_limiter::RateLimit, throttle::Throttle};
use crate::base::api_error::{ApiError, Reason};

/// How long any single request may take. The API server itself gives up after 60 s.
const DEADLINE: Duration = Duration::from_secs(30);

/// The API server, as a place to read single objects and to write.
#[derive(Clone)]
pub struct ApiClient {
    client: Client,
    throttle: Throttle,
}

impl ApiClient {
    /// A client with a rate limiter of its own: `limit`, or what the server's answers allow. Clones share it.
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
        let secret = match self
            .ask(
                "get",
                "",
                "secrets",
                &format!("{namespace}/{name}"),
                secret::get(&self.client, namespace, name),
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
            resources: Vec<ServedKind>,
        }
        #[derive(Deserialize)]
        struct ServedKind {
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
}
