//! Pure. Which events are written, which are counted up, and which are dropped.
//!
//! The rules are those of client-go's event correlator, which users know from every controller: the same event again
//! counts up the one that stands; many different messages for the same reason become one "combined" event; and an
//! object with too many events gets no more for a while. Times are durations since some fixed moment.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher as _},
    mem,
    time::Duration,
};

/// Entries of each cache; those that were used longest ago are forgotten first.
const CAPACITY: usize = 4096;
/// So long does the API server keep an event after its last change.
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// So many messages with one reason have events of their own. Others are combined, until there was none for [`WINDOW`].
const DISTINCT: usize = 9;
const WINDOW: Duration = Duration::from_secs(600);
/// Events of one object and type at once, and then one each [`REFILL`].
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);

/// What makes two events the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EventKey {
    /// UID of the object it is about.
    object: String,
    /// Warning or Normal.
    warning: bool,
    /// CamelCase reason.
    reason: &'static str,
    /// The hash of the message, `None` for a combined event. A driver's message may be long, and is not kept.
    message: Option<u64>,
}

impl EventKey {
    pub(super) fn new(object: &str, warning: bool, reason: &'static str, message: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        message.hash(&mut hasher);
        Self {
            object: object.to_owned(),
            warning,
            reason,
            message: Some(hasher.finish()),
        }
    }

    /// Whether it is that of the event that stands for all similar ones.
    pub(super) const fn is_combined(&self) -> bool {
        self.message.is_none()
    }

    fn combined(&self) -> Self {
        Self {
            message: None,
            ..self.clone()
        }
    }
}

/// What is to be done with an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Correlation {
    /// Write a new one.
    Create,
    /// Count the one of this name up to this number.
    CountUp(String, u32),
    /// The object has had too many.
    Drop,
}

/// The memory of what was written.
#[derive(Debug)]
pub(super) struct Correlator {
    /// Name and count of what stands in the cluster.
    written: Recent<EventKey, (String, u32)>,
    /// When the last event with this reason came, and the messages that have events of their own.
    similar: Recent<EventKey, (Duration, HashSet<u64>)>,
    /// The tokens left at some moment, by object and type.
    budget: Recent<(String, bool), (Duration, f64)>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self {
            written: Recent::new(EVENT_TTL),
            similar: Recent::new(WINDOW),
            // A bucket that is full again need not be remembered.
            budget: Recent::new(REFILL * BURST),
        }
    }
}

impl Correlator {
    /// Decides about one event, and returns the key under which [`Correlator::created`] is to be told its name.
    pub(super) fn correlate(&mut self, key: EventKey, now: Duration) -> (EventKey, Correlation) {
        let key = self.aggregate(key, now);
        if !self.accept(&key, now) {
            return (key, Correlation::Drop);
        }
        let correlation = match self.written.get(&key, now) {
            Some((name, count)) => {
                *count = count.saturating_add(1);
                Correlation::CountUp(name.clone(), *count)
            }
            None => Correlation::Create,
        };
        (key, correlation)
    }

    /// The event under `key` stands in the cluster as `name`.
    pub(super) fn created(&mut self, key: EventKey, name: String, now: Duration) {
        self.written.insert(key, (name, 1), now);
    }

    /// The event under `key` does not stand any more.
    pub(super) fn vanished(&mut self, key: &EventKey) {
        self.written.remove(key);
    }

    /// The key of the combined event, if there are too many messages like this one.
    fn aggregate(&mut self, key: EventKey, now: Duration) -> EventKey {
        let Some(message) = key.message else {
            return key;
        };
        let combined = key.combined();
        let (last, messages) = self
            .similar
            .get_or_insert_with(combined.clone(), now, || (now, HashSet::new()));
        if now.saturating_sub(*last) > WINDOW {
            messages.clear();
        }
        *last = now;
        if messages.contains(&message) {
            return key;
        }
        if messages.len() >= DISTINCT {
            return combined;
        }
        messages.insert(message);
        key
    }

