//! Lease objects as raw JSON: a PUT of a typed one would drop the fields that are newer than our types.
//!
//! Four requests: get, create, update and watch. An update is a PUT with the resourceVersion that was read, so it fails
//! when somebody else wrote in between. Nothing is throttled here, since a renewal must not wait, and nothing is
//! retried.

use std::future::ready;

use futures::{StreamExt as _, TryFutureExt as _, stream::BoxStream};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Client, Resource as _,
    api::{GetParams, PostParams, Request, WatchEvent, WatchParams},
    core::request,
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::base::api_error::ApiError;

const GROUP: &str = "coordination.k8s.io";
const LEASES: &str = "leases";

/// The leases of one namespace.
pub struct Leases {
    client: Client,
    request: Request,
    namespace: String,
}

impl Leases {
    /// Sends nothing yet.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            client,
            request: Request::new(Lease::url_path(&(), Some(namespace))),
            namespace: namespace.to_owned(),
        }
    }

    /// The lease as it is, or `None` when there is none.
    ///
    /// # Errors
    /// [`ApiError`], [`Reason::Unavailable`] when the deadline has passed.
    pub async fn get(&self, name: &str, deadline: Instant) -> Result<Option<Value>, ApiError> {
        let request = self.request.get(name, &GetParams::default());
        ApiError::found(self.send("get", name, request, deadline).await)
    }

    /// Creates the lease and returns it as the server keeps it.
    ///
    /// # Errors
    /// [`ApiError`], [`Reason::AlreadyExists`] when somebody else was first.
    pub async fn create(&self, name: &str, lease: &Value, deadline: Instant) -> Result<Value, ApiError> {
        let request = self
            .request
            .create(&PostParams::default(), lease.to_string().into_bytes());
        self.send("create", name, request, deadline).await
    }

    /// Replaces the lease and returns it as the server keeps it. `lease` carries the resourceVersion that was read.
    ///
    /// # Errors
    /// [`ApiError`], [`Reason::Conflict`] when somebody else wrote it since.
    pub async fn update(&self, name: &str, lease: &Value, deadline: Instant) -> Result<Value, ApiError> {
        let request = self
            .request
            .replace(name, &PostParams::default(), lease.to_string().into_bytes());
        self.send("update", name, request, deadline).await
    }

    /// The lease after each change since `version`; `None` when it was deleted. It ends now and then, as watches do.
    pub fn watch(&self, name: &str, version: &str) -> BoxStream<'static, Result<Option<Value>, ApiError>> {
        let only = WatchParams::default().fields(&format!("metadata.name={name}"));
        let (client, request) = (self.client.clone(), self.request.watch(&only, version));
        let path = self.path(name);
        let events = async move {
            let request = request.map_err(kube::Error::BuildRequest)?;
            let events = client.request_events::<Value>(request).await?;
            Ok(events.boxed())
        };
        let lease = |event| match event {
            Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => Some(Ok(Some(lease))),
            Ok(WatchEvent::Deleted(_)) => Some(Ok(None)),
            Ok(WatchEvent::Bookmark(_)) => None,
            Ok(WatchEvent::Error(status)) => Some(Err(kube::Error::Api(status))),
            Err(error) => Some(Err(error)),
        };
        let events = events.try_flatten_stream().filter_map(move |event| {
            let sort = |error| ApiError::from_kube("watch", GROUP, LEASES, &path, error);
            ready(lease(event).map(|lease| lease.map_err(sort)))
        });
        events.boxed()
    }

    async fn send(
        &self,
        verb: &'static str,
        name: &str,
        request: Result<http::Request<Vec<u8>>, request::Error>,
        deadline: Instant,
    ) -> Result<Value, ApiError> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let answer = async {
            let request = request.map_err(kube::Error::BuildRequest)?;
            self.client.request(request).await
        };
        match timeout_at(deadline, answer).await {
            Ok(answer) => {
                answer.map_err(|error| ApiError::from_kube(verb, GROUP, LEASES, &self.path(name), error))
            }
            Err(_) => Err(ApiError::late(verb, GROUP, LEASES, &self.path(name), limit)),
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }
}
