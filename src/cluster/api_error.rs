//! From an error of kube to an [`ApiError`].

use std::borrow::Cow;

use crate::base::{
    api_error::{ApiError, Reason, classify},
    causes::chain,
};

impl ApiError {
    /// Sorts an error of kube. `name` is the object, `namespace/name` where it has one, "" for a collection.
    pub(super) fn from_kube(
        verb: &'static str,
        group: impl Into<Cow<'static, str>>,
        resource: impl Into<Cow<'static, str>>,
        name: &str,
        error: kube::Error,
    ) -> Self {
        let (reason, text) = match error {
            kube::Error::Api(status) => {
                let details = status.details.as_ref();
                let retry_after = details.map_or(0, |details| details.retry_after_seconds);
                classify(status.code, &status.reason, &status.message, retry_after)
            }
            // The body is not what the API serves: a proxy in between, or no API server at all.
            kube::Error::SerdeError(error) => (
                Reason::Unavailable,
                format!("the answer is not Kubernetes: {error}"),
            ),
            kube::Error::Service(error) => (Reason::Unavailable, chain(error.as_ref())),
            error => (Reason::Unavailable, chain(&error)),
        };
        Self::new(reason, verb, group, resource, name, text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::{Status, response::StatusDetails};

    use super::*;
    use crate::base::api_error::FLOW_CONTROL;

    #[test]
    fn a_status_keeps_its_reason_its_message_and_its_pause() {
        let status = |code, reason: &str, retry_after_seconds| Status {
            code,
            reason: reason.to_owned(),
            message: "m".to_owned(),
            details: Some(StatusDetails {
                name: String::new(),
                group: String::new(),
                kind: String::new(),
                uid: String::new(),
                causes: Vec::new(),
                retry_after_seconds,
            }),
            ..Status::default()
        };
        let rows = [
            (
                status(409, "AlreadyExists", 0),
                Reason::AlreadyExists,
                "get secrets ns/x: m",
            ),
            (
                status(429, FLOW_CONTROL, 7),
                Reason::TooManyRequests(Duration::from_secs(7)),
                "get secrets ns/x: m (HTTP 429)",
            ),
        ];
        for (status, reason, text) in rows {
            let error = ApiError::from_kube("get", "", "secrets", "ns/x", kube::Error::Api(Box::new(status)));
            assert_eq!((error.reason, error.to_string().as_str()), (reason, text));
        }
    }
}
