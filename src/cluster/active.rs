//! Whether this process may act at this very moment.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How often a request that runs is looked at, where the certainty does not end before.
const LOOK: Duration = Duration::from_secs(1);

/// Whether this process may act: it works, and the lease is certainly its own, or there is no election.
///
/// A reconcile may reach its request when its time is over: after a request that hung, or because the whole process was
/// stopped for a while. A flag that a task clears would be late then, so the end of the lease's certainty is compared
/// with the clock, right before each request. That clock stands still while the machine is suspended, so what it has
/// slept is added. Clones are about the same process.
#[derive(Clone, Default)]
pub struct Active(Arc<ActiveState>);

#[derive(Default)]
struct ActiveState {
    working: AtomicBool,
    certainty: Mutex<Certainty>,
    /// What the machine had slept when the lease was last written.
    slept: Mutex<Option<Duration>>,
    resigned: Notify,
}

#[derive(Clone, Copy, Default)]
enum Certainty {
    /// There is no election.
    #[default]
    Always,
    Until {
        end: Instant,
        slept: Duration,
    },
    Never,
    /// Somebody else was seen to lead, and the election has not ended the term yet.
    Resigned,
}

impl Certainty {
    fn holds(self, now: Instant, slept_now: Duration) -> bool {
        match self {
            Self::Always => true,
            Self::Until { end, slept } => now + slept_now.saturating_sub(slept) < end,
            Self::Never | Self::Resigned => false,
        }
    }
}

/// How long the machine has been suspended since it was started: one of the two clocks runs on then.
fn slept() -> Duration {
    let [awake, all] = [ClockId::Monotonic, ClockId::Boottime]
        .map(|clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default());
    all.saturating_sub(awake)
}

impl Active {
    /// Of a process that takes part in an election, and does not lead yet.
    pub fn elected() -> Self {
        let active = Self::default();
        active.lead_until(None);
        active
    }

    /// The lease is about to be written: the certainty that comes of it is shorter by what the machine sleeps from now on.
    pub fn renewing(&self) {
        *self.0.slept.lock() = Some(slept());
    }

    /// The lease is certainly ours until this moment; `None`: it is not. Who has resigned does not lead before the term
    /// has ended, so that a renewal that is confirmed meanwhile changes nothing.
    pub fn lead_until(&self, end: Option<Instant>) {
        let mut certainty = self.0.certainty.lock();
        *certainty = match (end, *certainty) {
            (None, _) => Certainty::Never,
            (Some(_), Certainty::Resigned) => Certainty::Resigned,
            // It comes of the same write.
            (Some(end), Certainty::Until { end: known, slept }) if end == known => {
                Certainty::Until { end, slept }
            }
            (Some(end), _) => {
                let slept = self.0.slept.lock().unwrap_or_else(slept);
                Certainty::Until { end, slept }
            }
        };
    }

    /// When a request has to have ended that may take so long: no later than the certainty.
    pub fn deadline(&self, limit: Duration) -> Instant {
        let end = Instant::now() + limit;
        match *self.0.certainty.lock() {
            Certainty::Until { end: certain, .. } => end.min(certain),
            _ => end,
        }
    }

    /// Whether the lease is certainly ours: what has begun may be finished.
    pub fn leads(&self) -> bool {
        self.0.certainty.lock().holds(Instant::now(), slept())
    }

    /// Carries a request out as long as the lease is certainly ours; `None`: it was not begun, or given up. That is looked
    /// at each time before the request goes on: it may wait for a connection first, or the process may have been stopped.
    pub async fn while_leading<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        let mut request = pin!(request);
        let mut end = pin!(sleep_until(self.deadline(LOOK)));
        poll_fn(|context| {
            loop {
                if !self.leads() {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(answer) = request.as_mut().poll(context) {
                    return Poll::Ready(Some(answer));
                }
                ready!(end.as_mut().poll(context));
                // A renewal may have moved it.
                end.as_mut().reset(self.deadline(LOOK));
            }
        })
        .await
    }

    /// Works until the guard is dropped.
    pub fn set(&self) -> ActiveGuard {
        self.0.working.store(true, Ordering::SeqCst);
        ActiveGuard(self.clone())
    }

    /// Whether we work and lead: what has not begun may be begun.
    pub fn is_set(&self) -> bool {
        self.0.working.load(Ordering::SeqCst) && self.leads()
    }

