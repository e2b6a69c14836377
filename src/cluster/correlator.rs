//! Pure. Which events are written, which are counted up, and which are dropped.
//!
//! The rules are those of client-go's recorder, which users know from every controller: the same event again counts up
//! the one that stands; many different ones for the same reason become one "combined" event; and an object that
//! speaks all the time is cut off. Times are durations since some fixed moment.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

/// Remembered events; the oldest is forgotten first.
const REMEMBERED: usize = 4096;
/// So many different messages with one reason within [`WINDOW`] are combined.
const SIMILAR: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);
/// Events of one object at once, and then one each [`REFILL`].
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);

/// What identifies an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// UID of the object it is about.
    pub(super) object: String,
    /// Warning or Normal.
    pub(super) warning: bool,
    /// CamelCase reason.
    pub(super) reason: String,
    /// The message, or "" for a combined event.
    pub(super) message: String,
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Correlation {
    /// Write a new one.
    Create,
    /// Write a new one that stands for all similar ones.
    CreateCombined,
    /// Count the standing one up to this number.
    CountUp(String, u32),
    /// The object has said too much.
    Drop,
}

/// The memory of what was written.
#[derive(Debug, Default)]
pub(super) struct Correlator {
    written: HashMap<Key, (String, u32)>,
    order: VecDeque<Key>,
    similar: HashMap<Key, (Duration, HashSet<String>)>,
    budget: HashMap<String, (Duration, f64)>,
}

impl Correlator {
    /// Decides about one event, and returns the key under which [`Correlator::stands`] is to be told its name.
    pub(super) fn correlate(&mut self, mut key: Key, now: Duration) -> (Key, Correlation) {
        let combined = self.is_one_too_many(&key, now);
        if combined {
            key.message.clear();
        }
        if !self.afford(&key.object, now) {
            return (key, Correlation::Drop);
        }
        let correlation = match self.written.get_mut(&key) {
            Some((name, count)) => {
                *count = count.saturating_add(1);
                Correlation::CountUp(name.clone(), *count)
            }
            None if combined => Correlation::CreateCombined,
            None => Correlation::Create,
        };
        (key, correlation)
    }

    /// The event under `key` stands in the cluster as `name`.
    pub(super) fn stands(&mut self, key: Key, name: String) {
        if self.written.insert(key.clone(), (name, 1)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.written.remove(&oldest);
            }
        }
    }

    /// The event under `key` does not stand any more: the API server forgets events after an hour.
    pub(super) fn vanished(&mut self, key: &Key) {
        self.written.remove(key);
        self.order.retain(|standing| standing != key);
    }

    fn is_one_too_many(&mut self, key: &Key, now: Duration) -> bool {
        let group = Key {
            message: String::new(),
            ..key.clone()
        };
        if self.similar.len() > REMEMBERED {
            self.similar
                .retain(|_, (since, _)| now.saturating_sub(*since) < WINDOW);
        }
        let (since, messages) = self.similar.entry(group).or_insert_with(|| (now, HashSet::new()));
        if now.saturating_sub(*since) >= WINDOW {
            messages.clear();
            *since = now;
        }
        if messages.len() < SIMILAR {
            messages.insert(key.message.clone());
        }
        messages.len() >= SIMILAR
    }

    fn afford(&mut self, object: &str, now: Duration) -> bool {
        let full = |since: Duration, left: f64| {
            left + now.saturating_sub(since).as_secs_f64() / REFILL.as_secs_f64() >= BURST
        };
        if self.budget.len() > REMEMBERED {
            self.budget.retain(|_, (since, left)| !full(*since, *left));
        }
        let (since, left) = self.budget.entry(object.to_owned()).or_insert((now, BURST));
        *left = (*left + now.saturating_sub(*since).as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        *since = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(object: &str, message: &str) -> Key {
        Key {
            object: object.into(),
            warning: true,
            reason: "ProvisioningFailed".into(),
            message: message.into(),
        }
    }

    fn say(correlator: &mut Correlator, object: &str, message: &str, seconds: u64) -> Correlation {
        let (key, correlation) = correlator.correlate(key(object, message), Duration::from_secs(seconds));
        if matches!(correlation, Correlation::Create | Correlation::CreateCombined) {
            correlator.stands(key, format!("{object}.1"));
        }
        correlation
    }

    #[test]
    fn the_same_event_again_is_counted_up() {
        let mut correlator = Correlator::default();
        assert_eq!(say(&mut correlator, "a", "m", 0), Correlation::Create);
        assert_eq!(
            say(&mut correlator, "a", "m", 1),
            Correlation::CountUp("a.1".into(), 2)
        );
        assert_eq!(
            say(&mut correlator, "a", "m", 2),
            Correlation::CountUp("a.1".into(), 3)
        );
        assert_eq!(
            say(&mut correlator, "b", "m", 2),
            Correlation::Create,
            "another object"
        );
        correlator.vanished(&key("a", "m"));
        assert_eq!(
            say(&mut correlator, "a", "m", 3),
            Correlation::Create,
            "the old one has expired"
        );
    }

    #[test]
    fn the_tenth_different_message_is_combined_with_all_that_follow() {
        let mut correlator = Correlator::default();
        for n in 0..9 {
            assert_eq!(
                say(&mut correlator, "a", &n.to_string(), 0),
                Correlation::Create,
                "{n}"
            );
        }
        assert_eq!(say(&mut correlator, "a", "9", 0), Correlation::CreateCombined);
        assert_eq!(
            say(&mut correlator, "a", "10", 0),
            Correlation::CountUp("a.1".into(), 2)
        );
        assert_eq!(
            say(&mut correlator, "a", "11", 601),
            Correlation::Create,
            "after ten minutes it begins anew"
        );
    }

    #[test]
    fn an_object_that_speaks_all_the_time_is_cut_off_and_comes_back() {
        let mut correlator = Correlator::default();
        for n in 0..25 {
            assert_ne!(say(&mut correlator, "a", "m", 0), Correlation::Drop, "{n}");
        }
        assert_eq!(say(&mut correlator, "a", "m", 1), Correlation::Drop);
        assert_ne!(
            say(&mut correlator, "b", "m", 1),
            Correlation::Drop,
            "others are not affected"
        );
        assert_ne!(
            say(&mut correlator, "a", "m", 302),
            Correlation::Drop,
            "one more after five minutes"
        );
        assert_eq!(say(&mut correlator, "a", "m", 303), Correlation::Drop);
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..20_000_u64 {
            say(&mut correlator, &n.to_string(), "m", n);
        }
        assert!(correlator.written.len() <= REMEMBERED && correlator.order.len() <= REMEMBERED);
        assert!(
            correlator.similar.len() <= REMEMBERED + 601,
            "{}",
            correlator.similar.len()
        );
        assert!(
            correlator.budget.len() <= REMEMBERED + 301,
            "{}",
            correlator.budget.len()
        );
    }
}
