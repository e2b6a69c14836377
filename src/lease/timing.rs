//! Pure. The three durations of an election and how they must fit together.

use std::time::Duration;

use crate::base::duration::GoDuration;

/// A standby looks again after the retry period and up to this share of it more, as in client-go.
pub(super) const JITTER: f64 = 1.2;

/// The three durations of an election, checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew: Duration,
    retry: Duration,
}

/// The durations do not fit together; upstream panics on these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// One is zero.
    #[error("--leader-election-{0} must be above zero")]
    Zero(&'static str),
    /// A leader would lead on while a standby may take over.
    #[error(
        "--leader-election-lease-duration: the lease duration {lease} must be longer than the renew deadline {renew}"
    )]
    Lease {
        /// The lease duration.
        lease: GoDuration,
        /// The renew deadline.
        renew: GoDuration,
    },
    /// A leader would have no second try.
    #[error(
        "--leader-election-renew-deadline: the renew deadline {renew} must be longer than 1.2 times the retry period \
         {retry}"
    )]
    Renew {
        /// The renew deadline.
        renew: GoDuration,
        /// The retry period.
        retry: GoDuration,
    },
}

impl Timing {
    /// Upstream's defaults are 15 s, 10 s and 5 s.
    ///
    /// # Errors
    /// [`TimingError`], by client-go's rules.
    pub fn new(lease: Duration, renew: Duration, retry: Duration) -> Result<Self, TimingError> {
        for (name, value) in [
            ("lease-duration", lease),
            ("renew-deadline", renew),
            ("retry-period", retry),
        ] {
            if value.is_zero() {
                return Err(TimingError::Zero(name));
            }
        }
        if lease <= renew {
            let (lease, renew) = (lease.into(), renew.into());
            return Err(TimingError::Lease { lease, renew });
        }
        // In nanoseconds as in client-go: in seconds 1.2 times 3 is less than 3.6.
        if renew.as_nanos() as f64 <= JITTER * retry.as_nanos() as f64 {
            let (renew, retry) = (renew.into(), retry.into());
            return Err(TimingError::Renew { renew, retry });
        }
        Ok(Self { lease, renew, retry })
    }

    /// `--leader-election-lease-duration`.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// `--leader-election-renew-deadline`.
    pub fn renew(&self) -> Duration {
        self.renew
    }

    /// How long a confirmed write makes us the leader, counted from when it was sent: nine tenths of the lease
    /// duration, as others wait for all of it by clocks that may run a little faster than ours; or the renew deadline,
    /// where that is longer.
    pub(super) fn validity(&self) -> Duration {
        self.renew.max(self.lease - self.lease / 10)
    }

    /// How long after one renewal the next is sent: the retry period, or earlier if a renewal could otherwise not take
    /// as long as the renew deadline. Never below half of the retry period.
    pub(super) fn renewal_interval(&self) -> Duration {
        (self.validity() - self.renew).clamp(self.retry / 2, self.retry)
    }

    /// `--leader-election-retry-period`.
    pub fn retry(&self) -> Duration {
        self.retry
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn durations_that_do_not_fit_are_refused_with_their_flags() {
        assert!(Timing::new(S(15), S(10), S(5)).is_ok());
        for (lease, renew, retry, flag) in [
            (0, 10, 5, "--leader-election-lease-duration"),
            (15, 0, 5, "--leader-election-renew-deadline"),
            (15, 10, 0, "--leader-election-retry-period"),
            (
                10,
                10,
                5,
                "--leader-election-lease-duration: the lease duration 10s must be longer",
            ),
            (
                15,
                6,
                5,
                "--leader-election-renew-deadline: the renew deadline 6s must be longer",
            ),
        ] {
            let error = Timing::new(S(lease), S(renew), S(retry)).unwrap_err().to_string();
            assert!(error.starts_with(flag), "{error}");
        }
        let ms = Duration::from_millis;
        assert!(Timing::new(S(15), ms(3_600), S(3)).is_err());
        assert!(Timing::new(S(15), ms(3_601), S(3)).is_ok());
    }

    #[test]
    fn a1_a_renewal_may_take_the_renew_deadline() {
        let ms = Duration::from_millis;
        for (name, [lease, renew, retry], validity, interval) in [
            ("the defaults", [15_000, 10_000, 5_000], 13_500, 3_500),
            (
                "as advised for large clusters",
                [137_000, 107_000, 26_000],
                123_300,
                16_300,
            ),
            ("short", [6_000, 4_000, 1_000], 5_400, 1_000),
            ("no room for that", [15_000, 13_000, 5_000], 13_500, 2_500),
            (
                "a renew deadline near the lease duration",
                [15_000, 14_800, 5_000],
                14_800,
                2_500,
            ),
        ] {
            let timing = Timing::new(ms(lease), ms(renew), ms(retry)).unwrap();
            assert_eq!(
                (timing.validity(), timing.renewal_interval()),
                (ms(validity), ms(interval)),
                "{name}"
            );
        }
    }
}
