//! Ways in: a tower service for one user, and HTTP on a loopback port where the bearer token is the user's name.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper_util::rt::TokioIo;
use serde_json::json;

use super::Api;
use crate::Line;

/// Whatever may go wrong with a connection.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of an answer: one chunk, or the lines of a watch.
pub type ApiBody = UnsyncBoxBody<Bytes, BoxError>;

/// The API as one user sees it; give it to [`kube::Client::new`].
#[derive(Clone)]
pub struct Service {
    api: Api,
    /// `None`: whoever the bearer token names.
    user: Option<String>,
    line: Line,
}

impl Service {
    pub(crate) fn new(api: Api, user: &str) -> Self {
        Self {
            api,
            user: Some(user.to_owned()),
            line: Line::new(),
        }
    }

    /// The way of one process.
    pub fn over(self, line: Line) -> Self {
        Self { line, ..self }
    }
}

impl<B> tower::Service<http::Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<ApiBody>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Self { api, user, line } = self.clone();
        Box::pin(async move {
            let answered = async {
                if line.is_parted() {
                    return Err("no way to the sandbox".into());
                }
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(Into::into)?.to_bytes();
                let user = user.or_else(|| bearer(&parts)).unwrap_or_default();
                let answer = api.answer_over(&line, &user, &parts, &body).await;
                line.free().await;
                answer
            };
            Ok(line.run(answered).await?.map(|body| cut_off(body, line.clone())))
        })
    }
}

/// The lines of a watch end nowhere, either.
fn cut_off(body: ApiBody, line: Line) -> ApiBody {
    let frames = stream::unfold((body, line), async |(mut body, line)| {
        let frame = line.run(body.frame()).await?;
        line.run(line.joined()).await;
        line.run(line.free()).await;
        Some((frame, (body, line)))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn bearer(parts: &http::request::Parts) -> Option<String> {
    let value = parts.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

impl Api {
    /// Serves plain HTTP on a free loopback port until the handle is aborted or its runtime ends. Gives the address.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn serve_on_loopback(&self) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = Service {
            api: self.clone(),
            user: None,
            line: Line::new(),
        };
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper_util::service::TowerToHyperService::new(service.clone());
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(connection);
                while connections.try_join_next().is_some() {}
            }
        });
        Ok((address, task))
    }
}

/// A kubeconfig for the loopback server; `user` is who the client is.
pub fn kubeconfig(address: SocketAddr, user: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "sandbox",
        "clusters": [{"name": "sandbox", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": user, "user": {"token": user}}],
        "contexts": [{"name": "sandbox", "context": {"cluster": "sandbox", "user": user}}],
    });
    // JSON is YAML.
    format!("{config:#}\n")
}

pub(crate) fn full(text: impl Into<Bytes>) -> ApiBody {
    http_body_util::Full::new(text.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}
