//! The sidecar is killed again and again while claims come and go, the driver answers late and loses answers. When all
//! has come to rest, what is at the driver is what the API server knows.
//!
//! `KILLS` says how many, with and without election together, and shows upstream's binary beside ours; `SEED` draws
//! others.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{Cluster, Rights},
    driver::{Driver, Losses, Options},
    replicas::SHORT,
    rest::Rest,
    sidecar::{Binary, Sidecar, under_test},
    supervisor::{SIGKILL, SIGTERM},
    world::{SOON, World, eventually, text},
};

/// Kills in `make test`, with and without election each.
const FEW: usize = 10;
/// How late the driver answers. Always the same, because a driver that works on at random after all have stopped waiting
/// can make a volume anew that was deleted since: nobody can help that.
const LATE: Duration = Duration::from_millis(400);
/// Answers that are lost, of a hundred.
const LOST: u8 = 10;
/// How many claims come and go at once, beside those that stay a while.
const WORKERS: usize = 8;
/// How many claims of each worker stay.
const STAY: usize = 3;
const REST: Duration = Duration::from_secs(120);

/// Everything is tried again soon enough for a test. Upstream's own limit of five requests a second would keep it from
/// having anything under way.
const FLAGS: [&str; 5] = [
    "--timeout=2s",
    "--retry-interval-start=200ms",
    "--retry-interval-max=1s",
    "--kube-api-qps=2000",
    "--kube-api-burst=4000",
];
/// `KILLS`, when it is given.
pub(crate) fn wanted() -> Option<usize> {
    let kills = std::env::var("KILLS").ok()?;
    Some(kills.parse().expect("KILLS is a number"))
}

struct Run {
    name: &'static str,
    binary: Binary,
    elected: bool,
    kills: usize,
}

/// What was done, and what was left.
struct Outcome {
    what: String,
    kills: usize,
    stops: usize,
    seconds: u64,
    claims: usize,
    created: usize,
    lost_answers: usize,
    at_rest: Rest,
    /// After the last claim is gone, too.
    at_end: Rest,
    /// What the sidecars said last.
    said: String,
}

pub(crate) async fn alone(cluster: &'static Cluster) {
    a_few(cluster, "killed-alone", false).await;
}

pub(crate) async fn elected(cluster: &'static Cluster) {
    a_few(cluster, "killed-elected", true).await;
}

async fn a_few(cluster: &'static Cluster, name: &'static str, elected: bool) {
    let ours = Run {
        name,
        binary: under_test(),
        elected,
        kills: FEW,
    };
    let outcome = run(cluster, ours).await;
    table(&[&outcome]);
    outcome.assert_nothing_is_lost();
}

/// Many, and upstream's binary under the same.
pub(crate) async fn beside_upstream(cluster: &'static Cluster) {
    let kills = wanted().unwrap_or(2 * FEW).div_ceil(2);
    let mut outcomes = Vec::new();
    for (name, binary, elected) in [
        ("kills-ours", under_test(), false),
        ("kills-theirs", Binary::Upstream, false),
        ("kills-ours-elected", under_test(), true),
        ("kills-theirs-elected", Binary::Upstream, true),
    ] {
        let one = Run {
            name,
            binary,
            elected,
            kills,
        };
        outcomes.push(run(cluster, one).await);
    }
    table(&outcomes.iter().collect::<Vec<_>>());
    for ours in [0, 2] {
        outcomes[ours].assert_nothing_is_lost();
    }
}

fn table(outcomes: &[&Outcome]) {
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    let mut row = |what, value: &dyn Fn(&Outcome) -> String| {
        rows.push((what, outcomes.iter().map(|outcome| value(outcome)).collect()));
    };
    row("", &|o| o.what.clone());
    row("killed", &|o| o.kills.to_string());
    row("stopped by SIGTERM", &|o| o.stops.to_string());
    row("seconds", &|o| o.seconds.to_string());
    row("claims", &|o| o.claims.to_string());
    row("volumes made at the driver", &|o| o.created.to_string());
    row("answers lost", &|o| o.lost_answers.to_string());
    row("at rest: claims without a volume", &|o| {
        o.at_rest.unbound.len().to_string()
    });
    row("at rest: volumes that nobody knows", &|o| {
        o.at_rest.forgotten().len().to_string()
    });
    row("at rest: held", &|o| o.at_rest.ledger.held.len().to_string());
    row("all claims deleted: volumes left", &|o| {
        o.at_end.volumes.len().to_string()
    });
    row("all claims deleted: objects left", &|o| {
        o.at_end.object_count.to_string()
    });
    println!();
    for (what, values) in rows {
        let values: String = values.iter().map(|value| format!("{value:>20}")).collect();
        println!("{what:<40}{values}");
    }
    println!();
}

impl Outcome {
    fn assert_nothing_is_lost(&self) {
        let what = &self.what;
        for rest in [&self.at_rest, &self.at_end] {
            if !rest.is_clean() {
                eprintln!("--- {what}, last lines:\n{}", self.said);
            }
            assert!(
                rest.is_clean(),
                "{what}: {} forgotten: {rest:#?}",
                rest.forgotten().len()
            );
        }
        assert_eq!(self.at_end.volumes.len(), 0, "{what}: {:#?}", self.at_end);
        assert!(
            self.kills > 0 && self.lost_answers > 0,
            "{what}: nothing was tried"
        );
    }
}