    /// Somebody else was seen to lead: from now on we do not, whatever we know of the lease. The election is told. It
    /// means nothing where there is no election, or the term is over already.
    pub fn resign(&self) {
        let mut certainty = self.0.certainty.lock();
        if matches!(*certainty, Certainty::Until { .. }) {
            *certainty = Certainty::Resigned;
            self.0.resigned.notify_one();
        }
    }

    /// Waits until this term is resigned.
    pub async fn resigned(&self) {
        // The notification may be about an earlier term, which has ended otherwise.
        while !matches!(*self.0.certainty.lock(), Certainty::Resigned) {
            self.0.resigned.notified().await;
        }
    }
}

/// We work while this exists.
#[must_use = "dropping it ends the work"]
pub struct ActiveGuard(Active);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.0.working.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_begun_without_work_nor_finished_after_the_lease() {
        let active = Active::elected();
        let guard = active.set();
        assert_eq!((active.is_set(), active.leads()), (false, false));
        active.lead_until(Some(Instant::now() + Duration::from_secs(10)));
        assert_eq!((active.is_set(), active.leads()), (true, true));
        drop(guard);
        assert_eq!((active.is_set(), active.leads()), (false, true));
        let _guard = active.set();
        // Nobody clears a flag here.
        advance(Duration::from_secs(10)).await;
        assert_eq!((active.is_set(), active.leads()), (false, false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_resigns_acts_no_more_and_the_election_hears_of_it() {
        let active = Active::elected();
        active.lead_until(Some(Instant::now() + Duration::from_secs(10)));
        active.resign();
        assert!(!active.leads());
        active.resigned().await;
        // A renewal that was under way is confirmed.
        active.lead_until(Some(Instant::now() + Duration::from_secs(10)));
        assert!(!active.leads());
        // The term is over, and the next one begins.
        active.lead_until(None);
        active.resign();
        active.lead_until(Some(Instant::now() + Duration::from_secs(10)));
        assert!(active.leads());
        let stale = tokio::time::timeout(Duration::from_secs(1), active.resigned());
        assert!(stale.await.is_err(), "nobody has resigned from this one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_was_suspended_has_slept_through_its_lease() {
        let [second, minute] = [1, 60].map(Duration::from_secs);
        let (active, now) = (Active::elected(), Instant::now());
        let holds = |slept| active.0.certainty.lock().holds(now, slept);
        let before = slept();
        active.renewing();
        active.lead_until(Some(now + 10 * second));
        assert!(holds(before) && !holds(before + minute));
        // The machine sleeps while the lease is written once more: that counts as soon as the answer is there.
        *active.0.slept.lock() = Some(before + 5 * second);
        active.lead_until(Some(now + 10 * second));
        assert!(!holds(before + 11 * second), "the end comes of the same write");
        active.lead_until(Some(now + 11 * second));
        assert!(holds(before + 15 * second) && !holds(before + 17 * second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_ends_before_the_certainty() {
        let limit = Duration::from_secs(10);
        let (active, now) = (Active::elected(), Instant::now());
        for (certain, left) in [(3, 3), (30, 10)] {
            active.lead_until(Some(now + Duration::from_secs(certain)));
            assert_eq!(active.deadline(limit), now + Duration::from_secs(left));
        }
        assert_eq!(Active::default().deadline(limit), now + limit);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_waited_for_its_connection_is_not_sent_after_the_lease() {
        let second = Duration::from_secs(1);
        let sent = |active: Active, dialled: Duration| async move {
            active.lead_until(Some(Instant::now() + 10 * second));
            let (begun, renewed) = (Instant::now(), active.clone());
            let request = async {
                tokio::time::sleep(dialled).await;
                begun.elapsed()
            };
            let renewal = async {
                tokio::time::sleep(8 * second).await;
                renewed.lead_until(Some(begun + 18 * second));
            };
            tokio::join!(active.while_leading(request), renewal).0
        };
        for (dialled, expected) in [(1, Some(1)), (12, Some(12)), (18, None), (60, None)] {
            let sent = sent(Active::elected(), dialled * second).await;
            assert_eq!(sent.map(|after| after.as_secs()), expected, "{dialled} s");
        }
        let standby = Active::elected();
        let never = standby.while_leading(async { unreachable!("we do not lead") });
        assert_eq!(never.await, None::<()>);
    }

    #[test]
    fn without_an_election_only_the_work_counts() {
        let active = Active::default();
        active.resign();
        assert!(active.leads() && !active.is_set());
        let _guard = active.set();
        assert!(active.is_set());
    }
}
