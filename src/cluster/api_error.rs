//! Why the API server did not do what it was asked: a small closed world instead of every error kube can make.

use std::{fmt, time::Duration};

use kube::core::Status;

use crate::base::causes::chain;

/// A request to the API server that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// What kind of refusal it was.
    pub reason: Reason,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: String,
    text: String,
}

/// The kinds of refusal that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// 404
    NotFound,
    /// 409 on create.
    AlreadyExists,
    /// 409 otherwise: somebody else wrote in between, or a precondition does not hold.
    Conflict,
    /// 401: the credentials are not accepted.
    Unauthorized,
    /// 403: a rule is missing, or an admission plugin or quota said no.
    Forbidden,
    /// 400, 413, 415, 422: the same request can never succeed.
    Invalid,
    /// 429, with the pause the server asked for.
    TooManyRequests(Duration),
    /// 410: the resourceVersion is too old.
    Expired,
    /// 5xx, a cut connection, a deadline: it may or may not have been done.
    Unavailable,
}

impl ApiError {
    /// Sorts an error of kube. `name` is the object, `namespace/name` where it has one, "" for a collection.
    pub(super) fn from_kube(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        name: &str,
        error: kube::Error,
    ) -> Self {
        let (reason, text) = match error {
            kube::Error::Api(status) => (Reason::from_status(&status), status_text(&status)),
            // The body is not what the API serves: a proxy in between, or no API server at all.
            kube::Error::SerdeError(error) => (
                Reason::Unavailable,
                format!("the answer is not Kubernetes: {error}"),
            ),
            kube::Error::Service(error) => (Reason::Unavailable, chain(error.as_ref())),
            error => (Reason::Unavailable, chain(&error)),
        };
        Self {
            reason,
            verb,
            group,
            resource,
            name: name.to_owned(),
            text,
        }
    }

    /// The answer made no sense.
    pub(super) fn odd(verb: &'static str, resource: &'static str, name: &str, text: &str) -> Self {
        let (name, text) = (name.to_owned(), text.to_owned());
        Self {
            reason: Reason::Unavailable,
            verb,
            group: "",
            resource,
            name,
            text,
        }
    }

    /// The deadline of a request passed.
    pub(super) fn late(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        name: &str,
        limit: Duration,
    ) -> Self {
        let text = format!("no answer within {} s", limit.as_secs());
        Self {
            reason: Reason::Unavailable,
            verb,
            group,
            resource,
            name: name.to_owned(),
            text,
        }
    }

    pub(super) fn with_verb(self, verb: &'static str) -> Self {
        Self { verb, ..self }
    }
}

impl Reason {
    fn from_status(status: &Status) -> Self {
        match status.code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 if status.reason == "AlreadyExists" => Self::AlreadyExists,
            409 => Self::Conflict,
            410 => Self::Expired,
            429 => Self::TooManyRequests(retry_after(status)),
            400 | 405 | 413 | 415 | 422 => Self::Invalid,
            _ => Self::Unavailable,
        }
    }
}

fn retry_after(status: &Status) -> Duration {
    let seconds = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.clamp(1, 60).into())
}

fn status_text(status: &Status) -> String {
    match (status.message.as_str(), status.code) {
        ("", code) => format!("HTTP {code} {}", status.reason),
        (message, code @ (401 | 429)) => format!("{message} (HTTP {code})"),
        (message, _) => message.to_owned(),
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            verb,
            group,
            resource,
            name,
            text,
        } = self;
        write!(f, "{verb} {resource}")?;
        if !name.is_empty() {
            write!(f, " {name}")?;
        }
        write!(f, ": {text}")?;
        match reason {
            Reason::Unauthorized => write!(f, "; check the token or the kubeconfig this process uses"),
            // Only a refusal by RBAC names the user; a quota or webhook says no with the same code.
            Reason::Forbidden if text.contains("cannot ") => write!(
                f,
                "; add to its role: apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]"
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> kube::Error {
        let (reason, message) = (reason.into(), message.into());
        kube::Error::Api(Box::new(Status {
            code,
            reason,
            message,
            ..Status::default()
        }))
    }

    #[test]
    fn each_code_has_its_kind() {
        let second = Duration::from_secs(1);
        let cases = [
            (400, "", Reason::Invalid),
            (401, "", Reason::Unauthorized),
            (403, "", Reason::Forbidden),
            (404, "", Reason::NotFound),
            (409, "AlreadyExists", Reason::AlreadyExists),
            (409, "Conflict", Reason::Conflict),
            (410, "", Reason::Expired),
            (422, "", Reason::Invalid),
            (429, "", Reason::TooManyRequests(second)),
            (500, "", Reason::Unavailable),
            (503, "", Reason::Unavailable),
        ];
        for (code, reason, expected) in cases {
            let error = ApiError::from_kube("get", "", "secrets", "ns/x", status(code, reason, "m"));
            assert_eq!(error.reason, expected, "{code} {reason}");
        }
    }

    #[test]
    fn a_missing_right_names_the_rule_to_add() {
        let text = "volumeattachments.storage.k8s.io is forbidden: User \"u\" cannot list resource";
        let error = ApiError::from_kube(
            "list",
            "storage.k8s.io",
            "volumeattachments",
            "",
            status(403, "Forbidden", text),
        );
        assert_eq!(
            error.to_string(),
            format!(
                "list volumeattachments: {text}; add to its role: apiGroups: [\"storage.k8s.io\"], \
                 resources: [\"volumeattachments\"], verbs: [\"list\"]"
            )
        );
    }

    #[test]
    fn a_quota_is_not_mistaken_for_a_missing_right() {
        let error = ApiError::from_kube(
            "create",
            "",
            "persistentvolumes",
            "pvc-1",
            status(403, "Forbidden", "exceeded quota"),
        );
        assert_eq!(
            error.to_string(),
            "create persistentvolumes pvc-1: exceeded quota"
        );
    }
}
