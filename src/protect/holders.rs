//! Pure. Which claims have to do with which source, as far as this process knows.

use std::collections::{HashMap, HashSet};

use crate::cluster::source::{Source, SourceKind};

/// The claims that have to do with a source, by UID.
#[derive(Debug, Default)]
pub(super) struct Holders {
    /// What each claim waits for or has on record.
    sources: HashMap<String, Source>,
    /// Claims that are being reconciled: a record may be about to be opened.
    at_work: HashMap<Source, HashSet<String>>,
    /// Sources that may be needed no more, and have not been looked at since.
    due: HashSet<Source>,
}

impl Holders {
    /// A term begins with these claims. Who was at work may be still, with a call that outlives its term. What the last
    /// term has not come to is due.
    pub(super) fn begin_term(&mut self, named: Vec<(String, Source)>) {
        let before = std::mem::take(&mut self.sources);
        for (claim, source) in before {
            let is_at_work = |claims: &HashSet<String>| claims.contains(&claim);
            match self.at_work.get(&source).is_some_and(is_at_work) {
                true => _ = self.sources.insert(claim, source),
                false => _ = self.due.insert(source),
            }
        }
        for (claim, source) in named {
            self.sources.entry(claim).or_insert(source);
        }
    }

    /// The claim is about to have a creation recorded, or repeated.
    pub(super) fn begin(&mut self, claim: &str, source: &Source) {
        self.sources.insert(claim.to_owned(), source.clone());
        let at_work = self.at_work.entry(source.clone()).or_default();
        at_work.insert(claim.to_owned());
    }

    /// The claim's reconcile is over: now the cache and the ledger tell what it needs. `waits_for`: its source, if it goes
    /// on, also one that it has never come to hold. Returns the source that it may not need any more.
    pub(super) fn end(&mut self, claim: &str, waits_for: Option<Source>) -> Option<Source> {
        let source = match waits_for {
            Some(source) => {
                self.sources.insert(claim.to_owned(), source.clone());
                source
            }
            None => self.sources.remove(claim)?,
        };
        if let Some(claims) = self.at_work.get_mut(&source) {
            claims.remove(claim);
            if claims.is_empty() {
                self.at_work.remove(&source);
            }
        }
        self.due.insert(source.clone());
        Some(source)
    }

    pub(super) fn is_at_work(&self, source: &Source) -> bool {
        self.at_work.contains_key(source)
    }

    /// It was found out what becomes of this source.
    pub(super) fn looked_at(&mut self, source: &Source) {
        self.due.remove(source);
    }

    /// How many claims and sources are remembered, but for those that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sources.len() + self.at_work.len() + self.due.len()
    }

    pub(super) fn sources(&self) -> HashSet<Source> {
        self.sources.values().chain(&self.due).cloned().collect()
    }
}

/// The key of a source in the work queue.
pub(super) fn key_of(
    Source {
        kind,
        namespace,
        name,
    }: &Source,
) -> String {
    format!("{kind}/{namespace}/{name}")
}

/// The source of a key.
pub(super) fn source_of(key: &str) -> Option<Source> {
    let (kind, rest) = key.split_once('/')?;
    let (namespace, name) = rest.split_once('/')?;
    let kinds = [SourceKind::Snapshot, SourceKind::Claim];
    Some(Source {
        kind: kinds.into_iter().find(|known| known.to_string() == kind)?,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
