//! What a seed has in store for the world: with or without an election, what becomes of released volumes, and what
//! happens when. Drawn beforehand, so that the same seed is the same run.

use std::{fmt, ops::Range, time::Duration};

use crate::stage::{FIRST, OTHER};

/// How long it goes on, in virtual time.
const LASTS: u64 = 240_000;
/// How many claims there are at once, at most.
const NAMES: usize = 6;
/// What is under way arrives within the five seconds between the end of a lease's certainty and the next leader:
/// whatever takes longer is a machine that was suspended between check and send.
const HELD: u64 = 1_900;
/// Beyond any lease.
const STOPPED: Range<u64> = 16_000..60_000;

/// What a run is like from its beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) elected: bool,
    /// The class has the policy Retain.
    pub(crate) retains: bool,
    /// A volume's id is its name.
    pub(crate) id_is_name: bool,
}

impl Kind {
    /// They take turns.
    pub(crate) const fn of(seed: u64) -> Self {
        Self {
            elected: seed & 2 == 0,
            retains: seed & 1 == 1,
            id_is_name: seed & 4 == 4,
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..8).map(Self::of)
    }

    /// Two replicas where one is elected; else one process at a time.
    pub(crate) const fn pods(self) -> &'static [&'static str] {
        match self.elected {
            true => &[FIRST, OTHER],
            false => &[FIRST],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let election = if self.elected { "election" } else { "no election" };
        let policy = if self.retains { "Retain" } else { "Delete" };
        let ids = if self.id_is_name {
            "ids are names"
        } else {
            "new ids"
        };
        write!(f, "{election}, {policy}, {ids}")
    }
}

/// Something that happens to the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Act {
    Add(usize),
    Delete(usize),
    Kill(usize),
    /// Whoever leads.
    KillLeader,
    Start(usize),
    Hold(usize),
    LetGo(usize),
    /// No way to the API server, watches included.
    Part(usize),
    Join(usize),
    CutWatches,
    Expire,
    /// Lists and watches are stale from here on.
    Freeze,
    Thaw,
    StopDriver,
    StartDriver,
    /// The machine, and with it everybody, is suspended.
    Suspend(u64),
    /// Whoever leads is stopped in its work, and goes on where it was when its lease is over.
    StopLeader(Duration),
}

/// What a seed has in store.
pub(crate) fn script(seed: u64) -> Vec<(Duration, Act)> {
    let mut rng = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    rng.u64(..);
    let pods = Kind::of(seed).pods().len();
    let mut acts = Vec::new();
    for _ in 0..40 {
        let (at, which) = (rng.u64(0..LASTS), rng.usize(0..pods));
        let pair = match rng.u8(0..16) {
            0..=3 => (Act::Kill(which), Act::Start(which), rng.u64(200..20_000)),
            4..=5 => (Act::Hold(which), Act::LetGo(which), rng.u64(100..HELD)),
            6..=8 => (Act::Part(which), Act::Join(which), rng.u64(500..40_000)),
            9 => (Act::CutWatches, Act::CutWatches, rng.u64(1..5_000)),
            10 => (Act::Expire, Act::CutWatches, rng.u64(1..5_000)),
            11..=13 => (Act::Freeze, Act::Thaw, rng.u64(500..30_000)),
            14 => (Act::StopDriver, Act::StartDriver, rng.u64(500..15_000)),
            _ => (Act::Suspend(rng.u64(1..40)), Act::CutWatches, 1),
        };
        acts.push((at, pair.0));
        acts.push((at + pair.2, pair.1));
    }
    // Most go while they are made, and often so does who makes them.
    for _ in 0..30 {
        let (at, name) = (rng.u64(0..LASTS), rng.usize(0..NAMES));
        acts.push((at, Act::Add(name)));
        if rng.u8(0..4) > 0 {
            acts.push((at + rng.u64(20..5_000), Act::Delete(name)));
        }
        if rng.bool() {
            let killed = at + rng.u64(5..4_000);
            acts.push((killed, Act::KillLeader));
            acts.extend((0..pods).map(|which| (killed + rng.u64(200..15_000), Act::Start(which))));
        }
    }
    for _ in 0..3 {
        let time = Duration::from_millis(rng.u64(STOPPED));
        acts.push((rng.u64(0..LASTS), Act::StopLeader(time)));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts.into_iter()
        .map(|(at, act)| (Duration::from_millis(at), act))
        .collect()
}
