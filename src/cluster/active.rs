//! Whether this process may act at this very moment.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Whether this process may act: it works, and the lease is certainly its own, or there is no election.
///
/// A reconcile may reach its request when its time is over: after a request that hung, or because the whole process was
/// stopped for a while. A flag that a task clears would be late then, so the end of the lease's certainty is compared
/// with the clock, right before each request. Clones are about the same process.
#[derive(Clone, Default)]
pub struct Active(Arc<State>);

#[derive(Default)]
struct State {
    working: AtomicBool,
    certainty: Mutex<Certainty>,
    resigned: Notify,
}

#[derive(Clone, Copy, Default)]
enum Certainty {
    /// There is no election.
    #[default]
    Always,
    Until(Instant),
    Never,
}

impl Active {
    /// Of a process that takes part in an election, and does not lead yet.
    pub fn elected() -> Self {
        let active = Self::default();
        active.lead_until(None);
        active
    }

    /// The lease is certainly ours until this moment; `None`: it is not.
    pub fn lead_until(&self, end: Option<Instant>) {
        *self.0.certainty.lock() = end.map_or(Certainty::Never, Certainty::Until);
    }

    /// Whether the lease is certainly ours: what has begun may be finished.
    pub fn leads(&self) -> bool {
        match *self.0.certainty.lock() {
            Certainty::Always => true,
            Certainty::Until(end) => Instant::now() < end,
            Certainty::Never => false,
        }
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

    /// Somebody else was seen to lead: from now on we do not, whatever we know of the lease. The election is told.
    pub fn resign(&self) {
        self.lead_until(None);
        self.0.resigned.notify_one();
    }

    /// Waits until that is called.
    pub async fn resigned(&self) {
        self.0.resigned.notified().await;
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
    use std::time::Duration;

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
    }

    #[test]
    fn without_an_election_only_the_work_counts() {
        let active = Active::default();
        assert!(active.leads() && !active.is_set());
        let _guard = active.set();
        assert!(active.is_set());
    }
}
