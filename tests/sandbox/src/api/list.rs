//! Lists: whole, paged, at an exact revision, from the cache.

use std::{collections::BTreeMap, ops::Bound};

use serde_json::{Value, json};

use super::{
    State,
    failure::{self, Refusal},
    media::Form,
    route::{Route, read_token, token},
    store::Place,
};

/// Either the list, or a revision that the server would have to wait for.
pub(crate) enum Listed {
    Now(Value),
    TooNew(Refusal),
}

const EXPIRED_PAGE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

pub(crate) fn list(state: &State, route: &Route, form: Form) -> Result<Listed, Refusal> {
    let (kind, options, store) = (route.kind, &route.options, &state.store);
    let resumed = options.resume.as_deref().map(read_token).transpose()?;
    // A limit makes a request for "at least this revision" an exact one; from
    // the cache (revision 0) the limit is ignored instead.
    let cached = options.revision == Some(0) && resumed.is_none();
    let limit = if cached { 0 } else { options.limit };
    let exactly = options.exactly || limit > 0;
    let (revision, after) = match &resumed {
        Some((Some(revision), place)) => {
            if *revision < store.horizon {
                let mut status = failure::expired(EXPIRED_PAGE);
                status.metadata.continue_ = Some(token(None, place));
                return Err(status);
            }
            (*revision, Some(place))
        }
        Some((None, place)) => (store.revision, Some(place)),
        None => match options.revision {
            Some(wanted) if wanted > store.revision => {
                return Ok(Listed::TooNew(too_new(wanted, store.revision)));
            }
            Some(wanted) if wanted > 0 && exactly => {
                if wanted < store.horizon {
                    return Err(failure::expired(
                        "The resourceVersion for the provided list is too old.",
                    ));
                }
                (wanted, None)
            }
            Some(0) => (state.ceiling.unwrap_or(store.revision), None),
            _ => (store.revision, None),
        },
    };
    let all = store.list_at(kind, revision);
    let mut chosen = select(&all, route, after);
    let mut meta = json!({"resourceVersion": revision.to_string()});
    if limit > 0 && chosen.len() > limit {
        if options.labels.is_empty() && options.fields.is_empty() {
            meta["remainingItemCount"] = (chosen.len() - limit).into();
        }
        chosen.truncate(limit);
        if let Some((last, _)) = chosen.last() {
            meta["continue"] = token(Some(revision), last).into();
        }
    }
    let items: Vec<_> = chosen
        .into_iter()
        .map(|(_, object)| form.item(kind, object))
        .collect();
    let (named, api_version) = form.named(kind.kind, kind.api_version());
    Ok(Listed::Now(json!({
        "kind": format!("{named}List"),
        "apiVersion": api_version,
        "metadata": meta,
        "items": items,
    })))
}

/// The objects in the namespace, after the place, that the selectors choose.
fn select<'a>(
    all: &'a BTreeMap<Place, std::sync::Arc<Value>>,
    route: &Route,
    after: Option<&Place>,
) -> Vec<(&'a Place, &'a Value)> {
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    all.range::<Place, _>((start, Bound::Unbounded))
        .map(|(place, object)| (place, &**object))
        .filter(|(place, _)| {
            route
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == place.0)
        })
        .filter(|(_, object)| route.options.select(object))
        .collect()
}

fn too_new(wanted: u64, current: u64) -> Refusal {
    let text = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let mut status = failure::bare(504, "Timeout", text);
    status.details = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails {
        retry_after_seconds: Some(1),
        causes: Some(vec![
            k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause {
                reason: Some("ResourceVersionTooLarge".into()),
                message: Some("Too large resource version".into()),
                field: None,
            },
        ]),
        ..Default::default()
    });
    status
}
