//! What keeps the sources of volumes, and what connects that to the others.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{config::Config, metrics::Metrics};
use crate::{
    cluster::{active::Active, api::ApiClient, cache::Cache, source::Source},
    csi::DriverInfo,
    ledger::Ledger,
    protect::reconcile::Protection,
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
    Some(Arc::new(Protection::new(
        driver,
        api.clone(),
        active.clone(),
        metrics.worker_pool(QUEUE, settings.at_once, config.work.backoff, tasks),
        Box::new(move || named(&cache, &ledger)),
        settings.sweep_interval,
    )))
}

/// Who needs what: the claims that wait for a volume of ours, and the open records.
fn named(cache: &Cache, ledger: &Ledger<Record>) -> Vec<(String, Source)> {
    let uids = cache.claim_uids().into_iter();
    let claims = uids.filter_map(|uid| {
        let claim = cache.claim(&uid).filter(|claim| !claim.deleting)?;
        Some((uid, Source::of(&claim, false).ok()??))
    });
    let entries = ledger.entries();
    let records = entries.iter().flat_map(|entry| {
        let sources = entry.record.plans().filter_map(|plan| plan.source.clone());
        sources.map(|source| (entry.record.uid.clone(), source))
    });
    claims.chain(records).collect()
}
