//! Ways to the API server that upstream accepts: proxies, a token with a line break, a service account without its
//! namespace.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use sandbox::{ADMIN, Api, Driver, kubeconfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::Command,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::process::{Folder, command, flag, read_until};

/// A proxy that leads to one server, whatever name it is asked for. It ends when dropped.
struct ConnectProxy {
    address: SocketAddr,
    /// What it was asked for.
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ConnectProxy {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let heads = requests.clone();
        let task = tokio::spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let heads = heads.clone();
                tunnels.spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await?);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    heads.lock().expect("no panic").push(head);
                    let mut server = TcpStream::connect(server).await?;
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self {
            address,
            requests,
            task,
        }
    }

    fn first(&self) -> Option<String> {
        self.requests.lock().expect("no panic").first().cloned()
    }
}

/// The API, a driver, and where they listen.
struct World {
    folder: Folder,
    api: Api,
    address: SocketAddr,
    /// The driver at the socket, which goes away with it.
    _driver: Driver,
    csi: String,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    async fn new() -> Self {
        let (folder, api, driver) = (Folder::new(), Api::new(), Driver::new("disks.example.com"));
        let (address, serving) = api.serve_on_loopback().await.expect("a port");
        let path = folder.at("csi.sock");
        let listening = driver.listen(Path::new(&path)).expect("a socket");
        Self {
            folder,
            api,
            address,
            _driver: driver,
            csi: flag("csi-address", &path),
            tasks: [serving, listening],
        }
    }

    /// A kubeconfig of the administrator, with its cluster's line changed.
    fn kubeconfig(&self, server: &str, more: &str) -> String {
        let (path, plain) = (
            self.folder.at("config"),
            format!("\"server\": \"http://{}\"", self.address),
        );
        let text = kubeconfig(self.address, ADMIN);
        assert_eq!(text.matches(&plain).count(), 1, "{text}");
        fs::write(
            &path,
            text.replace(&plain, &format!("\"server\": \"{server}\"{more}")),
        )
        .expect("a file");
        flag("kubeconfig", &path)
    }

