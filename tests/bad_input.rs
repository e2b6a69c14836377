//! Bad input to the real process: how it ends, and what its log says.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

use std::{fs, os::unix::net::UnixListener, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use sandbox::{ADMIN, Api, Driver, driver::Identity, kubeconfig};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpListener,
    process::Command,
    time::timeout,
};

#[path = "bad_input/api_access.rs"]
mod api_access;
#[path = "bad_input/process.rs"]
mod process;

use process::{Folder, access, command, flag, logs, read_until, run};

#[tokio::test]
async fn a_command_line_that_cannot_be_used_is_explained_at_once() {
    let folder = Folder::new();
    let rows = [
        ("an unknown flag", "--colour=red", 2, "--colour"),
        ("a malformed number", "--worker-threads=many", 2, "worker-threads"),
        ("a malformed duration", "--timeout=10", 2, "timeout"),
        (
            "a malformed switch",
            "--leader-election=perhaps",
            2,
            "leader-election",
        ),
        ("a retired flag", "--provisioner=x", 2, "--provisioner"),
        (
            "no time at all",
            "--timeout=0s",
            2,
            "--timeout must be above zero",
        ),
        ("no workers", "--worker-threads=0", 1, "--worker-threads=0"),
        (
            "an impossible election",
            "--leader-election --leader-election-renew-deadline=20s",
            2,
            "renew deadline",
        ),
        ("an unknown gate", "--feature-gates=Magic=true", 255, "Magic"),
        (
            "a malformed gate",
            "--feature-gates=Topology=perhaps",
            2,
            "Topology",
        ),
        ("capacity", "--enable-capacity", 255, "NAMESPACE"),
        ("node deployment", "--node-deployment", 255, "NODE_NAME"),
        (
            "two endpoints",
            "--http-endpoint=:0 --metrics-address=:0",
            1,
            "only one of",
        ),
        ("an odd log format", "--logging-format=xml", 1, "use text or json"),
    ];
    for (name, line, code, words) in rows {
        let flags: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let (ended, said) = run(&folder, &flags).await;
        assert_eq!(ended, code, "{name}: {said}");
        assert!(said.contains(words), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_way_to_the_api_that_leads_nowhere_ends_the_process_with_255() {
    let folder = Folder::new();
    let garbage = folder.at("garbage");
    fs::write(&garbage, "this: [is: {no kubeconfig").expect("a file");
    let empty = folder.at("empty");
    fs::write(&empty, "").expect("a file");
    let dangling = folder.at("dangling");
    let text = "{apiVersion: v1, kind: Config, current-context: gone, clusters: [], users: [], contexts: []}";
    fs::write(&dangling, text).expect("a file");
    let rows = [
        (
            "no file",
            vec![flag("kubeconfig", &folder.at("absent"))],
            folder.at("absent"),
        ),
        ("garbage", vec![flag("kubeconfig", &garbage)], garbage.clone()),
        ("an empty file", vec![flag("kubeconfig", &empty)], empty.clone()),
        (
            "a context that is not there",
            vec![flag("kubeconfig", &dangling)],
            "gone".to_owned(),
        ),
        (
            "nothing at all",
            vec![],
            "no way to reach the API server".to_owned(),
        ),
        (
            "no URL",
            vec![flag("master", "not a url")],
            "is not a URL".to_owned(),
        ),
    ];
    for (name, flags, words) in rows {
        let (ended, said) = run(&folder, &flags).await;
        assert_eq!(ended, 255, "{name}: {said}");
        assert!(said.contains(&words), "{name}: {words:?} is not in {said}");
    }
}

#[tokio::test]
async fn a_kubeconfig_is_taken_from_the_variable_then_the_flag_then_the_home_folder() {
    let folder = Folder::new();
    fs::create_dir(folder.at(".kube")).expect("a folder");
    let files = [".kube/config", "flag", "variable"].map(|name| folder.at(name));
    // Each leads to a server of its own.
    let mut servers = Vec::new();
    for file in &files {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("its address");
        fs::write(file, kubeconfig(address, ADMIN)).expect("a file");
        servers.push(server);
    }
    let [_, given, variable] = &files;
    // The API server is asked nothing before the driver has said its name.
    let driver = Driver::new("disks.example.com");
    let path = folder.at("csi.sock");
    let listening = driver.listen(Path::new(&path)).expect("a socket");
    let csi = flag("csi-address", &path);
    let named = vec![csi.clone(), flag("kubeconfig", given)];
    let rows = [
        ("neither", vec![csi.clone()], None, ".kube/config"),
        ("the flag", named.clone(), None, "flag"),
        ("the variable", vec![csi], Some(variable), "variable"),
        ("both", named, Some(variable), "variable"),
    ];
    for (name, flags, variable, expected) in rows {
        let mut command = command(&folder, &flags);
        command.envs(variable.map(|file| ("KUBECONFIG", file)));
        let mut child = command.stderr(Stdio::null()).spawn().expect("the process");
        let guest = timeout(Duration::from_secs(60), async {
            tokio::select! {
                _ = servers[0].accept() => ".kube/config",
                _ = servers[1].accept() => "flag",
                _ = servers[2].accept() => "variable",
            }
        });
        let asked = guest.await.unwrap_or("nobody");
        child.kill().await.expect("its end");
        assert_eq!(asked, expected, "D-59: {name}");
    }
    listening.abort();
}

#[tokio::test]
async fn a_process_does_not_outlive_a_test_runner_that_is_killed() {
    let folder = Folder::new();
    let flags = [
        access(&folder, "127.0.0.1:1"),
        flag("csi-address", &folder.at("absent")),
    ];
    let command = command(&folder, &flags);
    let command = command.as_std();
    // A shell in place of the runner starts it in the same way.
    let mut runner = Command::new("sh")
        .args(["-c", "\"$@\" & echo $!; wait", "runner"])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    let mut id = String::new();
    let mut out = BufReader::new(runner.stdout.take().expect("its stdout"));
    out.read_line(&mut id).await.expect("an id");
    let id = Pid::from_raw(id.trim().parse().expect("an id")).expect("an id");

    let mut log = read_until(&mut runner, "waiting for the CSI driver").await;
    runner.kill().await.expect("its end");
    // Only the process still has the other end of the pipe.
    let gone = timeout(Duration::from_secs(20), log.read_to_end(&mut Vec::new())).await;
    if gone.is_err() {
        let _ = kill_process(id, Signal::KILL);
    }
    gone.expect("it is gone with its runner").expect("the log's end");
}

#[tokio::test]
async fn a_socket_address_that_is_none_ends_the_process_with_1() {
    let folder = Folder::new();
    let kube = access(&folder, "127.0.0.1:1");
    for address in ["relative/csi.sock", "tcp://127.0.0.1:10000", ""] {
        let (ended, said) = run(&folder, &[kube.clone(), flag("csi-address", address)]).await;
        assert_eq!(ended, 1, "{address:?}: {said}");
        assert!(
            said.contains("is not the path of a unix socket"),
            "{address:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_process_with_255() {
    let folder = Folder::new();
    let kube = access(&folder, "127.0.0.1:1");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for address in [&*address, "nonsense", ":99999"] {
        let (ended, said) = run(&folder, &[kube.clone(), flag("http-endpoint", address)]).await;
        assert_eq!(ended, 255, "{address:?}: {said}");
        assert!(
            said.contains("cannot serve HTTP on") && said.contains(address),
            "{address:?}: {said}"
        );
    }
}

#[tokio::test]
async fn a_socket_without_a_driver_is_waited_for_and_the_log_says_what_is_wrong() {
    let folder = Folder::new();
    let kube = access(&folder, "127.0.0.1:1");
    let at = |name: &str| flag("csi-address", &folder.at(name));
    fs::write(folder.at("file"), "no socket").expect("a file");
    drop(UnixListener::bind(folder.at("stale")).expect("a socket"));
    let rows = [
        ("absent", "no socket at"),
        ("file", "is not a socket"),
        ("stale", "nobody listens on"),
    ];
    for (name, words) in rows {
        logs(&folder, &[kube.clone(), at(name)], words).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_speak_grpc_is_named() {
    let folder = Folder::new();
    let kube = access(&folder, "127.0.0.1:1");
    let path = folder.at("http");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    let server = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        // Kept open, so that what it said is read and not only that it hung up.
        let mut guests = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .await;
            guests.push(stream);
        }
    });
    logs(
        &folder,
        &[kube, flag("csi-address", &path)],
        "cannot be reached: the connection to the driver broke during the call: h2 protocol error",
    )
    .await;
    server.abort();
}

#[tokio::test]
async fn a_grpc_server_that_is_no_csi_driver_ends_the_process_with_1() {
    let folder = Folder::new();
    let kube = access(&folder, "127.0.0.1:1");
    let path = folder.at("grpc");
    let listener = tokio::net::UnixListener::bind(&path).expect("a socket");
    let incoming = futures::stream::unfold(listener, |listener| async {
        let stream = listener.accept().await.map(|(stream, _)| stream);
        Some((stream, listener))
    });
    let server = tokio::spawn(async move {
        let routes = tonic::service::Routes::default();
        tonic::transport::Server::builder()
            .add_routes(routes)
            .serve_with_incoming(incoming)
            .await
    });
    let (ended, said) = run(&folder, &[kube, flag("csi-address", &path)]).await;
    assert_eq!(ended, 1, "{said}");
    assert!(said.contains("no CSI driver"), "{said}");
    server.abort();
}

#[tokio::test]
async fn c6_a_driver_that_no_provisioner_can_serve_ends_the_process() {
    type Change = fn(&mut Identity);
    let rows: [(&str, Change, i32, &str); 3] = [
        ("no name", |driver| driver.name.clear(), 255, "has no name"),
        (
            "no controller",
            |driver| driver.controller = false,
            255,
            "CONTROLLER_SERVICE",
        ),
        (
            "no CREATE_DELETE_VOLUME",
            |driver| driver.capabilities.clear(),
            255,
            "CREATE_DELETE_VOLUME",
        ),
    ];
    for (name, change, code, words) in rows {
        let folder = Folder::new();
        let kube = access(&folder, "127.0.0.1:1");
        let driver = Driver::new("disks.example.com");
        driver.configure(change);
        let path = folder.at("csi.sock");
        let listening = driver.listen(Path::new(&path)).expect("a socket");
        let (ended, said) = run(&folder, &[kube, flag("csi-address", &path)]).await;
        assert_eq!(ended, code, "{name}: {said}");
        assert!(said.contains(words), "{name}: {said}");
        listening.abort();
    }
}

#[tokio::test]
async fn an_api_server_that_is_none_is_named_in_the_log() {
    let folder = Folder::new();
    let driver = Driver::new("disks.example.com");
    let path = folder.at("csi.sock");
    let listening = driver.listen(Path::new(&path)).expect("a socket");
    let csi = flag("csi-address", &path);
    // Nobody listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = free.local_addr().expect("its address").to_string();
    drop(free);
    logs(&folder, &[access(&folder, &nobody), csi.clone()], "waiting: ").await;
    // Somebody who is nobody there.
    let api = Api::new();
    let (address, serving) = api.serve_on_loopback().await.expect("a port");
    let text = kubeconfig(address, "stranger");
    fs::write(folder.at("stranger"), text).expect("a file");
    logs(
        &folder,
        &[flag("kubeconfig", &folder.at("stranger")), csi],
        "check the token or the kubeconfig",
    )
    .await;
    serving.abort();
    listening.abort();
}
