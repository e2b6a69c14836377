//! The HTTP pages: metrics and health, for kubelet and Prometheus.
//!
//! Plain HTTP without authentication, as upstream's: no request changes anything, and no page shows a secret.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use tokio::net::TcpListener;

use super::{
    metrics::{CONTENT_TYPE, Registry},
    ready::Readiness,
};

/// How long open requests may take once the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the pages cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is not in the form of Go's `net.Listen`.
    #[error(
        "cannot serve HTTP on {0:?}: give host:port, or :port for all interfaces, with a port from 0 to 65535"
    )]
    Address(String),
    /// The system refused the address.
    #[error("cannot serve HTTP on {address:?}: {source}")]
    Bind {
        /// The address as given in the flag.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The server failed while it ran.
    #[error("the HTTP server stopped: {0}")]
    Serve(std::io::Error),
}

/// A health check; an error says what is wrong.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What the pages show.
#[derive(Clone)]
pub struct Endpoints {
    /// Shown under `metrics_path`.
    pub metrics: Registry,
    /// `--metrics-path`; begins with a slash.
    pub metrics_path: String,
    /// Shown under `/readyz`: 200 and the notes when nothing is missing, else 503 with what is missing.
    pub ready: Readiness,
    /// Each has a page `/healthz/<name>`: 200, or 500 with what is wrong. `/healthz` shows all of them together.
    pub checks: Vec<(&'static str, Check)>,
}

/// A server that listens. It answers once [`HttpServer::serve`] runs.
#[derive(Debug)]
pub struct HttpServer(TcpListener);

impl HttpServer {
    /// Listens on an address in Go's form: `:8080` is all interfaces, IPv6 and IPv4.
    ///
    /// # Errors
    /// The address is malformed, or the system refuses it.
    pub async fn bind(address: &str) -> Result<Self, HttpError> {
        let (host, port) = split(address).ok_or_else(|| HttpError::Address(address.to_owned()))?;
        let bound = match host {
            "" => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                // The kernel may have no IPv6.
                Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
                }
                bound => bound,
            },
            host => TcpListener::bind((host, port)).await,
        };
        bound.map(Self).map_err(|source| HttpError::Bind {
            address: address.to_owned(),
            source,
        })
    }

    /// The address that the server listens on, with the real port if the flag asked for port 0.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn address(&self) -> Result<SocketAddr, HttpError> {
        self.0.local_addr().map_err(HttpError::Serve)
    }

    /// Answers until `stop` is done; requests that are open then have two seconds to end.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(
        self,
        endpoints: Endpoints,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), HttpError> {
        // One handler for all paths: the router would take `{x}` in `--metrics-path` for a pattern.
        let router = Router::new().fallback(answer).with_state(Arc::new(endpoints));
        let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = axum::serve(self.0, router).with_graceful_shutdown(async move {
            stop.await;
            let _ = stopping.send(());
        });
        tokio::select! {
            done = server.into_future() => done.map_err(HttpError::Serve),
            () = async { let _ = stopped.await; tokio::time::sleep(SHUTDOWN_TIMEOUT).await } => Ok(()),
        }
    }
}

/// `host:port`, `:port` or `[v6]:port`.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

async fn answer(State(endpoints): State<Arc<Endpoints>>, uri: Uri) -> Response {
    let Endpoints {
        metrics,
        metrics_path,
        ready,
        checks,
    } = &*endpoints;
    match uri.path() {
        path if path == metrics_path => match metrics.page(&names(uri.query().unwrap_or_default())) {
            Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        "/healthz" => health(checks.iter()),
        "/readyz" => match ready.missing() {
            missing if missing.is_empty() => {
                let lines: Vec<_> = std::iter::once("ok".to_owned()).chain(ready.notes()).collect();
                plain(StatusCode::OK, lines.join("\n"))
            }
            missing => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready, waiting for:\n{}", missing.join("\n")),
            ),
        },
        path => match checks
            .iter()
            .find(|(name, _)| path.strip_prefix("/healthz/") == Some(name))
        {
            Some(check) => health(std::iter::once(check)),
            None => plain(StatusCode::NOT_FOUND, "404 page not found".into()),
        },
    }
}

fn health<'a>(checks: impl Iterator<Item = &'a (&'static str, Check)>) -> Response {
    let wrong: Vec<_> = checks
        .filter_map(|(name, check)| check().err().map(|why| format!("{name}: {why}")))
        .collect();
    match wrong.is_empty() {
        true => plain(StatusCode::OK, "ok".into()),
        false => plain(StatusCode::INTERNAL_SERVER_ERROR, wrong.join("\n")),
    }
}

fn plain(code: StatusCode, text: String) -> Response {
    let mut answer = (code, text).into_response();
    // The text may contain names from outside; no browser shall guess a type from them.
    answer.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    answer
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

    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer)
    }

    fn endpoints() -> Endpoints {
        Endpoints {
            metrics: Registry::new().unwrap(),
            metrics_path: "/metrics".into(),
            ready: Readiness::default(),
            checks: Vec::new(),
        }
    }

    #[test]
    fn addresses_are_read_as_go_does() {
        let cases = [
            (":8080", Some(("", 8080))),
            ("localhost:0", Some(("localhost", 0))),
            ("127.0.0.1:8080", Some(("127.0.0.1", 8080))),
            ("[::1]:8080", Some(("::1", 8080))),
            ("8080", None),
            ("localhost", None),
            ("::1:8080", None),
            ("[::1:8080", None),
            (":http", None),
            (":65536", None),
            ("", None),
        ];
        for (address, wanted) in cases {
            assert_eq!(split(address), wanted, "{address}");
        }
    }

    #[tokio::test]
    async fn the_pages_tell_health_readiness_and_metrics() {
        let unhealthy = Arc::new(AtomicBool::new(false));
        let checked = Arc::clone(&unhealthy);
        let check: Check = Arc::new(move || match checked.load(Ordering::Relaxed) {
            true => Err("lease not renewed".into()),
            false => Ok(()),
        });
        let endpoints = Endpoints {
            checks: vec![("leader-election", check)],
            ..endpoints()
        };
        let ready = endpoints.ready.clone();
        let server = HttpServer::bind(":0").await.unwrap();
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address().unwrap().port()));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(server.serve(endpoints, async { drop(stopped.await) }));

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

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(at).await.is_err());
    }

    #[tokio::test]
    async fn without_leader_election_there_is_no_such_page_and_odd_paths_do_no_harm() {
        for path in ["/{x}", "/*", "/a//b", "/healthz"] {
            let server = HttpServer::bind("127.0.0.1:0").await.unwrap();
            let at = server.address().unwrap();
            let server = tokio::spawn(server.serve(
                Endpoints {
                    metrics_path: path.into(),
                    ..endpoints()
                },
                std::future::pending(),
            ));
            assert_eq!(get(at, "/healthz/leader-election").await.0, 404);
            assert!(get(at, path).await.1.contains("process_open_fds"), "{path}");
            server.abort();
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
}