    /// Takes a token. Normal events and warnings have budgets of their own, or a controller that announces each attempt
    /// would leave none to tell why it failed.
    fn accept(&mut self, key: &EventKey, now: Duration) -> bool {
        let full = f64::from(BURST);
        let bucket = (key.object.clone(), key.warning);
        let (since, left) = self.budget.get_or_insert_with(bucket, now, || (now, full));
        let refilled = now.saturating_sub(*since).as_secs_f64() / REFILL.as_secs_f64();
        *left = (*left + refilled).min(full);
        *since = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

/// A map that forgets: what is not used for its lifetime is gone after twice that at the latest, and when it is full
/// the half that was used longest ago goes.
#[derive(Debug)]
struct Recent<K, V> {
    lifetime: Duration,
    /// When `old` was replaced last.
    since: Duration,
    /// Used since then.
    young: HashMap<K, V>,
    /// Used in the time before.
    old: HashMap<K, V>,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            since: Duration::ZERO,
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    fn get(&mut self, key: &K, now: Duration) -> Option<&mut V> {
        self.age(now);
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.young.insert(key, value);
        }
        self.young.get_mut(key)
    }

    fn get_or_insert_with(&mut self, key: K, now: Duration, value: impl FnOnce() -> V) -> &mut V {
        self.age(now);
        let known = self.old.remove(&key);
        self.young
            .entry(key)
            .or_insert_with(|| known.unwrap_or_else(value))
    }

    fn insert(&mut self, key: K, value: V, now: Duration) {
        self.age(now);
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    fn age(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        if passed < self.lifetime && self.young.len() < CAPACITY / 2 {
            return;
        }
        self.old = mem::take(&mut self.young);
        if passed >= self.lifetime * 2 {
            self.old = HashMap::new();
        }
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(object: &str, message: &str) -> EventKey {
        EventKey::new(object, true, "ProvisioningFailed", message)
    }

    fn publish_key(correlator: &mut Correlator, key: EventKey, seconds: u64) -> (bool, Correlation) {
        let now = Duration::from_secs(seconds);
        let (key, correlation) = correlator.correlate(key, now);
        let combined = key.is_combined();
        if correlation == Correlation::Create {
            correlator.created(key, "a.1".to_owned(), now);
        }
        (combined, correlation)
    }

    fn publish(
        correlator: &mut Correlator,
        object: &str,
        message: &str,
        seconds: u64,
    ) -> (bool, Correlation) {
        publish_key(correlator, key(object, message), seconds)
    }

    const NEW: (bool, Correlation) = (false, Correlation::Create);
    const COMBINED: (bool, Correlation) = (true, Correlation::Create);

    fn counted(combined: bool, count: u32) -> (bool, Correlation) {
        (combined, Correlation::CountUp("a.1".into(), count))
    }

    #[test]
    fn the_same_event_again_is_counted_up() {
        let mut correlator = Correlator::default();
        assert_eq!(publish(&mut correlator, "a", "m", 0), NEW);
        assert_eq!(publish(&mut correlator, "a", "m", 1), counted(false, 2));
        assert_eq!(publish(&mut correlator, "a", "m", 2), counted(false, 3));
        assert_eq!(publish(&mut correlator, "b", "m", 2), NEW, "another object");
        correlator.vanished(&key("a", "m"));
        assert_eq!(
            publish(&mut correlator, "a", "m", 3),
            NEW,
            "the old one has expired"
        );
    }

    #[test]
    fn the_tenth_different_message_is_combined_with_all_that_are_new_after_it() {
        let mut correlator = Correlator::default();
        for n in 0..9 {
            assert_eq!(publish(&mut correlator, "a", &n.to_string(), 0), NEW, "{n}");
        }
        assert_eq!(publish(&mut correlator, "a", "9", 0), COMBINED);
        assert_eq!(publish(&mut correlator, "a", "10", 0), counted(true, 2));
        assert_eq!(
            publish(&mut correlator, "a", "3", 0),
            counted(false, 2),
            "it stands"
        );
        assert_eq!(
            publish(&mut correlator, "a", "11", 601),
            NEW,
            "after ten minutes without it begins anew"
        );
    }

    #[test]
    fn b2_the_window_slides_with_each_similar_event() {
        let mut correlator = Correlator::default();
        let combined =
            |n: u64, correlator: &mut Correlator| publish(correlator, "a", &n.to_string(), n * 300).0;
        let told: Vec<_> = (0..40).map(|n| combined(n, &mut correlator)).collect();
        assert_eq!(told.iter().filter(|combined| !**combined).count(), 9);
    }

    #[test]
    fn b1_an_object_with_too_many_events_gets_no_more_of_that_type_for_a_while() {
        let mut correlator = Correlator::default();
        let mut publish = |object: &str, warning, seconds| {
            publish_key(&mut correlator, EventKey::new(object, warning, "R", "m"), seconds).1
        };
        for n in 0..25 {
            assert_ne!(publish("a", true, 0), Correlation::Drop, "{n}");
        }
        assert_eq!(publish("a", true, 1), Correlation::Drop);
        assert_ne!(publish("a", false, 1), Correlation::Drop, "the other type");
        assert_ne!(publish("b", true, 1), Correlation::Drop, "another object");
        assert_ne!(
            publish("a", true, 302),
            Correlation::Drop,
            "one more after five minutes"
        );
        assert_eq!(publish("a", true, 303), Correlation::Drop);
    }

    #[test]
    fn c9_memory_is_bounded_and_ages() {
        let mut correlator = Correlator::default();
        let remembered = |correlator: &Correlator| {
            [
                correlator.written.young.len() + correlator.written.old.len(),
                correlator.similar.young.len() + correlator.similar.old.len(),
                correlator.budget.young.len() + correlator.budget.old.len(),
            ]
        };
        for n in 0..20_000_u64 {
            publish(&mut correlator, &n.to_string(), "m", n / 100);
            assert!(remembered(&correlator).iter().all(|count| *count <= CAPACITY));
        }
        assert!(remembered(&correlator).iter().all(|count| *count >= CAPACITY / 2));
        let full = remembered(&correlator);
        publish(&mut correlator, "a", "m", 200 + 3600);
        assert!(
            remembered(&correlator)[0] < full[0],
            "the half that was used before"
        );
        publish(&mut correlator, "a", "m", 200 + 3 * 7500);
        assert_eq!(
            remembered(&correlator),
            [1, 1, 1],
            "what nobody has used for hours"
        );
    }

    #[test]
    fn c9_what_is_used_stays_and_what_is_not_used_goes() {
        let mut recent = Recent::new(Duration::from_secs(10));
        let at = Duration::from_secs;
        recent.insert("used", 1, at(0));
        recent.insert("unused", 2, at(0));
        for seconds in 1..100 {
            assert_eq!(recent.get(&"used", at(seconds)), Some(&mut 1), "{seconds}");
        }
        assert_eq!((recent.young.len(), recent.old.len()), (1, 0));
        assert_eq!(
            recent.get(&"used", at(120)),
            None,
            "twice its lifetime without use"
        );
    }
}
