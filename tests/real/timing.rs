//! How long nobody works when the leader is told to stop, killed, started again in its Pod, or held up beyond its lease.
//! Printed beside what is promised, for people: a timing is a benchmark. What takes twice the promised second beyond the
//! lease fails all the same, since no machine is as busy as that. Alone, for the same reason.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    audit,
    cluster::{Cluster, Rights},
    driver::{Call, Driver},
    replicas::{LONG, SHORT, SHORT_LEASE},
    rest::Rest,
    sidecar::{Binary, Sidecar, under_test},
    supervisor::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM},
    world::{SOON, World, eventually},
};

/// What the driver takes: a call is under way at any moment.
const LATE: Duration = Duration::from_millis(100);
/// What is promised, beyond the lease where one must run out.
const PROMISED: Duration = Duration::from_secs(1);
/// What is a fault and no busy machine, beyond the lease. Who waits for a second lease takes longer by far.
const FAULT: Duration = Duration::from_secs(2);

/// What happened, how long nobody worked then, and the lease that had to run out.
type Figure = (&'static str, Duration, Duration);

pub(crate) async fn measured(cluster: &'static Cluster) {
    let world = World::new(cluster, "timing", Rights::Ours).await;
    let driver = Driver::start(&world, LATE).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let load = Load {
        world: &world,
        class,
        over: AtomicBool::new(false),
    };
    let figures = async {
        println!("\nthe next CreateVolume of another process after");
        let measured = measure(&world, &driver).await;
        load.over.store(true, Ordering::Relaxed);
        measured
    };
    let (claims, (figures, last)) = futures::join!(load.come(), figures);
    if under_test() == Binary::Ours {
        for (what, took, lease) in figures {
            let (promised, most) = (lease + PROMISED, lease + FAULT);
            assert!(
                took < most,
                "{what}: {took:?}, promised {promised:?}, beyond {most:?} it is a fault"
            );
        }
    }
    let rest = Rest::wait(&world, &driver, Duration::from_secs(60)).await;
    let of = |claim: &String| {
        world
            .cluster
            .kubectl(&["-n", &world.namespace, "describe", "pvc", claim])
    };
    let unbound: Vec<_> = rest.unbound.iter().map(of).collect();
    assert!(
        rest.is_clean() && rest.bound.len() == claims,
        "{rest:#?} {unbound:#?} {}",
        last.process.tail(40)
    );
}

async fn measure(world: &World, driver: &Driver) -> (Vec<Figure>, Sidecar) {
    let start =
        async |pod: &str, flags: &[&str]| Sidecar::start(world, under_test(), driver, pod, flags).await;
    let mut figures = Vec::new();

    // Told to stop: a lease that only a release hands over in time.
    let first = start("long-0", &LONG).await;
    calls(driver, &first, 3).await;
    let second = start("long-1", &LONG).await;
    stands_by(world, "long-1").await;
    let took = followed(driver, &first, &second, SIGTERM).await;
    figures.push(figure("SIGTERM", took, Duration::ZERO));
    first.ended(SOON).await;

    // The container of the same Pod starts again: its lease of a minute is its own.
    second.process.signal(SIGKILL);
    second.ended(SOON).await;
    let line = driver.line_count();
    let at = Instant::now();
    let second = second.again(world);
    let took = first_call(driver, &second, line, at).await;
    figures.push(figure(
        "the start of the container in the same Pod",
        took,
        Duration::ZERO,
    ));
    second.process.signal(SIGTERM);
    second.ended(SOON).await;

    // Killed: the lease must run out.
    let first = start("short-0", &SHORT).await;
    calls(driver, &first, 3).await;
    let second = start("short-1", &SHORT).await;
    stands_by(world, "short-1").await;
    let took = followed(driver, &first, &second, SIGKILL).await;
    figures.push(figure("kill -9, with a lease of 6 s", took, SHORT_LEASE));

    // Held up beyond its lease.
    let third = start("short-2", &SHORT).await;
    stands_by(world, "short-2").await;
    waits_for_one(driver, &second).await;
    let took = followed(driver, &second, &third, SIGSTOP).await;
    figures.push(figure("SIGSTOP, with a lease of 6 s", took, SHORT_LEASE));
    calls(driver, &third, 3).await;
    let (line, at) = (driver.line_count(), SystemTime::now());
    second.process.signal(SIGCONT);
    // It has heard who leads now, and had time to do what it was about to do.
    audit::asked_since(world, "short-1", at, "leases").await;
    calls(driver, &third, 20).await;
    let sent = |call: &&Arc<Call>| call.pid == second.process.pid;
    for method in ["CreateVolume", "DeleteVolume"] {
        let begun = driver.begun_since(line, method);
        assert_eq!(begun.iter().filter(sent).count(), 0, "{method} after its lease");
    }
    let written = audit::written_since(world, "short-1", at);
    assert!(written.is_empty(), "sent after its lease: {written:#?}");
    second.assert_runs();
    // The other one can have nothing to do any more.
    (figures, third)
}

/// Printed as soon as it is known.
fn figure(what: &'static str, took: Duration, lease: Duration) -> Figure {
    let [seconds, promised, most] = [took, lease + PROMISED, lease + FAULT].map(|time| time.as_secs_f64());
    println!("  {what:<58}{seconds:>8.2} s (promised: {promised:.0} s, fails beyond {most:.0} s)");
    (what, took, lease)
}

/// Waits until this one has begun so many more calls.
async fn calls(driver: &Driver, sidecar: &Sidecar, count: usize) {
    let line = driver.line_count();
    eventually("it calls the driver", SOON, async || {
        let begun = driver.begun_since(line, "CreateVolume");
        let seen = begun
            .iter()
            .filter(|call| call.pid == sidecar.process.pid)
            .count();
        if seen >= count {
            Ok(())
        } else {
            Err(format!("{seen} times"))
        }
    })
    .await;
}

/// Waits for the moment when this one has just begun its only call: its answer will be there when the process goes on,
/// and nothing stands between the last look at the lease and the socket, where no process can call it back.
async fn waits_for_one(driver: &Driver, sidecar: &Sidecar) {
    let end = Instant::now() + SOON;
    loop {
        let lines = driver.lines();
        let own = || lines.iter().filter(|call| call.pid == sidecar.process.pid);
        let creations = || own().filter(|call| call.method == "CreateVolume");
        let begun = creations().filter(|call| call.begins()).count();
        let answered = creations().count() - begun;
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let last = creations()
            .next_back()
            .map_or(Duration::ZERO, |call| Duration::from_micros(call.at));
        let since = now.saturating_sub(last);
        if begun == answered + 1 && since > LATE / 5 && since < LATE / 2 {
            return;
        }
        assert!(Instant::now() < end, "{begun} begun, {answered} answered");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the replica in this Pod has seen who leads.
async fn stands_by(world: &World, pod: &str) {
    let beginning = SystemTime::UNIX_EPOCH;
    audit::asked_since(world, pod, beginning, "leases").await;
}

/// From the signal to the next CreateVolume of the other one.
async fn followed(driver: &Driver, leader: &Sidecar, next: &Sidecar, signal: i32) -> Duration {
    let line = driver.line_count();
    let at = Instant::now();
    leader.process.signal(signal);
    first_call(driver, next, line, at).await
}

/// From that moment to the first CreateVolume since that line.
async fn first_call(driver: &Driver, sidecar: &Sidecar, line: usize, at: Instant) -> Duration {
    let start = SystemTime::now() - at.elapsed();
    let start = start.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let call = eventually("the next one calls the driver", SOON, async || {
        let begun = driver.begun_since(line, "CreateVolume");
        let own = begun.iter().find(|call| call.pid == sidecar.process.pid);
        own.cloned().ok_or(format!("{} calls of others", begun.len()))
    })
    .await;
    Duration::from_micros(call.at).saturating_sub(start)
}

/// Ten claims a second, so that there is always work.
struct Load<'a> {
    world: &'a World,
    class: String,
    over: AtomicBool,
}

impl Load<'_> {
    async fn come(&self) -> usize {
        for number in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return number;
            }
            self.world.claim(&format!("data-{number}"), &self.class).await;
            sleep(Duration::from_millis(100)).await;
        }
        0
    }
}
