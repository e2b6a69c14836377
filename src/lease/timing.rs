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

    /// `--leader-election-retry-period`.
    pub fn retry(&self) -> Duration {
        self.retry
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
}
