//! A claim goes back to the scheduler: without a selected node, it chooses one anew.

use std::time::Duration;

use super::reconcile::{FAILED, NOT_LEADING, Provision};
use crate::{
    base::api_error::Reason,
    cluster::{api::SelectOutcome, events::Event, objects::Claim, queue::Requeue},
};

/// How often the claim is read and written when others write it at the same time.
const TRIES: usize = 4;
/// Somebody else has changed the selected node, which shows in the watch within this time.
const OVERTAKEN: Duration = Duration::from_secs(1);

impl Provision {
    /// Takes `node` off a claim, if it is the selected one still.
    ///
    /// The volume must not exist as far as anybody can tell: either no record is open, or the driver has refused the
    /// request twice in doubt, and then the record is kept (`Verdict::Renew`).
    pub(super) async fn reschedule(&self, claim: &Claim, node: &str, why: &str) -> Requeue {
        if !self.active.is_set() {
            return NOT_LEADING;
        }
        self.lose_race(claim);
        let mut tries = 1;
        let selected = loop {
            let selected = self.api.select_node(claim, Some(node), None, &self.active).await;
            match &selected {
                Err(error) if error.reason == Reason::Conflict && tries < TRIES => tries += 1,
                _ => break selected,
            }
        };
        match selected {
            Ok(outcome) => {
                let next = match self.policy.node {
                    None => "the scheduler is to choose again",
                    Some(_) => "another node may take the claim, or is to be chosen",
                };
                let text = format!("{why}; {next}");
                self.events.publish(claim, Event::warning(FAILED, text));
                if outcome == SelectOutcome::Overtaken {
                    return Requeue::After(OVERTAKEN);
                }
                self.rescheduled.insert(&claim.uid, &claim.resource_version);
                Requeue::AwaitChange
            }
            Err(error) => {
                let text = format!(
                    "{why}; the scheduler cannot choose again, because the selected node stays: {error}"
                );
                self.fail_claim(claim, text)
            }
        }
    }
}
