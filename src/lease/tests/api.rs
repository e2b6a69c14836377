//! A small API server that knows Leases only.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// RBAC's words.
pub(super) const FORBIDDEN: &str = "leases.coordination.k8s.io \"lab\" is forbidden: User \"u\" cannot get resource \
    \"leases\" in API group \"coordination.k8s.io\" in the namespace \"ns\"";

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    /// No answer, ever; the request is not seen.
    Deaf,
    /// Requests are carried out, writes are never answered.
    Mute,
    Answers(u16),
    /// As without a fault, after this long.
    Slow(std::time::Duration),
}

/// What the API server knows.
pub(super) struct Server {
    pub(super) lease: Option<Value>,
    version: u64,
    created: u32,
    fault: Fault,
    pub(super) seen: Vec<(Method, String)>,
    watches: Vec<mpsc::UnboundedSender<String>>,
    pub(super) may_watch: bool,
    /// Watches that were asked for, forbidden ones, too.
    pub(super) watches_asked: u32,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn reply(code: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

#[derive(Clone)]
pub(super) struct Api(Arc<Mutex<Server>>);

impl Api {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Server {
            lease: None,
            version: 1,
            created: 0,
            fault: Fault::None,
            seen: Vec::new(),
            watches: Vec::new(),
            may_watch: true,
            watches_asked: 0,
        })))
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Server) -> T) -> T {
        change(&mut self.0.lock())
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        if head.uri.query().is_some_and(|query| query.contains("watch=true")) {
            return self.watch(head.uri.query().unwrap_or_default());
        }
        let sent: Option<Value> = serde_json::from_slice(&body.collect_bytes().await.unwrap()).ok();
        let fault = self.with(|server| {
            server
                .seen
                .push((head.method.clone(), head.uri.path().to_owned()));
            server.fault
        });
        if fault == Fault::Deaf {
            std::future::pending::<()>().await;
        }
        if let Fault::Slow(pause) = fault {
            tokio::time::sleep(pause).await;
        }
        let (code, answer) = match fault {
            Fault::Answers(code) => (code, None),
            _ => self.with(|server| server.serve(&head.method, sent)),
        };
        if fault == Fault::Mute && head.method != Method::GET {
            std::future::pending::<()>().await;
        }
        let body = answer.unwrap_or_else(|| {
            let message = if code == 403 { FORBIDDEN } else { "no" };
            json!({"kind": "Status", "status": "Failure", "code": code, "message": message, "reason": "Test"})
        });
        reply(StatusCode::from_u16(code).unwrap(), &body)
    }

    fn watch(&self, query: &str) -> Answer {
        assert!(query.contains("fieldSelector=metadata.name%3Dlab"), "{query}");
        let may_watch = self.with(|server| {
            server.watches_asked += 1;
            server.may_watch
        });
        if !may_watch {
            let no = json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no", "reason": "Forbidden"});
            return reply(StatusCode::FORBIDDEN, &no);
        }
        let (sender, events) = mpsc::unbounded_channel::<String>();
        self.with(|server| server.watches.push(sender));
        let frames = futures::stream::unfold(events, |mut events| async {
            let event = events.recv().await?;
            Some((
                Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(event))),
                events,
            ))
        });
        Response::new(http_body_util::StreamBody::new(frames).boxed_unsync())
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.with(|server| server.fault = fault);
    }

    pub(super) fn lease(&self) -> Value {
        self.with(|server| server.lease.clone()).unwrap()
    }

    pub(super) fn edit(&self, change: impl FnOnce(&mut Value)) {
        self.with(|server| {
            let mut lease = server.lease.clone().unwrap();
            change(&mut lease);
            server.store(lease);
        });
    }

    pub(super) fn holder(&self) -> String {
        self.lease()["spec"]["holderIdentity"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

impl Server {
    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if self.lease.is_none() {
            self.created += 1;
            lease["metadata"]["uid"] = json!(format!("uid-{}", self.created));
        }
        self.lease = Some(lease.clone());
        let event = format!("{}\n", json!({"type": "MODIFIED", "object": lease}));
        self.watches.retain(|watch| watch.send(event.clone()).is_ok());
        lease
    }

    fn serve(&mut self, method: &Method, sent: Option<Value>) -> (u16, Option<Value>) {
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (method, self.lease.clone(), sent) {
            (&Method::GET, Some(lease), _) => (200, Some(lease)),
            (&Method::GET | &Method::PUT, None, _) => (404, None),
            (&Method::POST, None, Some(sent)) => (201, Some(self.store(sent))),
            (&Method::POST, Some(_), _) => (409, None),
            (&Method::PUT, Some(lease), Some(sent)) if version(&lease) == version(&sent) => {
                (200, Some(self.store(sent)))
            }
            (&Method::PUT, Some(_), Some(_)) => (409, None),
            (method, ..) => panic!("the election may not {method}"),
        }
    }
}
