//! Pure. When a state that lasts is logged again.

use std::time::Duration;

/// Between two log lines about one and the same state.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Lets a new state into the log at once, and an unchanged one every [`LOG_INTERVAL`].
#[derive(Clone, Debug)]
pub struct Reminder<T> {
    last: Option<(Duration, T)>,
}

impl<T> Default for Reminder<T> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<T> Reminder<T> {
    /// Whether `what` is to be logged now; if so, it counts as logged. `now` is the time since an origin that the
    /// owner chooses once.
    pub fn is_due(&mut self, what: &T, now: Duration) -> bool
    where
        T: Clone + PartialEq,
    {
        let is_due = self
            .last
            .as_ref()
            .is_none_or(|(at, known)| known != what || now.saturating_sub(*at) >= LOG_INTERVAL);
        if is_due {
            self.last = Some((now, what.clone()));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_logged_at_once_and_the_same_state_after_the_interval() {
        let rows = [
            ("the first", 0, "a", true),
            ("the same", 1, "a", false),
            ("just before the interval ends", 9_999, "a", false),
            ("the interval has passed", 10_000, "a", true),
            ("it counts from the last that was due", 19_999, "a", false),
            ("another state", 19_999, "b", true),
            ("back to the first", 20_000, "a", true),
            ("the interval counts from there", 29_999, "a", false),
            ("and passes again", 30_000, "a", true),
            ("a clock that goes back", 0, "a", false),
        ];
        let mut reminder = Reminder::default();
        for (name, now, what, expected) in rows {
            assert_eq!(
                reminder.is_due(&what, Duration::from_millis(now)),
                expected,
                "{name}"
            );
        }
    }
}
