//! Pure. Whose claim is it, where a sidecar runs on each node and serves that node only?
//!
//! A claim whose node is selected is that node's. One that binds at once belongs to nobody: each node waits for a while,
//! looks whether it has room, and writes its name into the claim; the API server takes the first. (Behaviour of the
//! upstream sidecar.)

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    time::Duration,
};

use super::policy::NodePolicy;
use crate::cluster::objects::{BindingMode, Claim, Class};

/// Whose claim it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// This node's.
    Ours,
    /// Another node's.
    OtherNodes,
    /// Nobody's, and it stays so until a node is selected for it.
    NotOpen,
    /// Nobody's, and this node may take it.
    Open,
}

/// The node of the claim; without one, whether its class leaves it to the nodes. Only a class that says Immediate does.
/// A claim whose class is missing is left to them, too: each finds that out.
pub fn ownership(claim: &Claim, class: Option<&Class>, node: &NodePolicy) -> Ownership {
    match claim.selected_node() {
        Some(selected) if selected == node.name => Ownership::Ours,
        Some(_) => Ownership::OtherNodes,
        None => {
            let binds_at_once = class.is_none_or(|class| class.binding_mode == Some(BindingMode::Immediate));
            match node.immediate_binding && binds_at_once {
                true => Ownership::Open,
                false => Ownership::NotOpen,
            }
        }
    }
}

/// How long a node waits before it tries to take an open claim: at first up to `base_delay`, and twice as long after
/// each failure up to `max_delay`, less up to one `base_delay` by `jitter` in 0..1.
pub fn delay(node: &NodePolicy, failures: u32, jitter: f64) -> Duration {
    let factor = 1_u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
    let full = node.base_delay.saturating_mul(factor).min(node.max_delay);
    full.saturating_sub(node.base_delay.mul_f64(jitter.clamp(0.0, 1.0)))
}

/// The part of a base delay by which a try comes early, in 0..1. It differs from node to node and from try to try, and
/// when the claim has been written meanwhile: a claim that came back is not won by the same node again.
pub fn jitter(claim: &Claim, node: &str, failures: u32) -> f64 {
    fraction(&(&claim.uid, &claim.resource_version, node, failures))
}

/// How many nodes in one speak first of a claim that no node has taken: with thousands of nodes a few of them.
const FIRST_SHARE: f64 = 1.0 / 256.0;
/// The time in which twice as many may speak.
const DOUBLING: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Whether this node is among those that tell why it cannot take a claim which has been open for `elapsed`. It is a
/// share of the nodes that the claim's UID draws, and doubles with each base delay: the claim's owner is told soon
/// where nodes are many, and at last where there is one.
pub fn tells(claim_uid: &str, node: &NodePolicy, elapsed: Duration) -> bool {
    let [least, most] = DOUBLING;
    let doublings = elapsed.as_secs_f64() / node.base_delay.clamp(least, most).as_secs_f64();
    fraction(&(claim_uid, &node.name)) < FIRST_SHARE * doublings.exp2()
}

/// A number in 0..1 that is the same for the same facts.
fn fraction(facts: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    facts.hash(&mut hasher);
    // 32 bits fit a float exactly.
    let bits = u32::try_from(hasher.finish() >> 32).unwrap_or_default();
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}
