//! The HTTP pages: metrics and health, for kubelet and Prometheus.
//!
//! Plain HTTP without authentication, as upstream's: no request changes anything, and no page shows a secret.

use std::{collections::BTreeMap, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    clients::{Client, Clients},
    listen::{listen, split},
    metrics::{CONTENT_TYPE, Registry},
    ready::Readiness,
};

/// How long open requests may take once the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to send the head of its next request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How old a connection may become. Kubelet makes one a probe, and Prometheus makes another one when it has to.
const CONNECTION_AGE: Duration = Duration::from_secs(300);
/// Bytes of a request's head and of answers that wait to be read.
const LONGEST_HEAD: usize = 16 << 10;
/// How long until accepting is tried again after a failure.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Why the pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not in the form of Go's `net.Listen`.
    #[error(
        "cannot serve HTTP on {0:?}: give host:port, or :port for all interfaces, with a port from 0 to 65535"
    )]
    Malformed(String),
    /// The system refused the address.
    #[error("cannot serve HTTP on {address:?}: {source}")]
    Bind {
        /// The address as given in the flag.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The system does not tell which port it chose.
    #[error("cannot tell the address of the HTTP server: {0}")]
    Address(io::Error),
}

/// A health check; an error says what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a page answers.
pub type Answer = Response<Full<Bytes>>;

/// Answers each request for one path, whatever its method.
type Page = Arc<dyn Fn(Uri) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The pages, by path. Of two for the same path the first counts: which they are is the sidecar's to say.
#[derive(Clone, Default)]
pub struct Endpoints(BTreeMap<String, Page>);

impl Endpoints {
    /// With another page.
    pub fn page<F>(mut self, path: impl Into<String>, page: impl Fn(Uri) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let page: Page = Arc::new(move |uri| Box::pin(page(uri)));
        self.0.entry(path.into()).or_insert(page);
        self
    }

    /// With the metrics; `path` is `--metrics-path` and begins with a slash.
    pub fn metrics(self, path: &str, registry: &Registry) -> Self {
        let registry = registry.clone();
        self.page(path, move |uri| {
            let page = registry.page(&names(uri.query().unwrap_or_default()));
            std::future::ready(match page {
                Ok(page) => {
                    let mut answer = Response::new(Full::from(page));
                    let kind = HeaderValue::from_static(CONTENT_TYPE);
                    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
                    answer
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            })
        })
    }

    /// With `/readyz`: 200 and the notes when nothing is missing, else 503 with what is missing.
    pub fn ready(self, ready: &Readiness) -> Self {
        let ready = ready.clone();
        self.page("/readyz", move |_| {
            std::future::ready(match ready.missing() {
                missing if missing.is_empty() => {
                    let lines: Vec<_> = std::iter::once("ok".to_owned()).chain(ready.notes()).collect();
                    text(StatusCode::OK, lines.join("\n"))
                }
                missing => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("not ready, waiting for:\n{}", missing.join("\n")),
                ),
            })
        })
    }

    /// With a page `/healthz/<name>` for each check, 200 or 500 with what is wrong; and `/healthz` for all of them
    /// together.
    pub fn health(self, checks: Vec<(&'static str, Check)>) -> Self {
        let single = checks.clone().into_iter().map(|check| vec![check]);
        let with_single = single.fold(self, |endpoints, check| {
            endpoints.checked(format!("/healthz/{}", check[0].0), check)
        });
        with_single.checked("/healthz".to_owned(), checks)
    }

    fn checked(self, path: String, checks: Vec<(&'static str, Check)>) -> Self {
        self.page(path, move |_| {
            let wrong: Vec<_> = checks
                .iter()
                .filter_map(|(name, check)| check().err().map(|why| format!("{name}: {why}")))
                .collect();
            std::future::ready(match wrong.is_empty() {
                true => text(StatusCode::OK, "ok"),
                false => text(StatusCode::INTERNAL_SERVER_ERROR, wrong.join("\n")),
            })
        })
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        let uri = request.into_parts().0.uri;
        Ok(match self.0.get(uri.path()) {
            Some(page) => page(uri).await,
            None => text(StatusCode::NOT_FOUND, "404 page not found"),
        })
    }
}

/// An answer in plain text.
pub fn text(code: StatusCode, text: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::from(text.into()));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    // The text may contain names from outside; no browser shall guess a type from them.
    let strict = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, strict);
    answer
}

