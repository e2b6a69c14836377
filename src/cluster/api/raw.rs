//! Objects that are read as they are at this moment and written back whole.
//!
//! Most are read by a list that is limited to a name, and all are written by PUT as the raw object with the resourceVersion
//! that was read: the roles that operators have installed grant list and update, not always get and patch, and a typed
//! copy would drop what it does not know.

use kube::{
    api::{ListParams, PostParams},
    core::{Request, request},
};
use serde::Deserialize;
use serde_json::Value;

use super::ApiClient;
use crate::{base::api_error::ApiError, cluster::active::Active};

/// A kind of object that has a namespace.
pub(super) struct Collection {
    /// "" for core. The version is v1.
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
}

impl Collection {
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        }
    }

    pub(super) fn path(&self, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}", self.root(), self.plural)
    }

    /// Of the objects in all namespaces.
    pub(super) fn path_of_all(&self) -> String {
        format!("{}/{}", self.root(), self.plural)
    }

    fn root(&self) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}", self.api_version())
    }
}

#[derive(Deserialize)]
struct RawList {
    items: Vec<Value>,
}

/// An object as the server has written it.
#[derive(Deserialize)]
struct WrittenObject {
    metadata: WrittenMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMeta {
    resource_version: String,
}

impl ApiClient {
    /// The object of this name, `None` if there is none.
    pub(super) async fn read_raw(
        &self,
        of: &Collection,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        let place = format!("{namespace}/{name}");
        let by_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let request = Request::new(of.path(namespace))
            .list(&by_name)
            .map_err(|error| ApiError::odd("list", of.plural, &place, &error.to_string()))?;
        let list = self.client.request::<RawList>(request);
        let mut list = self.ask("list", of.group, of.plural, &place, list).await?;
        Ok(list.items.pop().map(|mut object| {
            // Items of a list carry neither.
            object["apiVersion"] = of.api_version().into();
            object["kind"] = of.kind.into();
            object
        }))
    }

    /// As [`ApiClient::read_raw`], of a kind that the roles grant `get` for.
    pub(super) async fn get_raw(
        &self,
        of: &Collection,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        let place = format!("{namespace}/{name}");
        let read = self.read(of.group, of.plural, of.path(namespace), &place, name);
        ApiError::found(read.await)
    }

    /// Writes an object that was read, and returns its new resourceVersion. `None`: we are not active any more, and
    /// nothing was sent, or it was given up.
    pub(super) async fn put_raw(
        &self,
        of: &Collection,
        namespace: &str,
        name: &str,
        object: &Value,
        active: &Active,
    ) -> Result<Option<String>, ApiError> {
        let put = |body| Request::new(of.path(namespace)).replace(name, &PostParams::default(), body);
        let place = format!("{namespace}/{name}");
        self.write("update", of, &place, object, put, active).await
    }

    /// Creates an object, and returns its resourceVersion, as [`ApiClient::put_raw`] does.
    pub(super) async fn post_raw(
        &self,
        of: &Collection,
        namespace: &str,
        name: &str,
        object: &Value,
        active: &Active,
    ) -> Result<Option<String>, ApiError> {
        let post = |body| Request::new(of.path(namespace)).create(&PostParams::default(), body);
        let place = format!("{namespace}/{name}");
        self.write("create", of, &place, object, post, active).await
    }

    async fn write(
        &self,
        verb: &'static str,
        of: &Collection,
        place: &str,
        object: &Value,
        request: impl FnOnce(Vec<u8>) -> Result<http::Request<Vec<u8>>, request::Error>,
        active: &Active,
    ) -> Result<Option<String>, ApiError> {
        let request = request(object.to_string().into_bytes())
            .map_err(|error| ApiError::odd(verb, of.plural, place, &error.to_string()))?;
        let write = async {
            // The rate limiter may have held the request back for long, so this is where it is looked.
            if !active.is_set() {
                return Ok(None);
            }
            let written = active.while_leading(self.client.request::<WrittenObject>(request));
            let written = written.await.transpose()?;
            Ok(written.map(|written| written.metadata.resource_version))
        };
        self.ask(verb, of.group, of.plural, place, write).await
    }
}
