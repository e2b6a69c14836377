//! Whether this process may act at this very moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// Whether this process may act: it works, and the lease is certainly its own, or there is no election.
///
/// A reconcile may reach its request when its time is over: after a request that hung, or because the whole process was
/// stopped for a while. A flag that a task clears would be late then, so the end of the lease's certainty is compared
/// with the clock, right before each request. Clones are about the same process.
#[derive(Clone, Default)]
pub struct Active(Arc<ActiveState>);

#[derive(Default)]
struct ActiveState {
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
    /// Somebody else was seen to lead, and the election has not ended the term yet.
    Resigned,
}

impl Active {
    /// Of a process that takes part in an election, and does not lead yet.
    pub fn elected() -> Self {
        let active = Self::default();
        active.lead_until(None);
        active
    }

    /// The lease is certainly ours until this moment; `None`: it is not. Who has resigned does not lead before the term
    /// has ended, so that a renewal that is confirmed meanwhile changes nothing.
    pub fn lead_until(&self, end: Option<Instant>) {
        let mut certainty = self.0.certainty.lock();
        *certainty = match (end, *certainty) {
            (None, _) => Certainty::Never,
            (Some(_), Certainty::Resigned) => Certainty::Resigned,
            (Some(end), _) => Certainty::Until(end),
        };
    }

    /// When a request has to have ended that may take so long: no later than the certainty.
    pub fn deadline(&self, limit: Duration) -> Instant {
        let end = Instant::now() + limit;
        match *self.0.certainty.lock() {
            Certainty::Until(certain) => end.min(certain),
            _ => end,
        }
    }

    /// Whether the lease is certainly ours: what has begun may be finished.
    pub fn leads(&self) -> bool {
        match *self.0.certainty.lock() {
            Certainty::Always => true,
            Certainty::Until(end) => Instant::now() < end,
            Certainty::Never | Certainty::Resigned => false,
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

    /// Somebody else was seen to lead: from now on we do not, whatever we know of the lease. The election is told. It
    /// means nothing where there is no election, or the term is over already.
    pub fn resign(&self) {
        let mut certainty = self.0.certainty.lock();
        if matches!(*certainty, Certainty::Until(_)) {
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
    async fn a_request_ends_before_the_certainty() {
        let limit = Duration::from_secs(10);
        let (active, now) = (Active::elected(), Instant::now());
        for (certain, left) in [(3, 3), (30, 10)] {
            active.lead_until(Some(now + Duration::from_secs(certain)));
            assert_eq!(active.deadline(limit), now + Duration::from_secs(left));
        }
        assert_eq!(Active::default().deadline(limit), now + limit);
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
