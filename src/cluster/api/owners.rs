//! Whom the sidecar's pod belongs to: the controllers above it, one level at a time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    APIResource, APIResourceList, ObjectMeta, OwnerReference,
};
use kube::{api::GetParams, core::Request};
use serde::{Deserialize, de::DeserializeOwned};

use super::ApiClient;
use crate::base::api_error::ApiError;

/// Why an owner is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No controller is above an object.
    #[error(
        "{kind} {namespace}/{name}, which is {level} levels above the pod, belongs to no controller, so nothing is \
         {asked} levels above the pod"
    )]
    ChainEnds {
        /// Kind of the last object.
        kind: String,
        /// Where all of them are.
        namespace: String,
        /// Its name.
        name: String,
        /// How far above the pod it is.
        level: u32,
        /// How far above the pod the owner was to be.
        asked: u32,
    },
    /// The kind of an owner is not served.
    #[error("the API server does not say how to read the kind {kind} of {api_version}")]
    UnknownKind {
        /// As the reference says.
        api_version: String,
        /// As the reference says.
        kind: String,
    },
}

/// An object, of which only the metadata matters.
#[derive(Deserialize)]
struct Owned {
    metadata: ObjectMeta,
}

impl ApiClient {
    /// The owner `level` levels above a pod: 0 is the pod itself, 1 its controller. The last one is taken from the
    /// reference to it, and not read.
    ///
    /// # Errors
    /// [`OwnerError`]
    pub async fn owner(&self, namespace: &str, pod: &str, level: u32) -> Result<OwnerReference, OwnerError> {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let mut owned: Owned = self
            .read("", "pods", path, &format!("{namespace}/{pod}"), pod)
            .await?;
        let mut here = controller("v1", "Pod", pod, owned.metadata.uid.clone().unwrap_or_default());
        for reached in 0..level {
            let mut references = owned
                .metadata
                .owner_references
                .take()
                .unwrap_or_default()
                .into_iter();
            let Some(above) = references.find(|above| above.controller == Some(true)) else {
                return Err(OwnerError::ChainEnds {
                    kind: here.kind,
                    namespace: namespace.to_owned(),
                    name: here.name,
                    level: reached,
                    asked: level,
                });
            };
            here = controller(&above.api_version, &above.kind, &above.name, above.uid);
            if reached + 1 < level {
                owned = self.read_owner(namespace, &here).await?;
            }
        }
        Ok(here)
    }

    async fn read_owner(&self, namespace: &str, owner: &OwnerReference) -> Result<Owned, OwnerError> {
        let OwnerReference {
            api_version,
            kind,
            name,
            ..
        } = owner;
        let (root, group) = match api_version.split_once('/') {
            Some((group, _)) => ("/apis", group),
            None => ("/api", ""),
        };
        let served: APIResourceList = self
            .read(
                "",
                root.trim_start_matches('/'),
                root.to_owned(),
                api_version,
                api_version,
            )
            .await?;
        let is_it = |resource: &&APIResource| resource.kind == *kind && !resource.name.contains('/');
        let Some(resource) = served.resources.iter().find(is_it) else {
            return Err(OwnerError::UnknownKind {
                api_version: api_version.clone(),
                kind: kind.clone(),
            });
        };
        let plural = &resource.name;
        let (path, place) = match resource.namespaced {
            true => (
                format!("{root}/{api_version}/namespaces/{namespace}/{plural}"),
                format!("{namespace}/{name}"),
            ),
            false => (format!("{root}/{api_version}/{plural}"), name.clone()),
        };
        Ok(self.read(group, plural, path, &place, name).await?)
    }

    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        group: &str,
        resource: &str,
        path: String,
        place: &str,
        name: &str,
    ) -> Result<T, ApiError> {
        let request = Request::new(path)
            .get(name, &GetParams::default())
            .map_err(|error| ApiError::odd("get", resource.to_owned(), place, &error.to_string()))?;
        let get = self.client.request::<T>(request);
        self.ask("get", group.to_owned(), resource.to_owned(), place, get)
            .await
    }
}

fn controller(api_version: &str, kind: &str, name: &str, uid: String) -> OwnerReference {
    OwnerReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid,
        controller: Some(true),
        block_owner_deletion: None,
    }
}
