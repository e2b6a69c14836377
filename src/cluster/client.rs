//! The connection to the API server.
//!
//! kube's own stack speaks HTTP/1.1 only, so every watch and every concurrent call would be a TLS connection of its
//! own, and nothing notices a dead one. This one speaks HTTP/2 where the server does (every API server): one
//! connection, with pings.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper_util::{
    client::legacy::Client as HttpClient,
    rt::{TokioExecutor, TokioTimer},
};
pub use kube::Client;
use kube::{
    Config,
    client::{Body, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use secrecy::ExposeSecret;
use serde_json::json;
use tower::{BoxError, Service, ServiceBuilder, util::MapRequestLayer};

use crate::cluster::{
    connector::connector,
    proxy::ProxyEnvironment,
    token_file::{self, TokenFile},
};

use super::header_timeout::HeaderTimeout;
use crate::base::api_error::FLOW_CONTROL;

/// Where the kubelet mounts the files of the service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Stands in a kubeconfig that names no proxy: kube would read a part of the environment there.
const NO_PROXY_URL: &str = "none";

/// Where the API server is, as given on the command line.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// `--kubeconfig` or `KUBECONFIG`.
    pub kubeconfig: Option<PathBuf>,
    /// `--master`: overrides the server of the kubeconfig.
    pub master: Option<String>,
    /// The proxy, unless the kubeconfig names one.
    pub proxy: ProxyEnvironment,
    /// What this process calls itself in the server's audit log.
    pub user_agent: String,
}

/// The API server cannot be addressed at all: a mistake in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig is unreadable or incomplete.
    #[error("kubeconfig {path}: {cause}")]
    Kubeconfig {
        /// Which file.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
    /// Neither a kubeconfig nor a service account.
    #[error(
        "no way to reach the API server: not in a pod ({0}), and neither --kubeconfig, KUBECONFIG nor \
         ~/.kube/config is there"
    )]
    Nowhere(String),
    /// `--master` is no URL.
    #[error("--master {0:?} is not a URL such as https://host:6443")]
    Master(String),
    /// The proxy cannot be used.
    #[error("the proxy to the API server: {0}")]
    Proxy(String),
    /// Certificates, tokens or headers cannot be used.
    #[error("credentials for the API server: {0}")]
    Credentials(String),
}

/// Finds the API server: a kubeconfig that was named; else the service account of the pod; else `~/.kube/config`.
///
/// # Errors
/// [`AccessError`], each a reason to exit: waiting would not change it.
pub async fn config(access: &Access) -> Result<Config, AccessError> {
    let mut config = match &access.kubeconfig {
        Some(path) => from_file(path).await?,
        None => match in_cluster() {
            Ok(config) => config,
            Err(outside) => match default_path().filter(|path| path.exists()) {
                Some(path) => from_file(&path).await?,
                None if access.master.is_some() => Config::new(http::Uri::from_static("http://localhost")),
                None => return Err(AccessError::Nowhere(outside)),
            },
        },
    };
    if let Some(master) = &access.master {
        config.cluster_url = match master.parse::<http::Uri>() {
            Ok(url) if url.scheme().is_some() && url.authority().is_some() => url,
            _ => return Err(AccessError::Master(master.clone())),
        };
    }
    if config.proxy_url.is_none() {
        // client-go ignores what is no URL.
        config.proxy_url = access.proxy.proxy_for(&config.cluster_url).and_then(|proxy| {
            proxy
                .inspect_err(|error| tracing::warn!(%error, "ignoring the proxy variable"))
                .ok()
        });
    }
    if let Some(proxy) = &config.proxy_url {
        let (host, port) = (proxy.host(), proxy.port_u16());
        tracing::info!(host, port, "the API server is reached through a proxy");
    }
    let agent = HeaderValue::from_str(&access.user_agent)
        .map_err(|error| AccessError::Credentials(format!("user agent: {error}")))?;
    config.headers.push((header::USER_AGENT, agent));
    config.default_retry = false;
    Ok(config)
}

