//! Reads a request line: which resource, which verb.

use std::collections::BTreeSet;

use http::{Method, request::Parts};

use super::{
    failure::{self, Refusal},
    kinds::{KINDS, Kind, OTHER_GROUPS, OTHER_PLURALS},
    options::{Options, flag, options},
    patch::PatchKind,
    rules,
};

/// What a request wants, in the words of RBAC, a patch with its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// GET of one object.
    Get,
    /// GET of a collection.
    List,
    /// GET with `watch=true`.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch(PatchKind),
    /// DELETE of one object.
    Delete,
}

impl Verb {
    /// Every verb that the sandbox knows.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch(PatchKind::Json),
        Self::Patch(PatchKind::Merge),
        Self::Patch(PatchKind::Strategic),
        Self::Delete,
    ];

    /// As a Role spells it.
    pub fn rbac(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch(_) => "patch",
            Self::Delete => "delete",
        }
    }

    /// Whether it may change something.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// Everything the request line says about a resource request.
pub(crate) struct Route {
    pub(crate) kind: &'static Kind,
    pub(crate) verb: Verb,
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    pub(crate) status: bool,
    pub(crate) options: Options,
}

impl Route {
    pub(crate) fn subresource(&self) -> &'static str {
        if self.status { "status" } else { "" }
    }

    pub(crate) fn place(&self) -> (String, String) {
        (self.namespace.clone().unwrap_or_default(), self.name.clone())
    }
}

/// Whether a path that is no resource of the table, nor the discovery of its
/// groups, may well be something on the real server.
pub(crate) fn is_elsewhere(method: &Method, path: &[&str], hidden: &BTreeSet<String>) -> bool {
    let mut kinds = KINDS.iter().filter(|kind| !hidden.contains(kind.plural));
    let (group, version, rest) = match path {
        ["apis", group, ..] if OTHER_GROUPS.contains(group) => return true,
        ["apis", group] => return kinds.any(|kind| kind.group == *group),
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return true,
    };
    if !kinds.any(|kind| kind.group == group && kind.version == version) {
        return false;
    }
    let plural = match rest {
        [] => return *method != Method::GET,
        ["namespaces", _, "status" | "finalize", ..] => return true,
        ["namespaces", _, plural, ..] | [plural, ..] => plural,
    };
    OTHER_PLURALS
        .iter()
        .any(|(of, plurals)| *of == group && plurals.contains(plural))
}

