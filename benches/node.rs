//! What the sidecars of a node take: size, memory, and the time to a socket and to an answer, of the release build whose
//! folder `SIDECARS` names. `PROBES` says how many probes memory is looked at after, a million unless told.
//!
//! Upstream's modules of these two are not published, so beside ours stand their figures as measured once on another
//! machine.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench stops at the first surprise"
)]

#[allow(dead_code, reason = "the tests of the same folder take the rest")]
#[path = "../tests/node/driver.rs"]
mod driver;
#[allow(dead_code, reason = "as above")]
#[path = "../tests/node/http.rs"]
mod http;
#[allow(dead_code, reason = "as above")]
#[path = "../tests/node/process.rs"]
mod process;

use std::{env, fs, net::SocketAddr, path::Path, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval};

use driver::Place;
use http::Client;
use process::{Sidecar, built, flag};

const REGISTRAR: &str = "csi-node-driver-registrar";
const LIVENESSPROBE: &str = "livenessprobe";

/// How often a registrar is started.
const STARTS: usize = 20;
/// How long `/healthz` is asked, and at what pace.
const ASKED: Duration = Duration::from_secs(20);
const PACE: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() {
    // What cargo tells a bench besides, such as `--bench`.
    if env::var_os("SIDECARS").is_none() {
        println!("SIDECARS names no folder with release builds: nothing to measure, `make bench` does it");
        return;
    }
    println!(
        "\n{:<58}{:>10}{:>10}{:>10}",
        "the node's sidecars", "ours", "goal", "upstream"
    );
    for name in [REGISTRAR, LIVENESSPROBE] {
        let size = fs::metadata(built(name))
            .expect("`make binaries` has made it")
            .len();
        row(&format!("{name}: binary, MB"), size as f64 / 1e6, "6", "28");
    }
    registrar(&built(REGISTRAR)).await;
    livenessprobe(&built(LIVENESSPROBE)).await;
}

fn row(what: &str, ours: f64, goal: &str, upstream: &str) {
    println!("  {what:<56}{ours:>10.2}{goal:>10}{upstream:>10}");
}

async fn registrar(program: &str) {
    let mut took = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..STARTS {
        let place = Place::new();
        let socket = place.folder.at(&format!("{}-reg.sock", driver::NAME));
        let flags = flags(&place);
        let start = Instant::now();
        let registrar = Sidecar::start(program, &place.folder, &flags);
        while !Path::new(&socket).exists() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        took.push(millis(start.elapsed()));
        registrar.says(1, "waiting for the kubelet").await;
        idle.push(resident(&registrar));
    }
    row(
        "csi-node-driver-registrar: start to socket, median, ms",
        percentile(&mut took, 50),
        "50",
        "-",
    );
    row(
        "csi-node-driver-registrar: idle, MB",
        percentile(&mut idle, 50),
        "5",
        "19",
    );

    let place = Place::new();
    let registrar = Sidecar::start(program, &place.folder, &flags(&place));
    ask(registrar.address().await).await;
    row(
        &format!("csi-node-driver-registrar: after {} checks, MB", probes()),
        resident(&registrar),
        "5",
        "19",
    );
}

fn flags(place: &Place) -> [String; 4] {
    [
        place.flag(),
        flag("plugin-registration-path", &place.folder.at("")),
        flag("kubelet-registration-path", &place.folder.at("csi.sock")),
        flag("http-endpoint", "127.0.0.1:0"),
    ]
}

async fn livenessprobe(program: &str) {
    let place = Place::new();
    let flags = [place.flag(), flag("http-endpoint", "127.0.0.1:0")];
    let probe = Sidecar::start(program, &place.folder, &flags);
    let address = probe.address().await;
    row("livenessprobe: idle, MB", resident(&probe), "5", "19");

    let mut client = Client::connect(address).await;
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < ASKED {
        ticks.tick().await;
        let asked = Instant::now();
        assert_eq!(client.ask("GET", "/healthz").await.0, 200);
        took.push(millis(asked.elapsed()));
    }
    row(
        "livenessprobe: /healthz at 100 a second, p50, ms",
        percentile(&mut took, 50),
        "-",
        "-",
    );
    row(
        "livenessprobe: /healthz at 100 a second, p99, ms",
        percentile(&mut took, 99),
        "2",
        "-",
    );

    let took = ask(address).await;
    row(
        &format!("livenessprobe: after {} Probes, MB", probes()),
        resident(&probe),
        "5",
        "24",
    );
    let calls = place.driver.count("Probe");
    assert!(calls >= probes(), "{calls} Probes");
    println!(
        "  {:<56}{:>10.0}\n",
        "  Probes a second, one after the other",
        probes() as f64 / took.as_secs_f64()
    );
}

fn probes() -> usize {
    env::var("PROBES").map_or(1_000_000, |count| count.parse().expect("a number"))
}

/// Asks for health so often, one request after the other: none shares what is behind it with another one.
async fn ask(address: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut asked = 0;
    while asked < probes() {
        // A connection ends after five minutes.
        let mut client = Client::connect(address).await;
        for _ in 0..(probes() - asked).min(100_000) {
            assert_eq!(client.ask("GET", "/healthz").await.0, 200);
            asked += 1;
        }
    }
    began.elapsed()
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() * percent / 100).min(values.len() - 1)]
}

/// Resident memory, in MB of a million bytes.
fn resident(sidecar: &Sidecar) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.expect("VmRSS").trim().parse::<f64>().expect("a number") * 1024.0 / 1e6
}