    fn is_asked(&self) -> bool {
        self.api
            .requests()
            .iter()
            .any(|request| request.user == ADMIN && request.code == 200)
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(60), async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn c19_the_proxy_of_the_environment_or_the_kubeconfig_is_asked_to_connect() {
    // No certificate at all, so that none has to be found.
    let tls = ", \"certificate-authority-data\": \"Iwo=\"";
    let basic = "Proxy-Authorization: Basic am9lOnBAc3M=\r\n";
    type Row = (
        &'static str,
        &'static str,
        Option<&'static str>,
        &'static str,
        &'static str,
        &'static str,
    );
    // Server, a variable and its value around the proxy's address, what the proxy reads.
    let rows: [Row; 5] = [
        (
            "http://api.test",
            "",
            Some("HTTP_PROXY"),
            "http://joe:p%40ss@",
            "CONNECT api.test:80 ",
            basic,
        ),
        (
            "http://api.test:81",
            "",
            Some("http_proxy"),
            "",
            "CONNECT api.test:81 ",
            "",
        ),
        (
            "https://api.test",
            tls,
            Some("HTTPS_PROXY"),
            "http://",
            "CONNECT api.test:443 ",
            "",
        ),
        (
            "https://10.0.0.1:6443",
            tls,
            Some("https_proxy"),
            "http://joe:p%40ss@",
            "CONNECT 10.0.0.1:6443 ",
            basic,
        ),
        (
            "http://127.0.0.1:82",
            "",
            None,
            "http://joe:p%40ss@",
            "CONNECT 127.0.0.1:82 ",
            basic,
        ),
    ];
    for (server, more, variable, before, asked, header) in rows {
        let world = World::new().await;
        let proxy = ConnectProxy::to(world.address).await;
        let url = format!("{before}{}", proxy.address);
        let more = match variable {
            Some(_) => more.to_owned(),
            None => format!("{more}, \"proxy-url\": \"{url}\""),
        };
        let mut command = command(
            &world.folder,
            &[world.csi.clone(), world.kubeconfig(server, &more)],
        );
        command.envs(variable.map(|name| (name, url)));
        let mut child = command.spawn().expect("the process");
        eventually(server, || proxy.first().is_some()).await;
        let head = proxy.first().unwrap_or_default();
        assert!(
            head.starts_with(asked) && head.contains(header),
            "{server}: {head}"
        );
        if server.starts_with("http:") {
            eventually("the API server behind the proxy is asked", || world.is_asked()).await;
        }
        child.kill().await.expect("its end");
        let mut log = String::new();
        let stderr = child.stderr.as_mut().expect("its stderr");
        stderr.read_to_string(&mut log).await.expect("text");
        assert!(
            log.contains("through a proxy") && !log.contains("p%40ss"),
            "{log}"
        );
    }
}

#[tokio::test]
async fn c19_a_server_on_this_host_is_asked_directly_and_so_is_one_of_no_proxy() {
    for (name, value) in [
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("https_proxy", "ftp://nowhere"),
    ] {
        let world = World::new().await;
        let server = format!("http://{}", world.address);
        let mut command = command(&world.folder, &[world.csi.clone(), world.kubeconfig(&server, "")]);
        let mut child = command.env(name, value).spawn().expect("the process");
        eventually(name, || world.is_asked()).await;
        child.kill().await.expect("its end");
    }
    let world = World::new().await;
    let proxy = ConnectProxy::to(world.address).await;
    let config = world.kubeconfig("http://api.invalid", "");
    let mut command = command(&world.folder, &[world.csi.clone(), config]);
    let command = command
        .env("HTTP_PROXY", proxy.address.to_string())
        .env("NO_PROXY", "10.0.0.0/8,.invalid");
    let mut child = command.spawn().expect("the process");
    read_until(&mut child, "waiting: ").await;
    child.kill().await.expect("its end");
    assert_eq!(proxy.first(), None);
}

#[tokio::test]
async fn c19_a_proxy_that_nothing_can_be_done_with_is_explained_without_its_password() {
    let world = World::new().await;
    let flags = [world.csi.clone(), world.kubeconfig("http://api.test", "")];
    for (value, code) in [
        ("ftp://joe:secret@proxy", Some(255)),
        ("http://joe:secret@[proxy", None),
    ] {
        let mut command = command(&world.folder, &flags);
        let mut child = command.env("HTTP_PROXY", value).spawn().expect("the process");
        let mut log = String::new();
        match code {
            Some(code) => {
                let stderr = child.stderr.as_mut().expect("its stderr");
                stderr.read_to_string(&mut log).await.expect("text");
                assert_eq!(child.wait().await.expect("an end").code(), Some(code), "{log}");
                assert!(log.contains("its scheme is") && !log.contains("secret"), "{log}");
            }
            // As in Go, what is no URL is as good as nothing.
            None => {
                read_until(&mut child, "ignoring the proxy variable").await;
                child.kill().await.expect("its end");
            }
        }
    }
}

#[tokio::test]
async fn c19_a_token_file_may_end_in_a_line_break() {
    let world = World::new().await;
    let token = world.folder.at("token");
    fs::write(&token, format!("{ADMIN}\n")).expect("a file");
    let (path, inline) = (world.folder.at("config"), format!("\"token\": \"{ADMIN}\""));
    let text = kubeconfig(world.address, ADMIN);
    assert_eq!(text.matches(&inline).count(), 1, "{text}");
    fs::write(
        &path,
        text.replace(&inline, &format!("\"tokenFile\": \"{token}\"")),
    )
    .expect("a file");
    let mut child = command(&world.folder, &[world.csi.clone(), flag("kubeconfig", &path)])
        .spawn()
        .expect("the process");
    eventually("the API server is asked by its user", || world.is_asked()).await;
    child.kill().await.expect("its end");
}

/// Of nobody's server; it only has to be one.
const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----
MIIBkzCCATigAwIBAgIUClx35satgt6r/ehnVyz/hUrU6jMwCgYIKoZIzj0EAwIw
EzERMA8GA1UEAwwIYXBpLnRlc3QwIBcNMjYxMTIxMTg0MDQ1WhgPMjEyNjEwMjgx
ODQwNDVaMBMxETAPBgNVBAMMCGFwaS50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEwrQ28VjxIehFhw2u6EOuboQ+EXP8YndmLcQmpK1qvBT3Io16HbK4JksG
iHENomXrQ9oWxdVOu6FKlfg0H2yExaNoMGYwHQYDVR0OBBYEFHbL6nGx8o5dhkK/
fO4gXhvRvd4MMB8GA1UdIwQYMBaAFHbL6nGx8o5dhkK/fO4gXhvRvd4MMA8GA1Ud
EwEB/wQFMAMBAf8wEwYDVR0RBAwwCoIIYXBpLnRlc3QwCgYIKoZIzj0EAwIDSQAw
RgIhAK9TIVXXJjPZK822p3DpuaA59RnFtaD+B636yYqNnovRAiEAiFESof9rBt7J
MRhRLr9Vuxx2CVhn7YcS30G3hxswSHk=
-----END CERTIFICATE-----
";

/// The files of a service account where the kubelet mounts them, over a /run that nobody else sees.
const MOUNT: &str = "run=$(readlink -f /var/run); mount -t tmpfs tmpfs \"$run\"; \
     mkdir -p \"$run/secrets/kubernetes.io\"; \
     cp -r \"$0\" \"$run/secrets/kubernetes.io/serviceaccount\"; exec \"$@\"";

#[tokio::test]
async fn c19_in_a_cluster_the_proxy_counts_and_the_namespace_of_the_account_is_not_needed() {
    let world = World::new().await;
    let proxy = ConnectProxy::to(world.address).await;
    let account = world.folder.at("account");
    fs::create_dir(&account).expect("a folder");
    fs::write(format!("{account}/token"), "token").expect("a file");
    fs::write(format!("{account}/ca.crt"), AUTHORITY).expect("a file");
    let inner = command(&world.folder, std::slice::from_ref(&world.csi));
    let inner = inner.as_std();
    let mut child = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-ec", MOUNT, &account])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("KUBERNETES_SERVICE_HOST", "fd12::1")
        .env("KUBERNETES_SERVICE_PORT", "443")
        .env("HTTPS_PROXY", proxy.address.to_string())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the process");
    eventually("the proxy is asked", || proxy.first().is_some()).await;
    child.kill().await.expect("its end");
    let head = proxy.first().unwrap_or_default();
    assert!(head.starts_with("CONNECT [fd12::1]:443 "), "{head}");
}
