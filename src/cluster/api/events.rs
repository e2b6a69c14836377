//! Events: created, and counted up.

use kube::{
    api::{ListParams, Patch, PatchParams, PostParams},
    core::Request,
};
use serde::{Deserialize, de::IgnoredAny};

use super::ApiClient;
use crate::base::api_error::ApiError;

#[derive(Deserialize)]
struct RawEventList {
    items: Vec<RawEvent>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawEvent {
    message: String,
}

impl ApiClient {
    /// Whether an event about the object of this UID has this reason, and this text in its message.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn has_event(
        &self,
        namespace: &str,
        uid: &str,
        reason: &str,
        text: &str,
    ) -> Result<bool, ApiError> {
        let of_object = format!("involvedObject.uid={uid},reason={reason}");
        let request = Request::new(path(namespace))
            .list(&ListParams::default().fields(&of_object))
            .map_err(|error| ApiError::odd("list", "events", namespace, &error.to_string()))?;
        let list = self.client.request::<RawEventList>(request);
        let list = self.ask("list", "", "events", namespace, list).await?;
        Ok(list.items.iter().any(|event| event.message.contains(text)))
    }

    pub(in crate::cluster) async fn create_event(
        &self,
        namespace: &str,
        event: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let body = event.to_string().into_bytes();
        let request = Request::new(path(namespace))
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

    pub(in crate::cluster) async fn patch_event(
        &self,
        namespace: &str,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<(), ApiError> {
        let request = Request::new(path(namespace))
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

fn path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/events")
}
