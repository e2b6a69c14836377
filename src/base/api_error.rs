//! Pure. Why the API server did not do what it was asked: a small closed set instead of every error that a client can
//! make.

use std::{borrow::Cow, fmt, time::Duration};

/// A request to the API server that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// What kind of failure it was.
    pub reason: Reason,
    verb: &'static str,
    group: Cow<'static, str>,
    resource: Cow<'static, str>,
    // Boxed, because this is in many a Result.
    name: Box<str>,
    text: Box<str>,
}

/// The kinds of failure that are told apart.
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
    /// 429 of the server's flow control, with the pause that it wants from all requests.
    TooManyRequests(Duration),
    /// 429 with a Status: this one request is refused for now, for instance by an admission webhook.
    RetryLater,
    /// 410: the resourceVersion is too old.
    Expired,
    /// 5xx, a cut connection, a deadline: it may or may not have been done.
    Unavailable,
    /// It was not sent, or given up, because this replica does not lead any more. That is no failure: who leads now goes
    /// on.
    NotLeading,
}

impl ApiError {
    /// `name` is the object, `namespace/name` where it has one, "" for a collection. `text` is what was said.
    pub(crate) fn new(
        reason: Reason,
        verb: &'static str,
        group: impl Into<Cow<'static, str>>,
        resource: impl Into<Cow<'static, str>>,
        name: &str,
        text: String,
    ) -> Self {
        Self {
            reason,
            verb,
            group: group.into(),
            resource: resource.into(),
            name: name.into(),
            text: text.into(),
        }
    }

    /// What was read. That it does not exist is no failure.
    pub(crate) fn found<T>(answer: Result<T, Self>) -> Result<Option<T>, Self> {
        match answer {
            Err(error) if error.reason == Reason::NotFound => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// The answer made no sense.
    pub(crate) fn odd(
        verb: &'static str,
        resource: impl Into<Cow<'static, str>>,
        name: &str,
        text: &str,
    ) -> Self {
        Self::new(Reason::Unavailable, verb, "", resource, name, text.to_owned())
    }

    /// The deadline of a request passed.
    pub(crate) fn late(
        verb: &'static str,
        group: impl Into<Cow<'static, str>>,
        resource: impl Into<Cow<'static, str>>,
        name: &str,
        limit: Duration,
    ) -> Self {
        let text = format!("no answer within {} s", limit.as_millis().div_ceil(1000));
        Self::new(Reason::Unavailable, verb, group, resource, name, text)
    }

    /// See [`Reason::NotLeading`].
    pub(crate) fn not_leading(
        verb: &'static str,
        group: impl Into<Cow<'static, str>>,
        resource: impl Into<Cow<'static, str>>,
        name: &str,
    ) -> Self {
        let text = "not sent or given up, this replica does not lead any more".to_owned();
        Self::new(Reason::NotLeading, verb, group, resource, name, text)
    }

    pub(crate) fn with_verb(self, verb: &'static str) -> Self {
        Self { verb, ..self }
    }
}

/// The reason in the Status that the client makes of a 429 that has none.
pub(crate) const FLOW_CONTROL: &str = "FlowControl";

/// Sorts a refusal of the API server, and words it: the HTTP code, the reason and message of its Status object, and the
/// seconds after which it wants to be asked again, 0 if it does not say.
pub(crate) fn classify(code: u16, reason: &str, message: &str, retry_after: u32) -> (Reason, String) {
    let kind = match code {
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        409 if reason == "AlreadyExists" => Reason::AlreadyExists,
        409 => Reason::Conflict,
        410 => Reason::Expired,
        429 if reason == FLOW_CONTROL => {
            Reason::TooManyRequests(Duration::from_secs(retry_after.clamp(1, 60).into()))
        }
        429 => Reason::RetryLater,
        400 | 405 | 413 | 415 | 422 => Reason::Invalid,
        _ => Reason::Unavailable,
    };
    let text = match (message, code) {
        ("", code) => format!("HTTP {code} {reason}"),
        (message, 401 | 429) => format!("{message} (HTTP {code})"),
        (message, _) => message.to_owned(),
    };
    (kind, text)
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
            // Only a kind that is not served can be missing as a whole.
            Reason::NotFound if name.is_empty() => {
                write!(f, "; this API server does not serve {resource} of {group}/v1")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn each_code_has_its_kind() {
        let rows = [
            (400, "", 0, Reason::Invalid),
            (401, "", 0, Reason::Unauthorized),
            (403, "", 0, Reason::Forbidden),
            (404, "", 0, Reason::NotFound),
            (409, "AlreadyExists", 0, Reason::AlreadyExists),
            (409, "Conflict", 0, Reason::Conflict),
            (410, "", 0, Reason::Expired),
            (422, "", 0, Reason::Invalid),
            (429, FLOW_CONTROL, 0, Reason::TooManyRequests(S(1))),
            (429, FLOW_CONTROL, 7, Reason::TooManyRequests(S(7))),
            (429, FLOW_CONTROL, 3600, Reason::TooManyRequests(S(60))),
            (429, "TooManyRequests", 7, Reason::RetryLater),
            (500, "", 0, Reason::Unavailable),
            (503, "", 7, Reason::Unavailable),
        ];
        for (code, reason, retry_after, expected) in rows {
            let (kind, _) = classify(code, reason, "m", retry_after);
            assert_eq!(kind, expected, "{code} {reason}");
        }
    }

    #[test]
    fn the_text_has_the_code_where_the_message_does_not_tell() {
        let rows = [
            (404, "NotFound", "not there", "not there"),
            (404, "NotFound", "", "HTTP 404 NotFound"),
            (401, "Unauthorized", "Unauthorized", "Unauthorized (HTTP 401)"),
            (429, "TooManyRequests", "slow down", "slow down (HTTP 429)"),
        ];
        for (code, reason, message, expected) in rows {
            assert_eq!(classify(code, reason, message, 0).1, expected);
        }
    }

    #[test]
    fn a_missing_right_names_the_rule_to_add() {
        let text = "volumeattachments.storage.k8s.io is forbidden: User \"u\" cannot list resource";
        let (group, resource) = ("storage.k8s.io", "volumeattachments");
        let error = ApiError::new(Reason::Forbidden, "list", group, resource, "", text.to_owned());
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
        let text = "exceeded quota".to_owned();
        let error = ApiError::new(
            Reason::Forbidden,
            "create",
            "",
            "persistentvolumes",
            "pvc-1",
            text,
        );
        assert_eq!(
            error.to_string(),
            "create persistentvolumes pvc-1: exceeded quota"
        );
    }

    #[test]
    fn a_deadline_is_rounded_up_to_whole_seconds() {
        for (limit, expected) in [(S(30), "30 s"), (Duration::from_millis(300), "1 s")] {
            let error = ApiError::late("get", "", "secrets", "ns/x", limit);
            assert_eq!(error.reason, Reason::Unavailable);
            assert_eq!(
                error.to_string(),
                format!("get secrets ns/x: no answer within {expected}")
            );
        }
    }
}
