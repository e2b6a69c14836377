//! Pure. The proxy between us and the API server, chosen from the environment as Go's `http.ProxyFromEnvironment`
//! chooses it.

use core::net::IpAddr;
use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderValue, Uri,
    uri::{InvalidUri, Scheme},
};
use percent_encoding::percent_decode_str;

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, each in capitals or, where that is not set, in small letters.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    http: Option<String>,
    https: Option<String>,
    no_proxy: String,
}

/// The URLs may hold passwords.
impl fmt::Debug for ProxyEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProxyEnvironment").finish_non_exhaustive()
    }
}

impl ProxyEnvironment {
    /// Reads the variables; `env` leaves out empty ones.
    pub fn read(env: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| env(name).or_else(|| env(&name.to_ascii_lowercase()));
        Self {
            http: either("HTTP_PROXY"),
            https: either("HTTPS_PROXY"),
            no_proxy: either("NO_PROXY").unwrap_or_default(),
        }
    }

    /// The proxy for `server`; the error is for a variable that is no URL.
    pub(super) fn proxy_for(&self, server: &Uri) -> Option<Result<Uri, InvalidUri>> {
        let (variable, default_port) = match server.scheme() == Some(&Scheme::HTTPS) {
            true => (&self.https, 443),
            false => (&self.http, 80),
        };
        let proxy = variable.as_deref()?;
        let host = without_brackets(server.host()?).to_ascii_lowercase();
        let ip = host.parse().ok();
        let port = server.port_u16().unwrap_or(default_port);
        // Go never asks a proxy for this host itself, and no variable changes that.
        if host == "localhost"
            || ip.is_some_and(|ip: IpAddr| ip.is_loopback())
            || self
                .no_proxy
                .split(',')
                .any(|entry| covers(&entry.trim().to_ascii_lowercase(), &host, ip, port))
        {
            return None;
        }
        Some(match proxy.contains("://") {
            true => proxy.parse(),
            false => format!("http://{proxy}").parse(),
        })
    }
}

/// Whether this entry of `NO_PROXY` covers the server.
fn covers(entry: &str, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/')
        && let (Ok(network), Ok(bits)) = (network.parse(), bits.parse())
    {
        return ip.is_some_and(|ip| is_in_network(ip, network, bits));
    }
    let (name, of_port) = match entry.rsplit_once(':') {
        Some((name, port)) if name.starts_with('[') && name.ends_with(']') => (without_brackets(name), port),
        Some((name, port)) if !name.contains(':') => (name, port),
        _ => (entry, ""),
    };
    if !of_port.is_empty() && of_port != port.to_string() {
        return false;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return ip == Some(address);
    }
    let name = if name.starts_with("*.") { &name[1..] } else { name };
    match host.strip_suffix(name) {
        None => false,
        Some(_) if name.is_empty() => false,
        Some(rest) => name.starts_with('.') || rest.is_empty() || rest.ends_with('.'),
    }
}

fn is_in_network(ip: IpAddr, network: IpAddr, bits: u32) -> bool {
    // A shift by the whole width is None: every address is in a network of 0 bits.
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => (u32::from(ip) ^ u32::from(network))
            .checked_shr(32 - bits)
            .is_none_or(|rest| rest == 0),
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => (u128::from(ip) ^ u128::from(network))
            .checked_shr(128 - bits)
            .is_none_or(|rest| rest == 0),
        _ => false,
    }
}

/// An IPv6 address stands in brackets before a port.
fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyProtocol {
    /// CONNECT, over TLS if the URL says so.
    Http,
    /// SOCKS 5.
    Socks5,
}

/// A proxy. Cannot be printed, but for its URL, because of the password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) protocol: ProxyProtocol,
    /// Scheme, host and port.
    pub(super) url: Uri,
    /// User and password.
    pub(super) credentials: Option<(String, String)>,
}

impl Proxy {
    /// Takes a URL apart; the error says what is wrong with it, without its password.
    pub(super) fn new(url: &Uri) -> Result<Self, String> {
        let (protocol, default_port) = match url.scheme_str() {
            Some("http") => (ProxyProtocol::Http, 80),
            Some("https") => (ProxyProtocol::Http, 443),
            Some("socks5" | "socks5h") => (ProxyProtocol::Socks5, 1080),
            scheme => {
                let scheme = scheme.unwrap_or_default();
                return Err(format!(
                    "its scheme is {scheme:?}, and only http, https and socks5 are known"
                ));
            }
        };
        let (scheme, host) = (
            url.scheme_str().unwrap_or_default(),
            url.host().unwrap_or_default(),
        );
        if host.is_empty() {
            return Err("it has no host".to_owned());
        }
        let port = url.port_u16().unwrap_or(default_port);
        let user = url
            .authority()
            .and_then(|authority| authority.as_str().rsplit_once('@'));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        Ok(Self {
            protocol,
            url: format!("{scheme}://{host}:{port}/")
                .parse()
                .map_err(|error: InvalidUri| error.to_string())?,
            credentials: user.map(|(user, _)| {
                let (user, password) = user.split_once(':').unwrap_or((user, ""));
                (decoded(user), decoded(password))
            }),
        })
    }

    /// The value of Proxy-Authorization.
    pub(super) fn basic_auth(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials.as_ref()?;
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}
