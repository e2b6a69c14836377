//! Holds requests back, as [`super::rate_limiter`] says.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::rate_limiter::{Outcome, RateLimit, RateLimiter, WaitFor};
use crate::base::api_error::{ApiError, Reason};

/// One rate limiter for all clones. Watches and the lease do not pass here: they are no load, and must not wait.
#[derive(Clone)]
pub(super) struct Throttle(Arc<Shared>);

struct Shared {
    limiter: Mutex<RateLimiter>,
    origin: Instant,
    /// A request has ended.
    ended: Notify,
}

impl Throttle {
    pub(super) fn new(limit: Option<RateLimit>) -> Self {
        Self(Arc::new(Shared {
            limiter: Mutex::new(RateLimiter::new(limit)),
            origin: Instant::now(),
            ended: Notify::new(),
        }))
    }

    /// Waits until a request may go, makes it, and learns from its answer. The wait is no part of any deadline.
    pub(super) async fn send<T>(
        &self,
        request: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let mut request_in_flight = self.enter().await;
        let answer = request.await;
        request_in_flight.outcome = match &answer {
            Ok(_) => Outcome::Answered,
            Err(error) => match error.reason {
                Reason::TooManyRequests(pause) => Outcome::Throttled(pause),
                Reason::Unavailable => Outcome::Lost,
                _ => Outcome::Answered,
            },
        };
        answer
    }

    async fn enter(&self) -> InFlight<'_> {
        loop {
            // Made before the limiter is asked, so that a request that ends in between is not missed.
            let ended = self.0.ended.notified();
            let entered = self.0.limiter.lock().enter(self.now());
            match entered {
                Ok(()) => {
                    return InFlight {
                        throttle: self,
                        outcome: Outcome::Lost,
                    };
                }
                Err(WaitFor::Until(moment)) => sleep_until(self.0.origin + moment).await,
                Err(WaitFor::RequestToEnd) => ended.await,
            }
        }
    }

    fn now(&self) -> Duration {
        self.0.origin.elapsed()
    }
}

/// A request under way. Dropped without an outcome when its caller gave up on it.
struct InFlight<'a> {
    throttle: &'a Throttle,
    outcome: Outcome,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let now = self.throttle.now();
        self.throttle.0.limiter.lock().leave(now, self.outcome);
        // All that wait look again: one alone may be told to wait longer, and then the place would stay empty.
        self.throttle.0.ended.notify_waiters();
    }
}
