//! The pages of the livenessprobe: which listener has which, and what the metrics say.

use std::net::SocketAddr;

use sandbox::driver::Trouble;

use crate::{
    driver::{NAME, Place},
    http::{ask, get, healthz},
    liveness::{start, start_as_is},
    process::flag,
};

/// How many calls the histogram has counted with these labels.
pub(crate) fn counted(page: &str, driver: &str, method: &str, code: &str) -> u64 {
    let start = "csi_sidecar_operations_seconds_count{";
    let labels = [
        format!("driver_name=\"{driver}\""),
        format!("method_name=\"/csi.v1.Identity/{method}\""),
        format!("grpc_status_code=\"{code}\""),
    ];
    let line = page
        .lines()
        .find(|line| line.starts_with(start) && labels.iter().all(|label| line.contains(label)));
    line.map_or(0, |line| {
        let number = line.rsplit(' ').next().expect("a value");
        number.parse().expect("a number")
    })
}

async fn metrics(at: SocketAddr) -> String {
    let (code, page) = get(at, "/metrics").await;
    assert_eq!(code, 200, "{page}");
    page
}

#[tokio::test]
async fn the_metrics_count_each_call_under_the_drivers_name_once_that_is_known() {
    let mut place = Place::empty();
    let sidecar = start(&place, &["--probe-timeout=300ms"]);
    sidecar.says(1, "no socket at").await;
    place.listen();
    let at = sidecar.address().await;
    assert_eq!(healthz(at).await.0, 200);
    place.driver.configure(|driver| driver.ready = Some(false));
    assert_eq!(healthz(at).await.0, 500);
    let refusal = Trouble::Refuse(tonic::Code::Internal, "no");
    place.driver.upset("Probe", 1, refusal);
    assert_eq!(healthz(at).await.0, 500);
    place.driver.upset("Probe", 1, Trouble::Hang);
    assert_eq!(healthz(at).await.0, 500);
    place.remove_socket();
    for _ in 0..3 {
        assert_eq!(healthz(at).await.0, 500);
    }

    let page = metrics(at).await;
    let rows = [
        ("unknown-driver", "GetPluginInfo", "OK", 1),
        (NAME, "GetPluginInfo", "OK", 0),
        (NAME, "Probe", "OK", 2),
        (NAME, "Probe", "Internal", 1),
        (NAME, "Probe", "DeadlineExceeded", 1),
        (NAME, "Probe", "Unavailable", 3),
        ("unknown-driver", "Probe", "OK", 0),
    ];
    for (driver, method, code, calls) in rows {
        let row = format!("D5: {driver} {method} {code}");
        assert_eq!(counted(&page, driver, method, code), calls, "{row}\n{page}");
    }
    // However often the driver was not there yet.
    let early = counted(&page, "unknown-driver", "GetPluginInfo", "Unavailable");
    assert!(early >= 1, "{page}");

    let mut families: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    families.sort_unstable();
    assert_eq!(
        families,
        [
            "# TYPE csi_sidecar_operations_seconds histogram",
            "# TYPE process_start_time_seconds gauge",
        ]
    );
    assert!(!page.contains("migrated"), "{page}");
}

#[tokio::test]
async fn each_listener_has_what_upstreams_has() {
    let place = Place::new();
    // Beside the address of the health page alone there are no metrics.
    let alone = start_as_is(&place, &["--health-port=0"]);
    let at = alone.address().await;
    assert_eq!(healthz(at).await.0, 200);
    assert_eq!(get(at, "/metrics").await.0, 404);

    let both = start(&place, &[]);
    let at = both.address().await;
    assert_eq!(healthz(at).await.0, 200);
    assert_eq!(get(at, "/metrics").await.0, 200);

    let apart = start_as_is(
        &place,
        &["--health-port=0", &flag("metrics-address", "127.0.0.1:0")],
    );
    let [health, other] = apart.addresses().await;
    assert_eq!(healthz(health).await.0, 200);
    assert_eq!(get(health, "/metrics").await.0, 404);
    assert_eq!(healthz(other).await.0, 404);
    assert_eq!(get(other, "/metrics").await.0, 200);
    // All addresses of the Pod, be they of IPv4 or of IPv6; without that the system has but one kind.
    let log = alone.log();
    assert!(
        log.contains("address=\"[::]:") || log.contains("address=\"0.0.0.0:"),
        "{log}"
    );
}

#[tokio::test]
async fn the_path_of_the_metrics_can_be_chosen_but_health_stays_where_it_is() {
    let place = Place::new();
    let sidecar = start(&place, &["--metrics-path=/numbers"]);
    let at = sidecar.address().await;
    assert_eq!(get(at, "/metrics").await.0, 404);
    let (code, page) = get(at, "/numbers").await;
    assert!(
        code == 200 && page.contains("process_start_time_seconds"),
        "{page}"
    );

    let sidecar = start(&place, &["--metrics-path=/healthz"]);
    let at = sidecar.address().await;
    assert_eq!(healthz(at).await, (200, "ok".into()));
}

#[tokio::test]
async fn any_method_will_do_and_what_there_is_not_is_not_found() {
    let place = Place::new();
    let sidecar = start(&place, &[]);
    let at = sidecar.address().await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let answer = ask(at, method, "/healthz?verbose").await;
        assert_eq!(answer, (200, "ok".into()), "{method}");
    }
    assert_eq!(ask(at, "HEAD", "/healthz").await, (200, String::new()));
    for path in [
        "/",
        "/healthz/",
        "/healthz/leader-election",
        "/readyz",
        "//healthz",
        "/debug/pprof/",
    ] {
        assert_eq!(get(at, path).await.0, 404, "{path}");
    }
}
