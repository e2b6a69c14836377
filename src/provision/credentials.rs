//! The secret of a request: read before each call, never written anywhere.

use super::{reconcile::Provision, record::SecretData};
use crate::base::{
    api_error::{ApiError, Reason},
    secrets::SecretRef,
};

/// Why the secret of a request is not to be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretUnavailable {
    #[error("provisioner secret {0} not found: create it, or correct the storage class")]
    Missing(String),
    #[error("provisioner secret: {0}")]
    Api(ApiError),
}

impl SecretUnavailable {
    /// Whether the secret is gone, or the right to read it, which goes away with a namespace. Anything else may pass.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Missing(_) => true,
            Self::Api(error) => error.reason == Reason::Forbidden,
        }
    }
}

impl Provision {
    pub(super) async fn secrets(
        &self,
        reference: Option<&SecretRef>,
    ) -> Result<SecretData, SecretUnavailable> {
        let Some(SecretRef { namespace, name }) = reference else {
            return Ok(SecretData::default());
        };
        match self.api.secret(namespace, name).await {
            Ok(Some(data)) => Ok(SecretData::new(data)),
            Ok(None) => Err(SecretUnavailable::Missing(format!("{namespace}/{name}"))),
            Err(error) => Err(SecretUnavailable::Api(error)),
        }
    }
}
