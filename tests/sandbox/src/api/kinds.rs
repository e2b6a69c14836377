//! The table of resources. Everything that differs between resources is a
//! column here; the verbs know no resource by name.

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    api::coordination::v1::Lease,
    api::core::v1::{Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret},
    api::storage::v1::{
        CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{capacity, custom, failure::Cause, patch::PatchKind, route::Verb, rules, topology};

/// One resource of the API, and how the real server treats it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// API group, empty for core.
    pub group: &'static str,
    /// Version within the group.
    pub version: &'static str,
    /// The name in the path.
    pub plural: &'static str,
    /// The name in objects.
    pub kind: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether `/status` is served and the main resource ignores status.
    pub status: bool,
    /// Whether it comes with a CRD.
    pub custom: bool,
    /// Whether a PUT of an absent object creates it.
    pub(crate) upsert: bool,
    /// Whether a PUT without resourceVersion overwrites.
    pub(crate) unconditional: bool,
    /// Whether DELETE answers with the object instead of a `Status`.
    pub(crate) echoes: bool,
    /// Whether DELETE is served.
    pub(crate) deletable: bool,
    /// The finalizer that admission adds to every new object.
    pub(crate) finalizer: Option<&'static str>,
    /// Drops fields the server does not know and refuses wrong types.
    pub(crate) normal: fn(Value) -> Result<Value, serde_json::Error>,
    /// Fills in what the server defaults on create.
    pub(crate) fill: fn(&mut Value),
    /// Validation; the old object is given on updates.
    pub(crate) check: fn(&Value, Option<&Value>) -> Vec<Cause>,
}

const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    namespaced: false,
    status: false,
    custom: false,
    upsert: false,
    unconditional: true,
    echoes: false,
    deletable: true,
    finalizer: None,
    normal: normal::<Value>,
    fill: |_| {},
    check: |_, _| Vec::new(),
};

const STORAGE: Kind = Kind {
    group: "storage.k8s.io",
    echoes: true,
    ..PLAIN
};

/// Of these the sandbox has the metadata and what the owners of a pod are found by.
const APPS: Kind = Kind {
    group: "apps",
    namespaced: true,
    ..PLAIN
};

const SNAPSHOTS: Kind = Kind {
    group: "snapshot.storage.k8s.io",
    status: true,
    custom: true,
    unconditional: false,
    fill: custom::without_status,
    ..PLAIN
};

/// All resources that the sandbox serves.
pub const KINDS: &[Kind] = &[
    Kind {
        plural: "persistentvolumes",
        kind: "PersistentVolume",
        status: true,
        echoes: true,
        finalizer: Some("kubernetes.io/pv-protection"),
        normal: normal::<PersistentVolume>,
        fill: rules::fill_volume,
        check: rules::check_volume,
        ..PLAIN
    },
    Kind {
        plural: "persistentvolumeclaims",
        kind: "PersistentVolumeClaim",
        namespaced: true,
        status: true,
        echoes: true,
        finalizer: Some("kubernetes.io/pvc-protection"),
        normal: normal::<PersistentVolumeClaim>,
        fill: rules::fill_claim,
        check: rules::check_claim,
        ..PLAIN
    },
    Kind {
        plural: "secrets",
        kind: "Secret",
        namespaced: true,
        normal: normal::<Secret>,
        fill: rules::fill_secret,
        ..PLAIN
    },
    Kind {
        plural: "events",
        kind: "Event",
        namespaced: true,
        upsert: true,
        normal: normal::<Event>,
        check: rules::check_event,
        ..PLAIN
    },
    Kind {
        plural: "namespaces",
        kind: "Namespace",
        // A namespace dies by a controller that the sandbox does not play.
        deletable: false,
        normal: normal::<Namespace>,
        fill: rules::fill_namespace,
        ..PLAIN
    },
    Kind {
        plural: "nodes",
        kind: "Node",
        normal: normal::<Node>,
        ..PLAIN
    },
    Kind {
        plural: "pods",
        kind: "Pod",
        namespaced: true,
        echoes: true,
        normal: normal::<Pod>,
        fill: rules::fill_pod,
        check: rules::check_pod,
        ..PLAIN
    },
    Kind {
        plural: "deployments",
        kind: "Deployment",
        normal: normal::<Deployment>,
        ..APPS
    },
    Kind {
        plural: "replicasets",
        kind: "ReplicaSet",
        normal: normal::<ReplicaSet>,
        ..APPS
    },
    Kind {
        plural: "statefulsets",
        kind: "StatefulSet",
        normal: normal::<StatefulSet>,
        ..APPS
    },
    Kind {
        plural: "daemonsets",
        kind: "DaemonSet",
        normal: normal::<DaemonSet>,
        ..APPS
    },
    Kind {
        plural: "storageclasses",
        kind: "StorageClass",
        normal: normal::<StorageClass>,
        fill: rules::fill_class,
        check: rules::check_class,
        ..STORAGE
    },
    Kind {
        plural: "volumeattachments",
        unconditional: false,
        kind: "VolumeAttachment",
        normal: normal::<VolumeAttachment>,
        fill: rules::fill_attachment,
        ..STORAGE
    },
    Kind {
        plural: "csinodes",
        kind: "CSINode",
        unconditional: false,
        normal: |object| normal::<CSINode>(object).map(topology::canonical_node),
        check: topology::check_node,
        ..STORAGE
    },
    Kind {
        plural: "csidrivers",
        kind: "CSIDriver",
        unconditional: false,
        normal: normal::<CSIDriver>,
        ..STORAGE
    },
    Kind {
        plural: "volumeattributesclasses",
        kind: "VolumeAttributesClass",
        finalizer: Some("kubernetes.io/vac-protection"),
        normal: normal::<VolumeAttributesClass>,
        ..STORAGE
    },
    Kind {
        plural: "csistoragecapacities",
        kind: "CSIStorageCapacity",
        namespaced: true,
        unconditional: false,
        echoes: false,
        normal: |object| normal::<CSIStorageCapacity>(object).map(capacity::canonical),
        check: capacity::check,
        ..STORAGE
    },
    Kind {
        group: "coordination.k8s.io",
        plural: "leases",
        kind: "Lease",
        namespaced: true,
        upsert: true,
        unconditional: false,
        normal: normal::<Lease>,
        check: rules::check_lease,
        ..PLAIN
    },
    Kind {
        plural: "volumesnapshots",
        kind: "VolumeSnapshot",
        namespaced: true,
        normal: |object| custom::pruned(object, &custom::SNAPSHOT),
        check: |object, _| custom::check(object, &custom::SNAPSHOT),
        ..SNAPSHOTS
    },
    Kind {
        plural: "volumesnapshotcontents",
        kind: "VolumeSnapshotContent",
        normal: |object| custom::pruned(object, &custom::CONTENT),
        check: custom::check_content,
        ..SNAPSHOTS
    },
    Kind {
        group: "gateway.networking.k8s.io",
        version: "v1beta1",
        plural: "referencegrants",
        kind: "ReferenceGrant",
        namespaced: true,
        custom: true,
        unconditional: false,
        normal: |object| custom::pruned(object, &custom::GRANT),
        check: |object, _| custom::check(object, &custom::GRANT),
        ..PLAIN
    },
];

