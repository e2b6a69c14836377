//! The requests of one reflector, with two things mended that kube's watcher does.
//!
//! It asks for the next watch the moment that one ends, and does not say so. A proxy that answers and closes, or a
//! server that shuts down, would be asked as fast as it answers. So after a watch that ended at once, or a streaming
//! list that ended before it was complete, the next request is an error, and the reflector pauses as after any other.
//!
//! And it asks for streaming lists of any version. A server whose cache lags may answer with one that is older than
//! what was seen before. Without a version the list is as new as the request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{BoxError, service_fn};

/// A watch that ends earlier without an event is a failure (client-go's least duration of a watch).
const SHORT: Duration = Duration::from_secs(1);

/// Clones share what they know of the last watch.
#[derive(Clone, Default)]
pub(super) struct WatchRequests(Arc<Mutex<Option<LastWatch>>>);

/// The last watch that was answered, unless there was a pause since.
struct LastWatch {
    began: Instant,
    streaming_list: bool,
    /// Whether anything came.
    heard: Arc<AtomicBool>,
}

impl WatchRequests {
    /// A client whose requests pass here.
    pub(super) fn client(&self, client: &Client) -> Client {
        let namespace = client.default_namespace().to_owned();
        let (watches, client) = (self.clone(), client.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (watches, client) = (watches.clone(), client.clone());
            async move { watches.send(&client, request).await }
        });
        Client::new(service, namespace)
    }

    /// The reflector has paused, so whatever came before is no reason to fail.
    pub(super) fn paused(&self) {
        *self.0.lock() = None;
    }

    async fn send(
        &self,
        client: &Client,
        mut request: Request<Body>,
    ) -> Result<Response<impl http_body::Body<Data = Bytes, Error = kube::Error> + use<>>, BoxError> {
        let query = request.uri().query().unwrap_or_default();
        let asks = |wanted| {
            form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == wanted && value == "true")
        };
        let (watch, streaming_list) = (asks("watch"), asks("sendInitialEvents"));
        if let Some(last) = self.0.lock().take()
            && watch
        {
            last.ended_well(streaming_list)?;
        }
        if streaming_list {
            *request.uri_mut() = without_version(request.uri())?;
        }
        let (began, heard) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let response = client.send(request).await?;
        if watch && response.status().is_success() {
            let heard = heard.clone();
            *self.0.lock() = Some(LastWatch {
                began,
                streaming_list,
                heard,
            });
        }
        Ok(response.map(|body| {
            body.map_frame(move |frame| {
                heard.store(true, Ordering::Relaxed);
                frame
            })
        }))
    }
}

impl LastWatch {
    /// This one is over, as the next one is asked for: a streaming list, or one that goes on.
    fn ended_well(&self, streaming_list: bool) -> Result<(), &'static str> {
        if self.streaming_list && streaming_list {
            return Err("the streaming list ended before it was complete");
        }
        if self.began.elapsed() < SHORT && !self.heard.load(Ordering::Relaxed) {
            return Err("the watch ended at once, without an event");
        }
        Ok(())
    }
}

fn without_version(uri: &Uri) -> Result<Uri, BoxError> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs.filter(|(key, _)| key != "resourceVersion"))
        .finish();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("{}?{query}", uri.path()))?);
    Ok(Uri::from_parts(parts)?)
}