/// kube's own reader also asks for the file `namespace`, which nothing here needs.
fn in_cluster() -> Result<Config, String> {
    let variable = |name: &str| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("{name} is not set"))
    };
    let (host, port) = (
        variable("KUBERNETES_SERVICE_HOST")?,
        variable("KUBERNETES_SERVICE_PORT")?,
    );
    // An IPv6 address stands in brackets.
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let url = format!("https://{host}:{port}");
    let mut config = Config::new(url.parse().map_err(|error| format!("{url}: {error}"))?);
    let [token, authority] = ["token", "ca.crt"].map(|name| Path::new(SERVICE_ACCOUNT).join(name));
    if !token.is_file() {
        return Err(format!("no file {}", token.display()));
    }
    config.auth_info.token_file = Some(token.display().to_string());
    if authority.is_file() {
        // The file counts, and is read again when it changes. The roots of the system are not needed then.
        config.root_cert = Some(Vec::new());
        config.root_cert_file = Some(authority);
    }
    Ok(config)
}

async fn from_file(path: &Path) -> Result<Config, AccessError> {
    let wrong = |cause: String| AccessError::Kubeconfig {
        path: path.display().to_string(),
        cause,
    };
    let mut kubeconfig = Kubeconfig::read_from(path).map_err(|error| wrong(error.to_string()))?;
    for cluster in kubeconfig
        .clusters
        .iter_mut()
        .filter_map(|named| named.cluster.as_mut())
    {
        let named = cluster.proxy_url.take().filter(|proxy| !proxy.is_empty());
        cluster.proxy_url = named.or_else(|| Some(NO_PROXY_URL.to_owned()));
    }
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| wrong(error.to_string()))?;
    config.proxy_url = config.proxy_url.filter(|proxy| *proxy != NO_PROXY_URL);
    Ok(config)
}

fn default_path() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".kube").join("config"))
}

/// The bearer token that requests carry, if they carry one: its claims say who we are.
pub fn token(config: &Config) -> Option<String> {
    match (&config.auth_info.token, &config.auth_info.token_file) {
        (token, Some(file)) => {
            let inline = || token.as_ref().map(|token| token.expose_secret().to_owned());
            token_file::read(Path::new(file)).ok().or_else(inline)
        }
        (Some(token), None) => Some(token.expose_secret().to_owned()),
        (None, None) => None,
    }
}

/// Makes a client. Two of them share no connection, so that the lease never waits behind volumes.
///
/// # Errors
/// [`AccessError::Credentials`] and [`AccessError::Proxy`].
pub fn client(config: &Config) -> Result<Client, AccessError> {
    let wrong = |error: kube::Error| AccessError::Credentials(error.to_string());
    let connector = connector(config)?;
    let mut config = config.clone();
    // As in client-go, a file that can be read wins over a token in the kubeconfig itself.
    let opened = config
        .auth_info
        .token_file
        .take()
        .map(|path| TokenFile::open(path.into()));
    let file = match opened {
        Some(Ok(file)) => {
            config.auth_info.token = None;
            Some(Arc::new(file))
        }
        Some(Err(_)) if config.auth_info.token.is_some() => None,
        Some(Err(error)) => return Err(error),
        None => None,
    };
    let http = HttpClient::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(15))
        .http2_keep_alive_while_idle(true)
        .build::<_, Body>(connector);
    let stack = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(wrong)?)
        .option_layer(file.map(|file| MapRequestLayer::new(move |request| file.authorize(request))))
        .layer(config.extra_headers_layer().map_err(wrong)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(over(stack, &config.default_namespace))
}

/// A client over any service that speaks to an API server; tests put a sandbox there.
pub fn over<S, B>(service: S, namespace: &str) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = ServiceBuilder::new()
        .map_response(keep_retry_after)
        .layer_fn(HeaderTimeout)
        .service(service);
    Client::new(service, namespace)
}

/// Puts Retry-After, which kube drops with all headers, where a Status has it. The API server sends the header and
/// plain text when it is its own load that it sheds; so do proxies. A 429 with a Status is about that one request, and
/// may come from an admission webhook.
fn keep_retry_after<B>(response: Response<B>) -> Response<Either<B, Full<Bytes>>> {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_status = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if response.status() != StatusCode::TOO_MANY_REQUESTS || is_status {
        return response.map(Either::Left);
    }
    let seconds = response.headers().get(header::RETRY_AFTER);
    let seconds = seconds.and_then(|value| value.to_str().ok()?.parse::<u32>().ok());
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": FLOW_CONTROL,
        "message": "too many requests, the API server asks to come back later",
        "details": {"retryAfterSeconds": seconds.unwrap_or(1)},
    });
    response.map(|_| Either::Right(Full::from(status.to_string())))
}