/// Groups of which the real server serves something by default and the sandbox nothing. Any other group without a row
/// is a 404 on both, as for a CRD that is not installed.
pub(crate) const OTHER_GROUPS: &[&str] = &[
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
];

/// What the real server has besides [`KINDS`] in their groups, by plural name; `watch` is the old path of watches.
pub(crate) const OTHER_PLURALS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "bindings",
            "componentstatuses",
            "configmaps",
            "endpoints",
            "limitranges",
            "podtemplates",
            "replicationcontrollers",
            "resourcequotas",
            "serviceaccounts",
            "services",
            "watch",
        ],
    ),
    ("apps", &["controllerrevisions", "watch"]),
    ("storage.k8s.io", &["watch"]),
    ("coordination.k8s.io", &["watch"]),
];

impl Kind {
    /// The row whose plural name this is; names are unique in the table.
    pub fn named(plural: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.plural == plural)
    }

    /// The row for a group and plural name in a path.
    pub(crate) fn at(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
        KINDS
            .iter()
            .find(|k| k.group == group && k.version == version && k.plural == plural)
    }

    /// `v1` or `storage.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// Whether a verb is a route of this resource, or of its `/status`. Where it is not, the answer is 501: the real
    /// server may well have it, but no contract case says what it does. 405 is for methods that are no verb at all.
    pub fn serves(&self, verb: Verb, status: bool) -> bool {
        match verb {
            Verb::Patch(PatchKind::Strategic) if self.custom => false,
            Verb::Get | Verb::Update | Verb::Patch(_) if status => self.status,
            _ if status => false,
            Verb::Delete => self.deletable,
            _ => true,
        }
    }

    /// The path of one object, or of the collection when `name` is empty.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if self.namespaced && !namespace.is_empty() {
            path = format!("{path}/namespaces/{namespace}");
        }
        path = format!("{path}/{}", self.plural);
        if name.is_empty() {
            path
        } else {
            format!("{path}/{name}")
        }
    }

    /// `persistentvolumes` or `leases.coordination.k8s.io`, as messages name a resource.
    pub(crate) fn qualified(&self) -> String {
        dotted(self.plural, self.group)
    }

    /// `PersistentVolume` or `Lease.coordination.k8s.io`, as validation names a kind.
    pub(crate) fn qualified_kind(&self) -> String {
        dotted(self.kind, self.group)
    }
}

fn dotted(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// There and back through the published type: what the type does not know is
/// gone, as it is after the real server's decoder.
fn normal<T: DeserializeOwned + Serialize>(object: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(object)?)
}
