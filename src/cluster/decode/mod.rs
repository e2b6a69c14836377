//! The lean decoding of API objects: only the fields that are read here are kept, everything else is skipped
//! unread. One file per kind.
//!
//! A typed PersistentVolume costs some 15 kB, a lean one some hundred bytes; and what the decoder skips is never
//! allocated. The types here are private to `cluster/` and cannot be serialised, so none can be written back.

mod attachment;
mod claim;
mod class;
mod csi_node;
mod grant;
mod node;
mod snapshot;
mod storage_capacity;
mod volume;

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, core::DynamicResourceScope};
use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// A kind of object that is watched and kept lean.
pub(super) trait Object: Clone + std::fmt::Debug + Send + Sync + Sized + 'static {
    /// The shape on the wire.
    type Raw: for<'de> Deserialize<'de>;
    /// API group, "" for core.
    const GROUP: &'static str;
    /// API version.
    const VERSION: &'static str = "v1";
    /// Kind, for logs.
    const KIND: &'static str;
    /// The name in the URL and in RBAC rules.
    const PLURAL: &'static str;
    /// Nothing waits for the list. Where the kind is not served or may not be listed, that is well for long, and is looked
    /// at again slowly.
    const OPTIONAL: bool = false;
    /// Only the metadata is asked for.
    const METADATA_ONLY: bool = false;

    /// The lean object, or the name of one that is not what the API promises; and the resourceVersion.
    fn from_raw(raw: Self::Raw) -> (Result<Self, String>, String);
}

/// A lean object on its way through kube's watcher, which asks for an `ObjectMeta` beside it.
#[derive(Clone, Debug)]
pub(super) struct Decoded<R> {
    meta: ObjectMeta,
    /// The name only, where the object is not what the API promises.
    pub(super) object: Result<R, String>,
}

impl<'de, R: Object> Deserialize<'de> for Decoded<R> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (object, version) = R::from_raw(R::Raw::deserialize(from)?);
        let meta = ObjectMeta {
            resource_version: Some(version),
            ..ObjectMeta::default()
        };
        Ok(Self { meta, object })
    }
}

