//! Whether the process is ready: it is while nobody holds a [`Pending`] handle.
//!
//! Code that has to do something first takes a handle and drops it when it is done. A task that ends in any other way
//! drops its handle, too, so no way out has to be remembered. What an operator should know of a process that is ready
//! all the same is a note.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

/// What is still missing, and what else is to be known. Clones share both lists.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    /// With the number of handles.
    missing: BTreeMap<String, usize>,
    notes: BTreeMap<&'static str, String>,
}

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
        *self.0.lock().missing.entry(name.clone()).or_default() += 1;
        Pending {
            name,
            readiness: self.clone(),
        }
    }

    /// The names of what is missing, sorted; empty when ready.
    pub fn missing(&self) -> Vec<String> {
        self.0.lock().missing.keys().cloned().collect()
    }

    /// Shows this text, or none any more, under that name: it does not make the process less ready.
    pub fn note(&self, about: &'static str, text: Option<String>) {
        let notes = &mut self.0.lock().notes;
        match text {
            Some(text) => notes.insert(about, text),
            None => notes.remove(about),
        };
    }

    /// The notes, one line each.
    pub fn notes(&self) -> Vec<String> {
        let lists = self.0.lock();
        let line = |(about, text): (&&str, &String)| format!("{about}: {text}");
        lists.notes.iter().map(line).collect()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let missing = &mut self.readiness.0.lock().missing;
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
    #[test]
    fn a_note_is_shown_until_it_is_taken_back_and_makes_nothing_less_ready() {
        let ready = Readiness::default();
        ready.note("ledger", Some("2 records are held".into()));
        ready.note("ledger", Some("3 records are held".into()));
        assert_eq!(ready.notes(), ["ledger: 3 records are held"]);
        assert!(ready.missing().is_empty());
        ready.note("ledger", None);
        assert!(ready.notes().is_empty());
    }
}
