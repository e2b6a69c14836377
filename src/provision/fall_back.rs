//! An earlier request of a claim is repeated in place of the one that was refused.

use std::sync::Arc;

use super::{create::OVERTAKEN, reconcile::Provision, record::Record, settle::Doubt};
use crate::{
    cluster::{objects::Claim, queue::Requeue},
    csi::RpcError,
};

const ASKED_EARLIER: &str = "an earlier request for this claim, from before its class or its nodes changed, may have made \
                             the volume, and is repeated instead";

impl Provision {
    /// Puts the next earlier request in place of the one that was refused with `error`. The attempt that follows sends
    /// it, after the pause of a failure: requests that refuse each other's volume may take turns for long.
    ///
    /// The claim does not go back to the scheduler, though there may be no room where its node is: an earlier request may
    /// have made a volume that this node reaches, and another one does not. When all requests are refused, it does.
    pub(super) async fn fall_back(
        &self,
        record: &Arc<Record>,
        claim: Option<&Claim>,
        error: &RpcError,
        keeps: bool,
        doubt: Doubt,
    ) -> Requeue {
        if !self.is_current(&record.uid, Some(record)) {
            return Requeue::After(OVERTAKEN);
        }
        if let Some(next) = record.fallen_back(keeps, doubt)
            // If it cannot be stored, the same request is repeated, and comes to the same.
            && let Err(next) = self.open(&Arc::new(next), claim).await
        {
            return next;
        }
        self.fail(&record.plan, claim, &format!("{error}; {ASKED_EARLIER}"))
    }
}
