//! A state, the shards as a server keeps them, and a clock that a test moves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::{
        LedgerSettings, OpenError, TermFacts,
        annotation::OPEN,
        next::{Next, Write},
        shard::{GROWN, SHARDS, Shard},
        slot::{Notice, value_of},
        state::LedgerState,
    },
    Note,
};
use crate::base::api_error::{ApiError, Reason};

pub(super) fn error(reason: Reason) -> ApiError {
    ApiError::new(
        reason,
        "update",
        "coordination.k8s.io",
        "leases",
        "default/lab-ledger-0",
        format!("{reason:?}"),
    )
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    Done,
    /// Done, and the answer is lost.
    Unheard,
    /// Not done, and nobody says so.
    Lost,
    /// Not done yet, and nobody says so.
    Late,
    Refused(Reason),
}

/// The shards as the server keeps them.
#[derive(Default)]
pub(super) struct Server {
    pub(super) shards: Vec<Option<Value>>,
    version: u64,
    late: Vec<Write>,
    pub(super) writes: usize,
}

impl Server {
    fn apply(&mut self, write: &Write) -> Result<Value, ApiError> {
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let there = &self.shards[write.number];
        match (write.create, there) {
            (true, Some(_)) => return Err(error(Reason::AlreadyExists)),
            (false, None) => return Err(error(Reason::NotFound)),
            (false, Some(there)) if version(there) != version(&write.object) => {
                return Err(error(Reason::Conflict));
            }
            _ => {}
        }
        let mut object = write.object.clone();
        if write.create {
            object["metadata"]["uid"] = json!(format!("shard-{}", self.version));
        }
        self.writes += 1;
        Ok(self.store(write.number, object))
    }

    pub(super) fn store(&mut self, number: usize, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let size = Shard::new(Some(object.clone())).size();
        assert!(size <= GROWN, "shard {number} has {size} bytes");
        self.shards[number] = Some(object.clone());
        object
    }

    /// What came late comes now.
    pub(super) fn catch_up(&mut self) {
        for write in std::mem::take(&mut self.late) {
            let _ = self.apply(&write);
        }
    }

    pub(super) fn edit(&mut self, number: usize, edit: impl FnOnce(&mut Value)) {
        let mut object = self.shards[number].clone().unwrap();
        edit(&mut object);
        self.store(number, object);
    }

    /// The claims that have an open record, and where.
    pub(super) fn open(&self) -> Vec<(String, usize)> {
        let mut open = Vec::new();
        for (number, object) in self.shards.iter().enumerate() {
            let shard = Shard::new(object.clone());
            open.extend(shard.records(OPEN).map(|(uid, _)| (uid.to_owned(), number)));
        }
        open.sort();
        open
    }

    pub(super) fn uids(&self) -> BTreeSet<String> {
        self.open().into_iter().map(|(uid, _)| uid).collect()
    }
}

/// A process with its ledger, and the server.
pub(super) struct Scene {
    pub(super) state: LedgerState<Note>,
    pub(super) server: Server,
    pub(super) now: Duration,
    /// What was answered, as it came.
    pub(super) answers: Vec<(u64, Result<(), OpenError>)>,
    pub(super) notices: Vec<Notice>,
    pub(super) resigned: bool,
    /// Requests for this shard are refused so, whatever becomes of others.
    pub(super) bad: Option<(usize, Reason)>,
    /// The shards of all requests.
    pub(super) asked: Vec<usize>,
}

impl Scene {
    pub(super) fn new(settings: LedgerSettings) -> Self {
        Self {
            state: LedgerState::new(settings),
            server: Server {
                shards: vec![None; SHARDS],
                ..Server::default()
            },
            now: Duration::from_secs(1),
            answers: Vec::new(),
            notices: Vec::new(),
            resigned: false,
            bad: None,
            asked: Vec::new(),
        }
    }

    /// One that has begun its first term.
    pub(super) fn leading(settings: LedgerSettings, term: &TermFacts) -> Self {
        let mut scene = Self::new(settings);
        scene.take_over(term, |_| true);
        scene
    }

    pub(super) fn wall(&self) -> Timestamp {
        "2026-11-21T04:36:01Z".parse::<Timestamp>().unwrap() + self.now
    }

