//! Sends plain HTTP requests through a kube client and checks the answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{AsyncBufReadExt, TryStreamExt};
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{CaseResult, Target};
use crate::{Kind, PatchKind};

/// How long an expected event may take. Real time on a real server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const JSON: &str = "application/json";

#[derive(Clone)]
pub(crate) struct Probe {
    inner: Arc<Inner>,
}

struct Inner {
    target: Target,
    /// Makes names of this run unlike those of any other.
    run: String,
    counter: AtomicUsize,
    made: Mutex<Vec<String>>,
}

/// An answer: HTTP code and body.
pub(crate) struct Reply {
    pub(crate) what: String,
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Probe {
    pub(crate) async fn new(target: Target) -> Self {
        let run = format!("contract-{:06x}", fastrand::u32(..1 << 24));
        let inner = Inner {
            target,
            run,
            counter: AtomicUsize::new(0),
            made: Mutex::default(),
        };
        let probe = Self {
            inner: Arc::new(inner),
        };
        let namespace = json!({"metadata": {"name": probe.namespace()}});
        let made = probe.post("/api/v1/namespaces", namespace).await;
        assert_eq!(
            made.code, 201,
            "cannot make a namespace for the contract: {}",
            made.body
        );
        probe
    }

    pub(crate) fn target(&self) -> &Target {
        &self.inner.target
    }

    /// The namespace of this run.
    pub(crate) fn namespace(&self) -> &str {
        &self.inner.run
    }

    /// A name that nobody else uses.
    pub(crate) fn name(&self) -> String {
        format!(
            "{}-{}",
            self.inner.run,
            self.inner.counter.fetch_add(1, Ordering::Relaxed)
        )
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(&self.inner.target.admin, "GET", path, "", Vec::new())
            .await
    }

    /// A GET that asks for the answer in this form.
    pub(crate) async fn get_as(&self, accept: &str, path: &str) -> Reply {
        let admin = &self.inner.target.admin;
        self.ask(admin, "GET", path, accept, "", Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, object: Value) -> Reply {
        self.json("POST", path, object).await
    }

    pub(crate) async fn put(&self, path: &str, object: Value) -> Reply {
        self.json("PUT", path, object).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: PatchKind, patch: Value) -> Reply {
        let admin = &self.inner.target.admin;
        self.send(
            admin,
            "PATCH",
            path,
            kind.content_type(),
            patch.to_string().into(),
        )
        .await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(&self.inner.target.admin, "DELETE", path, "", Vec::new())
            .await
    }

    pub(crate) async fn delete_if(&self, path: &str, preconditions: Value) -> Reply {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions});
        self.json("DELETE", path, options).await
    }

    async fn json(&self, method: &str, path: &str, object: Value) -> Reply {
        let admin = &self.inner.target.admin;
        self.send(admin, method, path, "application/json", object.to_string().into())
            .await
    }

