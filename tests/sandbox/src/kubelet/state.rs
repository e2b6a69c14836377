//! Pure. Desired and actual state of the world, and what a reconcile does about the difference.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

/// Which plugins there should be, which there are, and what is going on for which socket.
pub(crate) struct State {
    /// Sockets that exist, and which of all that were ever created each is.
    desired: BTreeMap<PathBuf, u64>,
    /// Sockets that were registered, also where the registration has failed since.
    actual: BTreeMap<PathBuf, Registered>,
    operations: BTreeMap<PathBuf, Operation>,
    created: u64,
    /// The wait after a first failure, and the longest.
    waits: (Duration, Duration),
}

struct Registered {
    incarnation: u64,
    name: String,
}

enum Operation {
    /// The wait that the last failure led to.
    Runs(Option<Duration>),
    Failed {
        wait: Duration,
        until: Duration,
    },
}

/// An operation to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Register { socket: PathBuf, incarnation: u64 },
    Unregister { socket: PathBuf, name: String },
}

impl State {
    /// Nothing is known yet. The kubelet waits 500 ms after a failure, then twice as long each time up to 2 min 2 s;
    /// with another tick than its second that is scaled.
    pub(crate) fn new(tick: Duration) -> Self {
        Self {
            desired: BTreeMap::new(),
            actual: BTreeMap::new(),
            operations: BTreeMap::new(),
            created: 0,
            waits: (tick / 2, tick * 122),
        }
    }

    /// A socket was created, maybe in place of another one.
    pub(crate) fn create(&mut self, socket: PathBuf) {
        self.created += 1;
        self.desired.insert(socket, self.created);
    }

    /// A socket was removed.
    pub(crate) fn remove(&mut self, socket: &Path) {
        self.desired.remove(socket);
    }

    /// What to begin now; each of it runs from here on until [`State::end`].
    pub(crate) fn reconcile(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for (socket, registered) in &self.actual {
            if self.desired.get(socket) != Some(&registered.incarnation) {
                let (socket, name) = (socket.clone(), registered.name.clone());
                actions.push((socket.clone(), Action::Unregister { socket, name }));
            }
        }
        for (socket, incarnation) in &self.desired {
            let registered = self.actual.get(socket).map(|it| it.incarnation);
            if registered != Some(*incarnation) {
                let (socket, incarnation) = (socket.clone(), *incarnation);
                actions.push((socket.clone(), Action::Register { socket, incarnation }));
            }
        }
        actions
            .into_iter()
            .filter_map(|(socket, action)| self.begin(socket, now).then_some(action))
            .collect()
    }

    /// One operation at a time per socket, and none while it waits after a failure.
    fn begin(&mut self, socket: PathBuf, now: Duration) -> bool {
        let wait = match self.operations.get(&socket) {
            Some(Operation::Runs(_)) => return false,
            Some(Operation::Failed { until, .. }) if now <= *until => return false,
            Some(Operation::Failed { wait, .. }) => Some(*wait),
            None => None,
        };
        self.operations.insert(socket, Operation::Runs(wait));
        true
    }

    /// A registration has come as far as the handler. If that fails, and the socket is not forgotten, nobody tries again
    /// until it is created anew.
    pub(crate) fn add(&mut self, socket: PathBuf, incarnation: u64, name: String) {
        self.actual.insert(socket, Registered { incarnation, name });
    }

    /// An unregistration begins, or a registration has failed in the handler.
    pub(crate) fn forget(&mut self, socket: &Path) {
        self.actual.remove(socket);
    }

