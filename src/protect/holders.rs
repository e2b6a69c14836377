//! Pure. Which claims have to do with which source, as far as this process knows.

use std::collections::{BTreeSet, HashMap};

use crate::cluster::source::{Source, SourceKind};

/// The sources of claims, by the UID of the claim.
#[derive(Debug, Default)]
pub(super) struct Holders(HashMap<String, Holder>);

#[derive(Debug)]
struct Holder {
    source: Source,
    /// The claim is being reconciled: a record may be about to be opened.
    at_work: bool,
}

impl Holders {
    /// A term begins with these claims. Who was at work may be still, with a call that outlives its term.
    pub(super) fn begin_term(&mut self, named: Vec<(String, Source)>) {
        self.0.retain(|_, holder| holder.at_work);
        for (claim, source) in named {
            self.0.entry(claim).or_insert(Holder {
                source,
                at_work: false,
            });
        }
    }

    /// The claim is about to have a creation recorded.
    pub(super) fn begin(&mut self, claim: &str, source: &Source) {
        let holder = Holder {
            source: source.clone(),
            at_work: true,
        };
        self.0.insert(claim.to_owned(), holder);
    }

    /// The claim's reconcile is over: now the cache and the ledger tell what it needs. Returns the source that it may not
    /// need any more.
    pub(super) fn end(&mut self, claim: &str) -> Option<Source> {
        let holder = self.0.get_mut(claim)?;
        holder.at_work = false;
        Some(holder.source.clone())
    }

    pub(super) fn is_at_work(&self, source: &Source) -> bool {
        let mut holders = self.0.values();
        holders.any(|holder| holder.at_work && holder.source == *source)
    }

    /// Nobody needs this source.
    pub(super) fn forget(&mut self, source: &Source) {
        self.0
            .retain(|_, holder| holder.at_work || holder.source != *source);
    }

    pub(super) fn sources(&self) -> BTreeSet<Source> {
        self.0.values().map(|holder| holder.source.clone()).collect()
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
