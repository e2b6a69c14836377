//! Chaos, by seed: two replicas or one process alone, claims that come and go, and whatever may break does. When it is
//! over, everything comes to rest, and what never may happen has not happened.
//!
//! What befalls a request or a call is drawn from the seed, the process and the number of the effect; what befalls the
//! world is a script that is drawn beforehand. `CHAOS_SEEDS=n` runs so many seeds, `CHAOS_SEED=x` that one.

use std::{
    fmt::Write as _,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sandbox::{Gust, Line, Upstream, World, driver::Trouble};
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{Instant, advance, sleep, timeout},
};

use crate::{
    always::Eye,
    rest::Rest,
    scenario::panic_text,
    script::{Act, Kind, script},
    sidecar::{CLAIMS, HOME, LEASE, Pod, Sidecar, VOLUMES, secs, text, world},
    stage::{holder, retained},
};

/// As many as `make test` has time for.
const SEEDS: u64 = 72;
/// So many threads share them.
const THREADS: usize = 2;
/// So many of a thousand effects are harmed.
const HARMED: u32 = 60;
/// Who has done nothing for so long is stopped all the same.
const IDLE: Duration = secs(10);
/// More than anything takes from the look at the clock to the driver.
const TURNS: usize = 100;

/// One world in chaos.
struct Storm {
    seed: u64,
    kind: Kind,
    flags: Vec<&'static str>,
    world: World,
    eye: Eye,
    crew: [Option<(Line, Sidecar)>; 2],
    /// Notified of each numbered effect.
    at_work: Arc<Notify>,
    /// Every process so far, with its line.
    lines: Vec<(&'static str, Line)>,
    first: Sidecar,
}

impl Storm {
    fn new(seed: u64, flags: &'static [&'static str]) -> Self {
        let kind = Kind::of(seed);
        let world = if kind.retains { retained() } else { world() };
        world
            .driver
            .configure(|identity| identity.id_is_name = kind.id_is_name);
        let mut flags = flags.to_vec();
        if !kind.elected {
            flags.push("--leader-election=false");
        }
        // A driver takes its time, beyond the timeout now and then.
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let time = Duration::from_millis(rng.u64(10..7_000));
            world.driver.upset("CreateVolume", 1, Trouble::Delay(time));
        }
        let eye = Eye::new(&world, kind.elected, false).tolerant();
        // It holds the log and takes no part.
        let cut = Line::new();
        cut.cut();
        let first = Sidecar::on(&world, &cut, Pod::named("nobody"), &[]);
        let mut storm = Self {
            seed,
            kind,
            flags,
            world,
            eye,
            crew: [None, None],
            at_work: Arc::default(),
            lines: Vec::new(),
            first,
        };
        (0..kind.pods().len()).for_each(|which| storm.start(which));
        storm
    }

    /// Each process has faults of its own.
    fn start(&mut self, which: usize) {
        if self.crew[which].is_some() {
            return;
        }
        let (line, name) = (Line::new(), self.kind.pods()[which]);
        let at_work = self.at_work.clone();
        self.eye.watch_and(&line, name, move |effect| {
            if effect.number.is_some() {
                at_work.notify_waiters();
            }
        });
        line.weather(self.seed * 1_000 + self.lines.len() as u64, HARMED);
        let pod = Pod::named(name);
        let process = self.first.beside_on(&self.world, &line, pod, &self.flags);
        self.lines.push((name, line.clone()));
        self.crew[which] = Some((line, process));
    }

    /// Whoever leads is stopped beyond its lease, and goes on where it was. One that keeps no ledger leads meanwhile, if
    /// there is an election. No replica of ours does: who is stopped sees no time pass, and the clock of a run is one.
    async fn stop_leader(&self, time: Duration) {
        let _ = timeout(IDLE, self.at_work.notified()).await;
        // What is between check and send no process can call back: it arrives first, and no time passes.
        self.lines.iter().for_each(|(_, line)| line.let_go());
        for _ in 0..TURNS {
            yield_now().await;
        }
        if self.kind.elected {
            let upstream = Upstream::new(&self.world, HOME, LEASE);
            upstream.seize();
            upstream.work();
        }
        advance(time).await;
    }

    async fn act(&mut self, act: Act) {
        let line = |which: usize| self.crew[which].as_ref().map(|(line, _)| line);
        let name = |number: usize| format!("data-{number}");
        match act {
            Act::Add(number) => {
                if self.world.api.get(CLAIMS, "default", &name(number)).is_none() {
                    self.world.add_claim("default", &name(number), "1Gi", |_| {});
                }
            }
            Act::Delete(number) => drop(self.world.api.delete(CLAIMS, "default", &name(number))),
            Act::Kill(which) => {
                if let Some((_, process)) = self.crew[which].take() {
                    process.kill();
                }
            }
            Act::KillLeader => {
                let holder = holder(&self.world);
                let leads = |pod: &&str| !self.kind.elected || holder.split('_').next() == Some(pod);
                if let Some(which) = self.kind.pods().iter().position(leads)
                    && let Some((_, process)) = self.crew[which].take()
                {
                    process.kill();
                }
            }
            Act::Start(which) => self.start(which),
            Act::Hold(which) => line(which).into_iter().for_each(Line::hold),
            Act::LetGo(which) => line(which).into_iter().for_each(Line::let_go),
            Act::Part(which) => line(which).into_iter().for_each(Line::part),
            Act::Join(which) => line(which).into_iter().for_each(Line::join),
            Act::CutWatches => self.world.api.cut_watches(),
            Act::Expire => self.world.api.expire(),
            Act::Freeze => self.world.api.freeze_cache(),
            Act::Thaw => self.world.api.thaw_cache(),
            Act::StopDriver => self.world.driver.stop(),
            Act::StartDriver => self.world.driver.start(),
            Act::Suspend(time) => advance(secs(time)).await,
            Act::StopLeader(time) => self.stop_leader(time).await,
        }
    }

    /// Nothing is broken any more, and everybody is there.
    fn heal(&mut self) {
        self.world.api.thaw_cache();
        self.world.driver.start();
        self.world.driver.heal();
        for (_, line) in &self.lines {
            line.calm();
            line.join();
            line.let_go();
        }
        for which in 0..self.kind.pods().len() {
            // One may have ended by itself, as kubelet would notice.
            if self.crew[which]
                .as_ref()
                .is_some_and(|(_, process)| process.is_over())
            {
                self.crew[which] = None;
            }
            self.start(which);
        }
        self.lines.iter().for_each(|(_, line)| line.calm());
    }

    /// What there may be at rest. What is to be retained outlives its claim, or is held, where one that keeps no ledger
    /// may have been at work meanwhile: after it has led, and without an election after any restart.
    fn rest(&self) -> Rest {
        let claims = self.world.api.len(CLAIMS);
        match self.kind.retains {
            true => Rest {
                volumes: claims..=usize::MAX,
                ..Rest::volumes(0).held(usize::MAX)
            },
            false => Rest::volumes(claims),
        }
    }

    async fn comes_to_rest(&self) {
        let limit = Instant::now() + secs(30 * 60);
        while let Some(missing) = self.rest().missing(&self.world) {
            assert!(Instant::now() < limit, "no rest: {missing}\n{}", self.print());
            sleep(Duration::from_millis(200)).await;
        }
        sleep(secs(120)).await;
        if let Some(missing) = self.rest().missing(&self.world) {
            panic!("no rest any more: {missing}\n{}", self.print());
        }
        if self.kind.retains {
            self.assert_all_retained();
        }
        let breaches = self.eye.breaches();
        assert!(breaches.is_empty(), "{breaches:#?}\n{}", self.print());
        let log = self.first.log().join("\n");
        assert!(!log.contains("panicked"), "{log}");
    }

    /// No volume was deleted, and no object of one.
    fn assert_all_retained(&self) {
        let deletions = self.world.driver.count("DeleteVolume");
        assert_eq!(deletions, 0, "deleted at the driver\n{}", self.print());
        for pv in self.world.api.history(VOLUMES) {
            let name = text(&pv, "/metadata/name");
            let stands = self.world.api.get(VOLUMES, "", name).is_some();
            assert!(stands, "{name} is gone\n{}", self.print());
        }
    }

    /// The trace: what was to happen, what each process did and met, how the world looks.
    fn print(&self) -> String {
        let mut out = format!("{}\n{:#?}\n", self.world.print(), self.eye.breaches());
        for (at, act) in script(self.seed) {
            let _ = writeln!(out, "script {at:?} {act:?}");
        }
        for (number, (pod, line)) in self.lines.iter().enumerate() {
            for effect in line.effects() {
                let seed = self.seed * 1_000 + number as u64;
                let gust = effect.number.and_then(|it| Gust::drawn(seed, HARMED, it));
                let gust = gust.map(|gust| format!("{gust:?}")).unwrap_or_default();
                let _ = writeln!(out, "{pod} #{number} {:?} {effect} {gust}", effect.at);
            }
        }
        out
    }
}