    /// An operation has ended.
    pub(crate) fn end(&mut self, socket: &Path, now: Duration, done: bool) {
        let before = self.operations.remove(socket);
        if done {
            return;
        }
        let wait = match before {
            Some(Operation::Runs(Some(wait))) => (wait * 2).min(self.waits.1),
            _ => self.waits.0,
        };
        let until = now + wait;
        self.operations
            .insert(socket.to_owned(), Operation::Failed { wait, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Event {
        Create(&'static str),
        Remove(&'static str),
        /// A reconcile at this time, in ms, and what it begins.
        Tick(u64, &'static [&'static str]),
        Add(&'static str, u64),
        Forget(&'static str),
        Done(&'static str),
        /// Failed at this time, in ms.
        Failed(&'static str, u64),
    }
    use Event::*;

    fn play(name: &str, events: &[Event]) {
        let mut state = State::new(Duration::from_secs(1));
        let ms = Duration::from_millis;
        for event in events {
            match *event {
                Create(socket) => state.create(socket.into()),
                Remove(socket) => state.remove(Path::new(socket)),
                Add(socket, incarnation) => state.add(socket.into(), incarnation, format!("driver-{socket}")),
                Forget(socket) => state.forget(Path::new(socket)),
                Done(socket) => state.end(Path::new(socket), Duration::ZERO, true),
                Failed(socket, at) => state.end(Path::new(socket), ms(at), false),
                Tick(at, expected) => {
                    let begun: Vec<_> = state.reconcile(ms(at)).iter().map(spelled).collect();
                    assert_eq!(begun, expected, "{name}: at {at} ms");
                }
            }
        }
    }

    fn spelled(action: &Action) -> String {
        match action {
            Action::Register { socket, incarnation } => format!("+{} {incarnation}", socket.display()),
            Action::Unregister { socket, name } => format!("-{} {name}", socket.display()),
        }
    }

    #[test]
    fn a_reconcile_unregisters_what_is_gone_and_registers_what_is_new() {
        let cases: &[(&str, &[Event])] = &[
            ("nothing", &[Tick(0, &[])]),
            (
                "a socket is registered once",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Tick(1000, &[]),
                    Add("a", 1),
                    Done("a"),
                    Tick(2000, &[]),
                ],
            ),
            (
                "sockets do not wait for each other",
                &[Create("a"), Tick(0, &["+a 1"]), Create("b"), Tick(1, &["+b 2"])],
            ),
            (
                "a removed socket is unregistered",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Add("a", 1),
                    Done("a"),
                    Remove("a"),
                    Tick(1000, &["-a driver-a"]),
                    Forget("a"),
                    Done("a"),
                    Tick(2000, &[]),
                ],
            ),
            (
                "a socket that is gone before it was registered leaves nothing",
                &[Create("a"), Remove("a"), Tick(0, &[])],
            ),
            (
                "created anew: unregistered first, registered in the next round",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Add("a", 1),
                    Done("a"),
                    Remove("a"),
                    Create("a"),
                    Tick(1000, &["-a driver-a"]),
                    Forget("a"),
                    Done("a"),
                    Tick(2000, &["+a 2"]),
                ],
            ),
            (
                "a create over an existing socket counts as new",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Add("a", 1),
                    Done("a"),
                    Create("a"),
                    Tick(1000, &["-a driver-a"]),
                ],
            ),
            (
                "unregister comes before register",
                &[
                    Create("b"),
                    Tick(0, &["+b 1"]),
                    Add("b", 1),
                    Done("b"),
                    Remove("b"),
                    Create("a"),
                    Tick(1000, &["-b driver-b", "+a 2"]),
                ],
            ),
            (
                "a failure before the handler is tried again, each time after twice the wait",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Failed("a", 0),
                    Tick(500, &[]),
                    Tick(501, &["+a 1"]),
                    Failed("a", 600),
                    Tick(1600, &[]),
                    Tick(1601, &["+a 1"]),
                    Failed("a", 1700),
                    Tick(3700, &[]),
                    Tick(3701, &["+a 1"]),
                ],
            ),
            (
                "a success ends the backoff",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Failed("a", 0),
                    Tick(1000, &["+a 1"]),
                    Add("a", 1),
                    Done("a"),
                    Create("a"),
                    Tick(1001, &["-a driver-a"]),
                    Failed("a", 1001),
                    Tick(1501, &[]),
                    Tick(1502, &["-a driver-a"]),
                ],
            ),
            (
                "a failure in the handler that is forgotten is tried again after the wait",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Add("a", 1),
                    Forget("a"),
                    Failed("a", 100),
                    Tick(600, &[]),
                    Tick(601, &["+a 1"]),
                ],
            ),
            (
                "a failure in the handler that is kept is not tried again until the socket is created anew",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Add("a", 1),
                    Failed("a", 0),
                    Tick(60_000, &[]),
                    Create("a"),
                    Tick(61_000, &["-a driver-a"]),
                ],
            ),
            (
                "the backoff is the socket's: it holds up the unregistration, too",
                &[
                    Create("a"),
                    Tick(0, &["+a 1"]),
                    Add("a", 1),
                    Failed("a", 400),
                    Remove("a"),
                    Tick(900, &[]),
                    Tick(901, &["-a driver-a"]),
                ],
            ),
        ];
        for (name, events) in cases {
            play(name, events);
        }
    }

    #[test]
    fn no_wait_is_longer_than_two_minutes_and_two_seconds() {
        let mut state = State::new(Duration::from_secs(1));
        state.create("a".into());
        let mut now = Duration::ZERO;
        for _ in 0..20 {
            assert_eq!(state.reconcile(now).len(), 1, "at {now:?}");
            state.end(Path::new("a"), now, false);
            now += Duration::from_secs(123);
        }
        assert_eq!(state.reconcile(now).len(), 1);
        state.end(Path::new("a"), now, false);
        assert!(state.reconcile(now + Duration::from_secs(122)).is_empty());
    }
}
