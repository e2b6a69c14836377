//! A model of several electors and one store with optimistic concurrency, with random faults.
//!
//! Their clocks start anywhere and run at slightly different speeds, their wall clocks are days apart, requests and
//! answers are slow or lost, writes come late, processes restart and release. Whatever happens, two of them never lead
//! at once; and once the faults stop somebody leads.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use jiff::{Timestamp, ToSpan as _};
use proptest::prelude::*;

use crate::lease::{
    elect::{Elector, Move},
    record::LeaderElectionRecord,
    timing::Timing,
};

/// The faults stop here, in milliseconds of true time.
const CALM: u64 = 300_000;
const END: u64 = CALM + 60_000;
const RETRY: u64 = 5_000;

#[derive(Clone, Debug)]
enum Step {
    /// Begin a round, or notice that time is up.
    Round,
    /// A request reaches the store.
    Read,
    Write(LeaderElectionRecord, u64, Duration),
    /// An answer reaches its sender.
    Shown(Option<LeaderElectionRecord>, u64),
    Written(LeaderElectionRecord, u64, Duration),
    Refused,
    /// The watch tells of a write, at any time after it and in any order.
    Watched(LeaderElectionRecord),
}

struct Replica {
    elector: Elector,
    origin: u64,
    speed: f64,
    wall: i64,
    /// Steps of an earlier round or process are stale.
    round: u64,
    version: Option<u64>,
    /// No message gets through until then.
    cut_until: u64,
}

struct World {
    rng: fastrand::Rng,
    timing: Timing,
    quick_there_slow_back: bool,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    steps: Vec<(usize, u64, Step)>,
    store: (Option<LeaderElectionRecord>, u64),
    replicas: Vec<Replica>,
    terms: u32,
}

/// The defaults with clocks that are off by 5 %, and a renew deadline that allows for little drift.
const TIMINGS: [(u64, f64); 2] = [(10_000, 0.05), (14_800, 0.005)];

/// Rounded up, as tokio's timer does.
fn millis(pause: Duration) -> u64 {
    pause.as_micros().div_ceil(1000).max(1) as u64
}

impl World {
    fn new(seed: u64, replicas: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (renew, drift) = TIMINGS[rng.usize(..TIMINGS.len())];
        let s = Duration::from_millis;
        let timing = Timing::new(s(15_000), s(renew), s(RETRY)).unwrap();
        let replicas = (0..replicas)
            .map(|i| Replica {
                elector: Elector::new(format!("replica-{i}"), timing),
                origin: rng.u64(0..1_000_000_000),
                speed: 1.0 + drift * (2.0 * rng.f64() - 1.0),
                wall: rng.i64(-10_000..10_000),
                round: 0,
                version: None,
                cut_until: 0,
            })
            .collect();
        let quick_there_slow_back = rng.bool();
        Self {
            quick_there_slow_back,
            rng,
            timing,
            now: 0,
            events: BinaryHeap::new(),
            steps: Vec::new(),
            store: (None, 0),
            replicas,
            terms: 0,
        }
    }

    fn at(&mut self, delay: u64, replica: usize, round: u64, step: Step) {
        self.events
            .push(Reverse((self.now + delay, self.steps.len() as u64)));
        self.steps.push((replica, round, step));
    }

    /// The delay of a message to or from a replica, or `None` when it is lost.
    fn way(&mut self, replica: usize, back: bool) -> Option<u64> {
        if self.now >= CALM {
            return Some(self.rng.u64(1..50));
        }
        if self.now < self.replicas[replica].cut_until {
            return None;
        }
        if self.quick_there_slow_back {
            // The worst for a leader: its writes count long before it learns of them.
            return Some(if back {
                self.rng.u64(1..5_000)
            } else {
                self.rng.u64(1..50)
            });
        }
        match self.rng.u8(0..20) {
            0..=1 => None,
            2..=4 => Some(self.rng.u64(1..40_000)),
            _ => Some(self.rng.u64(1..2_000)),
        }
    }

    fn clock(&self, replica: usize) -> Duration {
        let Replica { origin, speed, .. } = &self.replicas[replica];
        Duration::from_secs_f64((*origin as f64 + self.now as f64 * speed) / 1000.0)
    }

    fn wall(&self, replica: usize) -> Timestamp {
        let start: Timestamp = "2025-11-21T04:36:01Z".parse().unwrap();
        start + (self.replicas[replica].wall * 3600).seconds() + (self.now as i64).milliseconds()
    }

    fn leaders(&self) -> Vec<usize> {
        let leads = |i: &usize| !self.replicas[*i].elector.certain_for(self.clock(*i)).is_zero();
        (0..self.replicas.len()).filter(leads).collect()
    }

    fn send(&mut self, replica: usize, step: Step) {
        let round = self.replicas[replica].round;
        if let Some(delay) = self.way(replica, false) {
            self.at(delay, replica, round, step);
        }
    }

