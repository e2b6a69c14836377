//! The livenessprobe among many clients, and bad ones.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sandbox::driver::Trouble;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::{
    driver::{NAME, Place},
    http::{Client, get, healthz, send},
    liveness::start,
    liveness_pages::counted,
};

/// What a process may have open where nobody has raised it.
const FILES: u64 = 1024;

/// However busy the machine is, the driver answers in time.
const PATIENT: &[&str] = &["--probe-timeout=25s"];

/// Lets this process have as many files open as it may.
fn raise_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("it may");
}

async fn connect(at: SocketAddr) -> TcpStream {
    TcpStream::connect(at).await.expect("a connection")
}

#[tokio::test]
async fn a_thousand_who_ask_at_once_make_one_call_at_a_time_and_few_in_all() {
    raise_files();
    let place = Place::new();
    let sidecar = start(&place, PATIENT);
    let at = sidecar.address().await;
    sidecar.limit_files(FILES);
    let slow = Trouble::Delay(Duration::from_millis(300));
    place.driver.upset("Probe", 100, slow);
    // Without a runtime in between, each asks as soon as it is connected.
    let asking: Vec<_> = (0..1000).map(|_| Client::asking(at, "/healthz")).collect();
    for answer in join_all(asking.into_iter().map(Client::told)).await {
        assert_eq!(answer, (200, "ok".into()));
    }
    assert_eq!(place.driver.peak("Probe"), 1);
    // 480 are let in at once.
    let calls = place.driver.count("Probe");
    assert!((1..=5).contains(&calls), "{calls}");
}

#[tokio::test]
async fn a_kubelet_that_waits_less_than_the_probe_may_take_leaves_a_count_and_a_line_in_the_log() {
    let place = Place::new();
    let sidecar = start(&place, &["--probe-timeout=500ms"]);
    let at = sidecar.address().await;
    place.driver.upset("Probe", 1, Trouble::Hang);
    let gave_up = timeout(Duration::from_millis(100), healthz(at)).await;
    assert!(gave_up.is_err(), "{gave_up:?}");
    sidecar
        .says(
            1,
            "the driver fails its health check: something accepts connections",
        )
        .await;
    let (_, page) = get(at, "/metrics").await;
    assert_eq!(counted(&page, NAME, "Probe", "DeadlineExceeded"), 1, "{page}");
}

#[tokio::test]
async fn clients_that_only_hold_connections_open_keep_nobody_out() {
    raise_files();
    let place = Place::new();
    let sidecar = start(&place, PATIENT);
    let at = sidecar.address().await;
    sidecar.limit_files(FILES);
    let mut held = Vec::new();
    for round in 0..4 {
        held.extend(join_all((0..500).map(|_| connect(at))).await);
        let began = Instant::now();
        assert_eq!(healthz(at).await.0, 200, "{} are open", held.len());
        // The time that one may take to send a request's head is 30 s.
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{round}: {took:?}");
    }
    assert!(!sidecar.log().contains("cannot accept"), "{}", sidecar.log());
}

#[tokio::test]
async fn clients_that_send_too_much_or_too_little_or_never_read_cost_others_nothing() {
    raise_files();
    let place = Place::new();
    let sidecar = start(&place, PATIENT);
    let at = sidecar.address().await;
    assert_eq!(healthz(at).await.0, 200);
    let before = sidecar.memory("VmHWM");

    // Some who ask for the longest page again and again and never read, until no more can be written.
    let pages = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000);
    let mut held = join_all((0..8).map(async |_| {
        // A small buffer at their end makes that soon.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket");
        let mut stream = socket.connect(at).await.expect("a connection");
        let patience = Duration::from_millis(500);
        while let Ok(written) = timeout(patience, stream.write_all(pages.as_bytes())).await {
            written.expect("it reads, or waits");
        }
        stream
    }))
    .await;
    assert_eq!(healthz(at).await.0, 200);

    // Some who send the most of a head that is read, and not its end, and some who send more of one that never ends.
    let half = |length| format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(length));
    for head in [half(15_000), half(300_000)] {
        let senders = (0..150).map(async |_| {
            let mut stream = connect(at).await;
            // It may hang up before it has read all of it.
            let _ = stream.write_all(head.as_bytes()).await;
            stream
        });
        held.extend(join_all(senders).await);
    }
    assert_eq!(healthz(at).await.0, 200);

    // And heads of a megabyte.
    let long = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let answers = join_all((0..16).map(async |_| send(connect(at).await, &long).await)).await;
    for answer in answers {
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 "),
            "{answer}"
        );
    }
    assert_eq!(healthz(at).await.0, 200);

    let grown = sidecar.memory("VmHWM") - before;
    println!("{} clients: {grown} KiB more", held.len());
    assert!(grown < 24 << 10, "{grown} KiB");
}

#[tokio::test]
async fn ten_thousand_probes_leave_the_memory_as_it_was_after_the_first_thousand() {
    let place = Place::new();
    let sidecar = start(&place, PATIENT);
    let at = sidecar.address().await;
    ask_often(at, 1_000).await;
    let before = sidecar.memory("RssAnon");
    ask_often(at, 9_000).await;
    let after = sidecar.memory("RssAnon");
    println!("{before} KiB, then {after} KiB");
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
}

/// Asks so often, over connections that last and over new ones.
async fn ask_often(at: SocketAddr, times: usize) {
    join_all((0..8).map(async |_| {
        let mut client = Client::connect(at).await;
        for number in 0..times / 8 {
            if number % 10 == 0 {
                client = Client::connect(at).await;
            }
            assert_eq!(client.ask("GET", "/healthz").await.0, 200);
        }
    }))
    .await;
}
