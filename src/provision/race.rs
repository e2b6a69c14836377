//! The race of the nodes for a claim that belongs to nobody: where a sidecar runs on each node, and serves that one.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    memory::EVENT_TTL,
    ownership::{delay, jitter, tells},
    plan::Plan,
    policy::NodePolicy,
    races::Race,
    reconcile::{FAILED, NOT_LEADING, Provision},
};
use crate::{
    base::{api_error::Reason, backoff::Backoff, duration::GoDuration},
    cluster::{api::SelectOutcome, events::Event, objects::Claim, queue::Requeue},
    csi::{NotSent, proto},
};

/// A node that could not take a claim tries again after this long at least, twice as long each time up to the longest
/// delay: jitter may leave nothing of that, and the operator may have said zero.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Where the longest delay is no delay.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The nodes know each other's events by this text; no other event about a claim has it.
const NOT_TAKEN: &str = "no other node has taken the claim";

impl Provision {
    /// Waits for this node's turn, looks whether it has room, and writes its name into the claim. The volume is made
    /// when the watch shows that.
    pub(super) async fn race(&self, claim: &Claim, plan: &Plan) -> Requeue {
        let Some(node) = &self.policy.node else {
            return Requeue::AwaitChange;
        };
        let race = self.enter_race(claim, node);
        let left = race.due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Requeue::After(left);
        }
        if let Some(why) = self.lacks_room(plan).await {
            return self.cannot_take(claim, &why).await;
        }
        if !self.active.is_set() {
            return NOT_LEADING;
        }
        let selected = self.api.select_node(claim, None, Some(&node.name), &self.active);
        match selected.await {
            Ok(SelectOutcome::Done) => Requeue::AwaitChange,
            // Which may mean that we do not lead.
            Ok(SelectOutcome::Overtaken) => NOT_LEADING,
            // Somebody else has written the claim, most likely another node.
            Err(error) if error.reason == Reason::Conflict => Requeue::After(self.lose_race(claim)),
            Err(error) => self.cannot_take(claim, &error.to_string()).await,
        }
    }

    /// This node cannot take a claim that is nobody's. Each node finds its own reason, so only some of them tell, and
    /// only if none has.
    pub(super) async fn cannot_take(&self, claim: &Claim, why: &str) -> Requeue {
        let Some(node) = &self.policy.node else {
            return Requeue::AwaitChange;
        };
        let race = self.enter_race(claim, node);
        let open_for = race.since.elapsed();
        tracing::debug!(
            claim = claim.key(),
            node = node.name,
            why,
            "this node does not take the claim"
        );
        // When the API server has forgotten the event, it is told again.
        let is_told = race.told.is_some_and(|told| told.elapsed() < EVENT_TTL);
        if !is_told && tells(&claim.uid, node, open_for) {
            let told = self
                .events_api
                .has_event(&claim.namespace, &claim.uid, FAILED, NOT_TAKEN);
            let told = match told.await {
                // Where events may not be listed, each node tells once.
                Err(error) if error.reason == Reason::Forbidden => false,
                // A server that is too busy to be asked gets no event from each node.
                Err(_) => return Requeue::After(self.lose_race(claim)),
                Ok(told) => told,
            };
            if !told {
                let text = format!(
                    "node {} does not take the claim: {why}; and {NOT_TAKEN} for {}",
                    node.name,
                    GoDuration::from(open_for)
                );
                self.events.publish(claim, Event::warning(FAILED, text));
            }
            self.races.told(&claim.uid);
        }
        Requeue::After(self.lose_race(claim))
    }

    fn enter_race(&self, claim: &Claim, node: &NodePolicy) -> Race {
        self.races
            .enter(&claim.uid, || delay(node, 0, jitter(claim, &node.name, 0)))
    }

    /// A try has failed. Returns the pause before the next one; none where a sidecar serves all nodes.
    pub(super) fn lose_race(&self, claim: &Claim) -> Duration {
        let Some(node) = &self.policy.node else {
            return Duration::ZERO;
        };
        self.races.fail(&claim.uid, |failures| {
            let pause = delay(node, failures, jitter(claim, &node.name, failures));
            let max = match node.max_delay {
                max if max < LEAST_PAUSE => LONGEST_PAUSE,
                max => max,
            };
            let least = Backoff {
                start: LEAST_PAUSE,
                max,
            };
            pause.max(least.delay(failures))
        })
    }

    /// Why the driver has no room for this volume. A driver that cannot tell has room (upstream's rule): CreateVolume
    /// finds out.
    async fn lacks_room(&self, plan: &Plan) -> Option<String> {
        let wanted = plan
            .request
            .capacity_range
            .map_or(0, |range| range.required_bytes);
        if wanted == 0 || !self.driver_info.get_capacity {
            return None;
        }
        let driver = self.driver.migrated(plan.is_migrated());
        let mut most = 0;
        for topology in plan.places() {
            let request = proto::GetCapacityRequest {
                volume_capabilities: plan.request.volume_capabilities.clone(),
                parameters: plan.request.parameters.clone(),
                accessible_topology: topology,
            };
            let room = match driver.get_capacity(request).await {
                Ok(Ok(answer)) => {
                    let largest = answer.maximum_volume_size.filter(|largest| *largest > 0);
                    answer.available_capacity.min(largest.unwrap_or(i64::MAX))
                }
                Err(NotSent) => return None,
                Ok(Err(error)) => {
                    tracing::warn!(volume = plan.request.name, %error, "the driver does not say how much room it has");
                    return None;
                }
            };
            if room >= wanted {
                return None;
            }
            if room < 0 {
                tracing::warn!(
                    volume = plan.request.name,
                    room,
                    "the driver says that it has less than no room"
                );
            }
            most = most.max(room);
        }
        Some(format!(
            "the driver has room for {most} bytes there, {wanted} are asked for"
        ))
    }
}
