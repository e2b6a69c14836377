//! Pure. When to log what lasts: at once when it changes, and every 10 s while it stays the same.

use std::time::Duration;

/// How often one and the same thing is logged.
pub const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What was logged last, and when. A default one has logged nothing.
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
    /// Whether to log `what` now; if so, it counts as logged. `now` is read from a monotonic clock with any origin.
    pub fn is_due(&mut self, what: &T, now: Duration) -> bool
    where
        T: Clone + PartialEq,
    {
        let due = self
            .last
            .as_ref()
            .is_none_or(|(at, last)| last != what || now.saturating_sub(*at) >= LOG_INTERVAL);
        if due {
            self.last = Some((now, what.clone()));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_due_at_once_and_the_same_every_ten_seconds() {
        let mut reminder = Reminder::default();
        let rows = [
            // now, what, due
            (100, "a", true),
            (109, "a", false),
            (110, "a", true),
            (111, "b", true),
            (112, "a", true),
            (121, "a", false),
            (122, "a", true),
        ];
        for (now, what, due) in rows {
            assert_eq!(
                reminder.is_due(&what, Duration::from_secs(now)),
                due,
                "{what} at {now}"
            );
        }
    }
}
