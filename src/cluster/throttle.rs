//! Where requests wait for their turn, as [`super::pace`] says.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::rate_limiter::{Limit, Outcome, RateLimiter, Wait};
use crate::base::api_error::{ApiError, Reason};

/// One pace for all who share it. Watches and the lease do not pass here: they are no load, and must not wait.
#[derive(Clone)]
pub(super) struct Throttle(Arc<Inner>);

struct Inner {
    pace: Mutex<RateLimiter>,
    born: Instant,
    left: Notify,
}

impl Throttle {
    pub(super) fn new(limit: Option<Limit>) -> Self {
        Self(Arc::new(Inner {
            pace: Mutex::new(RateLimiter::new(limit)),
            born: Instant::now(),
            left: Notify::new(),
        }))
    }

    /// Waits for its turn, makes the request, and learns from its answer. The wait is no part of any deadline.
    pub(super) async fn pass<T>(
        &self,
        request: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let mut flight = self.enter().await;
        let answer = request.await;
        flight.outcome = match &answer {
            Ok(_) => Outcome::Answered,
            Err(error) => match error.reason {
                Reason::TooManyRequests(pause) => Outcome::Throttled(pause),
                Reason::Unavailable => Outcome::Lost,
                _ => Outcome::Answered,
            },
        };
        answer
    }

    async fn enter(&self) -> Flight<'_> {
        loop {
            // Made before looking, so that a request that ends in between is not missed.
            let left = self.0.left.notified();
            let entered = self.pace().enter(self.now());
            match entered {
                Ok(()) => {
                    return Flight {
                        gate: self,
                        outcome: Outcome::Lost,
                    };
                }
                Err(Wait::Until(moment)) => sleep_until(self.0.born + moment).await,
                Err(Wait::Room) => left.await,
            }
        }
    }

    fn pace(&self) -> MutexGuard<'_, RateLimiter> {
        self.0.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.0.born.elapsed()
    }
}

/// A request under way. Dropped without an outcome when its caller gave up on it.
struct Flight<'a> {
    gate: &'a Throttle,
    outcome: Outcome,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let now = self.gate.now();
        self.gate.pace().leave(now, self.outcome);
        // All that wait look again: one alone may be told to wait longer, and then the place would stay empty.
        self.gate.0.left.notify_waiters();
    }
}
