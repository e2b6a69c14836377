//! VolumeSnapshots and their contents, as they are at this moment.
//!
//! They are read by get: the roles that operators have installed grant that, and only some grant more.

use kube::Api;

use super::ApiClient;
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{
        decode::{Decoded, Object},
        source::{Snapshot, SnapshotContent},
    },
};

impl ApiClient {
    /// A VolumeSnapshot.
    ///
    /// # Errors
    /// [`ApiError`]; one that does not exist is `Ok(None)`, also where the server does not know the kind.
    pub async fn snapshot(&self, namespace: &str, name: &str) -> Result<Option<Snapshot>, ApiError> {
        let api = Api::namespaced_with(self.client.clone(), namespace, &());
        self.read_lean(api, &format!("{namespace}/{name}"), name).await
    }

    /// A VolumeSnapshotContent.
    ///
    /// # Errors
    /// As for [`ApiClient::snapshot`].
    pub async fn snapshot_content(&self, name: &str) -> Result<Option<SnapshotContent>, ApiError> {
        self.read_lean(Api::all(self.client.clone()), name, name).await
    }

    async fn read_lean<R: Object>(
        &self,
        api: Api<Decoded<R>>,
        place: &str,
        name: &str,
    ) -> Result<Option<R>, ApiError> {
        match self.ask("get", R::GROUP, R::PLURAL, place, api.get(name)).await {
            Ok(decoded) => decoded
                .object
                .map(Some)
                .map_err(|_| ApiError::odd("get", R::PLURAL, place, "it is not what the API promises")),
            Err(error) if error.reason == Reason::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
