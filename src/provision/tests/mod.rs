//! A world in which everything is in order. A row of a table says in which one thing it differs, and what follows.

use std::{collections::BTreeMap, time::Duration};

use super::{
    decide::{Decision, Facts, Infeasible, decide},
    plan::Plan,
    policy::Policy,
};
use crate::{
    base::names::{self, UidLength},
    cluster::{
        objects::{Claim, Class, PROVISIONER},
        topology::ClusterTopology,
    },
    csi::DriverInfo,
};

mod affinity;
mod aggregation;
mod allowed;
mod attributes;
mod cases;
mod claims;
mod clones;
mod codes;
mod content;
mod decide;
mod granted;
mod migration;
mod nodes;
mod outcome;
mod ownership;
mod parameters;
mod placement;
mod record;
mod request;
mod restores;
mod save;
mod settle;
mod source;
mod stored;
mod terms;
mod texts;
mod topology;
mod volume;

const DRIVER: &str = "lab.csi.example.com";
const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
/// How long what is waited for may take still.
const LEFT: Duration = Duration::from_secs(7);
const NAME: &str = "pvc-01234567-89ab-cdef-0123-456789abcdef";

pub(super) struct World {
    claim: Claim,
    class: Option<Class>,
    driver: DriverInfo,
    name_used_by: Option<String>,
    in_progress: bool,
    /// The class that an infeasible request was made for, and its VolumeAttributesClass.
    infeasible: Option<(&'static str, Option<&'static str>)>,
    just_saved: bool,
    just_rescheduled: bool,
    class_just_missed: bool,
    /// Where the driver runs, if it has topology.
    nodes: Option<ClusterTopology>,
    policy: Policy,
}

/// In what a row differs from the world that is in order.
type Change = fn(&mut World);
type Pairs = &'static [(&'static str, &'static str)];

/// 1 GiB for `shop/data` of class `fast`.
pub(super) fn world() -> World {
    World {
        claim: Claim {
            uid: UID.into(),
            namespace: "shop".into(),
            name: "data".into(),
            resource_version: "42".into(),
            annotations: map(&[(PROVISIONER, DRIVER)]),
            class_name: Some("fast".into()),
            access_modes: vec!["ReadWriteOnce".into()],
            storage_request: Some("1Gi".into()),
            volume_mode: Some("Filesystem".into()),
            ..Claim::default()
        },
        class: Some(Class {
            name: "fast".into(),
            uid: "class-uid".into(),
            provisioner: DRIVER.into(),
            parameters: map(&[("tier", "gold")]),
            reclaim_policy: Some("Delete".into()),
            ..Class::default()
        }),
        driver: DriverInfo {
            name: DRIVER.into(),
            controller_service: true,
            create_delete_volume: true,
            modify_volume: true,
            ..DriverInfo::default()
        },
        name_used_by: None,
        in_progress: false,
        infeasible: None,
        just_saved: false,
        just_rescheduled: false,
        class_just_missed: false,
        nodes: None,
        policy: Policy {
            name_prefix: "pvc".into(),
            uid_length: UidLength::Whole,
            default_fs_type: "ext4".into(),
            extra_metadata: false,
            publish_read_only: false,
            topology: true,
            strict_topology: false,
            immediate_topology: true,
            prevent_mode_conversion: true,
            attributes_classes: true,
            cross_namespace: false,
            node: None,
            identity: "me".into(),
        },
    }
}

impl World {
    fn but(change: Change) -> Self {
        let mut world = world();
        change(&mut world);
        world
    }

    fn class(&mut self) -> &mut Class {
        self.class.as_mut().expect("a class")
    }

    fn parameters(&mut self, pairs: &[(&str, &str)]) {
        self.class().parameters = map(pairs);
    }

    fn annotate(&mut self, key: &str, value: &str) {
        self.claim.annotations.insert(key.into(), value.into());
    }

    fn modes(&mut self, modes: &[&str]) {
        self.claim.access_modes = modes.iter().map(ToString::to_string).collect();
    }

    fn decide(&self) -> Decision {
        let Policy {
            name_prefix,
            uid_length,
            ..
        } = &self.policy;
        let name = names::volume_name(name_prefix, &self.claim.uid, *uid_length);
        decide(Facts {
            claim: &self.claim,
            class: self.class.as_ref(),
            class_lag: self.class_just_missed.then_some(LEFT),
            driver: &self.driver,
            policy: &self.policy,
            topology: self.nodes.as_ref(),
            in_progress: self.in_progress,
            infeasible: self.infeasible.map(|(class_uid, attributes_class)| Infeasible {
                class_uid,
                attributes_class,
                left: LEFT,
            }),
            name: name.as_deref().map_err(|error| *error),
            name_used_by: self.name_used_by.as_deref(),
            saved: self.just_saved.then_some(LEFT),
            rescheduled: self.just_rescheduled.then_some(LEFT),
        })
    }

    pub(super) fn plan(&self) -> Plan {
        match self.decide() {
            Decision::Provision(plan) => *plan,
            other => panic!("no plan: {other:?}"),
        }
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}
