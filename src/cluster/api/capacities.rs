//! CSIStorageCapacities: created, updated, deleted.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::Request;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::{ApiClient, of_uid, raw::Collection};
use crate::{
    base::{
        api_error::{ApiError, Reason},
        fnv, quantity,
        segment::Segment,
    },
    cluster::{active::Active, objects::CapacityValues},
};

const CAPACITIES: Collection = Collection {
    group: "storage.k8s.io",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
};
/// What names begin with, and what their last letters are taken from: as if the API server had made them.
const PREFIX: &str = "csisc-";
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Names that are tried when other objects have the first ones.
const NAMES: usize = 8;

/// What a capacity object should be.
#[derive(Clone, Copy, Debug)]
pub struct CapacityObject<'a> {
    /// `metadata.namespace`
    pub namespace: &'a str,
    /// By which the sidecar knows its objects.
    pub labels: &'a BTreeMap<String, String>,
    /// Has to be among the owners.
    pub owner: Option<&'a OwnerReference>,
    /// `storageClassName`
    pub class: &'a str,
    /// `nodeTopology`
    pub segment: &'a Segment,
    /// What it says.
    pub values: CapacityValues,
}

impl CapacityObject<'_> {
    /// Its name follows from what it is for: a second attempt, or a second sidecar, finds the first one's object
    /// instead of making another one.
    fn name(&self, attempt: usize) -> String {
        let identity = json!([self.labels, self.class, self.match_labels(), attempt]).to_string();
        let mut hash =
            u64::from(fnv::fnv1(identity.as_bytes())) << 32 | u64::from(fnv::fnv1a(identity.as_bytes()));
        let mut name = PREFIX.to_owned();
        for _ in 0..5 {
            let letter = usize::try_from(hash % 27).unwrap_or_default();
            name.push(char::from(LETTERS[letter]));
            hash /= 27;
        }
        name
    }

    fn match_labels(&self) -> BTreeMap<&str, &str> {
        self.segment.iter().collect()
    }

    fn has_labels(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels
            .iter()
            .all(|(key, value)| labels[key].as_str() == Some(value))
    }

    /// Whether an object is ours and for this class and segment.
    fn is(&self, object: &Value) -> bool {
        let topology = object["nodeTopology"].as_object();
        let is_segment = |fields: &serde_json::Map<String, Value>| {
            let labels = fields.get("matchLabels").cloned().unwrap_or_else(|| json!({}));
            labels == json!(self.match_labels()) && !fields.contains_key("matchExpressions")
        };
        self.has_labels(object)
            && object["storageClassName"] == self.class
            && topology.is_some_and(is_segment)
    }

    fn write(&self, object: &mut Value) {
        object["capacity"] = quantity::from_bytes(self.values.capacity).into();
        match (self.values.maximum_volume_size, object.as_object_mut()) {
            (Some(bytes), _) => object["maximumVolumeSize"] = quantity::from_bytes(bytes).into(),
            (None, Some(fields)) => _ = fields.remove("maximumVolumeSize"),
            (None, None) => {}
        }
        if let Some(owner) = self.owner {
            add_owner(&mut object["metadata"]["ownerReferences"], owner);
        }
    }
}

