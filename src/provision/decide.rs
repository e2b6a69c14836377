//! Pure. Does this claim get a volume from us, now, and which one?
//!
//! The order of the checks is upstream's, so that a claim which upstream leaves alone is left alone here for the same
//! reason. What upstream drops silently is a [`Refusal`] here: the person who made the claim is told.

use std::time::Duration;

use super::{
    attributes::attributes_class,
    ownership::{Ownership, ownership},
    plan::{Plan, plan},
    policy::Policy,
    refusal::Refusal,
};
use crate::{
    base::names::VolumeNameError,
    cluster::{
        migration::{class_for_driver, is_name_of},
        objects::{Claim, Class, SELECTED_NODE},
        source::NoSource,
        topology::{ClusterTopology, NodeProblem},
    },
    csi::DriverInfo,
};

/// What was known when the claim was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// The class it names, if that exists.
    pub class: Option<&'a Class>,
    /// The class was first missed a moment ago, and the watch may take this long still to show it.
    pub class_lag: Option<Duration>,
    /// The driver.
    pub driver: &'a DriverInfo,
    /// How the operator wants it.
    pub policy: &'a Policy,
    /// Where the driver runs, if it has topology.
    pub topology: Option<&'a ClusterTopology>,
    /// A creation for the claim is under way: a record is open.
    pub in_progress: bool,
    /// The driver said that the claim's request can never succeed.
    pub infeasible: Option<Infeasible<'a>>,
    /// The name of its volume.
    pub name: Result<&'a str, VolumeNameError>,
    /// UID of the claim that the volume of that name is for, if we see such a volume.
    pub name_used_by: Option<&'a str>,
    /// We wrote the PersistentVolume a moment ago, and the watch may take this long still to show it.
    pub saved: Option<Duration>,
    /// We sent the claim back to the scheduler a moment ago, and the watch may take this long still to show it.
    pub rescheduled: Option<Duration>,
}

/// A request that the driver called infeasible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Infeasible<'a> {
    /// UID of the class that it was made for.
    pub class_uid: &'a str,
    /// The VolumeAttributesClass that it was made with.
    pub attributes_class: Option<&'a str>,
    /// How long it is not to be repeated.
    pub left: Duration,
}

/// What to do with a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing, and nobody needs to know.
    Leave(Leave),
    /// Nothing for this long.
    Wait(Wait, Duration),
    /// Nothing until something changes, and the claim's owner should know why.
    Tell(Refusal),
    /// The node of this name that the scheduler chose is gone: let it choose again.
    Reschedule(String, NodeProblem),
    /// Go on with the creation that is under way, as it was recorded.
    Resume,
    /// Make a volume.
    Provision(Box<Plan>),
    /// Nothing, and the claim's owner should know why. The sidecars of all nodes find the same, so few of them tell.
    TellOnce(Refusal),
    /// The claim is nobody's: try to make it this node's. The plan is what the driver would be asked for then.
    Race(Box<Plan>),
}

/// Why a claim is none of our business at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It has a volume, or somebody has chosen one.
    HasVolume,
    /// Another provisioner is asked.
    NotOurs,
    /// It is being deleted. (Upstream makes a volume all the same.)
    BeingDeleted,
    /// Its class belongs to another provisioner.
    ForeignClass,
    /// The scheduler has not chosen a node yet.
    WaitsForConsumer,
    /// It is not this node's, nor to become so, and this sidecar serves one node: another one is selected, the class
    /// allows only others, or a populator is asked.
    OtherNode,
    /// Its volume has its object already; the binder has yet to bind them.
    Provisioned,
}

/// What time alone will change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The driver called the same request infeasible.
    Infeasible,
    /// Something does not show in the watch yet. Without what we wrote the claim looks as if it had no volume, or the
    /// node that was taken off it; without its class as if that did not exist.
    WatchLag,
    /// Labels of nodes are still being read.
    Nodes,
}

impl Wait {
    /// How long [`Wait::Nodes`] takes at most; the change is heard of before.
    pub(super) const FOR_NODES: Duration = Duration::from_secs(5);
}

/// Whether a claim needs anything from the provisioner of `driver`: the predicate, the cheap part of the decision that
/// is applied to every claim of the cluster.
pub fn concerns(claim: &Claim, driver: &str) -> bool {
    !claim.has_volume && [claim.provisioner(), claim.migrated_to()].contains(&Some(driver))
}

