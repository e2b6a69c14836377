//! How the livenessprobe starts and ends.

use std::{fs, net::TcpListener, time::Duration};

use rustix::process::Signal;
use sandbox::driver::Trouble;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    driver::{NAME, Place},
    http::healthz,
    liveness::{run, start, start_as_is},
    process::{Folder, flag},
};

/// An address where nobody listens, on an interface that nobody else takes ports of.
fn free_address() -> String {
    let listener = TcpListener::bind("127.11.9.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

#[tokio::test]
async fn until_the_driver_is_there_nobody_listens_and_the_log_says_what_is_waited_for() {
    let mut place = Place::empty();
    let endpoint = free_address();
    let at = flag("http-endpoint", &endpoint);
    let sidecar = start_as_is(&place, &[&at, "--probe-timeout=300ms"]);
    sidecar.says(1, "waiting: ").await;
    assert!(sidecar.log().contains("no socket at"), "{}", sidecar.log());
    let refused = TcpStream::connect(&endpoint).await;
    assert!(refused.is_err(), "{refused:?}");

    place.driver.upset("GetPluginInfo", 1, Trouble::Hang);
    place.listen();
    let at = sidecar.address().await;
    assert_eq!(at.to_string(), endpoint);
    assert_eq!(healthz(at).await.0, 200);
    assert!(sidecar.log().contains(NAME), "{}", sidecar.log());
}

#[tokio::test]
async fn what_stands_at_the_sockets_path_without_being_one_is_named() {
    let folder = Folder::new();
    fs::write(folder.at("file"), "no socket").expect("a file");
    drop(std::os::unix::net::UnixListener::bind(folder.at("stale")).expect("a socket"));
    for (name, words) in [("file", "is not a socket"), ("stale", "nobody listens on")] {
        let sidecar = run(&folder, &[flag("csi-address", &folder.at(name))]);
        sidecar.says(1, words).await;
    }
}

#[tokio::test]
async fn what_is_no_driver_ends_the_process_with_1() {
    let place = Place::new();
    place.driver.configure(|driver| driver.name.clear());
    let (code, log) = start(&place, &[]).ended().await;
    assert!(code == 1 && log.contains("has no name"), "{code}: {log}");

    let place = Place::new();
    let unknown = Trouble::Refuse(tonic::Code::Unimplemented, "what is that");
    place.driver.upset("GetPluginInfo", 1, unknown);
    let (code, log) = start(&place, &[]).ended().await;
    assert!(code == 1 && log.contains("what is that"), "{code}: {log}");

    for address in ["relative/csi.sock", "tcp://127.0.0.1:10000", ""] {
        let (code, log) = run(&place.folder, &[flag("csi-address", address)]).ended().await;
        assert!(code == 1, "{address:?}: {code}: {log}");
        assert!(
            log.contains("is not the path of a unix socket"),
            "{address:?}: {log}"
        );
    }
}

#[tokio::test]
async fn a_command_line_that_cannot_be_used_ends_the_process_with_its_code() {
    let folder = Folder::new();
    let rows = [
        ("--version", 2, "--version"),
        ("--http-endpoint=:0 --metrics-address=:0", 1, "only one of"),
        ("--help", 0, "--probe-timeout"),
    ];
    for (line, code, words) in rows {
        let flags: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let (ended, said) = run(&folder, &flags).ended().await;
        assert!(ended == code && said.contains(words), "{line}: {ended}: {said}");
    }
}

#[tokio::test]
async fn a_listener_that_cannot_be_had_ends_the_process_with_1_and_its_address() {
    let place = Place::new();
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let (older, address) = (port.to_string(), format!("127.0.0.1:{port}"));
    let rows = [
        (vec![flag("http-endpoint", &address)], &*address),
        (vec![flag("health-port", &older)], &format!("0.0.0.0:{port}")),
        (
            vec![flag("health-port", "0"), flag("metrics-address", &address)],
            &address,
        ),
        (vec![flag("http-endpoint", "nonsense")], "nonsense"),
        (vec![flag("http-endpoint", ":99999")], ":99999"),
        (vec![flag("health-port", "http")], "0.0.0.0:http"),
    ];
    for (flags, words) in rows {
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let (code, log) = start_as_is(&place, &flags).ended().await;
        assert_eq!(code, 1, "D4: {flags:?}: {log}");
        assert!(
            log.contains("cannot serve HTTP on") && log.contains(words),
            "D4: {flags:?}: {log}"
        );
    }
}

#[tokio::test]
async fn a_signal_ends_the_process_with_0_whatever_it_waits_for() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::empty();
        let waiting = start(&place, &[]);
        waiting.says(1, "waiting: ").await;
        let idle = Place::new();
        let serving = start(&idle, &[]);
        serving.address().await;
        let silent = Place::new();
        silent.driver.upset("GetPluginInfo", 1, Trouble::Hang);
        let asking = start(&silent, &["--probe-timeout=1h"]);
        until(|| silent.driver.count("GetPluginInfo") == 1).await;

        for sidecar in [waiting, serving, asking] {
            let began = Instant::now();
            sidecar.signal(signal);
            let (code, log) = sidecar.ended().await;
            assert_eq!(code, 0, "{signal:?}: {log}");
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}: {log}",
                began.elapsed()
            );
        }
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once_with_1() {
    let place = Place::new();
    let sidecar = start(&place, &[]);
    place.driver.upset("Probe", 1, Trouble::Hang);
    let at = sidecar.address().await;
    let _asking = tokio::spawn(async move {
        let stream = TcpStream::connect(at).await.expect("a connection");
        crate::http::send(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await
    });
    until(|| place.driver.count("Probe") == 1).await;
    sidecar.signal(Signal::TERM);
    sidecar.says(1, "stopping: ").await;
    sidecar.signal(Signal::INT);
    let (code, log) = sidecar.ended().await;
    assert!(code == 1 && log.contains("second signal"), "{code}: {log}");
}

#[tokio::test]
async fn a_signal_ends_the_process_while_a_probe_hangs_and_a_client_is_silent() {
    let place = Place::new();
    let sidecar = start(&place, &["--probe-timeout=1h"]);
    let at = sidecar.address().await;
    let _silent = TcpStream::connect(at).await.expect("a connection");
    place.driver.upset("Probe", 1, Trouble::Hang);
    let client = tokio::spawn(timeout(Duration::from_secs(60), async move {
        // Its end is all that it gets.
        let stream = TcpStream::connect(at).await.expect("a connection");
        crate::http::send(stream, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await
    }));
    until(|| place.driver.count("Probe") == 1).await;
    let began = Instant::now();
    sidecar.signal(Signal::TERM);
    let (code, log) = sidecar.ended().await;
    assert_eq!(code, 0, "{log}");
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}: {log}",
        began.elapsed()
    );
    let answer = client.await.expect("no panic").expect("an end");
    assert_eq!(answer, "");
}

/// Waits for what another process does.
pub(crate) async fn until(met: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(30), async {
        while !met() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("it comes true");
}