impl ApiClient {
    /// Creates an object, or adopts the one that a lost request has created. Returns its resourceVersion; `None` if
    /// somebody deletes it at this moment, or `active` is not set any more.
    ///
    /// # Errors
    /// [`ApiError`]; the object may stand all the same if that says unreachable.
    pub async fn create_capacity(
        &self,
        object: &CapacityObject<'_>,
        active: &Active,
    ) -> Result<Option<String>, ApiError> {
        let mut attempt = 0;
        loop {
            let name = object.name(attempt);
            let mut new = json!({
                "apiVersion": CAPACITIES.api_version(),
                "kind": CAPACITIES.kind,
                "metadata": {"name": name, "generateName": PREFIX, "namespace": object.namespace, "labels": object.labels},
                "storageClassName": object.class,
                "nodeTopology": {"matchLabels": object.match_labels()},
            });
            object.write(&mut new);
            let created = self
                .post_raw(&CAPACITIES, object.namespace, &name, &new, active)
                .await;
            match created {
                Err(error) if error.reason == Reason::AlreadyExists => {
                    match self.read_raw(&CAPACITIES, object.namespace, &name).await? {
                        Some(there) if object.is(&there) => {
                            return self.write_over(object, &name, there, active).await;
                        }
                        // Another item's, or its labels were taken off: it is left alone.
                        Some(_) if attempt < NAMES => attempt += 1,
                        Some(_) => return Err(error),
                        None => return Ok(None),
                    }
                }
                created => return created,
            }
        }
    }

    /// Makes the object of this name and UID say something else, unless it does. It must still carry the labels.
    /// Returns its resourceVersion; `None` if the object is gone, is another one by now, or belongs to somebody else,
    /// or `active` is not set any more.
    ///
    /// # Errors
    /// [`ApiError`]; [`Reason::Conflict`] when somebody else has written it meanwhile.
    pub async fn update_capacity(
        &self,
        object: &CapacityObject<'_>,
        name: &str,
        uid: &str,
        active: &Active,
    ) -> Result<Option<String>, ApiError> {
        match self.read_raw(&CAPACITIES, object.namespace, name).await? {
            Some(there) if there["metadata"]["uid"] == uid && object.has_labels(&there) => {
                self.write_over(object, name, there, active).await
            }
            _ => Ok(None),
        }
    }

    async fn write_over(
        &self,
        object: &CapacityObject<'_>,
        name: &str,
        there: Value,
        active: &Active,
    ) -> Result<Option<String>, ApiError> {
        let mut new = there.clone();
        object.write(&mut new);
        if new == there {
            return Ok(there["metadata"]["resourceVersion"].as_str().map(str::to_owned));
        }
        match self
            .put_raw(&CAPACITIES, object.namespace, name, &new, active)
            .await
        {
            Err(error) if error.reason == Reason::NotFound => Ok(None),
            written => written,
        }
    }

    /// Deletes the object of this UID and no other. That it is gone already is fine, and nothing is done when `active`
    /// is not set.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn delete_capacity(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        active: &Active,
    ) -> Result<(), ApiError> {
        let place = format!("{namespace}/{name}");
        let request = Request::new(CAPACITIES.path(namespace))
            .delete(name, &of_uid(uid))
            .map_err(|error| ApiError::odd("delete", CAPACITIES.plural, &place, &error.to_string()))?;
        let delete = async {
            match active.is_set() {
                true => self.client.request::<IgnoredAny>(request).await.map(drop),
                false => Ok(()),
            }
        };
        let (group, plural) = (CAPACITIES.group, CAPACITIES.plural);
        match self.ask("delete", group, plural, &place, delete).await {
            // The name is another object's by now.
            Err(error) if matches!(error.reason, Reason::NotFound | Reason::Conflict) => Ok(()),
            deleted => deleted,
        }
    }
}

