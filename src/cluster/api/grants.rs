//! ReferenceGrants: few claims name something in another namespace, so the grants there are read when they are needed,
//! and not watched.

use kube::{Api, api::ListParams};

use super::ApiClient;
use crate::{
    base::api_error::ApiError,
    cluster::{
        decode::{Decoded, Object as _},
        grant::ReferenceGrant,
    },
};

impl ApiClient {
    /// The grants of a namespace, `None` where the server does not know the kind. One that is not what the API promises
    /// grants nothing.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn reference_grants(&self, namespace: &str) -> Result<Option<Vec<ReferenceGrant>>, ApiError> {
        let (group, plural) = (ReferenceGrant::GROUP, ReferenceGrant::PLURAL);
        let api = Api::<Decoded<ReferenceGrant>>::namespaced_with(self.client.clone(), namespace, &());
        let all = ListParams::default();
        let list = self.ask("list", group, plural, namespace, api.list(&all)).await;
        let grants =
            ApiError::found(list)?.map(|list| list.items.into_iter().filter_map(|it| it.object.ok()));
        Ok(grants.map(Iterator::collect))
    }
}
