//! Where an HTTP server listens, for an address in the form of Go's `net.Listen`.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::net::sockopt::set_ipv6_v6only;
use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// How many more the kernel keeps waiting. Whom it drops asks again after a second, which is too late for a kubelet.
const QUEUE: u32 = 1024;

/// `host:port`, `:port` or `[v6]:port`.
pub(super) fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    Some((host, port.parse().ok()?))
}

/// What to try to listen on, as Go has it: all interfaces are those of IPv6 and IPv4 together, also when they are called
/// `0.0.0.0`; of a name's addresses it takes the first one of IPv4.
async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = match host {
        "" => vec![(Ipv4Addr::UNSPECIFIED, port).into()],
        host => lookup_host((host, port)).await?.collect(),
    };
    let first = found.iter().find(|it| it.is_ipv4()).or(found.first());
    Ok(match first {
        Some(all) if all.ip().is_unspecified() => {
            // The kernel may have no IPv6.
            vec![
                (Ipv6Addr::UNSPECIFIED, port).into(),
                (Ipv4Addr::UNSPECIFIED, port).into(),
            ]
        }
        first => first.copied().into_iter().collect(),
    })
}

/// As tokio's `TcpListener::bind`, but for the length of the queue, which is 128 there, and for IPv6, which serves IPv4
/// besides whatever the system's default is. An address that is taken is not tried in another form.
pub(super) async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses(host, port).await? {
        match listen_on(address) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => refused = error,
            bound => return bound,
        }
    }
    Err(refused)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            set_ipv6_v6only(&socket, false)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

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
    async fn all_interfaces_are_those_of_both_families_and_a_name_is_its_first_address_of_ipv4() {
        let v4 = |ip: [u8; 4]| SocketAddr::from((ip, 80));
        let v6 = |ip: Ipv6Addr| SocketAddr::from((ip, 80));
        let all = [v6(Ipv6Addr::UNSPECIFIED), v4([0, 0, 0, 0])];
        for (host, wanted) in [
            ("", &all[..]),
            ("0.0.0.0", &all),
            ("::", &all),
            ("127.0.0.1", &[v4([127, 0, 0, 1])]),
            ("::1", &[v6(Ipv6Addr::LOCALHOST)]),
            // Its hosts file may name ::1 first.
            ("localhost", &[v4([127, 0, 0, 1])]),
        ] {
            assert_eq!(addresses(host, 80).await.unwrap(), wanted, "{host}");
        }
        let server = listen("0.0.0.0", 0).await.unwrap();
        let port = server.local_addr().unwrap().port();
        for host in ["127.0.0.1", "[::1]"] {
            let reached = TcpStream::connect(format!("{host}:{port}")).await;
            // Where there is no IPv6 nobody reaches it that way.
            let ok = reached.is_ok() || TcpListener::bind("[::1]:0").await.is_err();
            assert!(ok, "{host}: {reached:?}");
        }
    }
}
