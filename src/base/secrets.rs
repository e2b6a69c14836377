//! Pure. Which secrets a class names, and for what.
//!
//! A class gives each secret as two parameters, name and namespace, both of which may be templates. The rules are
//! those of the upstream sidecar; the deprecated keys without prefix are honoured, as classes cannot be edited.

use std::collections::{BTreeMap, BTreeSet};

use super::names;

/// A reference to a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Namespace of the secret.
    pub namespace: String,
    /// Name of the secret.
    pub name: String,
}

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are those of the class parameters")]
pub enum SecretKind {
    Provisioner,
    ControllerPublish,
    NodeStage,
    NodePublish,
    ControllerExpand,
    NodeExpand,
    ControllerModify,
}

impl SecretKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Provisioner,
        Self::ControllerPublish,
        Self::NodeStage,
        Self::NodePublish,
        Self::ControllerExpand,
        Self::NodeExpand,
        Self::ControllerModify,
    ];

    const fn key(self) -> &'static str {
        match self {
            Self::Provisioner => "provisioner-secret",
            Self::ControllerPublish => "controller-publish-secret",
            Self::NodeStage => "node-stage-secret",
            Self::NodePublish => "node-publish-secret",
            Self::ControllerExpand => "controller-expand-secret",
            Self::NodeExpand => "node-expand-secret",
            Self::ControllerModify => "controller-modify-secret",
        }
    }

    /// The keys from before the prefix; the newer kinds never had any.
    const fn old_key(self) -> Option<&'static str> {
        match self {
            Self::Provisioner => Some("csiProvisionerSecret"),
            Self::ControllerPublish => Some("csiControllerPublishSecret"),
            Self::NodeStage => Some("csiNodeStageSecret"),
            Self::NodePublish => Some("csiNodePublishSecret"),
            Self::ControllerExpand | Self::NodeExpand | Self::ControllerModify => None,
        }
    }
}

/// The reserved prefix of class parameters.
pub const PREFIX: &str = "csi.storage.k8s.io/";
const DEFAULT: &str = "secret";

/// Whether a parameter without its prefix is one of the secret keys.
pub fn is_secret_key(key: &str) -> bool {
    let half = key
        .strip_suffix("-name")
        .or_else(|| key.strip_suffix("-namespace"));
    half.is_some_and(|half| half == DEFAULT || SecretKind::ALL.iter().any(|kind| kind.key() == half))
}

/// Why the secret parameters of a class cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Old and new key for the same half.
    #[error("parameters {0} and {1} mean the same: remove one")]
    Twice(String, String),
    /// One half of a pair is missing.
    #[error("parameter {present} is there but {missing} is not: give both or neither")]
    Half {
        /// The key that is there.
        present: String,
        /// The key that is not.
        missing: String,
    },
    /// A half is there and empty.
    #[error("parameter {0} is empty: give it a value, or remove the pair")]
    Empty(String),
    /// A template names what is not to be had.
    #[error("parameter {key}: {value:?} uses {}, unknown here: known are {known}", .tokens.join(", "))]
    Unresolved {
        /// The parameter.
        key: String,
        /// Its value.
        value: String,
        /// What it names in vain, as `${token}`, sorted.
        tokens: Vec<String>,
        /// What it may name.
        known: &'static str,
    },
    /// The result is no valid name.
    #[error("parameter {key}: {value:?} does not give a valid name: {cause}")]
    Invalid {
        /// The parameter.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with what that came to.
        cause: names::NameError,
    },
}

/// The secrets of one volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<SecretKind, SecretRef>);

impl Secrets {
    /// Resolves all pairs of a class.
    ///
    /// # Errors
    /// [`SecretError`], the first one in the order of [`SecretKind::ALL`].
    pub fn of(parameters: &BTreeMap<String, String>, scope: &Scope<'_>) -> Result<Self, SecretError> {
        let mut secrets = BTreeMap::new();
        for kind in SecretKind::ALL {
            if let Some(reference) = resolve(parameters, kind, scope)? {
                secrets.insert(kind, reference);
            }
        }
        Ok(Self(secrets))
    }

    /// The secret for one purpose.
    pub fn get(&self, kind: SecretKind) -> Option<&SecretRef> {
        self.0.get(&kind)
    }
}

/// What templates may name.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `pv.name`
    pub volume: &'a str,
    /// `pvc.namespace`
    pub namespace: &'a str,
    /// `pvc.name`
    pub claim: &'a str,
    /// `pvc.annotations['KEY']`; not known any more when a volume is deleted.
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

/// A pair of keys and the values found under them.
type Pair<'a> = [(String, &'a str); 2];

