//! A connection to the API server: through a proxy or not, with TLS or without.

use std::time::Duration;

use http::{Uri, uri::Scheme};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        proxy::{SocksV5, Tunnel},
    },
    rt::TokioIo,
};
use kube::{Config, client::ConfigExt as _};
use tokio::net::TcpStream;
use tower::{BoxError, ServiceExt as _, util::BoxCloneSyncService};

use crate::cluster::{
    client::AccessError,
    proxy::{Proxy, ProxyProtocol},
};

/// To the server's port, whatever stands in between.
type Transport = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// Makes connections to the server of `config`, through the proxy that it names.
pub(super) fn connector(config: &Config) -> Result<HttpsConnector<Transport>, AccessError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    let proxy = config.proxy_url.as_ref().map(Proxy::new).transpose();
    let proxy = proxy.map_err(AccessError::Proxy)?;
    // Plain HTTP needs no roots, and an image without certificates has none to load.
    let mut config = config.clone();
    let is_plain = |url: &Uri| url.scheme() == Some(&Scheme::HTTP);
    if is_plain(&config.cluster_url) && proxy.as_ref().is_none_or(|proxy| is_plain(&proxy.url)) {
        config.root_cert = Some(Vec::new());
    }
    let tls = config
        .rustls_client_config()
        .map_err(|error| AccessError::Credentials(error.to_string()))?;

    let transport = match proxy {
        None => Transport::new(tcp.map_response(MaybeHttpsStream::Http).map_err(BoxError::from)),
        Some(proxy) if proxy.protocol == ProxyProtocol::Socks5 => {
            let mut socks = SocksV5::new(proxy.url, tcp);
            if let Some((user, password)) = proxy.credentials {
                socks = socks.with_auth(user, password);
            }
            Transport::new(
                socks
                    .map_request(with_port)
                    .map_response(MaybeHttpsStream::Http)
                    .map_err(BoxError::from),
            )
        }
        Some(proxy) => {
            // A proxy with https is trusted by the API server's CA, as in client-go.
            let to_proxy = HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp);
            let (auth, mut tunnel) = (proxy.basic_auth(), Tunnel::new(proxy.url, to_proxy));
            if let Some(auth) = auth {
                tunnel = tunnel.with_auth(auth);
            }
            Transport::new(tunnel.map_request(with_port).map_err(BoxError::from))
        }
    };

    let mut https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(|_| {
            AccessError::Credentials(format!(
                "tls-server-name {name:?} of the kubeconfig is not a host name"
            ))
        })?;
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(https.enable_all_versions().wrap_connector(transport))
}

/// Names the port, for which the tunnels of the library would take 443.
fn with_port(server: Uri) -> Uri {
    match (
        server.scheme() == Some(&Scheme::HTTP),
        server.port(),
        server.host(),
    ) {
        (true, None, Some(host)) => format!("http://{host}:80/").parse().unwrap_or(server),
        _ => server,
    }
}
