//! The three requests without which there is no election: get, create, update. An update is a PUT with the
//! resourceVersion that we read.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::{GetParams, PostParams, Request};
use kube::core::Resource as _;
use serde_json::Value;

use crate::base::causes::chain;

/// Why the lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody wrote it since we read it; not a fault, it is how a race for the lease ends.
    #[error("cannot {verb} lease {lease}: somebody else wrote it meanwhile")]
    Conflict {
        /// get, create or update.
        verb: &'static str,
        /// Namespace and name.
        lease: String,
    },
    /// Our account may not.
    #[error(
        "cannot {verb} lease {lease}: not allowed ({message}); \
         add a rule with apiGroups [coordination.k8s.io], resources [leases], verbs [get, watch, create, update] \
         to a Role in that namespace for this pod's service account"
    )]
    Forbidden {
        /// get, create or update.
        verb: &'static str,
        /// Namespace and name.
        lease: String,
        /// What the API server said.
        message: String,
    },
    /// The API server refused for another reason, or was not reached.
    #[error("cannot {verb} lease {lease}: {reason}; it will be tried again")]
    Failed {
        /// get, create or update.
        verb: &'static str,
        /// Namespace and name.
        lease: String,
        /// What was said.
        reason: String,
    },
    /// No answer in time; a write may have happened all the same.
    #[error("lease {lease}: no answer from the API server in time; it will be tried again")]
    TimedOut {
        /// Namespace and name.
        lease: String,
    },
}

/// One Lease object at the API server.
pub(super) struct LeaseApi {
    pub(super) client: Client,
    pub(super) request: Request,
    namespace: String,
    pub(super) name: String,
}

impl LeaseApi {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        let request = Request::new(Lease::url_path(&(), Some(namespace)));
        Self {
            client,
            request,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Namespace and name, as people write it.
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The object as it is, or `None` when there is none.
    pub(super) async fn get(&self) -> Result<Option<Value>, LeaseError> {
        match self
            .send("get", self.request.get(&self.name, &GetParams::default()))
            .await
        {
            Err(Refused::Missing(_)) => Ok(None),
            done => Ok(Some(done?)),
        }
    }

    pub(super) async fn create(&self, lease: &Value) -> Result<Value, LeaseError> {
        Ok(self
            .send(
                "create",
                self.request
                    .create(&PostParams::default(), lease.to_string().into_bytes()),
            )
            .await?)
    }

    /// `lease` carries the resourceVersion of the object that it replaces.
    pub(super) async fn update(&self, lease: &Value) -> Result<Value, LeaseError> {
        let request =
            self.request
                .replace(&self.name, &PostParams::default(), lease.to_string().into_bytes());
        Ok(self.send("update", request).await?)
    }

    async fn send(
        &self,
        verb: &'static str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, Refused> {
        let lease = self.path();
        let failed = |reason: String| LeaseError::Failed {
            verb,
            lease: lease.clone(),
            reason,
        };
        let request = request.map_err(|error| failed(error.to_string()))?;
        self.client.request(request).await.map_err(|error| match error {
            kube::Error::Api(status) => match status.code {
                404 => Refused::Missing(failed(status.message)),
                // Also the answer to a create that came second.
                409 => LeaseError::Conflict {
                    verb,
                    lease: lease.clone(),
                }
                .into(),
                403 => LeaseError::Forbidden {
                    verb,
                    lease: lease.clone(),
                    message: status.message,
                }
                .into(),
                code => failed(format!("the API server answered {code}: {}", status.message)).into(),
            },
            other => failed(chain(&other)).into(),
        })
    }
}

/// Tells "there is none" apart, which is an answer for a read and a failure for a write.
enum Refused {
    Missing(LeaseError),
    Other(LeaseError),
}

impl From<LeaseError> for Refused {
    fn from(error: LeaseError) -> Self {
        Self::Other(error)
    }
}

impl From<Refused> for LeaseError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Missing(error) | Refused::Other(error) => error,
        }
    }
}
