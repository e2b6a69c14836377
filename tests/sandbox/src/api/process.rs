//! What one process asks of the API: each request that does something has its number on the process's line.

use bytes::Bytes;
use http::{Response, request::Parts};
use serde_json::Value;

use super::{
    Api,
    answer::name_in,
    faults,
    route::{self, Route, Verb},
    serve::{ApiBody, BoxError},
};
use crate::{Gust, Line, Step};

/// What one request does.
struct Act {
    verb: Verb,
    resource: String,
    name: String,
    numbered: bool,
}

impl Api {
    /// As [`Api::answer`], to one process: what it does has a number.
    pub(super) async fn answer_over(
        &self,
        line: &Line,
        user: &str,
        parts: &Parts,
        body: &Bytes,
    ) -> Result<Response<ApiBody>, BoxError> {
        let Some(act) = self.act(parts, body) else {
            return self.answer(user, parts, body, None).await;
        };
        let (verb, resource, name) = (act.verb.rbac(), act.resource.as_str(), act.name.as_str());
        let gust = line.sent(act.numbered, verb, resource, name).await;
        let answer = self.answer(user, parts, body, gust.map(faults::blown)).await;
        let applied = answer.as_ref().is_ok_and(|answer| answer.status().is_success());
        if act.verb.writes() && (applied || gust == Some(Gust::ReplyLost)) {
            line.came(act.numbered, verb, resource, name, Step::Done).await;
        }
        answer
    }

    /// What a request does, but for lists and watches.
    fn act(&self, parts: &Parts, body: &Bytes) -> Option<Act> {
        let route = route::route(parts).ok()??;
        let mut resource = route.kind.plural.to_owned();
        let is_lease = resource == "leases";
        let numbered = match route.verb {
            Verb::List | Verb::Watch => return None,
            Verb::Get => !is_lease,
            Verb::Update if is_lease => !self.renews(&route, body),
            _ => resource != "events",
        };
        if route.status {
            resource.push_str("/status");
        }
        let name = match route.verb {
            Verb::Create => name_in(body),
            _ => route.name,
        };
        Some(Act {
            verb: route.verb,
            resource,
            name,
            numbered,
        })
    }

    /// Whether a write to a Lease says nothing new but the time.
    fn renews(&self, route: &Route, body: &[u8]) -> bool {
        let state = self.state.lock();
        let new: Value = serde_json::from_slice(body).unwrap_or_default();
        let same = |old: &Value| {
            [
                "/metadata/annotations",
                "/spec/holderIdentity",
                "/spec/leaseTransitions",
            ]
            .iter()
            .all(|path| old.pointer(path) == new.pointer(path))
        };
        state
            .store
            .get(route.kind, &route.place())
            .is_ok_and(|old| same(old))
    }
}
