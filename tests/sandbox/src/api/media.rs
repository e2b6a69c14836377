//! What an Accept header asks for: whole objects, or their metadata only.

use http::{HeaderMap, header::ACCEPT};
use serde_json::{Value, json};

use super::{
    failure::{self, Refusal},
    kinds::Kind,
    route::Verb,
    rules,
};

/// How an object is answered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
}

const META: &str = "meta.k8s.io/v1";

impl Form {
    /// The first part that the sandbox knows; only JSON is spoken, the real server falls back to it as well.
    pub(crate) fn of(headers: &HeaderMap, verb: Verb) -> Result<Self, Refusal> {
        let Some(accept) = headers.get(ACCEPT).and_then(|value| value.to_str().ok()) else {
            return Ok(Self::Whole);
        };
        let refused = || failure::not_served("this Accept header");
        for part in accept.split(',') {
            let mut pieces = part.split(';').map(str::trim);
            if !matches!(pieces.next(), Some("application/json" | "*/*")) {
                continue;
            }
            let mut parameters: Vec<_> = pieces.filter(|piece| !piece.starts_with("q=")).collect();
            parameters.sort_unstable();
            let kind = match verb {
                Verb::List => "as=PartialObjectMetadataList",
                Verb::Get | Verb::Watch => "as=PartialObjectMetadata",
                _ => "",
            };
            return match parameters.as_slice() {
                [] | ["stream=watch"] => Ok(Self::Whole),
                [found, "g=meta.k8s.io", "v=v1"] if *found == kind => Ok(Self::Metadata),
                _ => Err(refused()),
            };
        }
        Err(refused())
    }

    /// One object in this form.
    pub(crate) fn object(self, object: &Value) -> Value {
        match self {
            Self::Whole => object.clone(),
            Self::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": object["metadata"]})
            }
        }
    }

    /// One object as a list carries it: whole ones do not repeat their type, but for custom resources.
    pub(crate) fn item(self, kind: &Kind, object: &Value) -> Value {
        let mut item = self.object(object);
        if self == Self::Whole && !kind.custom {
            rules::remove(&mut item, "kind");
            rules::remove(&mut item, "apiVersion");
        }
        item
    }

    /// `kind` and `apiVersion` of what is answered for a resource of these.
    pub(crate) fn named(self, kind: &str, api_version: String) -> (String, String) {
        match self {
            Self::Whole => (kind.to_owned(), api_version),
            Self::Metadata => ("PartialObjectMetadata".to_owned(), META.to_owned()),
        }
    }
}