    /// As the process does it, with answers to all requests.
    pub(super) fn take_over(&mut self, term: &TermFacts, waits: impl Fn(&str) -> bool) {
        let elected = self.state.settings.elected;
        let wall = self.wall();
        let judging = self.state.begin_term(elected.then_some(term), self.now, wall);
        for number in 0..SHARDS {
            let there = self.server.shards[number].clone();
            self.state.found(number, there, self.now);
        }
        for record in self.state.judge(judging, self.now) {
            let waits = waits(&record.uid);
            self.state.decided(record, waits);
        }
        self.state.all_judged();
        for number in 0..SHARDS {
            if self.state.slots[number].must_write {
                let write = self.state.write(number, wall);
                let Next::Write(write) = write else {
                    panic!("{write:?}")
                };
                let answer = self.server.apply(&write);
                self.state.written(number, answer, self.now);
            }
        }
        self.state.taking = false;
        self.collect();
    }

    /// The process ends, and another begins.
    pub(super) fn restart(&mut self, term: &TermFacts) {
        self.state = LedgerState::new(self.state.settings.clone());
        self.take_over(term, |_| true);
    }

    pub(super) fn collect(&mut self) {
        let effects = std::mem::take(&mut self.state.effects);
        self.answers.extend(effects.answers);
        self.notices.extend(effects.notices);
        self.resigned |= effects.resign;
    }

    /// Asks for a record to be opened; `None`: it is there already, without a write.
    pub(super) fn open(&mut self, uid: &str, record: Arc<Note>) -> Result<Option<u64>, OpenError> {
        if self.state.repeats(uid, &record) {
            return Ok(None);
        }
        let opening = self.state.opening(uid, self.wall());
        let value = value_of(&*record, &opening, false);
        self.state.begin_open(uid, record, opening, value, self.now)
    }

    /// Opens a record, and writes until it is there.
    pub(super) fn opened(&mut self, uid: &str, record: Arc<Note>) {
        let ticket = self.open(uid, record).unwrap();
        self.run();
        if let Some(ticket) = ticket {
            let answer = self.answers.iter().rev().find(|(it, _)| *it == ticket);
            assert_eq!(answer, Some(&(ticket, Ok(()))));
        }
    }

    /// Makes the next request, if it is time for one. Returns whether it was.
    pub(super) fn step(&mut self, fate: Fate) -> bool {
        let wall = self.wall();
        let next = self.state.next(self.now, wall);
        let number = match &next {
            Next::Read(number) | Next::Write(Write { number, .. }) => Some(*number),
            Next::Wait(_) => None,
        };
        self.asked.extend(number);
        let fate = match self.bad {
            Some((bad, reason)) if Some(bad) == number => Fate::Refused(reason),
            _ => fate,
        };
        let answer = match next {
            Next::Wait(_) => {
                self.collect();
                return false;
            }
            Next::Read(number) => {
                let there = match fate {
                    Fate::Done | Fate::Unheard | Fate::Late => Ok(self.server.shards[number].clone()),
                    Fate::Lost => Err(error(Reason::Unavailable)),
                    Fate::Refused(reason) => Err(error(reason)),
                };
                self.state.read(number, there, self.now);
                self.collect();
                return true;
            }
            Next::Write(write) => {
                let answer = match fate {
                    Fate::Done => self.server.apply(&write),
                    Fate::Unheard => {
                        let _ = self.server.apply(&write);
                        Err(error(Reason::Unavailable))
                    }
                    Fate::Lost => Err(error(Reason::Unavailable)),
                    Fate::Late => Err(error(Reason::Unavailable)),
                    Fate::Refused(reason) => Err(error(reason)),
                };
                let number = write.number;
                if matches!(fate, Fate::Late) {
                    self.server.late.push(write);
                }
                (number, answer)
            }
        };
        self.state.written(answer.0, answer.1, self.now);
        self.collect();
        true
    }

    /// Everything goes well until nothing is to be done for the next two seconds.
    pub(super) fn run(&mut self) {
        let end = self.now + Duration::from_secs(2);
        for _ in 0..10_000 {
            if self.step(Fate::Done) {
                continue;
            }
            let wall = self.wall();
            let Next::Wait(at) = self.state.next(self.now, wall) else {
                panic!("it waits once, and not twice");
            };
            match at {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("it does not come to rest");
    }
}