/// A server that listens. It answers once [`HttpServer::serve`] runs.
#[derive(Debug)]
pub struct HttpServer(TcpListener);

impl HttpServer {
    /// Listens on an address in Go's form: `:8080` and `0.0.0.0:8080` are all interfaces, IPv6 and IPv4.
    ///
    /// # Errors
    /// The address is malformed, or the system refuses it.
    pub async fn bind(address: &str) -> Result<Self, HttpError> {
        let (host, port) = split(address).ok_or_else(|| HttpError::Malformed(address.to_owned()))?;
        listen(host, port)
            .await
            .map(Self)
            .map_err(|source| HttpError::Bind {
                address: address.to_owned(),
                source,
            })
    }

    /// The address that the server listens on, with the real port if the flag asked for port 0.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn address(&self) -> Result<SocketAddr, HttpError> {
        self.0.local_addr().map_err(HttpError::Address)
    }

    /// Answers until `stop` is done; requests that are open then have two seconds to end.
    pub async fn serve(self, endpoints: Endpoints, stop: CancellationToken) {
        let (open, clients) = (TaskTracker::new(), Arc::new(Clients::default()));
        let accept = async || {
            // The kernel keeps the rest waiting.
            clients.room().await;
            self.0.accept().await
        };
        while let Some(accepted) = stop.run_until_cancelled(accept()).await {
            match accepted {
                Ok((stream, _)) => {
                    let client = Client::enter(&clients);
                    open.spawn(connection(stream, client, endpoints.clone(), stop.clone()));
                }
                // Too many open files, or a client that has left: neither is a reason to stop.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(self);
        open.close();
        open.wait().await;
    }
}

/// Serves one client until it goes, is silent or too old or has to leave, or we stop.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client: Client,
    endpoints: Endpoints,
    stop: CancellationToken,
) {
    let service = service_fn(|request| {
        let (client, endpoints) = (&client, endpoints.clone());
        async move {
            client.asks(true);
            let answer = endpoints.answer(request).await;
            client.asks(false);
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    let ended = tokio::select! {
        ended = &mut served => Some(ended),
        () = stop.cancelled() => None,
        () = client.leave.cancelled() => return,
        // A client may send and never read: what cannot be written is given up with the connection.
        () = sleep(CONNECTION_AGE) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            match timeout(SHUTDOWN_TIMEOUT, served).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection has ended");
    }
}

/// The values of `name[]` in a query.
fn names(query: &str) -> Vec<String> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    pairs
        .filter(|(key, _)| key == "name[]")
        .map(|(_, name)| name.into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{
        net::Ipv4Addr,
        sync::atomic::{AtomicBool, Ordering},
    };

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::{super::clients::CONNECTIONS, *};

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer)
    }

    fn endpoints(metrics_path: &str, ready: &Readiness, checks: Vec<(&'static str, Check)>) -> Endpoints {
        let registry = Registry::of_controller().unwrap();
        let endpoints = Endpoints::default().metrics(metrics_path, &registry);
        endpoints.ready(ready).health(checks)
    }

    #[tokio::test]
    async fn the_pages_tell_health_readiness_and_metrics() {
        let unhealthy = Arc::new(AtomicBool::new(false));
        let checked = Arc::clone(&unhealthy);
        let check: Check = Arc::new(move || match checked.load(Ordering::Relaxed) {
            true => Err("lease not renewed".into()),
            false => Ok(()),
        });
        let ready = Readiness::default();
        let endpoints = endpoints("/metrics", &ready, vec![("leader-election", check)]);
        let server = HttpServer::bind(":0").await.unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().unwrap().port()));
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.serve(endpoints, stop.clone()));

        let (code, page) = get(
            at,
            "/metrics?name[]=process_open_fds&name%5B%5D=process_max_fds&x=y",
        )
        .await;
        assert_eq!(code, 200);
        assert!(
            page.to_lowercase()
                .contains("content-type: text/plain; version=0.0.4"),
            "{page}"
        );
        assert_eq!(page.matches("# TYPE").count(), 2, "{page}");

        for path in ["/healthz", "/healthz/leader-election", "/readyz"] {
            let (code, body) = get(at, path).await;
            assert!(code == 200 && body.ends_with("\r\n\r\nok"), "{path}: {body}");
        }
        unhealthy.store(true, Ordering::Relaxed);
        let driver = ready.until("driver");
        for (path, code, text) in [
            ("/healthz", 500, "leader-election: lease not renewed"),
            ("/healthz/leader-election", 500, "lease not renewed"),
            ("/healthz/other", 404, ""),
            ("/readyz", 503, "\ndriver"),
            ("/", 404, ""),
            ("/metrics/", 404, ""),
        ] {
            let (got, body) = get(at, path).await;
            assert!(got == code && body.contains(text), "{path}: {body}");
        }
        drop(driver);
        ready.note("ledger", Some("1 record is held".into()));
        let (code, body) = get(at, "/readyz").await;
        assert!(
            code == 200 && body.ends_with("ok\nledger: 1 record is held"),
            "{body}"
        );

        stop.cancel();
        server.await.unwrap();
        assert!(TcpStream::connect(at).await.is_err());
    }

    #[tokio::test]
    async fn without_leader_election_there_is_no_such_page_and_odd_paths_do_no_harm() {
        for path in ["/{x}", "/*", "/a//b", "/healthz"] {
            let server = HttpServer::bind("127.0.0.1:0").await.unwrap();
            let at = server.address().unwrap();
            let endpoints = endpoints(path, &Readiness::default(), Vec::new());
            let server = tokio::spawn(server.serve(endpoints, CancellationToken::new()));
            assert_eq!(get(at, "/healthz/leader-election").await.0, 404);
            assert!(get(at, path).await.1.contains("process_open_fds"), "{path}");
            server.abort();
        }
    }

    /// A connection in memory, so that time can pass.
    fn served() -> tokio::io::DuplexStream {
        let (near, far) = tokio::io::duplex(1 << 16);
        let client = Client::enter(&Arc::default());
        let endpoints = endpoints("/metrics", &Readiness::default(), Vec::new());
        tokio::spawn(connection(far, client, endpoints, CancellationToken::new()));
        near
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_silent_for_30_s_is_cut_and_one_that_asks_after_5_minutes() {
        use tokio::time::Instant;
        let (began, mut silent) = (Instant::now(), served());
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), 30);

        let (began, mut busy) = (Instant::now(), served());
        let mut answer = [0; 4096];
        loop {
            if busy
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .is_err()
                || busy.read(&mut answer).await.unwrap() == 0
            {
                break;
            }
            sleep(Duration::from_secs(20)).await;
        }
        let lived = began.elapsed();
        assert!((CONNECTION_AGE..CONNECTION_AGE * 2).contains(&lived), "{lived:?}");
    }

    #[tokio::test]
    async fn a_head_may_have_16_kb() {
        for (length, code) in [(15_000, "200"), (17_000, "431")] {
            let mut client = served();
            let head = format!(
                "GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
                "x".repeat(length)
            );
            client.write_all(head.as_bytes()).await.unwrap();
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.ends_with(code), "{length}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_failure_names_the_address_and_the_reason() {
        let taken = HttpServer::bind("127.0.0.1:0").await.unwrap();
        let address = taken.address().unwrap().to_string();
        let error = HttpServer::bind(&address).await.unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("in use"), "{error}");
        let error = HttpServer::bind("8080").await.unwrap_err().to_string();
        assert!(error.contains("\"8080\""), "{error}");
    }

    #[tokio::test]
    async fn more_clients_than_there_is_room_for_are_all_answered_and_the_silent_ones_are_cut() {
        let server = HttpServer::bind("127.0.0.1:0").await.unwrap();
        let at = server.address().unwrap();
        let endpoints = endpoints("/metrics", &Readiness::default(), Vec::new());
        let server = tokio::spawn(server.serve(endpoints, CancellationToken::new()));
        let mut oldest = TcpStream::connect(at).await.unwrap();
        let mut held = Vec::new();
        for _ in 1..CONNECTIONS {
            held.push(TcpStream::connect(at).await.unwrap());
        }
        // All of them have been let in: the one that came last is answered. Its connection ends with that.
        assert_eq!(get(at, "/healthz").await.0, 200);
        let cut = timeout(Duration::from_secs(20), oldest.read(&mut [0])).await;
        assert!(matches!(cut, Ok(Ok(0) | Err(_))), "{cut:?}");
        server.abort();
    }
}
