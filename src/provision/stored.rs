//! Pure. A record as it is stored in the ledger.

use super::record::Record;
use crate::ledger::{RecordHead, Storable};

impl Storable for Record {
    fn head(&self) -> RecordHead {
        RecordHead {
            claim: self.key.clone(),
            volume: self.plan.request.name.clone(),
        }
    }

    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    fn decode(_: &str, _: &RecordHead, _: &[u8]) -> Result<Self, String> {
        Err("not yet".to_owned())
    }

    fn deletes(&self) -> bool {
        let spec = self.plan.draft.spec.as_ref();
        spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Delete")
    }
}