/// `None` is a path that is no resource of the table.
pub(crate) fn route(parts: &Parts) -> Result<Option<Route>, Refusal> {
    let path: Vec<_> = parts
        .uri
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let (group, rest) = match path.as_slice() {
        ["api", rest @ ..] => ("", rest),
        ["apis", group, rest @ ..] => (*group, rest),
        _ => return Ok(None),
    };
    let (version, namespace, rest) = match rest {
        [version, "namespaces", namespace, rest @ ..] if !rest.is_empty() => {
            (*version, Some((*namespace).to_owned()), rest)
        }
        [version, rest @ ..] => (*version, None, rest),
        _ => return Ok(None),
    };
    let Some((plural, rest)) = rest.split_first() else {
        return Ok(None);
    };
    let Some(kind) = Kind::at(group, version, plural) else {
        return Ok(None);
    };
    let (name, status) = match rest {
        [] => ("", false),
        [name] => (*name, false),
        [name, "status"] if kind.status => (*name, true),
        [_, sub @ ..] => {
            return Err(failure::not_served(&format!(
                "the subresource {:?} of {plural}",
                sub.join("/")
            )));
        }
    };
    if namespace.is_some() != kind.namespaced && !(kind.namespaced && name.is_empty()) {
        return Ok(None);
    }
    let pairs = pairs(parts.uri.query().unwrap_or_default());
    let mut watch = false;
    for (_, value) in pairs.iter().filter(|(key, _)| key == "watch") {
        watch = flag("watch", value)?;
    }
    let verb =
        match (&parts.method, name.is_empty()) {
            (&Method::GET, true) if watch => Verb::Watch,
            (&Method::GET, true) => Verb::List,
            (&Method::GET, false) => Verb::Get,
            (&Method::POST, true) if namespace.is_some() || !kind.namespaced => Verb::Create,
            (&Method::PUT, false) => Verb::Update,
            (&Method::PATCH, false) => {
                let content_type = parts.headers.get(http::header::CONTENT_TYPE);
                let content_type = content_type
                    .and_then(|value| value.to_str().ok())
                    .unwrap_or_default();
                if content_type.starts_with("application/apply-patch") {
                    return Err(failure::not_served("server-side apply"));
                }
                Verb::Patch(PatchKind::of(content_type).ok_or_else(|| {
                    failure::bare(415, "UnsupportedMediaType", "415: Unsupported Media Type")
                })?)
            }
            (&Method::DELETE, false) if !status => Verb::Delete,
            (&Method::DELETE, true) => return Err(failure::not_served("deletecollection")),
            _ => {
                return Err(failure::bare(
                    405,
                    "MethodNotAllowed",
                    "the server does not allow this method on the requested resource",
                ));
            }
        };
    for (key, value) in &pairs {
        if !is_served(verb, key, value) {
            return Err(failure::not_served(&format!(
                "the parameter {key}={value} with {verb:?}"
            )));
        }
    }
    let options = if verb.writes() {
        Options::default()
    } else {
        options(&pairs, verb, kind)?
    };
    let name = name.to_owned();
    Ok(Some(Route {
        kind,
        verb,
        namespace,
        name,
        status,
        options,
    }))
}

/// The parameters that a verb honours, and those that change nothing the sandbox shows: it keeps no field owners, and
/// unknown fields are dropped as by a server that at most warns of them.
fn is_served(verb: Verb, key: &str, value: &str) -> bool {
    match verb {
        Verb::Get => false,
        Verb::List => match key {
            "limit" | "continue" | "resourceVersion" | "labelSelector" | "fieldSelector" | "watch" => true,
            "resourceVersionMatch" => matches!(value, "" | "Exact" | "NotOlderThan"),
            _ => false,
        },
        Verb::Watch => match key {
            // A watch has no pages: the real server, too, ignores the limit.
            "watch" | "limit" | "resourceVersion" | "labelSelector" | "fieldSelector" => true,
            "sendInitialEvents" | "allowWatchBookmarks" => true,
            "timeoutSeconds" => value.parse::<u64>().is_ok(),
            "resourceVersionMatch" => matches!(value, "" | "Exact" | "NotOlderThan"),
            _ => false,
        },
        Verb::Create | Verb::Update | Verb::Patch(_) => match key {
            "fieldManager" => true,
            "fieldValidation" => matches!(value, "" | "Ignore" | "Warn"),
            _ => false,
        },
        Verb::Delete => false,
    }
}

/// Query pairs, percent-decoded.
fn pairs(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// A continue token: the revision of the first page, and the last place given.
pub(crate) fn token(revision: Option<u64>, (namespace, name): &(String, String)) -> String {
    let revision = revision.map_or("now".to_owned(), |revision| revision.to_string());
    format!("{revision}:{namespace}/{name}")
}

/// Reads a token back; without a revision it continues in the present.
pub(crate) fn read_token(token: &str) -> Result<(Option<u64>, (String, String)), Refusal> {
    let read = || {
        let (revision, place) = token.split_once(':')?;
        let (namespace, name) = place.split_once('/')?;
        let revision = match revision {
            "now" => None,
            number => Some(number.parse().ok()?),
        };
        rules::is_subdomain(name).then(|| (revision, (namespace.to_owned(), name.to_owned())))
    };
    read().ok_or_else(|| failure::bad_request("invalid continue token: continue key is not valid"))
}