/// Why a seed fails, if it does.
fn failure(seed: u64, flags: &'static [&'static str]) -> Option<String> {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let run = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            let mut storm = Storm::new(seed, flags);
            let mut before = Duration::ZERO;
            for (at, act) in script(seed) {
                // After a jump of the clock what was to follow follows as late as it was to.
                sleep(at - before).await;
                before = at;
                storm.act(act).await;
            }
            storm.heal();
            storm.comes_to_rest().await;
        });
    }));
    let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
    run.err().map(panic_text)
}

#[test]
fn whatever_breaks_nothing_is_lost() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("CHAOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("CHAOS_SEEDS").unwrap_or(SEEDS),
    };
    let began = std::time::Instant::now();
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            if let Some(why) = failure(seed, &["--timeout=5s"]) {
                // The others need not go on.
                next.store(seeds.end, Ordering::Relaxed);
                let kind = Kind::of(seed);
                panic!(
                    "seed {seed} ({kind}): {why}\nseed {seed} ({kind}): run it alone with CHAOS_SEED={seed}"
                );
            }
        }
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(work)).collect();
        work();
        for other in others {
            if let Err(panic) = other.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let count = |kind| seeds.clone().filter(|seed| Kind::of(*seed) == kind).count();
    let kinds: Vec<_> = Kind::all()
        .map(|kind| format!("{} with {kind}", count(kind)))
        .collect();
    let _ = writeln!(
        std::io::stderr(),
        "chaos: {} seeds ({}), {:.1} s",
        seeds.end - seeds.start,
        kinds.join("; "),
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn without_records_some_seed_of_each_kind_loses_a_volume() {
    let off = &["--timeout=5s", "--crash-safe=off"];
    for kind in Kind::all() {
        let mut seeds = (1..120).filter(|seed| Kind::of(*seed) == kind);
        let lost = seeds.find_map(|seed| failure(seed, off));
        let lost = lost.unwrap_or_else(|| panic!("chaos finds what it is there for with {kind}"));
        assert!(lost.contains("nobody knows"), "{kind}: {lost}");
    }
}

#[test]
fn the_same_seed_has_the_same_in_store() {
    for seed in 1..50 {
        assert_eq!(script(seed), script(seed));
        let drawn = |seed| {
            (0..500)
                .map(|number| Gust::drawn(seed, HARMED, number))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(seed), drawn(seed));
        assert_ne!(drawn(seed), drawn(seed + 1));
        assert_ne!(script(seed), script(seed + 1));
    }
    let all: Vec<_> = (0..10_000)
        .filter_map(|number| Gust::drawn(7, 100, number))
        .collect();
    assert!((800..1200).contains(&all.len()), "{} of 10000", all.len());
    let lost = all.iter().filter(|gust| **gust == Gust::Lost).count();
    let unheard = all.iter().filter(|gust| **gust == Gust::ReplyLost).count();
    assert!(lost > 150 && unheard > 150, "{lost} {unheard}");
}