impl<R: Object> Resource for Decoded<R> {
    type DynamicType = ();
    /// Listed in one namespace or in all: the kind alone does not tell.
    type Scope = DynamicResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        R::KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        R::GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        R::VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        R::PLURAL.into()
    }
    fn metadata_api() -> bool {
        R::METADATA_ONLY
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta<L = IgnoredAny> {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    deletion_timestamp: Option<IgnoredAny>,
    annotations: Option<BTreeMap<String, String>>,
    /// Kept of few kinds.
    labels: Option<L>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawOwner {
    uid: String,
}

impl<L> Meta<L> {
    fn key(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

/// A part of an object, or that it is not what the API promises: one odd object must not spoil the list it comes in.
#[derive(Deserialize)]
#[serde(untagged)]
enum Part<T> {
    Read(T),
    Odd(IgnoredAny),
}

/// What the API promises.
#[cfg(test)]
impl<T: schemars::JsonSchema> schemars::JsonSchema for Part<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

impl<T: Default> Part<T> {
    /// What was read, once.
    fn take(&mut self) -> Option<T> {
        match self {
            Self::Read(part) => Some(std::mem::take(part)),
            Self::Odd(_) => None,
        }
    }
}

impl<T: Default> Default for Part<T> {
    fn default() -> Self {
        Self::Read(T::default())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        base::segment::Segment,
        cluster::objects::{
            Attachment, BindingMode, Claim, Class, CsiNode, InTreeSource, Node, StorageCapacity, Volume,
        },
    };

    fn decode<R: Object>(value: serde_json::Value) -> Decoded<R> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_claim_keeps_what_the_decision_needs_and_skips_the_rest() {
        let decoded = decode::<Claim>(json!({
            "metadata": {"name": "data", "namespace": "ns", "uid": "u", "resourceVersion": "7",
                "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {"a": "b"},
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                "storageClassName": "fast", "volumeMode": "Block", "selector": {},
                "dataSourceRef": {"apiGroup": "g", "kind": "K", "name": "n", "namespace": ""}},
            "status": {"phase": "Pending"}
        }));
        assert_eq!(decoded.meta.resource_version.as_deref(), Some("7"));
        let claim = decoded.object.unwrap();
        assert!(claim.deleting && claim.has_selector && !claim.has_volume);
        assert_eq!(claim.storage_request.as_deref(), Some("1Gi"));
        assert_eq!(claim.class(), "fast");
        assert_eq!(claim.data_source_ref.unwrap().kind, "K");
    }

    #[test]
    fn objects_with_null_or_absent_parts_still_decode() {
        let claim = decode::<Claim>(json!({"metadata": {"name": "x", "annotations": null}, "spec": {}}))
            .object
            .unwrap();
        assert_eq!(claim.access_modes, Vec::<String>::new());
        let class = decode::<Class>(json!({"metadata": {"name": "x"}, "parameters": null}))
            .object
            .unwrap();
        assert_eq!(class.provisioner, "");
        let volume = decode::<Volume>(json!({"metadata": {"name": "x"}, "spec": {"claimRef": null}}))
            .object
            .unwrap();
        assert_eq!(volume.claim, None);
        decode::<Attachment>(json!({"metadata": {"name": "x"}, "spec": {"source": {}}}));
    }

    #[test]
    fn an_in_tree_volume_is_read_in_the_words_of_the_driver_that_took_over() {
        let pv = |labels, source: (&str, serde_json::Value)| {
            let mut pv = json!({
                "metadata": {"name": "pv", "labels": labels, "annotations": {"kubernetes.io/azure-file-resource-group": "g"}},
                "spec": {"claimRef": {"namespace": "shop", "name": "data"}},
            });
            pv["spec"][source.0] = source.1;
            decode::<Volume>(pv).object.unwrap()
        };
        let zone = json!({"topology.kubernetes.io/zone": "us-east1-a"});
        let disk = pv(zone.clone(), ("gcePersistentDisk", json!({"pdName": "d"})));
        let place = [("topology.gke.io/zone", "us-east1-a")]
            .into_iter()
            .collect::<Segment>();
        assert_eq!(disk.in_tree, Some(InTreeSource::Translated));
        assert_eq!(
            disk.csi.as_ref().unwrap().handle,
            "projects/UNSPECIFIED/zones/us-east1-a/disks/d"
        );
        assert_eq!(
            disk.node_affinity.as_ref().unwrap()[0].segment(),
            Ok(place.clone())
        );
        assert!(disk.is_reachable_from("any", &place));
        let share = ("azureFile", json!({"shareName": "s", "secretName": "key"}));
        let share = pv(json!(null), share).csi.unwrap();
        assert_eq!(
            (&*share.driver, &*share.handle),
            ("file.csi.azure.com", "g#key#s#pv#shop")
        );
        let odd = pv(zone, ("awsElasticBlockStore", json!({"volumeID": "aws://x"})));
        assert!(matches!(odd.in_tree, Some(InTreeSource::Odd(_))) && odd.csi.is_none());
        let other = pv(json!(null), ("nfs", json!({"server": "nas", "path": "/"})));
        assert_eq!((other.in_tree, other.csi), (None, None));
    }

    #[test]
    fn a_class_tells_immediate_from_unset_and_keeps_its_allowed_topologies() {
        let mode = |mode: serde_json::Value| {
            let class = decode::<Class>(json!({"metadata": {"name": "x"}, "volumeBindingMode": mode}));
            class.object.unwrap().binding_mode
        };
        assert_eq!(mode(json!("Immediate")), Some(BindingMode::Immediate));
        assert_eq!(
            mode(json!("WaitForFirstConsumer")),
            Some(BindingMode::WaitForFirstConsumer)
        );
        assert_eq!((mode(json!(null)), mode(json!("Later"))), (None, None));
        let class = decode::<Class>(json!({"metadata": {"name": "x"}, "allowedTopologies": [
            {"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}, {"key": "rack"}]}, {}]}));
        let zones = ("zone".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        let topologies = class.object.unwrap().allowed_topologies;
        assert_eq!(topologies, [vec![zones, ("rack".to_owned(), vec![])], vec![]]);
    }

    #[test]
    fn a_csi_node_and_a_capacity_keep_what_is_compared() {
        let node = decode::<CsiNode>(json!({"metadata": {"name": "x"}, "spec": {"drivers": [
            {"name": "drv", "nodeID": "x", "topologyKeys": ["b", "a", "b"]}, {"name": "bare", "topologyKeys": null}]}}));
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let drivers = [
            ("drv".to_owned(), keys(&["a", "b"])),
            ("bare".to_owned(), keys(&[])),
        ];
        assert_eq!(node.object.unwrap().drivers, drivers.into());
        let capacity = |topology| {
            let capacity = decode::<StorageCapacity>(json!({
                "metadata": {"name": "c", "uid": "u", "ownerReferences": [{"uid": "o", "kind": "Pod"}]},
                "storageClassName": "fast", "capacity": "1Gi", "nodeTopology": topology}));
            capacity.object.unwrap()
        };
        let plain = capacity(json!({"matchLabels": {"zone": "a"}}));
        assert_eq!(
            plain.segment.map(|segment| segment.to_string()).as_deref(),
            Some("zone=a")
        );
        assert_eq!(
            (plain.owners, plain.capacity),
            (vec!["o".to_owned()], Some("1Gi".to_owned()))
        );
        assert_eq!(
            capacity(json!({})).segment,
            Some(Segment::default()),
            "D-2: everywhere"
        );
        assert_eq!(capacity(json!(null)).segment, None, "nowhere");
        let expression = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]});
        assert_eq!(capacity(expression).segment, None);
    }

    #[test]
    fn an_object_that_is_not_what_the_api_promises_keeps_its_name_and_version() {
        let claim = decode::<Claim>(json!({
            "metadata": {"name": "x", "namespace": "ns", "resourceVersion": "3"}, "spec": {"accessModes": 7}
        }));
        assert_eq!(
            (claim.object, claim.meta.resource_version),
            (Err("ns/x".into()), Some("3".into()))
        );
        let volume = decode::<Volume>(json!({"metadata": {"name": "x"}, "status": "Bound"}));
        assert_eq!(volume.object, Err("x".into()));
        for (field, odd) in [
            ("provisioner", json!(7)),
            ("parameters", json!({"iops": 7})),
            ("mountOptions", json!("ro")),
            (
                "allowedTopologies",
                json!([{"matchLabelExpressions": [{"key": "zone", "values": "a"}]}]),
            ),
            ("volumeBindingMode", json!({})),
        ] {
            let class =
                decode::<Class>(json!({"metadata": {"name": "x", "resourceVersion": "3"}, field: odd}));
            assert_eq!(class.object, Err("x".into()), "{field}");
            assert_eq!(class.meta.resource_version.as_deref(), Some("3"));
        }
        let node = decode::<Node>(json!({"metadata": {"name": "x", "labels": ["zone"]}}));
        assert_eq!(node.object, Err("x".into()));
        let node = decode::<CsiNode>(json!({"metadata": {"name": "x"}, "spec": {"drivers": "drv"}}));
        assert_eq!(node.object, Err("x".into()));
        let capacity = decode::<StorageCapacity>(json!({"metadata": {"name": "x"}, "storageClassName": []}));
        assert_eq!(capacity.object, Err("x".into()));
    }
}
