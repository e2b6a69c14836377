//! Pure. How fast requests may go to the API server: a rate limiter without a clock.
//!
//! With `--kube-api-qps` given, a token bucket as client-go keeps one. Without it there is no small fixed number to
//! tune: so many requests may be under way at once, halved whenever the server says 429 and slowly won back, and none
//! begins before the time the server asked for. Times are durations since some fixed moment.

use std::time::Duration;

/// What an operator gave on the command line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests per second in the long run; greater than 0.
    pub qps: f64,
    /// Requests at once after a quiet time; at least 1.
    pub burst: u32,
}

/// How a request ended, as far as the rate limiter is concerned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    /// The server answered, with whatever.
    Answered,
    /// 429, and how long it asked us to wait.
    Throttled(Duration),
    /// No answer came.
    Lost,
}

/// What a request that wants to go has to wait for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WaitFor {
    /// For this moment.
    Until(Duration),
    /// For another request to end.
    RequestToEnd,
}

const MAX_IN_FLIGHT: f64 = 128.0;

/// The state of the limiter.
#[derive(Debug)]
pub(super) struct RateLimiter {
    bucket: Option<Bucket>,
    in_flight: u32,
    max_in_flight: f64,
    not_before: Duration,
}

#[derive(Debug)]
struct Bucket {
    limit: RateLimit,
    tokens: f64,
    filled: Duration,
}

impl RateLimiter {
    pub(super) fn new(limit: Option<RateLimit>) -> Self {
        let bucket = limit.map(|limit| Bucket {
            limit,
            tokens: f64::from(limit.burst),
            filled: Duration::ZERO,
        });
        Self {
            bucket,
            in_flight: 0,
            max_in_flight: MAX_IN_FLIGHT,
            not_before: Duration::ZERO,
        }
    }

    /// May a request go now? If so it counts as under way until [`RateLimiter::leave`].
    pub(super) fn enter(&mut self, now: Duration) -> Result<(), WaitFor> {
        if now < self.not_before {
            return Err(WaitFor::Until(self.not_before));
        }
        if f64::from(self.in_flight) >= self.max_in_flight.max(1.0).floor() {
            return Err(WaitFor::RequestToEnd);
        }
        if let Some(bucket) = &mut self.bucket {
            bucket.take(now)?;
        }
        self.in_flight += 1;
        Ok(())
    }

    /// A request is over.
    pub(super) fn leave(&mut self, now: Duration, outcome: Outcome) {
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Answered => {
                self.max_in_flight = (self.max_in_flight + 1.0 / self.max_in_flight).min(MAX_IN_FLIGHT)
            }
            Outcome::Throttled(pause) => {
                // The requests that were under way together are all refused together: that is one signal.
                if now >= self.not_before {
                    self.max_in_flight = (self.max_in_flight / 2.0).max(1.0);
                }
                self.not_before = self.not_before.max(now + pause);
            }
            Outcome::Lost => {}
        }
    }
}

impl Bucket {
    fn take(&mut self, now: Duration) -> Result<(), WaitFor> {
        let gained = now.saturating_sub(self.filled).as_secs_f64() * self.limit.qps;
        self.tokens = (self.tokens + gained).min(f64::from(self.limit.burst.max(1)));
        self.filled = self.filled.max(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.tokens) / self.limit.qps;
        // Rounded up, or a waiter would wake a nanosecond early and spin.
        Err(WaitFor::Until(
            now + Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX / 4) + Duration::from_micros(1),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_given_rate_is_kept_after_the_burst() {
        let mut limiter = RateLimiter::new(Some(RateLimit { qps: 10.0, burst: 2 }));
        assert_eq!(limiter.enter(at(0)), Ok(()));
        assert_eq!(limiter.enter(at(0)), Ok(()));
        let Err(WaitFor::Until(next)) = limiter.enter(at(0)) else {
            panic!("the burst was 2")
        };
        assert!(next >= at(100) && next < at(101), "{next:?}");
        assert_eq!(limiter.enter(next), Ok(()));
        assert!(limiter.enter(next).is_err());
    }

    #[test]
    fn the_burst_does_not_grow_while_nothing_happens() {
        let mut limiter = RateLimiter::new(Some(RateLimit {
            qps: 1000.0,
            burst: 1,
        }));
        assert_eq!(limiter.enter(at(60_000)), Ok(()));
        assert!(limiter.enter(at(60_000)).is_err());
    }

    #[test]
    fn without_a_limit_only_a_429_slows_down() {
        let mut limiter = RateLimiter::new(None);
        for _ in 0..128 {
            assert_eq!(limiter.enter(at(0)), Ok(()));
        }
        assert_eq!(limiter.enter(at(0)), Err(WaitFor::RequestToEnd));
        limiter.leave(at(5), Outcome::Throttled(at(2000)));
        limiter.leave(at(6), Outcome::Throttled(at(2000)));
        assert_eq!(
            limiter.enter(at(7)),
            Err(WaitFor::Until(at(2006))),
            "nothing goes before the server allows it"
        );
        for _ in 0..125 {
            limiter.leave(at(10), Outcome::Lost);
        }
        let mut went = 1;
        while limiter.enter(at(2006)).is_ok() {
            went += 1;
        }
        assert_eq!(went, 64, "two refusals of the same moment halve once");
        for _ in 0..5000 {
            limiter.leave(at(3000), Outcome::Answered);
        }
        assert!(
            limiter.max_in_flight > 100.0,
            "won back: {}",
            limiter.max_in_flight
        );
    }

    #[test]
    fn there_is_always_room_for_one() {
        let mut limiter = RateLimiter::new(None);
        for second in 0..40 {
            let now = at(second * 1000);
            limiter.enter(now).unwrap_or_else(|wait| panic!("{wait:?}"));
            limiter.leave(now, Outcome::Throttled(at(1)));
        }
    }
}
