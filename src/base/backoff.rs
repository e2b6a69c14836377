//! Pure. How long to wait after the n-th failure in a row.

use std::time::Duration;

/// Doubling delays, as client-go's exponential failure limiter gives them: no jitter, no overall bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub start: Duration,
    /// No delay is longer, not even the first.
    pub max: Duration,
}

impl Backoff {
    /// The delay when `failures` failures came before this one: `start` × 2ⁿ up to `max`, for any n.
    pub fn delay(&self, failures: u32) -> Duration {
        let Self { start, max } = *self;
        let (mut delay, mut left) = (start, failures);
        // At most some hundred rounds: a delay above zero passes every `max` or overflows by then.
        while left > 0 && delay < max && !delay.is_zero() {
            delay = delay.saturating_mul(2);
            left -= 1;
        }
        delay.min(max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_stay_there() {
        const fn secs(n: u64) -> Duration {
            Duration::from_secs(n)
        }
        let rows = [
            ("first failure", secs(1), secs(300), 0, secs(1)),
            ("second failure", secs(1), secs(300), 1, secs(2)),
            ("last below the cap", secs(1), secs(300), 8, secs(256)),
            ("capped", secs(1), secs(300), 9, secs(300)),
            ("any number of failures", secs(1), secs(300), u32::MAX, secs(300)),
            ("start above the cap", secs(10), secs(3), 0, secs(3)),
            (
                "no delay asked for",
                Duration::ZERO,
                secs(300),
                u32::MAX,
                Duration::ZERO,
            ),
            (
                "no cap to speak of",
                Duration::from_nanos(1),
                Duration::MAX,
                u32::MAX,
                Duration::MAX,
            ),
            (
                "small start",
                Duration::from_nanos(1),
                secs(300),
                33,
                Duration::from_nanos(1 << 33),
            ),
        ];
        for (name, start, max, failures, expected) in rows {
            assert_eq!(Backoff { start, max }.delay(failures), expected, "{name}");
        }
    }
}
