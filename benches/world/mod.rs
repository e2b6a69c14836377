//! A claim in a world where everything is in order, and a driver that may run on many nodes.

use std::{collections::BTreeMap, sync::Arc};

use volwright::{
    base::names::UidLength,
    cluster::{
        objects::{Claim, Class, PROVISIONER, SELECTED_NODE},
        topology::{ClusterTopology, NodeState, Registration},
    },
    csi::DriverInfo,
    provision::{decide::Facts, policy::Policy},
};

pub(crate) const DRIVER: &str = "bench.csi.example.com";
pub(crate) const UID: &str = "2f6c1f0e-6a4b-4f0e-9d43-2d8a1f1c0b7e";

pub(crate) struct World {
    pub(crate) claim: Claim,
    pub(crate) class: Class,
    pub(crate) driver: DriverInfo,
    topology: Option<ClusterTopology>,
    policy: Policy,
    volume_name: String,
}

impl World {
    /// The driver runs on so many nodes, each in a zone of its own; on none: it has no topology.
    pub(crate) fn new(nodes: usize) -> Self {
        let mut annotations = BTreeMap::from([(PROVISIONER.to_owned(), DRIVER.to_owned())]);
        if nodes > 0 {
            annotations.insert(SELECTED_NODE.to_owned(), "node-7".to_owned());
        }
        Self {
            claim: Claim {
                uid: UID.to_owned(),
                namespace: "shop".to_owned(),
                name: "data-0".to_owned(),
                annotations,
                class_name: Some("fast".to_owned()),
                access_modes: vec!["ReadWriteOnce".to_owned()],
                storage_request: Some("10Gi".to_owned()),
                ..Claim::default()
            },
            class: Class {
                name: "fast".to_owned(),
                uid: "c".to_owned(),
                provisioner: DRIVER.to_owned(),
                parameters: [("type".to_owned(), "ssd".to_owned())].into(),
                ..Class::default()
            },
            driver: DriverInfo {
                name: DRIVER.to_owned(),
                controller_service: true,
                create_delete_volume: true,
                topology: nodes > 0,
                ..DriverInfo::default()
            },
            topology: (nodes > 0).then(|| ClusterTopology::new((0..nodes).map(node), false)),
            policy: Policy {
                name_prefix: "pvc".to_owned(),
                uid_length: UidLength::Whole,
                default_fs_type: String::new(),
                extra_metadata: true,
                publish_read_only: false,
                topology: true,
                strict_topology: false,
                immediate_topology: true,
                prevent_mode_conversion: true,
                attributes_classes: true,
                cross_namespace: false,
                node: None,
                identity: "0-0-bench".to_owned(),
            },
            volume_name: format!("pvc-{UID}"),
        }
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            claim: &self.claim,
            class: Some(&self.class),
            class_lag: None,
            driver: &self.driver,
            policy: &self.policy,
            topology: self.topology.as_ref(),
            in_progress: false,
            infeasible: None,
            name: Ok(&self.volume_name),
            name_used_by: None,
            saved: None,
            rescheduled: None,
        }
    }
}

fn node(number: usize) -> NodeState {
    NodeState {
        name: format!("node-{number}"),
        labels: Some([("zone", format!("zone-{number}"))].into_iter().collect()),
        registration: Registration::Keys(Arc::new(["zone".to_owned()].into())),
        vanished: None,
    }
}