async fn run(cluster: &'static Cluster, run: Run) -> Outcome {
    let seed = std::env::var("SEED").map_or(9, |seed| seed.parse().expect("SEED is a number"));
    let world = World::new(cluster, run.name, Rights::Ours).await;
    let mut options = Options {
        delay: LATE,
        losses: Losses { percent: LOST, seed },
        ..Options::default()
    };
    let driver = Driver::with(&world, options.clone()).await;
    let class = world.class("standard", &driver.name, json!({})).await;
    let mut flags = FLAGS.to_vec();
    if run.elected {
        flags.extend(SHORT);
    }
    let mut sidecars = Vec::new();
    for pod in ["sidecar-0", "sidecar-1"]
        .iter()
        .take(if run.elected { 2 } else { 1 })
    {
        sidecars.push(Sidecar::start(&world, run.binary, &driver, pod, &flags).await);
    }

    let load = Load {
        world: &world,
        class: &class,
        over: AtomicBool::new(false),
        made: AtomicUsize::new(0),
    };
    let workers = join_all((0..WORKERS).map(|worker| load.work(worker, seed)));
    let kills = async {
        let done = kill(&world, &driver, &mut sidecars, &run, seed).await;
        load.over.store(true, Ordering::Relaxed);
        done
    };
    let start = Instant::now();
    let (_, (kills, stops)) = futures::join!(workers, kills);
    let seconds = start.elapsed().as_secs();

    options.losses.percent = 0;
    driver.configure(&options);
    let at_rest = Rest::wait(&world, &driver, REST).await;
    let all = Default::default();
    let deleted = world
        .claims
        .delete_collection(&DeleteParams::default(), &all)
        .await;
    deleted.unwrap();
    let at_end = Rest::wait(&world, &driver, REST).await;
    let mut made: Vec<_> = driver.calls_of("CreateVolume");
    made.retain(|call| call.code == "OK");
    made.sort_by(|a, b| a.volume_id.cmp(&b.volume_id));
    made.dedup_by(|a, b| a.volume_id == b.volume_id);
    let election = if run.elected { ", election" } else { "" };
    Outcome {
        what: format!("{:?}{election}", run.binary).to_lowercase(),
        kills,
        stops,
        seconds,
        claims: load.made.into_inner(),
        created: made.len(),
        lost_answers: driver.calls().iter().filter(|call| !call.lost.is_empty()).count(),
        at_rest,
        at_end,
        said: sidecars
            .iter()
            .map(|sidecar| sidecar.process.tail(60))
            .collect::<Vec<_>>()
            .join("\n---\n"),
    }
}

/// Kills whoever calls the driver, a moment after it has begun to, and starts it again at once. Among replicas some are
/// told to stop instead, so that the other one goes on, and sometimes both are killed. Returns how many of each.
async fn kill(
    world: &World,
    driver: &Driver,
    sidecars: &mut Vec<Sidecar>,
    run: &Run,
    seed: u64,
) -> (usize, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut kills, mut stops) = (0, 0);
    while kills < run.kills {
        let since = driver.line_count();
        let calls = random.usize(1..=12);
        let limit = Duration::from_secs(90);
        let victim = eventually("a sidecar calls the driver", limit, async || {
            let begun = driver.begun_since(since, "CreateVolume");
            // What a dead one has called last may be noted late.
            let mut alive = begun.iter().filter_map(|call| {
                sidecars
                    .iter()
                    .position(|sidecar| sidecar.process.pid == call.pid)
            });
            alive
                .nth(calls - 1)
                .ok_or(format!("{} of {calls} calls", begun.len()))
        })
        .await;
        // Nothing to wait for: the moment is to be any.
        sleep(LATE.mul_f64(random.f64())).await;
        let stop = run.elected && random.u8(..4) == 0;
        let both = run.elected && !stop && random.u8(..6) == 0;
        let first = if both { 0 } else { victim };
        let last = if both { sidecars.len() - 1 } else { victim };
        for sidecar in &sidecars[first..=last] {
            sidecar.process.signal(if stop { SIGTERM } else { SIGKILL });
            *(if stop { &mut stops } else { &mut kills }) += 1;
        }
        for index in first..=last {
            let sidecar = sidecars.remove(index);
            sidecar.ended(SOON).await;
            sidecars.insert(index, sidecar.again(world));
        }
    }
    (kills, stops)
}

/// Claims that come and go.
struct Load<'a> {
    world: &'a World,
    class: &'a str,
    over: AtomicBool,
    made: AtomicUsize,
}

impl Load<'_> {
    async fn work(&self, worker: usize, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed ^ ((worker as u64 + 1) << 32));
        let mut staying = VecDeque::new();
        for number in 0.. {
            if self.is_over() {
                return;
            }
            let name = format!("claim-{worker}-{number}");
            self.world.claim(&name, self.class).await;
            self.made.fetch_add(1, Ordering::Relaxed);
            match random.u8(..8) {
                // At once: it may never have been seen.
                0 => {}
                1 | 2 => self.bound(&name).await,
                3 => {
                    sleep(Duration::from_millis(random.u64(..600))).await;
                    staying.push_back(name);
                    if staying.len() <= STAY {
                        continue;
                    }
                    self.world.delete_claim(&staying.pop_front().unwrap()).await;
                    continue;
                }
                // While the driver works, most of them.
                _ => sleep(Duration::from_millis(random.u64(..1500))).await,
            }
            self.world.delete_claim(&name).await;
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Until it is bound, or all is over.
    async fn bound(&self, name: &str) {
        eventually(&format!("{name} is Bound"), REST, async || {
            let claim = self.world.claims.get(name).await.map_err(text)?;
            match claim.status.and_then(|status| status.phase).as_deref() {
                Some("Bound") => Ok(()),
                _ if self.is_over() => Ok(()),
                phase => Err(format!("phase {phase:?}")),
            }
        })
        .await;
    }
}
