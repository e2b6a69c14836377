//! VolumeSnapshots and their contents, as they are at this moment.
//!
//! They are read by get: the roles that operators have installed grant that, and only some grant more.

use kube::Api;

use super::ApiClient;
use crate::{
    base::api_error::ApiError,
    cluster::source::{Snapshot, SnapshotContent},
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
}
