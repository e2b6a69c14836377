//! What `/healthz` of the registrar says.

use std::{
    fs,
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::UnixStream,
    time::{Instant, timeout},
};

use crate::{
    http::{ask, healthz},
    process::flag,
    registrar::{Scene, endpoint, exists, until},
};

/// Puts something of this kind in the place of the socket, at no moment of which nothing is there.
fn replace<T>(socket: &Path, make: impl FnOnce(&Path) -> T) -> T {
    let beside: PathBuf = socket.with_extension("new");
    let made = make(&beside);
    fs::rename(&beside, socket).expect("a file in a folder");
    made
}

async fn took(at: SocketAddr) -> (u16, String, Duration) {
    let began = Instant::now();
    let (code, body) = healthz(at).await;
    (code, body, began.elapsed())
}

#[tokio::test]
async fn it_is_200_while_we_answer_on_our_socket() {
    let scene = Scene::new().await;
    let sidecar = scene.start();
    scene.registered(1).await;
    let at = sidecar.address().await;
    for method in ["GET", "POST", "HEAD"] {
        assert_eq!(ask(at, method, "/healthz").await.0, 200, "{method}");
    }
    assert_eq!(healthz(at).await, (200, "ok".into()));
    // Upstream looks at the socket alone, and so it stays: the driver has a probe of its own.
    scene.place.driver.stop();
    assert_eq!(healthz(at).await, (200, "ok".into()));
    let heard = sidecar.log().matches("who we are").count();
    assert_eq!(heard, 0, "the check is no call of the kubelet: {}", sidecar.log());
}

#[tokio::test]
async fn it_is_404_while_the_socket_is_gone_and_the_driver_is_registered_again_by_a_new_one() {
    let scene = Scene::new().await;
    let sidecar = scene.start();
    let at = sidecar.address().await;
    let mut found = None;
    for round in 1..=10 {
        scene.registered(round).await;
        fs::remove_file(scene.socket()).expect("the socket");
        let (code, body) = healthz(at).await;
        sidecar.says(round, "it is made again").await;
        until("a new socket", || exists(&scene.socket())).await;
        // Otherwise it was noticed in the meantime, and the socket was there again.
        if code == 404 {
            found = Some(body);
            break;
        }
    }
    let body = found.expect("404 in one of the rounds");
    assert!(body.contains("does not exist"), "{body}");
    until("a registration", || scene.names().len() == 1).await;
    assert_eq!(healthz(at).await, (200, "ok".into()));
}

#[tokio::test]
async fn it_is_500_while_something_else_is_in_the_place_of_the_socket() {
    let scene = Scene::new().await;
    let sidecar = scene.start_with(&["--http-endpoint=127.0.0.1:0", "--timeout=500ms"]);
    scene.registered(1).await;
    let at = sidecar.address().await;
    let socket = scene.socket();

    replace(&socket, |path| fs::write(path, "no socket").expect("a file"));
    let (code, body, _) = took(at).await;
    assert!(code == 500 && body.contains("is not a socket"), "{code}: {body}");

    // One that nobody serves is what a killed registrar leaves behind.
    replace(&socket, |path| drop(UnixListener::bind(path).expect("a socket")));
    sidecar.says(1, "it is made again").await;
    scene.registered(2).await;
    assert_eq!(healthz(at).await, (200, "ok".into()));

    let _silent = replace(&socket, |path| UnixListener::bind(path).expect("a socket"));
    for _ in 0..2 {
        let (code, body, time) = took(at).await;
        assert!(code == 500 && body.contains("within 500ms"), "{code}: {body}");
        assert!(
            time > Duration::from_millis(450) && time < Duration::from_secs(20),
            "it takes --timeout: {time:?}"
        );
    }
}

#[tokio::test]
async fn a_burst_of_requests_is_answered_and_takes_nothing_from_the_kubelet() {
    let scene = Scene::new().await;
    let sidecar = scene.start();
    scene.registered(1).await;
    let at = sidecar.address().await;
    // As the kubelet does while it asks the driver.
    let kubelet = UnixStream::connect(scene.socket()).await.expect("a connection");
    for _ in 0..3 {
        let asked = futures::future::join_all((0..200).map(|_| healthz(at))).await;
        let wrong: Vec<_> = asked.into_iter().filter(|(code, _)| *code != 200).collect();
        assert_eq!(wrong, []);
    }
    let cut = timeout(Duration::from_millis(50), kubelet.readable()).await;
    let mut settings = [0; 512];
    // Its first frame is there, and no end.
    assert!(cut.is_ok() && kubelet.try_read(&mut settings).expect("it is open") > 0);
    let end = kubelet.try_read(&mut settings).map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn another_registrar_behind_the_socket_is_as_good_and_any_other_server_is_not() {
    let scene = Scene::new().await;
    let older = scene.start();
    scene.registered(1).await;
    let younger = scene.start();
    scene.registered(2).await;
    for sidecar in [&older, &younger] {
        let at = sidecar.address().await;
        assert_eq!(healthz(at).await, (200, "ok".into()), "{}", sidecar.log());
    }

    // A third one for another driver, whose socket somebody moves over ours.
    let other = sandbox::Driver::new("tapes.example.com");
    let address = scene.place.folder.at("tapes.sock");
    let listening = other.listen(Path::new(&address)).expect("a socket");
    let third = scene.start_with(&[&flag("csi-address", &address), &endpoint("tapes.sock")]);
    scene.registered(3).await;
    fs::rename(scene.socket_of("tapes.example.com"), scene.socket()).expect("both");
    let (code, body) = healthz(older.address().await).await;
    assert!(
        code == 500 && body.contains("tapes.example.com"),
        "{code}: {body}"
    );

    // A CSI driver is a gRPC server that knows nothing of registration.
    let _driver = replace(&scene.socket(), |path| {
        scene.place.driver.listen(path).expect("a socket")
    });
    let (code, body) = healthz(older.address().await).await;
    assert!(code == 500 && body.contains("Unimplemented"), "{code}: {body}");
    drop(third);
    listening.abort();
}
