//! A world in which everything is in order. A row of a table says in which one thing it differs, and what follows.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;

use super::decide::{Decision, Facts, Plan, decide};
use super::policy::Policy;
use crate::{
    base::names::UidLength,
    cluster::objects::{Claim, Class, PROVISIONER},
    csi::DriverInfo,
};

mod decide;
mod outcome;
mod request;
mod texts;
mod volume;

const DRIVER: &str = "lab.csi.example.com";
const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const NAME: &str = "pvc-01234567-89ab-cdef-0123-456789abcdef";

struct World {
    claim: Claim,
    class: Option<Class>,
    driver: DriverInfo,
    standing: Option<String>,
    policy: Policy,
}

/// In what a row differs from the world that is in order.
type Change = fn(&mut World);
type Pairs = &'static [(&'static str, &'static str)];

/// 1 GiB for `shop/data` of class `fast`.
fn world() -> World {
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
            ..DriverInfo::default()
        },
        standing: None,
        policy: Policy {
            name_prefix: "pvc".into(),
            uid_length: UidLength::Whole,
            default_fs_type: "ext4".into(),
            extra_metadata: false,
            publish_read_only: false,
            attributes_classes: true,
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
        decide(Facts {
            claim: &self.claim,
            class: self.class.as_ref(),
            driver: &self.driver,
            standing: self.standing.as_deref(),
            policy: &self.policy,
        })
    }

    fn plan(&self) -> Plan {
        match self.decide() {
            Decision::Provision(plan) => *plan,
            other => panic!("no plan: {other:?}"),
        }
    }
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
}
