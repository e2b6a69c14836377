//! What is remembered of the claims that this node tries to take, where each sidecar serves one node.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Open claims that this node tries to take.
#[derive(Default)]
pub(super) struct Races(Mutex<HashMap<String, Race>>);

/// The tries for one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Race {
    /// When it was first seen to be open.
    pub(super) since: Instant,
    /// How many tries have failed.
    pub(super) failures: u32,
    /// When the next one is due.
    pub(super) due: Instant,
    /// When this node last told the claim's owner why it does not take the claim, or saw that another one has.
    pub(super) told: Option<Instant>,
}

impl Races {
    /// The race for a claim; at first sight it begins, with a try after this delay.
    pub(super) fn enter(&self, claim: &str, delay: impl FnOnce() -> Duration) -> Race {
        let now = Instant::now();
        let begin = || Race {
            since: now,
            failures: 0,
            due: now + delay(),
            told: None,
        };
        *self.0.lock().entry(claim.to_owned()).or_insert_with(begin)
    }

    /// A try has failed: `delay` gives the pause after so many failures. Returns it.
    pub(super) fn fail(&self, claim: &str, delay: impl FnOnce(u32) -> Duration) -> Duration {
        let mut races = self.0.lock();
        let Some(race) = races.get_mut(claim) else {
            return Duration::ZERO;
        };
        race.failures = race.failures.saturating_add(1);
        let delay = delay(race.failures);
        race.due = Instant::now() + delay;
        delay
    }

    /// The owner of the claim was told.
    pub(super) fn told(&self, claim: &str) {
        if let Some(race) = self.0.lock().get_mut(claim) {
            race.told = Some(Instant::now());
        }
    }

    /// The claim is another node's, has its volume, or is gone.
    pub(super) fn leave(&self, claim: &str) {
        let mut races = self.0.lock();
        if races.remove(claim).is_some() && races.is_empty() {
            *races = HashMap::new();
        }
    }

    /// Forgets those that went away while nobody reconciled them.
    pub(super) fn retain(&self, stands: impl Fn(&str) -> bool) {
        self.0.lock().retain(|claim, _| stands(claim));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[tokio::test(start_paused = true)]
    async fn a_race_counts_its_failures_until_it_is_left() {
        let races = Races::default();
        let first = races.enter("a", || secs(20));
        advance(secs(5)).await;
        assert_eq!(
            races.enter("a", || secs(1)),
            first,
            "one delay, however often the claim changes"
        );
        assert_eq!(
            races.fail("a", |failures| secs(10 * u64::from(failures))),
            secs(10)
        );
        assert_eq!(
            races.fail("a", |failures| secs(10 * u64::from(failures))),
            secs(20)
        );
        let now = races.enter("a", || secs(1));
        assert_eq!(
            (now.since, now.failures, now.due),
            (first.since, 2, Instant::now() + secs(20))
        );
        races.leave("a");
        assert_eq!(races.enter("a", || secs(1)).failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn d6_races_of_claims_that_are_gone_are_forgotten() {
        let races = Races::default();
        for claim in ["a", "b"] {
            races.enter(claim, || secs(1));
        }
        races.retain(|claim| claim == "a");
        races.leave("a");
        assert!(races.0.lock().is_empty());
    }
}