    /// One request by any client, with any content type.
    pub(crate) async fn send(
        &self,
        client: &kube::Client,
        method: &str,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Reply {
        self.ask(client, method, path, JSON, content_type, body).await
    }

    async fn ask(
        &self,
        client: &kube::Client,
        method: &str,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Reply {
        let what = format!("{method} {path}");
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("accept", accept);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        let answer = match request.body(Body::from(body)) {
            Ok(request) => client.send(request).await,
            Err(error) => {
                return Reply {
                    what,
                    code: 0,
                    body: error.to_string().into(),
                };
            }
        };
        let (parts, body) = match answer {
            Ok(response) => response.into_parts(),
            Err(error) => {
                return Reply {
                    what,
                    code: 0,
                    body: error.to_string().into(),
                };
            }
        };
        let bytes = body
            .collect()
            .await
            .map(|body| body.to_bytes())
            .unwrap_or_default();
        let text = || Value::from(String::from_utf8_lossy(&bytes).as_ref());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Reply {
            what,
            code: parts.status.as_u16(),
            body,
        }
    }

    /// Creates an object that is removed at the end. Gives it and its path.
    pub(crate) async fn make(&self, kind: &Kind, object: Value) -> Result<(Value, String), String> {
        let made = self
            .post(&kind.path(self.namespace(), ""), object)
            .await
            .is(201)?;
        let name = made["metadata"]["name"].as_str().unwrap_or_default();
        let path = kind.path(self.namespace(), name);
        self.inner.made.lock().push(path.clone());
        Ok((made, path))
    }

    /// Reads until nobody else is writing any more: controllers of a real cluster touch new volumes and claims.
    pub(crate) async fn settled(&self, path: &str) -> Result<Value, String> {
        let mut seen = self.get(path).await.is(200)?;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.get(path).await.is(200)?;
            if now["metadata"]["resourceVersion"] == seen["metadata"]["resourceVersion"] {
                return Ok(now);
            }
            seen = now;
        }
    }

    /// Waits until an object is gone.
    pub(crate) async fn gone(&self, path: &str) -> CaseResult {
        let wait = async {
            while self.get(path).await.code != 404 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .map_err(|_| format!("{path} does not go away"))
    }

    /// Opens a watch and collects events until one satisfies `last`.
    pub(crate) async fn watch(
        &self,
        path: &str,
        last: impl FnMut(&Value) -> bool,
    ) -> Result<Vec<Value>, String> {
        self.watch_as(JSON, PATIENCE, path, last).await
    }

    pub(crate) async fn watch_as(
        &self,
        accept: &str,
        patience: Duration,
        path: &str,
        mut last: impl FnMut(&Value) -> bool,
    ) -> Result<Vec<Value>, String> {
        let mut seen = Vec::new();
        match tokio::time::timeout(patience, self.collect(accept, path, &mut last, &mut seen)).await {
            Ok(done) => done?,
            Err(_) => {
                return Err(format!(
                    "GET {path}: the event did not come; seen: {}",
                    brief(&seen)
                ));
            }
        }
        Ok(seen)
    }

    async fn collect(
        &self,
        accept: &str,
        path: &str,
        last: &mut impl FnMut(&Value) -> bool,
        seen: &mut Vec<Value>,
    ) -> CaseResult {
        let request = Request::get(path)
            .header("accept", accept)
            .body(Vec::new())
            .map_err(|error| error.to_string())?;
        let stream = self.inner.target.admin.request_stream(request).await;
        let mut lines = stream.map_err(|error| format!("GET {path}: {error}"))?.lines();
        while let Some(line) = lines
            .try_next()
            .await
            .map_err(|error| format!("GET {path}: {error}"))?
        {
            let event: Value = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
            seen.push(event);
            if seen.last().is_some_and(&mut *last) {
                return Ok(());
            }
        }
        Err(format!(
            "GET {path}: the watch ended before the event; seen: {}",
            brief(seen)
        ))
    }

    /// The events of a watch until the server ends it.
    pub(crate) async fn watch_to_end(&self, path: &str) -> Result<Vec<Value>, String> {
        let mut seen = Vec::new();
        let ended = tokio::time::timeout(
            2 * PATIENCE,
            self.collect(JSON, path, &mut |_: &Value| false, &mut seen),
        )
        .await;
        ended
            .map_err(|_| format!("GET {path}: the watch did not end"))?
            .err();
        Ok(seen)
    }

    /// Removes what was made, finalizers or not.
    pub(crate) async fn clean(&self) {
        let made = std::mem::take(&mut *self.inner.made.lock());
        for path in made.iter().rev() {
            self.delete(path).await;
            self.patch(path, PatchKind::Merge, json!({"metadata": {"finalizers": null}}))
                .await;
        }
        self.delete(&format!("/api/v1/namespaces/{}", self.namespace()))
            .await;
    }
}

fn brief(events: &[Value]) -> String {
    let name = |event: &Value| format!("{} {}", event["type"], event["object"]["metadata"]["name"]);
    events.iter().map(name).collect::<Vec<_>>().join(", ")
}

impl Reply {
    /// The body, if the code is this one.
    pub(crate) fn is(self, code: u16) -> Result<Value, String> {
        if self.code == code {
            return Ok(self.body);
        }
        Err(format!(
            "{}: {} instead of {code}: {}",
            self.what, self.code, self.body
        ))
    }

    /// A `Status` with this code, reason and a message that contains `text`.
    pub(crate) fn refused(self, code: u16, reason: &str, text: &str) -> Result<Value, String> {
        let what = self.what.clone();
        let body = self.is(code)?;
        let right = body["kind"] == "Status"
            && body["status"] == "Failure"
            && body["code"] == code
            && body["reason"].as_str().unwrap_or_default() == reason
            && body["message"].as_str().unwrap_or_default().contains(text);
        if right {
            Ok(body)
        } else {
            Err(format!("{what}: not {reason} with {text:?}: {body}"))
        }
    }
}

/// Checks one value.
pub(crate) fn same(what: &str, found: &Value, expected: impl Into<Value>) -> CaseResult {
    let expected = expected.into();
    if *found == expected {
        Ok(())
    } else {
        Err(format!("{what}: {found} instead of {expected}"))
    }
}

/// Checks one condition.
pub(crate) fn holds(what: &str, condition: bool) -> CaseResult {
    if condition { Ok(()) } else { Err(what.to_owned()) }
}
