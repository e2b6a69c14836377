//! Whether the process is ready: it is while nobody holds a [`Pending`] handle.
//!
//! Code that has to do something first takes a handle and drops it when it is done. A task that ends in any other way
//! drops its handle, too, so no way out has to be remembered.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// What is still missing, with the number of handles for it. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, usize>>>);

/// While this exists, the process is not ready.
#[derive(Debug)]
#[must_use = "dropping the handle ends the wait"]
pub struct Pending {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// Not ready until the handle is dropped. May be called at any time: a lost driver is waited for again.
    pub fn until(&self, name: impl Into<String>) -> Pending {
        let name = name.into();
        *self.0.lock().entry(name.clone()).or_default() += 1;
        Pending {
            name,
            readiness: self.clone(),
        }
    }

    /// The names of what is missing, sorted; empty when ready.
    pub fn missing(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut missing = self.readiness.0.lock();
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