/// The secret for one purpose: its own pair of parameters, else the default pair, else none.
///
/// # Errors
/// [`SecretError`]
pub fn resolve(
    parameters: &BTreeMap<String, String>,
    kind: SecretKind,
    scope: &Scope<'_>,
) -> Result<Option<SecretRef>, SecretError> {
    let pair = match pair(parameters, kind.key(), kind.old_key())? {
        Some(pair) => Some(pair),
        None => pair(parameters, DEFAULT, None)?,
    };
    let Some([(name_key, name), (namespace_key, namespace)]) = pair else {
        return Ok(None);
    };
    let namespace = expand(&namespace_key, namespace, scope, false)?;
    let name = expand(&name_key, name, scope, true)?;
    Ok(Some(SecretRef { namespace, name }))
}

fn pair<'a>(
    parameters: &'a BTreeMap<String, String>,
    key: &str,
    old: Option<&str>,
) -> Result<Option<Pair<'a>>, SecretError> {
    let half = |new: String, old: Option<String>| {
        let gotten = parameters.get(&new);
        let before = old.and_then(|old| parameters.get(&old).map(|value| (old, value)));
        match (gotten, before) {
            (Some(_), Some((old, _))) => Err(SecretError::Twice(new, old)),
            (Some(value), None) => Ok((new, Some(value.as_str()))),
            (None, Some((old, value))) => Ok((old, Some(value.as_str()))),
            (None, None) => Ok((new, None)),
        }
    };
    let name = half(format!("{PREFIX}{key}-name"), old.map(|old| format!("{old}Name")))?;
    let namespace = half(
        format!("{PREFIX}{key}-namespace"),
        old.map(|old| format!("{old}Namespace")),
    )?;
    match (name, namespace) {
        ((_, None), (_, None)) => Ok(None),
        ((present, Some(_)), (missing, None)) | ((missing, None), (present, Some(_))) => {
            Err(SecretError::Half { present, missing })
        }
        ((key, Some("")), _) | (_, (key, Some(""))) => Err(SecretError::Empty(key)),
        ((name_key, Some(name)), (namespace_key, Some(namespace))) => {
            Ok(Some([(name_key, name), (namespace_key, namespace)]))
        }
    }
}

/// Expands `$token` and `${token}`. A name may use more tokens than a namespace: who may write a
/// claim must not be able to point at secrets of any namespace by its own name or annotations.
fn expand(key: &str, value: &str, scope: &Scope<'_>, is_name: bool) -> Result<String, SecretError> {
    let mut resolved = String::new();
    let mut missing = BTreeSet::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        resolved.push_str(before);
        let (piece, after) = piece(after);
        rest = after;
        match piece {
            Piece::Text(text) => resolved.push_str(text),
            Piece::Token(token) => match scope.look_up(token, is_name) {
                Some(text) => resolved.push_str(text),
                None => {
                    missing.insert(format!("${{{token}}}"));
                }
            },
        }
    }
    resolved.push_str(rest);
    if !missing.is_empty() {
        let known = match (is_name, scope.annotations.is_some()) {
            (true, true) => {
                "pv.name, pvc.name, pvc.namespace, pvc.annotations['KEY'] of annotations that the claim has"
            }
            (true, false) => "pv.name, pvc.name, pvc.namespace",
            (false, _) => "pv.name, pvc.namespace",
        };
        let tokens = missing.into_iter().collect();
        return Err(SecretError::Unresolved {
            key: key.to_owned(),
            value: value.to_owned(),
            tokens,
            known,
        });
    }
    let check = if is_name {
        names::check_subdomain
    } else {
        names::check_label
    };
    check(&resolved).map_err(|cause| SecretError::Invalid {
        key: key.to_owned(),
        value: value.to_owned(),
        cause,
    })?;
    Ok(resolved)
}

/// What a `$` and the text behind it stand for.
enum Piece<'a> {
    Token(&'a str),
    Text(&'static str),
}

/// Reads what follows a `$`, and gives the rest, as Go's `os.Expand` does: without braces a token is letters, digits
/// and `_`, or one of a shell's special characters alone. `${}` and a `${` that is never closed count for nothing, and
/// a `$` before anything else is itself. Classes that upstream can read exist, so the oddities stay.
fn piece(text: &str) -> (Piece<'_>, &str) {
    if let Some(braced) = text.strip_prefix('{') {
        return match braced.split_once('}') {
            None => (Piece::Text(""), braced),
            Some(("", rest)) => (Piece::Text(""), rest),
            Some((token, rest)) => (Piece::Token(token), rest),
        };
    }
    let end = if text.starts_with(|c| "*#$@!?-0123456789".contains(c)) {
        1
    } else {
        text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len())
    };
    match text.split_at(end) {
        ("", rest) => (Piece::Text("$"), rest),
        (token, rest) => (Piece::Token(token), rest),
    }
}

impl<'a> Scope<'a> {
    fn look_up(&self, token: &str, is_name: bool) -> Option<&'a str> {
        match token {
            "pv.name" => Some(self.volume),
            "pvc.namespace" => Some(self.namespace),
            "pvc.name" if is_name => Some(self.claim),
            _ if is_name => {
                let key = token.strip_prefix("pvc.annotations['")?.strip_suffix("']")?;
                self.annotations?.get(key).map(String::as_str)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
