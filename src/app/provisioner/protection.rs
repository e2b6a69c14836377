//! What keeps the sources of volumes, and what connects that to the others.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{config::Config, metrics::Metrics};
use crate::{
    cluster::{active::Active, api::ApiClient, cache::Cache, objects::Claim, source::Source},
    csi::DriverInfo,
    ledger::Ledger,
    protect::reconcile::{NeededBy, Protection, SourceNeeds},
    provision::record::Record,
};

/// The queue of sources, in the metrics.
const QUEUE: &str = "sources";

/// The controller, if the driver makes volumes from anything.
#[expect(
    clippy::too_many_arguments,
    reason = "each is one thing that it is built from"
)]
pub(super) fn build(
    config: &Config,
    driver: &DriverInfo,
    api: &ApiClient,
    active: &Active,
    cache: Arc<Cache>,
    ledger: Arc<Ledger<Record>>,
    metrics: &Metrics,
    tasks: TaskTracker,
) -> Option<Arc<Protection>> {
    if !driver.create_delete_snapshot && !driver.clone {
        return None;
    }
    let settings = config.protection;
    let kept = Kept {
        cross_namespace: config.gates.cross_namespace,
        one_node: config.node.is_some(),
    };
    Some(Arc::new(Protection::new(
        driver,
        api.clone(),
        active.clone(),
        metrics.worker_pool(QUEUE, settings.at_once, config.work.backoff, tasks),
        needs(cache, ledger, kept),
        // Beside the driver of one node nobody knows what the others are copying.
        settings.sweep_interval.filter(|_| !kept.one_node),
    )))
}

/// Which sources are kept because a claim waits.
#[derive(Clone, Copy)]
struct Kept {
    cross_namespace: bool,
    one_node: bool,
}

/// Who needs what: the claims that wait for a volume of ours, and the open records.
fn needs(cache: Arc<Cache>, ledger: Arc<Ledger<Record>>, kept: Kept) -> SourceNeeds {
    let (claims, records) = (cache.clone(), ledger.clone());
    let (waiting, recorded, shards) = (cache.clone(), ledger.clone(), ledger.clone());
    SourceNeeds {
        all: Box::new(move || {
            let uids = cache.claim_uids().into_iter();
            let claims = uids.filter_map(|uid| {
                let source = kept.for_claim(&*cache.claim(&uid)?)?;
                Some((uid, source))
            });
            let entries = ledger.entries();
            let records = entries.iter().flat_map(|entry| {
                let sources = sources(&entry.record).cloned();
                sources.map(|source| (entry.record.uid.clone(), source))
            });
            claims.chain(records).collect()
        }),
        of: Box::new(move |source| {
            let is_kept_for = |claim: &Claim| kept.for_claim(claim).as_ref() == Some(source);
            if records.has(|record| self::sources(record).any(|named| named == source)) {
                NeededBy::Record
            } else if claims.is_named(source, is_kept_for) {
                NeededBy::Claim
            } else {
                NeededBy::Nobody
            }
        }),
        source_of: Box::new(move |uid| {
            let claim = waiting.claim(uid);
            let named = claim.and_then(|claim| Source::of(&claim, kept.cross_namespace).ok()?);
            named.or_else(|| recorded.get(uid)?.record.plan.source.clone())
        }),
        is_complete: Box::new(move || shards.has_read_all()),
    }
}

fn sources(record: &Record) -> impl Iterator<Item = &Source> {
    record.plans().filter_map(|plan| plan.source.as_ref())
}

impl Kept {
    /// The source that is kept because this claim waits.
    ///
    /// One in another namespace is kept only while a creation is at work or on record: whether a ReferenceGrant lets the
    /// claim have it is looked at then, and without one it must not keep there what somebody wants deleted. But what is at
    /// work on other nodes is known by its claim alone.
    fn for_claim(self, claim: &Claim) -> Option<Source> {
        let source = Source::of(claim, self.cross_namespace).ok()??;
        let is_kept = self.one_node || source.namespace == claim.namespace;
        (is_kept && !claim.deleting).then_some(source)
    }
}