/// Whether the scheduler chooses again when the selected node is taken off the claim. It knows nothing of the alpha
/// annotation.
pub fn can_reschedule(claim: &Claim) -> bool {
    claim
        .annotations
        .get(SELECTED_NODE)
        .is_some_and(|node| !node.is_empty())
}

/// Decides about one claim.
pub fn decide(facts: Facts<'_>) -> Decision {
    let selected = facts.claim.selected_node();
    let Some(node) = &facts.policy.node else {
        return check(facts, selected);
    };
    match ownership(facts.claim, facts.class, node) {
        _ if facts.in_progress => Decision::Resume,
        Ownership::Ours => check(facts, selected),
        Ownership::OtherNodes => Leave::OtherNode.into(),
        Ownership::NotOpen => Leave::WaitsForConsumer.into(),
        Ownership::Open => match check(facts, Some(&node.name)) {
            Decision::Provision(plan) => Decision::Race(plan),
            // The class wants other nodes; or a populator is asked, whatever node it is on.
            Decision::Tell(Refusal::NotAllowed { .. } | Refusal::NoSource(NoSource::Populator)) => {
                Leave::OtherNode.into()
            }
            Decision::Tell(refusal) => Decision::TellOnce(refusal),
            other => other,
        },
    }
}

/// `node` is the one that the volume is for, if there is one.
fn check(facts: Facts<'_>, node: Option<&str>) -> Decision {
    match plan_for(facts, node) {
        Ok(plan) => Decision::Provision(Box::new(plan)),
        Err(no) => no,
    }
}

impl Decision {
    /// Whether another look is worthwhile when nodes change.
    pub const fn waits_for_nodes(&self) -> bool {
        match self {
            Self::Wait(wait, _) => matches!(wait, Wait::Nodes),
            Self::Tell(refusal) => refusal.is_about_nodes(),
            // Until the selected node has been taken off.
            Self::Reschedule(..) => true,
            _ => false,
        }
    }
}

impl From<Leave> for Decision {
    fn from(leave: Leave) -> Self {
        Self::Leave(leave)
    }
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Self::Tell(refusal)
    }
}

fn plan_for(facts: Facts<'_>, node: Option<&str>) -> Result<Plan, Decision> {
    let Facts {
        claim,
        class,
        class_lag,
        driver,
        policy,
        topology,
        in_progress,
        infeasible,
        name,
        name_used_by,
        saved,
        rescheduled,
    } = facts;
    // Whatever claim, class and settings say now: another request under the same name is an error in CSI.
    if in_progress {
        return Err(Decision::Resume);
    }
    // A class that was made anew, or another VolumeAttributesClass, may be worth an early retry.
    if let Some(request) = infeasible
        && class.is_none_or(|class| class.uid == request.class_uid)
        && attributes_class(claim, policy) == request.attributes_class
    {
        return Err(Decision::Wait(Wait::Infeasible, request.left));
    }
    if let (Some(left), None) = (saved, name_used_by) {
        return Err(Decision::Wait(Wait::WatchLag, left));
    }
    if let Some(left) = rescheduled {
        return Err(Decision::Wait(Wait::WatchLag, left));
    }
    if claim.has_volume {
        return Err(Leave::HasVolume.into());
    }
    if !concerns(claim, &driver.name) {
        return Err(Leave::NotOurs.into());
    }
    // A claim that migration handed over to us may still ask for the plugin it was made for.
    if !is_name_of(&driver.name, claim.provisioner().unwrap_or_default()) {
        return Err(Leave::NotOurs.into());
    }
    if claim.deleting {
        return Err(Leave::BeingDeleted.into());
    }
    let Some(class) = class else {
        return Err(match class_lag {
            Some(left) => Decision::Wait(Wait::WatchLag, left),
            None => Refusal::NoClass(claim.class().to_owned()).into(),
        });
    };
    if !is_name_of(&driver.name, &class.provisioner) {
        return Err(Leave::ForeignClass.into());
    }
    if class.waits_for_consumer() && node.is_none() {
        return Err(Leave::WaitsForConsumer.into());
    }
    let name = name.map_err(Refusal::Name)?;
    match name_used_by {
        Some(uid) if uid == claim.uid => return Err(Leave::Provisioned.into()),
        Some(_) => return Err(Refusal::NameTaken(name.to_owned()).into()),
        None => {}
    }
    let odd = |error| Refusal::Class(class.name.clone(), error);
    let class = class_for_driver(class, &driver.name).map_err(odd)?;
    plan(claim, &class, driver, policy, topology, node, name)
}
