//! The reflector: one kind of object, listed and watched for ever.
//!
//! kube's watcher does the work; what it does not do is added around it. It never lists again when the *start* of a
//! watch answers 410, or when an event cannot be decoded, so it is thrown away then. It never falls back where
//! streaming lists are not served: those answer 400 or 422, or, on servers that ignore the parameter, never say that
//! the list is complete. It never pauses, see also [`super::watch_requests`]. And it names no reason that an operator
//! could act on.

use std::{convert::Infallible, pin::pin, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event, watcher},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    decode::{Decoded, Object},
    watch_requests::WatchRequests,
};
use crate::base::{
    api_error::{ApiError, Reason},
    backoff::Backoff,
};

/// A streaming list that is silent for this long will never be complete (client-go waits as long).
const SILENCE: Duration = Duration::from_secs(10);
/// Nor will one that takes this long: servers before Kubernetes 1.27 ignore the parameter, and where much is going on
/// they are never silent either.
const LONGEST: Duration = Duration::from_secs(60);
const PAUSE: Backoff = Backoff {
    start: Duration::from_millis(500),
    max: Duration::from_secs(30),
};
/// How often at least a kind is asked for that may well be absent ([`Object::OPTIONAL`]): it may be installed later.
const ABSENT: Backoff = Backoff {
    max: Duration::from_secs(300),
    ..PAUSE
};
/// Objects of one page where nothing waits for the list: a page is held in memory, and 500 are usual.
const SMALL_PAGE: u32 = 100;
/// After this long without an error the pauses begin anew (client-go waits as long).
const CALM: Duration = Duration::from_secs(120);

/// What a watch brings.
#[derive(Debug, PartialEq)]
pub(super) enum Update<R> {
    /// A list begins.
    Init,
    /// The object exists and looks like this.
    Apply(R),
    /// The object was deleted.
    Delete(R),
    /// The list is complete.
    InitDone,
    /// Nothing comes at the moment, and why.
    Error(ApiError),
}

/// What to do about an error of the watcher.
#[derive(Debug, PartialEq)]
enum Recovery {
    /// The watcher goes on by itself.
    Resume,
    /// The watcher would ask for a version that the server has forgotten, for ever; or what an event said is lost.
    Relist,
    /// This server does not serve streaming lists.
    Page,
}

fn recovery(error: &watcher::Error, streaming: bool) -> Recovery {
    let code = match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        // What is no event is taken for a Status, whose fields are all optional.
        watcher::Error::WatchFailed(kube::Error::SerdeError(_) | kube::Error::Api(_)) => {
            return Recovery::Relist;
        }
        _ => return Recovery::Resume,
    };
    match code {
        410 => Recovery::Relist,
        400 | 422 if streaming => Recovery::Page,
        _ => Recovery::Resume,
    }
}

fn reason<R: Object>(error: watcher::Error) -> ApiError {
    let (verb, error) = match error {
        watcher::Error::InitialListFailed(error) => ("list", error),
        watcher::Error::WatchFailed(kube::Error::SerdeError(_) | kube::Error::Api(_)) => {
            return ApiError::odd("watch", R::PLURAL, "", "an event cannot be decoded");
        }
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => ("watch", error),
        watcher::Error::WatchError(status) => ("watch", kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => {
            return ApiError::odd("watch", R::PLURAL, "", "the answer carries no resourceVersion");
        }
    };
    ApiError::from_kube("watch", R::GROUP, R::PLURAL, "", error).with_verb(verb)
}

/// What cannot be read cannot be worked on; the others can.
fn odd<R: Object>(name: String) {
    tracing::error!(
        resource = R::PLURAL,
        name,
        "this object is not what the API promises, leaving it alone"
    );
}

/// Which objects of a kind are listed and watched. Default: all of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ListScope {
    /// `None`: all namespaces, or a kind that has none.
    pub(super) namespace: Option<String>,
    /// Labels that an object must have, as `key=value,key=value`.
    pub(super) labels: Option<String>,
}

