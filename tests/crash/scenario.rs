//! A scenario, and how it is run: once uncut, then cut at each effect.

use std::{
    any::Any,
    fmt,
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
    /// What follows the process that was cut is cut, too.
    twice: bool,
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
            twice: false,
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

    /// Cuts at the first so many effects only: the rest is as in another scenario, and this one takes long. All of them
    /// with `CRASH_FULL`.
    pub(crate) const fn first(mut self, count: usize) -> Self {
        self.first = count;
        self
    }

    /// Cuts at so many effects only, spread evenly: it takes long. All of them with `CRASH_FULL`.
    pub(crate) const fn some(mut self, count: usize) -> Self {
        self.some = count;
        self
    }

    /// With `CRASH_FULL` the process that takes over is cut, too, at each effect of its own.
    pub(crate) const fn twice(mut self) -> Self {
        self.twice = true;
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
        let full = std::env::var_os("CRASH_FULL").is_some();
        let mut uncut = Vec::new();
        for id_is_name in [false, true] {
            let cut = Cut {
                id_is_name,
                ..Cut::default()
            };
            let ended = self.attempt(&steps, cut);
            if let Some(failure) = ended.failure {
                panic!("{}: fails uncut, {cut}:\n{failure}", self.name);
            }
            uncut = ended.effects;
        }
        let count = if full {
            uncut.len()
        } else {
            uncut.len().min(self.first)
        };
        let sent = |number: &usize| self.stops && uncut[*number].ends_with(" sent");
        let mut chosen: Vec<_> = (0..count)
            .filter(|number| points.contains(number) && !sent(number))
            .collect();
        let all = chosen.len();
        if self.some < all && !full {
            chosen = (0..self.some)
                .map(|number| chosen[(2 * number + 1) * all / (2 * self.some)])
                .collect();
        }
        let (count, mut twice) = (chosen.len(), 0);
        let mut failed = Vec::new();
        let mut tell = |cut: Cut, ended: &Ended| {
            let Some(failure) = &ended.failure else {
                return false;
            };
            let at = |effects: &[String], number: Option<usize>| {
                let effect = number.and_then(|number| effects.get(number));
                effect.map_or("not reached", String::as_str).to_owned()
            };
            let mut what = format!("{cut} ({}", at(&ended.effects, cut.at));
            if cut.then.is_some() {
                what = format!("{what}, {}", at(&ended.next, cut.then));
            }
            if failed.is_empty() {
                eprintln!("{}: {what}):\n{failure}", self.name);
            }
            let line = failure.lines().next().unwrap_or_default();
            failed.push(format!("{what}): {line}"));
            failed.len() >= FAILURES && std::env::var_os("CRASH_ALL").is_none()
        };
        'points: for number in chosen {
            // Each effect is sent and done, under numbers that follow each other: one of the two either way.
            let by_turns = number % 4 == 1 || number % 4 == 2;
            for id_is_name in [by_turns, !by_turns].into_iter().take(1 + usize::from(full)) {
                let cut = Cut {
                    at: Some(number),
                    then: None,
                    id_is_name,
                };
                let ended = self.attempt(&steps, cut);
                if tell(cut, &ended) {
                    break 'points;
                }
                if !(full && self.twice) {
                    continue;
                }
                for then in 0..ended.next.len() {
                    let cut = Cut {
                        then: Some(then),
                        ..cut
                    };
                    twice += 1;
                    if tell(cut, &self.attempt(&steps, cut)) {
                        break 'points;
                    }
                }
            }
        }
        let again = match twice {
            0 => String::new(),
            twice => format!(", {twice} cut twice"),
        };
        // Past the capture of the test harness: the number is to be seen.
        let _ = writeln!(
            std::io::stderr(),
            "crash points: {}: {count} of {}{again}, {:.1} s",
            self.name,
            uncut.len(),
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

    fn attempt(&self, steps: &impl AsyncFn(&Stage), cut: Cut) -> Ended {
        fastrand::seed(7);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let (effects, next, ended) = runtime.block_on(async {
            let (line, next) = (Line::new(), Line::new());
            if let Some(number) = cut.at.filter(|_| !self.stops) {
                line.cut_at(number);
            }
            if let Some(number) = cut.then {
                next.cut_at(number);
            }
            let run = AssertUnwindSafe(self.play(steps, cut, &line, &next));
            let ended = futures::FutureExt::catch_unwind(run).await;
            let told = |line: Line| line.effects().iter().map(ToString::to_string).collect();
            (told(line), told(next), ended)
        });
        // What hangs in it goes with it; that must not fail, either.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(runtime)));
        Ended {
            effects,
            next,
            failure: ended.err().map(panic_text),
        }
    }

    async fn play(&self, steps: &impl AsyncFn(&Stage), cut: Cut, line: &Line, next: &Line) {
        let stage = Stage::new(self, cut.id_is_name);
        match cut.at.filter(|_| self.stops) {
            None => stage.start(line, FIRST),
            Some(number) => stage.start_and_stop_at(line, number),
        }
        let story = async {
            if self.second {
                stage.leads().await;
                stage.start(next, OTHER);
            } else {
                stage.next(next);
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

/// Where a run is cut, and what its driver is like.
#[derive(Clone, Copy, Default)]
struct Cut {
    /// The first process, at the effect of this number.
    at: Option<usize>,
    /// The one that follows it, at this one.
    then: Option<usize>,
    id_is_name: bool,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = if self.id_is_name {
            "ids are names"
        } else {
            "new ids"
        };
        match (self.at, self.then) {
            (Some(at), Some(then)) => write!(f, "{ids}, cut at {at}, the next one at {then}"),
            (Some(at), None) => write!(f, "{ids}, cut at {at}"),
            _ => write!(f, "{ids}"),
        }
    }
}

/// What became of a run.
struct Ended {
    /// Of the first process.
    effects: Vec<String>,
    /// Of the one that follows it.
    next: Vec<String>,
    failure: Option<String>,
}
