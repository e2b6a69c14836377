//! How long the beginning of an answer may take: a connection that hangs would stop a watch for ever.
//!
//! On HTTP/2 pings notice that within a minute; this limit is for what speaks HTTP/1.1 in between.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Uri};
use tokio::time::timeout;
use tower::{BoxError, Service};

/// The API server itself gives up after 60 s.
const ANSWER: Duration = Duration::from_secs(65);
/// A watch that goes on may be quiet until its end, and some proxies hold the headers back until the first event. So
/// its headers may take as long as the watch itself, and this much longer.
const MARGIN: Duration = Duration::from_secs(10);

/// A service whose answers begin in time.
#[derive(Clone)]
pub(super) struct HeaderTimeout<S>(pub(super) S);

impl<S, B> Service<Request<B>> for HeaderTimeout<S>
where
    S: Service<Request<B>, Future: Send + 'static>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<S::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = limit(request.uri());
        let answer = timeout(limit, self.0.call(request));
        Box::pin(async move {
            match answer.await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(format!("no answer within {} s", limit.as_secs()).into()),
            }
        })
    }
}

fn limit(uri: &Uri) -> Duration {
    let query = uri.query().unwrap_or_default().as_bytes();
    let value = |wanted| {
        let mut pairs = form_urlencoded::parse(query);
        pairs.find_map(|(key, value)| (key == wanted).then_some(value))
    };
    let is_set = |key| value(key).is_some_and(|value| value == "true");
    // A streaming list begins with what is there, so it is never quiet.
    match value("timeoutSeconds").and_then(|seconds| seconds.parse().ok()) {
        Some(seconds) if is_set("watch") && !is_set("sendInitialEvents") => {
            ANSWER.max(Duration::from_secs(seconds).saturating_add(MARGIN))
        }
        _ => ANSWER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c18_only_a_watch_that_goes_on_may_be_quiet_for_longer() {
        let rows = [
            ("/api/v1/persistentvolumes/pvc-1", 65),
            ("/api/v1/persistentvolumes?limit=500", 65),
            (
                "/api/v1/persistentvolumes?&watch=true&timeoutSeconds=290&resourceVersion=7",
                300,
            ),
            ("/api/v1/persistentvolumes?watch=true&timeoutSeconds=5", 65),
            ("/api/v1/persistentvolumes?watch=true", 65),
            (
                "/api/v1/persistentvolumes?watch=true&timeoutSeconds=290&sendInitialEvents=true",
                65,
            ),
        ];
        for (uri, seconds) in rows {
            assert_eq!(
                limit(&Uri::from_static(uri)),
                Duration::from_secs(seconds),
                "{uri}"
            );
        }
    }
}