/// Tells `update` what exists and what changes. Never returns; dropped when nobody needs to know any more.
pub(super) async fn list_watch<R: Object>(
    client: Client,
    scope: &ListScope,
    mut update: impl FnMut(Update<R>),
) -> Infallible {
    let requests = WatchRequests::default();
    let client = requests.client(&client);
    let api = match &scope.namespace {
        None => Api::<Decoded<R>>::all(client),
        Some(namespace) => Api::namespaced_with(client, namespace, &()),
    };
    let mut streaming = true;
    let (mut failures, mut calm_from) = (0, Instant::now());
    loop {
        let mut config = watcher::Config::default();
        if streaming {
            config = config.streaming_lists();
        }
        if R::OPTIONAL {
            config = config.page_size(SMALL_PAGE);
        }
        if let Some(labels) = &scope.labels {
            config = config.labels(labels);
        }
        let mut events = pin!(watcher(api.clone(), config));
        let mut listing: Option<Instant> = None;
        loop {
            let next = match listing {
                Some(since) if streaming => {
                    let patience = (Instant::now() + SILENCE).min(since + LONGEST);
                    timeout_at(patience, events.next()).await
                }
                _ => Ok(events.next().await),
            };
            let Ok(next) = next else {
                tracing::info!(
                    resource = R::PLURAL,
                    "no end of the streaming list in sight, paging instead"
                );
                streaming = false;
                break;
            };
            let error = match next {
                Some(Ok(event)) => {
                    // A list that begins, or is cut off, is no sign that things are well.
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        failures = 0;
                    }
                    match event {
                        Event::Init => {
                            listing = Some(Instant::now());
                            update(Update::Init);
                        }
                        Event::InitApply(decoded) | Event::Apply(decoded) => decoded
                            .object
                            .map_or_else(odd::<R>, |object| update(Update::Apply(object))),
                        Event::Delete(decoded) => decoded
                            .object
                            .map_or_else(odd::<R>, |object| update(Update::Delete(object))),
                        Event::InitDone => {
                            listing = None;
                            update(Update::InitDone);
                        }
                    }
                    continue;
                }
                Some(Err(error)) => error,
                None => break,
            };
            // The watcher begins again, and it says so when the server has answered.
            listing = None;
            let recovery = recovery(&error, streaming);
            if recovery == Recovery::Page {
                tracing::info!(
                    resource = R::PLURAL,
                    "streaming lists are not served here, paging instead"
                );
                streaming = false;
                break;
            }
            let error = reason::<R>(error);
            let pause = match error.reason {
                Reason::NotFound | Reason::Forbidden if R::OPTIONAL => ABSENT,
                _ => PAUSE,
            };
            update(Update::Error(error));
            if calm_from.elapsed() > CALM {
                failures = 0;
            }
            sleep(pause.delay(failures).mul_f64(0.8 + 0.4 * fastrand::f64())).await;
            (failures, calm_from) = (failures + 1, Instant::now());
            requests.paused();
            if recovery == Recovery::Relist {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn an_expired_start_relists_and_a_refused_streaming_list_pages() {
        let api = |code| {
            kube::Error::Api(Box::new(Status {
                code,
                ..Status::default()
            }))
        };
        let json_error = || serde_json::from_str::<u8>("<html>").expect_err("no number");
        let start = |code| watcher::Error::WatchStartFailed(api(code));
        let cases = [
            ("410 at the start", start(410), true, Recovery::Relist),
            (
                "410 in the stream",
                watcher::Error::WatchError(Box::new(Status {
                    code: 410,
                    ..Status::default()
                })),
                false,
                Recovery::Relist,
            ),
            ("streaming refused", start(422), true, Recovery::Page),
            ("streaming unknown", start(400), true, Recovery::Page),
            ("bad request while paging", start(400), false, Recovery::Resume),
            ("forbidden", start(403), true, Recovery::Resume),
            (
                "list failed",
                watcher::Error::InitialListFailed(api(410)),
                false,
                Recovery::Resume,
            ),
            (
                "an event that is no JSON",
                watcher::Error::WatchFailed(kube::Error::SerdeError(json_error())),
                true,
                Recovery::Relist,
            ),
            (
                "an event that is other JSON",
                watcher::Error::WatchFailed(api(0)),
                true,
                Recovery::Relist,
            ),
        ];
        for (name, error, streaming, expected) in cases {
            assert_eq!(recovery(&error, streaming), expected, "{name}");
        }
    }
}
