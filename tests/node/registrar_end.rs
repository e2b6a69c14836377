//! How the registrar waits for its driver, and what ends it.

use std::{fs, net::TcpListener, time::Duration};

use rustix::process::Signal;
use sandbox::{
    driver::Trouble,
    kubelet::{Event, Knobs, Step},
};
use tokio::time::{Instant, sleep};

use crate::{
    driver::{NAME, Place},
    http::{get, healthz},
    process::flag,
    registrar::{Scene, exists, run},
};

#[tokio::test]
async fn a_signal_ends_it_with_0_and_takes_the_driver_from_the_node() {
    for signal in [Signal::TERM, Signal::INT] {
        let scene = Scene::new().await;
        let sidecar = scene.start();
        let before = scene.registered(1).await.len();
        assert_eq!(scene.names(), [NAME]);
        let began = Instant::now();
        sidecar.signal(signal);
        let (code, log) = sidecar.ended().await;
        assert_eq!(code, 0, "{signal:?}: {log}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(!exists(&scene.socket()), "{signal:?}: {log}");
        let seen = scene.unregistered(1).await;
        assert!(
            matches!(&seen[before..], [removed, gone]
                if matches!(removed.event, Event::Removed) && matches!(&gone.event, Event::Unregistered(it) if it == NAME)),
            "{seen:#?}"
        );
        assert_eq!(scene.names(), [""; 0]);
    }
}

#[tokio::test]
async fn a_signal_ends_it_with_0_while_it_waits_for_the_driver() {
    for signal in [Signal::TERM, Signal::INT] {
        let late = Scene::at(Place::empty(), Knobs::default()).await;
        let waiting = late.start();
        waiting.says(1, "waiting: ").await;
        let silent = Scene::new().await;
        silent.place.driver.upset("GetPluginInfo", 1, Trouble::Hang);
        let asking = silent.start_with(&["--timeout=1h"]);
        let driver = &silent.place.driver;
        crate::registrar::until("a call", || driver.count("GetPluginInfo") == 1).await;
        for sidecar in [waiting, asking] {
            sidecar.signal(signal);
            let (code, log) = sidecar.ended().await;
            assert_eq!(code, 0, "{signal:?}: {log}");
        }
        assert!(!exists(&late.socket()) && !exists(&silent.socket()));
    }
}

#[tokio::test]
async fn a_kubelet_that_refuses_gets_its_answer_and_the_next_start_is_the_next_try() {
    for (step, words) in [
        (
            Step::NodeGetInfo,
            "plugin registration failed: NodeGetInfo fails, as the test wants it",
        ),
        (Step::Validate, "validation failed, as the test wants it"),
        (Step::Handler, "no handler, as the test wants it"),
    ] {
        let scene = Scene::new().await;
        scene.kubelet.upset(step, 1);
        let sidecar = scene.start();
        let (code, log) = sidecar.ended().await;
        assert_eq!(code, 1, "{step:?}: {log}");
        assert!(log.contains(words) && log.contains(NAME), "{step:?}: {log}");
        assert!(!exists(&scene.socket()), "{step:?}: {log}");
        let seen = scene.sees(1, |event| event.notified(false)).await;
        let answered = |event: &Event| matches!(event, Event::Notified { answer: Ok(()), .. });
        assert!(seen.iter().any(|it| answered(&it.event)), "{step:?}: {seen:#?}");
        assert_eq!(scene.names(), [""; 0]);

        let _next = scene.start();
        scene.registered(1).await;
        assert_eq!(scene.names(), [NAME], "{step:?}");
    }
}

#[tokio::test]
async fn a_driver_that_fails_its_node_info_ends_it_with_the_drivers_text() {
    let scene = Scene::new().await;
    let refusal = Trouble::Refuse(tonic::Code::Internal, "the disks of this node are on fire");
    scene.place.driver.upset("NodeGetInfo", 1, refusal);
    let (code, log) = scene.start().ended().await;
    assert_eq!(code, 1, "{log}");
    assert!(log.contains("the disks of this node are on fire"), "{log}");
}

#[tokio::test]
async fn a_driver_that_is_late_is_waited_for_in_good_health() {
    let mut scene = Scene::at(Place::empty(), Knobs::default()).await;
    let sidecar = scene.start_with(&["--http-endpoint=127.0.0.1:0", "--connection-timeout=1s"]);
    let at = sidecar.address().await;
    assert_eq!(healthz(at).await.0, 200);
    sidecar.says(1, "waiting: ").await;
    assert!(sidecar.log().contains("no socket at"), "{}", sidecar.log());
    // Longer than the limit that it was given, which has no effect.
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(healthz(at).await.0, 200);
    assert!(!exists(&scene.socket()));

    let unavailable = Trouble::Refuse(tonic::Code::Unavailable, "starting");
    scene.place.driver.upset("GetPluginInfo", 1, unavailable);
    scene.place.listen();
    scene.registered(1).await;
    let log = sidecar.log();
    assert!(log.contains("--connection-timeout has no effect"), "{log}");
    assert!(log.contains("starting"), "{log}");
    assert_eq!(healthz(at).await.0, 200);
}

#[tokio::test]
async fn what_is_no_driver_or_has_no_name_for_a_file_ends_it_with_1() {
    let scene = Scene::new().await;
    let one = scene.start();
    scene.registered(1).await;
    // A server that knows nothing of CSI: the registrar that runs already.
    let confused = flag("csi-address", &scene.socket().display().to_string());
    let (code, log) = scene.start_with(&[&confused]).ended().await;
    assert!(code == 1 && log.contains("code = Unimplemented"), "{code}: {log}");
    assert!(exists(&scene.socket()), "{}", one.log());

    for (name, words) in [
        ("", "has no name"),
        ("disks/example.com", "it contains a slash"),
        ("../disks.example.com", "it contains a slash"),
        (".disks.example.com", "begin with a dot"),
    ] {
        let scene = Scene::new().await;
        scene.place.driver.configure(|driver| driver.name = name.into());
        let (code, log) = scene.start().ended().await;
        assert!(code == 1 && log.contains(words), "{name:?}: {code}: {log}");
        let registry = crate::registrar::registry(&scene.place);
        let files = fs::read_dir(registry).expect("the folder").count();
        assert_eq!(files, 0, "{name:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_taken_ends_it_with_1_and_leaves_no_socket() {
    let scene = Scene::new().await;
    let taken = TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    for address in [
        flag("http-endpoint", &format!("127.0.0.1:{port}")),
        flag("health-port", &port.to_string()),
        flag("http-endpoint", "nonsense"),
    ] {
        let (code, log) = scene.start_with(&[&address]).ended().await;
        assert!(
            code == 1 && log.contains("cannot serve HTTP on"),
            "{address}: {code}: {log}"
        );
        assert!(!exists(&scene.socket()), "{address}");
    }
    assert!(scene.kubelet.seen().is_empty(), "{:#?}", scene.kubelet.seen());
}

#[tokio::test]
async fn profiles_are_not_served_and_the_log_says_so() {
    let scene = Scene::new().await;
    let sidecar = scene.start_with(&["--http-endpoint=127.0.0.1:0", "--enable-pprof"]);
    let at = sidecar.address().await;
    assert_eq!(get(at, "/debug/pprof/").await.0, 404);
    assert_eq!(get(at, "/metrics").await.0, 404);
    sidecar.says(1, "--enable-pprof has no effect").await;
    scene.registered(1).await;
}

#[tokio::test]
async fn a_command_line_that_says_enough_ends_it_with_upstreams_code() {
    let place = Place::empty();
    let rows = [
        ("--version", 0, ""),
        ("--help", 0, "--plugin-registration-path"),
        (
            "--csi-address=/csi.sock",
            1,
            "--kubelet-registration-path is required",
        ),
        (
            "--mode=kubelet-registration-probe",
            1,
            "--kubelet-registration-path is required",
        ),
        (
            "--mode=kubelet-registration-probe --kubelet-registration-path=/p",
            0,
            "",
        ),
        (
            "--kubelet-registration-path=/p --http-endpoint=:0 --health-port=1",
            1,
            "only one of",
        ),
        ("--kubelet-registration-path=/p --colour=red", 2, "--colour"),
        (
            "--kubelet-registration-path=/p --csi-address=tcp://127.0.0.1:1",
            1,
            "is not the path of a unix socket",
        ),
    ];
    for (line, code, words) in rows {
        let flags: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let (ended, said) = run(&place.folder, &flags).ended().await;
        assert!(ended == code && said.contains(words), "{line}: {ended}: {said}");
    }
}
