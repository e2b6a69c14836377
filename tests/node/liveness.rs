//! What `/healthz` of the livenessprobe says of its driver.

use std::time::{Duration, Instant};

use sandbox::driver::Trouble;
use tonic::Code;

use crate::{
    driver::{Place, as_process},
    http::{get, healthz},
    process::{Folder, Sidecar, built},
};

/// Starts one beside this driver, on a port that the system chooses.
pub(crate) fn start(place: &Place, flags: &[&str]) -> Sidecar {
    let flags = ["--http-endpoint=127.0.0.1:0"].iter().chain(flags);
    start_as_is(place, &flags.copied().collect::<Vec<_>>())
}

/// The same with no listener but what `flags` say.
pub(crate) fn start_as_is(place: &Place, flags: &[&str]) -> Sidecar {
    let flags = flags.iter().map(ToString::to_string);
    let flags: Vec<_> = std::iter::once(place.flag()).chain(flags).collect();
    run(&place.folder, &flags)
}

pub(crate) fn run(folder: &Folder, flags: &[String]) -> Sidecar {
    Sidecar::start(&built("livenessprobe"), folder, flags)
}

#[tokio::test]
async fn a_driver_that_answers_is_healthy_unless_it_says_that_it_is_not_ready() {
    let place = Place::new();
    let sidecar = start(&place, &[]);
    let at = sidecar.address().await;
    let rows = [
        (None, 200, "ok"),
        (Some(true), 200, "ok"),
        (Some(false), 500, "the CSI driver says that it is not ready yet"),
        (Some(true), 200, "ok"),
    ];
    for (ready, code, text) in rows {
        place.driver.configure(|driver| driver.ready = ready);
        // The first row is upstream's.
        let name = "live.Probe.01";
        assert_eq!(healthz(at).await, (code, text.to_owned()), "{name}: {ready:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_driver_stands_in_the_answer() {
    let place = Place::new();
    let sidecar = start(&place, &[]);
    let at = sidecar.address().await;
    for code in [Code::Internal, Code::Unavailable, Code::Unimplemented] {
        let trouble = Trouble::Refuse(code, "disk 7 is on fire");
        place.driver.upset("Probe", 1, trouble);
        let (got, body) = healthz(at).await;
        let go = format!("rpc error: code = {code:?} desc = disk 7 is on fire");
        assert!(got == 500 && body.contains(&go), "{got} {body}");
    }
    assert_eq!(healthz(at).await.0, 200);
}

#[tokio::test]
async fn a_socket_that_is_gone_is_told_at_once_however_well_old_connections_work() {
    let mut place = Place::new();
    let sidecar = start(&place, &["--probe-timeout=10s"]);
    let at = sidecar.address().await;
    let name = "live.Probe-issue68.01";
    assert_eq!(healthz(at).await.0, 200, "{name}");

    place.remove_socket();
    for round in 0..3 {
        let began = Instant::now();
        let (code, body) = healthz(at).await;
        assert!(
            code == 500 && body.contains("no socket at"),
            "{name}: {code} {body}"
        );
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "D5: {name}, {round}: {took:?}");
    }
    sidecar.says(1, "the driver fails its health check: ").await;

    place.listen();
    assert_eq!(healthz(at).await.0, 200, "{name}");
    sidecar.says(1, "the driver passes its health check again").await;

    // As after kill -9: the file stays.
    place.close().await;
    let began = Instant::now();
    let (code, body) = healthz(at).await;
    assert!(code == 500 && body.contains("nobody listens on"), "{code} {body}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_driver_that_hangs_is_given_the_timeout_and_one_that_is_slow_within_it_passes() {
    let place = Place::new();
    let sidecar = start(&place, &["--probe-timeout=300ms"]);
    let at = sidecar.address().await;
    for _ in 0..2 {
        place.driver.upset("Probe", 1, Trouble::Hang);
        let began = Instant::now();
        let (code, body) = healthz(at).await;
        assert!(
            code == 500 && body.contains("does not answer Probe"),
            "{code} {body}"
        );
        assert!(
            began.elapsed() >= Duration::from_millis(290),
            "{:?}",
            began.elapsed()
        );
    }
    assert_eq!(healthz(at).await.0, 200);

    let sidecar = start(&place, &["--probe-timeout=10s"]);
    let at = sidecar.address().await;
    let slow = Trouble::Delay(Duration::from_millis(200));
    place.driver.upset("Probe", 1, slow);
    let began = Instant::now();
    assert_eq!(healthz(at).await.0, 200);
    assert!(
        began.elapsed() >= Duration::from_millis(190),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_driver_that_is_killed_is_noticed_and_so_is_its_return() {
    let place = Place::empty();
    let mut driver = as_process(&place).await;
    let sidecar = start_as_is(&place, &["--health-port=0"]);
    let at = sidecar.address().await;
    let id = "live.E2e.01";
    assert_eq!(healthz(at).await, (200, "ok".into()), "{id}");
    driver.kill().await.expect("its end");
    let (code, body) = healthz(at).await;
    assert!(code == 500 && body.contains("nobody listens on"), "{code} {body}");
    // The next one takes the path for itself.
    place.remove_socket();
    let _driver = as_process(&place).await;
    assert_eq!(get(at, "/healthz").await.0, 200);
}
