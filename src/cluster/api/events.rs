//! Events: created, and counted up.

use kube::{
    api::{Patch, PatchParams, PostParams},
    core::Request,
};
use serde::de::IgnoredAny;

use super::ApiClient;
use crate::base::api_error::ApiError;

impl ApiClient {
    pub(in crate::cluster) async fn create_event(
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

    pub(in crate::cluster) async fn patch_event(
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
