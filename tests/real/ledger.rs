//! What the ledger has in the cluster: the Leases beside that of the election, read as anybody can read them.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt as _, api::ListParams};

use crate::world::{World, text};

/// What the name of every shard has in it, and no other Lease of ours.
pub(crate) const SHARD: &str = "-ledger-";

/// The shards of one namespace together.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct LedgerSeen {
    /// Heads of the open records, by the UID of the claim.
    pub(crate) records: BTreeMap<String, String>,
    /// Heads of the held ones.
    pub(crate) held: BTreeMap<String, String>,
    /// The `resourceVersion` of each shard.
    pub(crate) shards: BTreeMap<String, String>,
}

impl LedgerSeen {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.held.is_empty()
    }
}

impl World {
    /// What stands in the ledger of the sidecars here.
    pub(crate) async fn ledger(&self) -> Result<LedgerSeen, String> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = leases.list(&ListParams::default()).await.map_err(text)?;
        let mut seen = LedgerSeen::default();
        for lease in list.into_iter().filter(|lease| lease.name_any().contains(SHARD)) {
            let version = lease.resource_version().unwrap_or_default();
            seen.shards.insert(lease.name_any(), version);
            for (key, value) in lease.annotations() {
                // What people read of it, without the packed rest.
                let words: Vec<_> = value.split(' ').collect();
                let head = words[..words.len().saturating_sub(1)].join(" ");
                match key.split_once('/') {
                    Some(("ledger.volwright.dev", uid)) => _ = seen.records.insert(uid.to_owned(), head),
                    Some(("held.volwright.dev", uid)) => _ = seen.held.insert(uid.to_owned(), head),
                    _ => {}
                }
            }
        }
        Ok(seen)
    }
}