    fn decide(&mut self, replica: usize) {
        let (clock, wall) = (self.clock(replica), self.wall(replica));
        let version = self.replicas[replica].version.take();
        match self.replicas[replica].elector.next(clock, wall) {
            Move::Wait(_) => {
                let jitter = self.rng.f64();
                let me = &mut self.replicas[replica];
                me.round += 1;
                let (round, pause) = (me.round, millis(me.elector.pause(clock, jitter)));
                self.at(pause, replica, round, Step::Round);
            }
            Move::Create(record) | Move::Acquire(record) | Move::Renew(record) => {
                self.send(replica, Step::Write(record, version.unwrap_or(0), clock));
            }
        }
    }

    fn begin(&mut self, replica: usize) {
        let clock = self.clock(replica);
        let wall = self.wall(replica);
        let unhappy = self.now < CALM && self.rng.u8(0..25) == 0;
        let restart = unhappy && self.rng.bool();
        let cut = self.now < CALM && self.rng.u8(0..6) == 0;
        let me = &mut self.replicas[replica];
        me.round += 1;
        let round = me.round;
        if cut {
            me.cut_until = self.now + 25_000;
        }
        if restart {
            me.elector = Elector::new(format!("replica-{replica}"), self.timing);
            me.version = None;
        }
        let certain = me.elector.certain_for(clock);
        let mut next = RETRY.min((certain.as_millis() as u64).max(1_000));
        if certain.is_zero() {
            me.elector.step_down();
            let jitter = self.rng.f64();
            next = millis(self.replicas[replica].elector.pause(clock, jitter));
        }
        self.at(next, replica, round, Step::Round);
        let me = &mut self.replicas[replica];
        match (me.version, certain.is_zero()) {
            (Some(version), false) if unhappy => {
                let released = me.elector.release(wall).unwrap();
                me.elector.step_down();
                me.version = None;
                self.send(replica, Step::Write(released, version, clock));
            }
            (Some(_), false) => self.decide(replica),
            _ => self.send(replica, Step::Read),
        }
    }

    fn step(&mut self, replica: usize, round: u64, step: Step) {
        let current = self.replicas[replica].round == round;
        let clock = self.clock(replica);
        match step {
            Step::Round if current => self.begin(replica),
            Step::Read => {
                let (record, version) = self.store.clone();
                if let Some(delay) = self.way(replica, true) {
                    self.at(delay, replica, round, Step::Shown(record, version));
                }
            }
            // A write counts even if nobody waits for it any more.
            Step::Write(record, version, sent) => {
                let answer = if version == self.store.1 {
                    self.store = (Some(record.clone()), version + 1);
                    for watcher in 0..self.replicas.len() {
                        if let Some(delay) = self.way(watcher, true) {
                            self.at(delay, watcher, 0, Step::Watched(record.clone()));
                        }
                    }
                    Step::Written(record, version + 1, sent)
                } else {
                    Step::Refused
                };
                if let Some(delay) = self.way(replica, true) {
                    self.at(delay, replica, round, answer);
                }
            }
            Step::Shown(record, version) if current => {
                self.replicas[replica].elector.observe(record, clock);
                self.replicas[replica].version = Some(version);
                self.decide(replica);
            }
            Step::Written(record, version, sent) if current => {
                let me = &mut self.replicas[replica];
                self.terms += u32::from(!me.elector.is_held());
                me.elector.confirmed(record, sent, clock);
                me.version = Some(version);
            }
            // Only a standby watches.
            Step::Watched(record) if !self.replicas[replica].elector.is_held() => {
                self.replicas[replica].elector.observe(Some(record), clock);
            }
            Step::Round | Step::Shown(..) | Step::Written(..) | Step::Refused | Step::Watched(_) => {}
        }
    }

    fn run(mut self) -> Result<u32, TestCaseError> {
        for replica in 0..self.replicas.len() {
            let delay = self.rng.u64(0..10_000);
            self.at(delay, replica, 0, Step::Round);
        }
        while let Some(Reverse((at, index))) = self.events.pop() {
            if at > END {
                break;
            }
            self.now = at;
            let (replica, round, step) = self.steps[index as usize].clone();
            self.step(replica, round, step);
            let leaders = self.leaders();
            prop_assert!(leaders.len() <= 1, "{leaders:?} lead at {at} ms");
        }
        self.now = END;
        prop_assert_eq!(
            self.leaders().len(),
            1,
            "nobody leads a minute after the faults stopped"
        );
        Ok(self.terms)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn two_never_lead_at_once_and_somebody_does_in_the_end(seed in any::<u64>(), replicas in 2_usize..5) {
        World::new(seed, replicas).run()?;
    }
}

#[test]
fn the_faults_do_change_leaders() {
    let terms: u32 = (0..50).map(|seed| World::new(seed, 3).run().unwrap()).sum();
    assert!(
        terms > 200,
        "only {terms} terms in 50 runs: the model tests too little"
    );
}
