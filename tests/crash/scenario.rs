//! A scenario, and how it is run: once uncut, then cut at each effect.

use std::{
    any::Any,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
};

use sandbox::{Line, World};

use crate::{
    rest::Rest,
    sidecar::world,
    stage::{FIRST, OTHER, Stage},
};

/// So many failed points are told of, then the scenario is given up.
const FAILURES: usize = 3;

/// What a panic has said.
pub(crate) fn panic_text(panic: Box<dyn Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => (*other.downcast_ref::<&str>().unwrap_or(&"a panic")).to_owned(),
    }
}

/// A world and what is to become of it. What happens there is told in [`Scenario::run`].
pub(crate) struct Scenario {
    name: &'static str,
    pub(crate) world: fn() -> World,
    pub(crate) flags: &'static [&'static str],
    /// A second replica stands by.
    second: bool,
    pub(crate) misfits: bool,
    pub(crate) renews: bool,
    /// Stopped for a minute instead of cut.
    stops: bool,
    /// Cut at so many effects only.
    first: usize,
    /// Of these, at so many, spread evenly.
    some: usize,
    rest: Rest,
}

impl Scenario {
    pub(crate) fn new(name: &'static str, rest: Rest) -> Self {
        Self {
            name,
            world,
            flags: &[],
            second: false,
            misfits: false,
            renews: false,
            stops: false,
            first: usize::MAX,
            some: usize::MAX,
            rest,
        }
    }

    pub(crate) fn world(mut self, world: fn() -> World) -> Self {
        self.world = world;
        self
    }

    pub(crate) const fn flags(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = flags;
        self
    }

    /// A second replica stands by.
    pub(crate) const fn second(mut self) -> Self {
        self.second = true;
        self
    }

    /// Volumes that are not what was asked for are deleted without ever having had an object.
    pub(crate) const fn misfits(mut self) -> Self {
        self.misfits = true;
        self
    }

    /// A claim gets another request in place of one that was refused in doubt, so that the driver sees two of one name.
    pub(crate) const fn renews(mut self) -> Self {
        self.renews = true;
        self
    }

    /// The process is stopped for a minute at each effect that is done, instead of cut, and goes on where it was.
    pub(crate) const fn stops(mut self) -> Self {
        self.stops = true;
        self
    }

    /// Cuts at the first so many effects only: the rest is as in another scenario, and this one takes long.
    pub(crate) const fn first(mut self, count: usize) -> Self {
        self.first = count;
        self
    }

    /// Cuts at so many effects only, spread evenly: it takes long. All of them with `CRASH_FULL`.
    pub(crate) const fn some(mut self, count: usize) -> Self {
        self.some = count;
        self
    }

    /// Runs it uncut, and then cut at each effect.
    ///
    /// # Panics
    /// When some point fails.
    pub(crate) fn run(self, steps: impl AsyncFn(&Stage)) {
        let points = match std::env::var("CRASH_POINT") {
            Ok(point) => {
                let point = point.parse().expect("CRASH_POINT is a number");
                point..=point
            }
            Err(_) => 0..=usize::MAX,
        };
        let began = std::time::Instant::now();
        let (effects, failure) = self.attempt(&steps, None);
        let count = effects.len().min(self.first);
        if let Some(failure) = failure {
            panic!("{}: fails uncut:\n{failure}", self.name);
        }
        let mut failed = Vec::new();
        let sent = |number: &usize| self.stops && effects[*number].ends_with(" sent");
        let mut chosen: Vec<_> = (0..count)
            .filter(|number| points.contains(number) && !sent(number))
            .collect();
        let all = chosen.len();
        if self.some < all && std::env::var_os("CRASH_FULL").is_none() {
            chosen = (0..self.some)
                .map(|number| chosen[(2 * number + 1) * all / (2 * self.some)])
                .collect();
        }
        let count = chosen.len();
        for number in chosen {
            let (effects, failure) = self.attempt(&steps, Some(number));
            let Some(failure) = failure else { continue };
            let effect = effects.get(number).map_or("not reached", String::as_str);
            let line = failure.lines().next().unwrap_or_default().to_owned();
            if failed.is_empty() {
                eprintln!("{}: cut at {number} ({effect}):\n{failure}", self.name);
            }
            failed.push(format!("cut at {number} ({effect}): {line}"));
            if failed.len() >= FAILURES && std::env::var_os("CRASH_ALL").is_none() {
                break;
            }
        }
        // Past the capture of the test harness: the number is to be seen.
        let _ = writeln!(
            std::io::stderr(),
            "crash points: {}: {count} of {}, {:.1} s",
            self.name,
            effects.len(),
            began.elapsed().as_secs_f64()
        );
        assert!(
            failed.is_empty(),
            "{}: fails at {} of {count} points at least:\n{}",
            self.name,
            failed.len(),
            failed.join("\n")
        );
    }

    /// One run; gives the effects of the first process, and why it failed.
    fn attempt(&self, steps: &impl AsyncFn(&Stage), cut: Option<usize>) -> (Vec<String>, Option<String>) {
        fastrand::seed(7);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (effects, ended) = runtime.block_on(async {
            let line = Line::new();
            let stop = cut.filter(|_| self.stops);
            if let Some(number) = cut.filter(|_| !self.stops) {
                line.cut_at(number);
            }
            let run = AssertUnwindSafe(self.play(steps, &line, stop));
            let ended = futures::FutureExt::catch_unwind(run).await;
            let effects = line.effects();
            (effects.iter().map(ToString::to_string).collect(), ended)
        });
        // What hangs in it goes with it; that must not fail, either.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
        (effects, ended.err().map(panic_text))
    }

    async fn play(&self, steps: &impl AsyncFn(&Stage), line: &Line, stop: Option<usize>) {
        let stage = Stage::new(self);
        match stop {
            None => stage.start(line, FIRST),
            Some(number) => stage.start_and_stop_at(line, number),
        }
        let story = async {
            if self.second {
                stage.leads().await;
                stage.start(&Line::new(), OTHER);
            }
            steps(&stage).await;
            stage.comes_to_rest(&self.rest).await;
        };
        tokio::select! {
            () = story => {}
            () = stage.restart_what_ends() => {}
        }
    }
}
