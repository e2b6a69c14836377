//! The proxy rules of Go's net/http, and how a proxy's URL is taken apart.

use http::Uri;

use crate::cluster::proxy::{Proxy, ProxyEnvironment, ProxyProtocol};

fn chosen(variables: &[(&str, &str)], server: &str) -> Option<String> {
    let environment = ProxyEnvironment::read(|name| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    });
    let proxy = environment.proxy_for(&server.parse().unwrap())?;
    Some(proxy.map_or("no URL".to_owned(), |proxy| proxy.to_string()))
}

#[test]
fn c19_the_scheme_of_the_server_chooses_the_variable_and_capitals_win() {
    let both = [("HTTP_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://b:2")];
    let small = [("http_proxy", "http://a:1"), ("https_proxy", "http://b:2")];
    for (variables, server, proxy) in [
        (&both[..], "http://api.test", Some("http://a:1/")),
        (&both, "https://api.test", Some("http://b:2/")),
        (&small, "http://api.test", Some("http://a:1/")),
        (&small, "https://10.0.0.1:6443", Some("http://b:2/")),
        (&both[..1], "https://api.test", None),
        (&[("ALL_PROXY", "http://a:1")], "https://api.test", None),
        (
            &[("https_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:2")],
            "https://api.test",
            Some("http://b:2/"),
        ),
        (&[("HTTPS_PROXY", "b:2")], "https://api.test", Some("http://b:2/")),
        (
            &[("HTTPS_PROXY", "10.0.0.9:2")],
            "https://api.test",
            Some("http://10.0.0.9:2/"),
        ),
        (
            &[("HTTPS_PROXY", "http://[b")],
            "https://api.test",
            Some("no URL"),
        ),
        // Never for this host itself.
        (&both, "https://localhost:6443", None),
        (&both, "https://127.0.0.7:6443", None),
        (&both, "https://[::1]:6443", None),
    ] {
        assert_eq!(
            chosen(variables, server).as_deref(),
            proxy,
            "{variables:?} {server}"
        );
    }
}

#[test]
fn c19_no_proxy_is_read_as_go_reads_it() {
    for (entries, server, covered) in [
        ("*", "https://api.test", true),
        ("other.test, *", "https://api.test", true),
        ("api.test", "https://api.test", true),
        ("API.Test", "https://api.TEST", true),
        ("test", "https://api.test", true),
        (".test", "https://api.test", true),
        ("*.test", "https://api.test", true),
        ("api.test", "https://my.api.test", true),
        (".api.test", "https://api.test", false),
        ("*.api.test", "https://api.test", false),
        ("pi.test", "https://api.test", false),
        ("api.test:443", "https://api.test", true),
        ("api.test:6443", "https://api.test", false),
        ("api.test:6443", "https://api.test:6443", true),
        ("api.test:", "https://api.test:6443", true),
        ("10.0.0.1", "https://10.0.0.1", true),
        ("10.0.0.1:6443", "https://10.0.0.1", false),
        ("10.0.0.0/8", "https://10.200.0.1:6443", true),
        ("10.0.0.0/9", "https://10.200.0.1:6443", false),
        ("0.0.0.0/0", "https://10.200.0.1", true),
        ("10.0.0.0/33", "https://10.0.0.0", false),
        ("10.0.0.0/8", "https://api.test", false),
        ("10.0.0.1", "https://api.test", false),
        ("fd00::/8", "https://[fd12::1]:6443", true),
        ("fd00::/8", "https://10.0.0.1", false),
        ("fd12::1", "https://[fd12::1]", true),
        ("[fd12::1]:6443", "https://[fd12::1]:6443", true),
        ("[fd12::1]:6443", "https://[fd12::1]", false),
        (" a.test ,, api.test ", "https://api.test", true),
        (":443", "https://api.test", false),
        ("*.", "https://api.test", false),
        ("", "https://api.test", false),
    ] {
        let variables = [("HTTPS_PROXY", "http://proxy:1"), ("NO_PROXY", entries)];
        assert_eq!(
            chosen(&variables, server).is_none(),
            covered,
            "{entries:?} {server}"
        );
        let variables = [("HTTPS_PROXY", "http://proxy:1"), ("no_proxy", entries)];
        assert_eq!(
            chosen(&variables, server).is_none(),
            covered,
            "no_proxy {entries:?} {server}"
        );
    }
}

#[test]
fn c19_the_url_of_a_proxy_is_taken_apart_and_its_password_is_said_nowhere() {
    let http = ProxyProtocol::Http;
    for (url, protocol, plain, credentials) in [
        ("http://proxy", http, "http://proxy:80/", None),
        ("https://proxy/path", http, "https://proxy:443/", None),
        (
            "http://joe@proxy:3128",
            http,
            "http://proxy:3128/",
            Some(("joe", "")),
        ),
        (
            "http://joe:p%40s%3As@[fd12::1]:3128",
            http,
            "http://[fd12::1]:3128/",
            Some(("joe", "p@s:s")),
        ),
        (
            "socks5://joe:x@proxy",
            ProxyProtocol::Socks5,
            "socks5://proxy:1080/",
            Some(("joe", "x")),
        ),
        (
            "socks5h://proxy:1",
            ProxyProtocol::Socks5,
            "socks5h://proxy:1/",
            None,
        ),
    ] {
        let proxy = Proxy::new(&url.parse().unwrap()).unwrap_or_else(|error| panic!("{url}: {error}"));
        let owned = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        assert!(proxy.protocol == protocol && proxy.credentials == owned, "{url}");
        assert_eq!(proxy.url, plain, "{url}");
    }
    let proxy = Proxy::new(&Uri::from_static("http://Aladdin:open%20sesame@proxy")).ok();
    let header = proxy.and_then(|proxy| proxy.basic_auth()).unwrap();
    assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert!(header.is_sensitive());
    for url in ["ftp://joe:secret@proxy", "proxy:3128"] {
        let error = Proxy::new(&url.parse().unwrap()).err().unwrap();
        assert!(
            error.contains("scheme") && !error.contains("secret"),
            "{url}: {error}"
        );
    }
    let environment = ProxyEnvironment::read(|_| Some("http://joe:secret@proxy".to_owned()));
    assert!(!format!("{environment:?}").contains("secret"));
}