/// The API server takes one controller only. The owner keeps the object from being forgotten either way.
fn add_owner(owners: &mut Value, owner: &OwnerReference) {
    let mut reference = json!(owner);
    let Some(owners) = owners.as_array_mut() else {
        *owners = json!([reference]);
        return;
    };
    if owners.iter().any(|other| other["uid"] == reference["uid"]) {
        return;
    }
    if owners.iter().any(|other| other["controller"] == true) {
        reference["controller"] = false.into();
    }
    owners.push(reference);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: uid.into(),
            uid: uid.into(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    fn capacity<'a>(
        labels: &'a BTreeMap<String, String>,
        segment: &'a Segment,
        values: (i64, Option<i64>),
        owner: &'a OwnerReference,
    ) -> CapacityObject<'a> {
        CapacityObject {
            namespace: "csi",
            labels,
            owner: Some(owner),
            class: "fast",
            segment,
            values: CapacityValues {
                capacity: values.0,
                maximum_volume_size: values.1,
            },
        }
    }

    #[test]
    fn the_name_follows_from_what_the_object_is_for_and_from_nothing_else() {
        let (labels, owner) = (BTreeMap::from([("managed-by".into(), "us".into())]), owner("o"));
        let (a, b): (Segment, Segment) = ([("zone", "a")].into_iter().collect(), Segment::default());
        let first = capacity(&labels, &a, (1, None), &owner);
        assert_eq!(first.name(0), capacity(&labels, &a, (2, Some(3)), &owner).name(0));
        assert!(first.name(0).starts_with("csisc-") && first.name(0).len() == 11);
        let others = [
            capacity(&labels, &b, (1, None), &owner).name(0),
            capacity(&BTreeMap::new(), &a, (1, None), &owner).name(0),
            CapacityObject {
                class: "slow",
                ..first
            }
            .name(0),
            first.name(1),
        ];
        assert!(others.iter().all(|name| *name != first.name(0)), "{others:?}");
    }

    #[test]
    fn an_object_is_adopted_for_its_labels_class_and_segment() {
        let (labels, owner) = (BTreeMap::from([("managed-by".into(), "us".into())]), owner("o"));
        let everywhere = Segment::default();
        let ours = capacity(&labels, &everywhere, (1, None), &owner);
        let meta = json!({"labels": {"managed-by": "us", "more": "x"}});
        let object = |meta: &Value, class: &str, topology: Value| json!({"metadata": meta, "storageClassName": class, "nodeTopology": topology});
        assert!(ours.is(&object(&meta, "fast", json!({}))));
        for other in [
            object(&json!({}), "fast", json!({})),
            object(&meta, "slow", json!({})),
            object(&meta, "fast", Value::Null),
            object(&meta, "fast", json!({"matchLabels": {"zone": "a"}})),
            object(
                &meta,
                "fast",
                json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
            ),
        ] {
            assert!(!ours.is(&other), "{other}");
        }
    }

    #[test]
    fn an_update_keeps_what_it_does_not_know() {
        let mut object = json!({
            "metadata": {"annotations": {"note": "keep"}, "ownerReferences": [{"uid": "old", "controller": true}]},
            "capacity": "1Gi",
            "maximumVolumeSize": "1Mi",
            "future": 7,
        });
        let new = owner("new");
        let (labels, segment) = (BTreeMap::new(), Segment::default());
        for _ in 0..2 {
            capacity(&labels, &segment, (2 << 30, None), &new).write(&mut object);
        }
        assert_eq!(object["capacity"], "2Gi");
        assert_eq!(object["maximumVolumeSize"], Value::Null);
        assert_eq!(
            (&object["future"], &object["metadata"]["annotations"]["note"]),
            (&json!(7), &json!("keep"))
        );
        let owners = object["metadata"]["ownerReferences"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let of = |owner: &Value| (owner["uid"].clone(), owner["controller"].clone());
        assert_eq!(
            owners.iter().map(of).collect::<Vec<_>>(),
            [("old".into(), true.into()), ("new".into(), false.into())],
            "one controller is all that the API server takes"
        );
    }

    #[test]
    fn the_first_owner_is_the_controller() {
        let mut object = json!({"metadata": {}});
        let owner = owner("new");
        let (labels, segment) = (BTreeMap::new(), Segment::default());
        capacity(&labels, &segment, (i64::MAX, Some(0)), &owner).write(&mut object);
        assert_eq!(object["metadata"]["ownerReferences"][0]["controller"], true);
        assert_eq!(object["capacity"], "9223372036854775807");
        assert_eq!(object["maximumVolumeSize"], "0");
    }
}
