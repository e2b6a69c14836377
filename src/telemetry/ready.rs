//! Readiness as ownership: ready is who holds nothing up.
//!
//! Whoever has something to do first takes a [`Pending`] handle and drops it when done. A handle
//! that is lost with its task was dropped, too, so nothing need be remembered on any way out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What is still missing. Clones look at the same list.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, usize>>>);

/// While this exists we are not ready.
#[derive(Debug)]
#[must_use = "dropping the handle says that it is there"]
pub struct Pending {
    name: String,
    list: Readiness,
}

impl Readiness {
    /// Not ready until the handle is dropped. Also later: a driver that went away takes a new one.
    pub fn until(&self, name: impl Into<String>) -> Pending {
        let name = name.into();
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *missing.entry(name.clone()).or_default() += 1;
        Pending {
            name,
            list: self.clone(),
        }
    }

    /// The names of what is missing, sorted; empty when ready.
    pub fn missing(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .cloned()
            .collect()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut missing = self.list.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = missing.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                missing.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_handle_is_dropped() {
        let ready = Readiness::default();
        assert!(ready.missing().is_empty());
        let driver = ready.until("driver");
        let claims = ready.until("claims");
        let more_claims = ready.until("claims");
        assert_eq!(ready.missing(), ["claims", "driver"]);
        drop(claims);
        assert_eq!(ready.missing(), ["claims", "driver"]);
        drop((more_claims, driver));
        assert!(ready.missing().is_empty());
        let _again = ready.until("driver");
        assert_eq!(ready.missing(), ["driver"]);
    }
}
