//! The ways of one process to the outside. Each effect that it has there is numbered, so that the process can be cut,
//! held or harmed at any of them.
//!
//! Numbered are writes to the API, reads of single objects but for Leases, and CreateVolume, DeleteVolume and
//! GetCapacity. Not numbered, because nothing rests on them or because they come by the clock: lists, watches, events,
//! reads of Leases, renewals of a Lease by its holder, and what asks the driver who it is.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// The ways of one process to the API and to its driver. Clones are the same process.
#[derive(Clone)]
pub struct Line(Arc<Inner>);

struct Inner {
    began: Instant,
    cut: CancellationToken,
    held: watch::Sender<bool>,
    parted: watch::Sender<bool>,
    dials_slowly: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    effects: Vec<Effect>,
    cut_at: Option<usize>,
    hook: Option<Hook>,
    weather: Option<(u64, u32)>,
}

type Hook = Arc<dyn Fn(&Effect) + Send + Sync>;

/// How far a request or a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has left the process.
    Sent,
    /// The driver works on it; told only where that takes time.
    Begun,
    /// It has had its effect and is not answered yet.
    Done,
}

/// Something that a process did to the outside.
#[derive(Clone, Debug)]
pub struct Effect {
    /// Its number, from 0 up, where it has one.
    pub number: Option<usize>,
    /// A verb of RBAC, or `call`.
    pub verb: &'static str,
    /// A resource's plural, or the method of a call.
    pub what: String,
    /// Name of the object, or the target of the call.
    pub name: String,
    /// How far it has come.
    pub step: Step,
    /// Since the line was made, in virtual time.
    pub at: Duration,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { verb, what, name, .. } = self;
        let step = match self.step {
            Step::Sent => "sent",
            Step::Begun => "begun",
            Step::Done => "done",
        };
        write!(f, "{verb} {what} {name} {step}")
    }
}

/// What may befall a request or a call on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gust {
    /// It does not arrive.
    Lost,
    /// It arrives later.
    Delayed(Duration),
    /// It is refused, nothing is done. The number chooses among the refusals.
    Refused(usize),
    /// It has its effect, the answer does not arrive.
    ReplyLost,
}

