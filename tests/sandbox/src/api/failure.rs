//! The `Status` objects a real API server answers with when it refuses: the
//! same codes, reasons, texts and details, because clients read all four.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, Status, StatusCause, StatusDetails};

use super::kinds::Kind;

/// A refusal, boxed because `Result`s carry it everywhere.
pub(crate) type Refusal = Box<Status>;

/// One field that validation objects to.
pub(crate) struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Cause {
    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = match detail {
            "" => "Required value".to_owned(),
            detail => format!("Required value: {detail}"),
        };
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            message,
        }
    }

    pub(crate) fn invalid(field: impl Into<String>, value: &str, detail: &str) -> Self {
        let message = format!("Invalid value: {value}: {detail}");
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message,
        }
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        let message = format!("Forbidden: {detail}");
        Self {
            reason: "FieldValueForbidden",
            field: field.into(),
            message,
        }
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &str) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {value:?}"),
        }
    }

    pub(crate) fn unsupported(field: impl Into<String>, value: &str, allowed: &[&str]) -> Self {
        let allowed: Vec<_> = allowed.iter().map(|a| format!("{a:?}")).collect();
        let message = format!(
            "Unsupported value: {value:?}: supported values: {}",
            allowed.join(", ")
        );
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message,
        }
    }

    /// As printed for a map that lacks its one allowed key.
    pub(crate) fn unsupported_null(field: &str, allowed: &str) -> Self {
        let message = format!("Unsupported value: null: supported values: {allowed:?}");
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message,
        }
    }

    pub(crate) fn too_long(field: &str, bytes: usize) -> Self {
        let message = format!("Too long: may not be more than {bytes} bytes");
        Self {
            reason: "FieldValueTooLong",
            field: field.into(),
            message,
        }
    }

    fn text(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

/// A failure without details, as authentication and broken requests get.
pub(crate) fn bare(code: u16, reason: &str, message: impl Into<String>) -> Refusal {
    Box::new(Status {
        code: Some(code.into()),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: Some(message.into()),
        status: Some("Failure".into()),
        metadata: ListMeta::default(),
        details: None,
    })
}

fn about(code: u16, reason: &str, kind: &Kind, name: &str, message: String) -> Refusal {
    let mut status = bare(code, reason, message);
    status.details = Some(StatusDetails {
        group: (!kind.group.is_empty()).then(|| kind.group.to_owned()),
        kind: Some(kind.plural.to_owned()),
        name: (!name.is_empty()).then(|| name.to_owned()),
        ..StatusDetails::default()
    });
    status
}

pub(crate) fn bad_request(message: impl Into<String>) -> Refusal {
    bare(400, "BadRequest", message)
}

pub(crate) fn not_found(kind: &Kind, name: &str) -> Refusal {
    about(
        404,
        "NotFound",
        kind,
        name,
        format!("{} {name:?} not found", kind.qualified()),
    )
}

/// A namespace that an object should be created in.
pub(crate) fn bare_not_found(plural: &str, name: &str) -> Refusal {
    let mut status = bare(404, "NotFound", format!("{plural} {name:?} not found"));
    status.details = Some(StatusDetails {
        kind: Some(plural.to_owned()),
        name: Some(name.to_owned()),
        ..StatusDetails::default()
    });
    status
}

pub(crate) fn already_exists(kind: &Kind, name: &str) -> Refusal {
    let message = format!("{} {name:?} already exists", kind.qualified());
    about(409, "AlreadyExists", kind, name, message)
}

pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Refusal {
    let message = format!(
        "Operation cannot be fulfilled on {} {name:?}: {why}",
        kind.qualified()
    );
    about(409, "Conflict", kind, name, message)
}

/// A precondition of a DELETE that does not hold. The real server names the kind here, not the resource.
pub(crate) fn precondition(kind: &Kind, name: &str, why: &str) -> Refusal {
    let mut status = conflict(kind, name, why);
    status.message = Some(format!(
        "Operation cannot be fulfilled on {} {name:?}: {why}",
        kind.qualified_kind()
    ));
    if let Some(details) = &mut status.details {
        details.kind = Some(kind.kind.to_owned());
    }
    status
}

pub(crate) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Refusal {
    let texts: Vec<_> = causes.iter().map(Cause::text).collect();
    let list = match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let message = format!("{} {name:?} is invalid: {list}", kind.qualified_kind());
    let mut status = about(422, "Invalid", kind, name, message);
    if let Some(details) = &mut status.details {
        details.kind = Some(kind.kind.to_owned());
        details.causes = Some(causes.iter().map(StatusCause::from).collect());
    }
    status
}

/// The Lease strategy refuses a PUT without a resourceVersion; unlike other
/// validation the real server names the resource here.
pub(crate) fn unversioned(kind: &Kind, name: &str) -> Refusal {
    let cause = Cause::invalid("metadata.resourceVersion", "0", "must be specified for an update");
    let message = format!("{} {name:?} is invalid: {}", kind.qualified(), cause.text());
    let mut status = about(422, "Invalid", kind, name, message);
    if let Some(details) = &mut status.details {
        details.causes = Some(vec![StatusCause::from(&cause)]);
    }
    status
}

/// Query parameters that contradict each other.
pub(crate) fn bad_options(field: &str, detail: &str) -> Refusal {
    let cause = Cause::forbidden(field, detail);
    let mut status = bare(
        422,
        "Invalid",
        format!("ListOptions.meta.k8s.io \"\" is invalid: {}", cause.text()),
    );
    status.details = Some(StatusDetails {
        group: Some("meta.k8s.io".into()),
        kind: Some("ListOptions".into()),
        causes: Some(vec![StatusCause::from(&cause)]),
        ..StatusDetails::default()
    });
    status
}

/// What a patch gets that does not apply: no word about which operation.
pub(crate) fn unappliable() -> Refusal {
    let mut status = bare(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    );
    status.details = Some(StatusDetails::default());
    status
}

/// Custom resources have no strategic merge patch.
pub(crate) fn no_strategic_patch() -> Refusal {
    let text = "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    bare(415, "UnsupportedMediaType", text)
}

pub(crate) fn forbidden(
    user: &str,
    verb: &str,
    kind: &Kind,
    subresource: &str,
    namespace: Option<&str>,
    name: &str,
) -> Refusal {
    let subject = match name {
        "" => kind.qualified(),
        name => format!("{} {name:?}", kind.qualified()),
    };
    let resource = match subresource {
        "" => kind.plural.to_owned(),
        sub => format!("{}/{sub}", kind.plural),
    };
    let scope = match namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{subject} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group {:?} {scope}",
        kind.group
    );
    about(403, "Forbidden", kind, name, message)
}

/// Admission does not let it in.
pub(crate) fn forbidden_because(kind: &Kind, name: &str, why: &str) -> Refusal {
    let message = format!("{} {name:?} is forbidden: {why}", kind.qualified());
    about(403, "Forbidden", kind, name, message)
}

/// The revision asked for is not remembered any more.
pub(crate) fn expired(message: impl Into<String>) -> Refusal {
    bare(410, "Expired", message)
}

/// The sandbox's own answer: no contract case vouches for this request.
pub(crate) fn not_served(what: &str) -> Refusal {
    bare(
        501,
        "NotImplemented",
        format!("the sandbox does not serve {what}: no contract case covers it"),
    )
}

impl From<&Cause> for StatusCause {
    fn from(cause: &Cause) -> Self {
        Self {
            field: Some(cause.field.clone()),
            message: Some(cause.message.clone()),
            reason: Some(cause.reason.to_owned()),
        }
    }
}