impl Gust {
    /// What befalls the effect of this number, if anything: the same for the same seed and number.
    pub fn drawn(seed: u64, per_mille: u32, number: usize) -> Option<Self> {
        let mixed =
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let mut rng = fastrand::Rng::with_seed(mixed);
        // The first numbers of neighbouring seeds are alike.
        rng.u64(..);
        if rng.u32(0..1000) >= per_mille {
            return None;
        }
        Some(match rng.u8(0..4) {
            0 => Self::Lost,
            1 => Self::Delayed(Duration::from_millis(rng.u64(1..3000))),
            2 => Self::Refused(rng.usize(0..64)),
            _ => Self::ReplyLost,
        })
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    /// The ways of a process that lives.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            began: Instant::now(),
            cut: CancellationToken::new(),
            held: watch::Sender::new(false),
            parted: watch::Sender::new(false),
            dials_slowly: watch::Sender::new(false),
            state: Mutex::default(),
        }))
    }

    /// From now on nothing that the process sends has an effect and no answer comes, as after kill -9. Tasks of the
    /// process that still run hang there.
    pub fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Cuts at the effect of this number: one that is sent does not arrive, one that is done is not answered.
    pub fn cut_at(&self, number: usize) {
        self.0.state.lock().cut_at = Some(number);
    }

    /// Whether it is cut.
    pub fn is_cut(&self) -> bool {
        self.0.cut.is_cancelled()
    }

    /// Waits until it is cut.
    pub async fn cut_off(&self) {
        self.0.cut.cancelled().await;
    }

    /// What is sent waits, and so do answers, until [`Line::let_go`].
    pub fn hold(&self) {
        self.0.held.send_replace(true);
    }

    /// What was held goes on.
    pub fn let_go(&self) {
        self.0.held.send_replace(false);
    }

    /// There is no way to the API server: requests fail, and watches say nothing, until [`Line::join`]. The driver is
    /// near.
    pub fn part(&self) {
        self.0.parted.send_replace(true);
    }

    /// There is a way again.
    pub fn join(&self) {
        self.0.parted.send_replace(false);
    }

    /// A new connection to the driver takes until `slowly` is taken back.
    pub fn dial_slowly(&self, slowly: bool) {
        self.0.dials_slowly.send_replace(slowly);
    }

    /// Waits as long as a new connection to the driver takes.
    pub async fn dialled(&self) {
        let mut slowly = self.0.dials_slowly.subscribe();
        if slowly.wait_for(|slowly| !slowly).await.is_err() {
            pending().await
        }
    }

    /// Is called at each effect, numbered or not, right before it happens or is answered.
    pub fn on_effect(&self, hook: impl Fn(&Effect) + Send + Sync + 'static) {
        self.0.state.lock().hook = Some(Arc::new(hook));
    }

    /// From now on so many of a thousand numbered requests and calls meet a [`Gust`], drawn by seed and number.
    pub fn weather(&self, seed: u64, per_mille: u32) {
        self.0.state.lock().weather = Some((seed, per_mille));
    }

    /// No more of that.
    pub fn calm(&self) {
        self.0.state.lock().weather = None;
    }

    /// The numbered effects so far.
    pub fn effects(&self) -> Vec<Effect> {
        self.0.state.lock().effects.clone()
    }

    /// How many numbered effects there were so far.
    pub fn count(&self) -> usize {
        self.0.state.lock().effects.len()
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.0.cut
    }

    /// Runs until the line is cut; what hangs then hangs for ever.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        match self.0.cut.run_until_cancelled(work).await {
            // It may have been cut within the last step of the work.
            Some(done) if !self.is_cut() => done,
            _ => pending().await,
        }
    }

    pub(crate) fn is_parted(&self) -> bool {
        *self.0.parted.borrow()
    }

    /// Waits while there is no way to the API server.
    pub(crate) async fn joined(&self) {
        let mut parted = self.0.parted.subscribe();
        if parted.wait_for(|parted| !parted).await.is_err() {
            pending().await
        }
    }

    /// Waits while the process is held.
    pub(crate) async fn free(&self) {
        let mut held = self.0.held.subscribe();
        if held.wait_for(|held| !held).await.is_err() {
            pending().await
        }
    }

    /// Something leaves the process; gives what befalls it.
    pub(crate) async fn sent(
        &self,
        numbered: bool,
        verb: &'static str,
        what: &str,
        name: &str,
    ) -> Option<Gust> {
        let number = self.pass(numbered, verb, what, name, Step::Sent);
        if self.is_cut() {
            return pending().await;
        }
        self.free().await;
        let (seed, per_mille) = self.0.state.lock().weather?;
        Gust::drawn(seed, per_mille, number?)
    }

    /// It has come further.
    pub(crate) async fn came(&self, numbered: bool, verb: &'static str, what: &str, name: &str, step: Step) {
        self.pass(numbered, verb, what, name, step);
        if self.is_cut() {
            return pending().await;
        }
        self.free().await;
    }

    fn pass(&self, numbered: bool, verb: &'static str, what: &str, name: &str, step: Step) -> Option<usize> {
        if self.is_cut() {
            return None;
        }
        let mut effect = Effect {
            number: None,
            verb,
            what: what.to_owned(),
            name: name.to_owned(),
            step,
            at: self.0.began.elapsed(),
        };
        let (hook, cut) = {
            let mut state = self.0.state.lock();
            if numbered {
                effect.number = Some(state.effects.len());
                state.effects.push(effect.clone());
            }
            let cut = effect.number.is_some() && effect.number == state.cut_at;
            (state.hook.clone(), cut)
        };
        if let Some(hook) = hook {
            hook(&effect);
        }
        if cut {
            self.cut();
        }
        effect.number
    }
}
