//! CSIStorageCapacities: created, updated, deleted.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    api::{DeleteParams, PostParams, Preconditions},
    core::Request,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};

use super::{ApiClient, raw::Collection};
use crate::base::{
    api_error::{ApiError, Reason},
    quantity,
};

const CAPACITIES: Collection = Collection {
    group: "storage.k8s.io",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
};
/// What the API server makes names of.
const GENERATE_NAME: &str = "csisc-";

/// What a capacity object says, in bytes, and whom it goes with.
#[derive(Clone, Copy, Debug)]
pub struct CapacityValues<'a> {
    /// `capacity`
    pub capacity: i64,
    /// `maximumVolumeSize`
    pub maximum_volume_size: Option<i64>,
    /// Has to be among the owners.
    pub owner: Option<&'a OwnerReference>,
}

/// How an update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// The object says it now.
    Done,
    /// The object is gone, or is another one by now, or belongs to somebody else.
    Overtaken,
}

#[derive(Deserialize)]
struct Created {
    metadata: CreatedMeta,
}

#[derive(Deserialize)]
struct CreatedMeta {
    uid: String,
}

impl ApiClient {
    /// Creates the object for a class in a segment, and returns its UID.
    ///
    /// # Errors
    /// [`ApiError`]; the object may stand all the same if that says unreachable.
    pub async fn create_capacity(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        class: &str,
        segment: &BTreeMap<&str, &str>,
        values: CapacityValues<'_>,
    ) -> Result<String, ApiError> {
        let place = format!("{namespace}/{GENERATE_NAME}*");
        let odd = |error: &dyn std::fmt::Display| {
            ApiError::odd("create", CAPACITIES.plural, &place, &error.to_string())
        };
        let mut object = json!({
            "apiVersion": CAPACITIES.api_version(),
            "kind": CAPACITIES.kind,
            "metadata": {"generateName": GENERATE_NAME, "namespace": namespace, "labels": labels},
            "storageClassName": class,
            "nodeTopology": {"matchLabels": segment},
        });
        write(&mut object, values);
        let body = serde_json::to_vec(&object).map_err(|error| odd(&error))?;
        let request = Request::new(CAPACITIES.path(namespace))
            .create(&PostParams::default(), body)
            .map_err(|error| odd(&error))?;
        let post = self.client.request::<Created>(request);
        let created = self
            .ask("create", CAPACITIES.group, CAPACITIES.plural, &place, post)
            .await?;
        Ok(created.metadata.uid)
    }

    /// Makes the object of this UID say something else. It must still carry these labels.
    ///
    /// # Errors
    /// [`ApiError`]; [`Reason::Conflict`] when somebody else has written it meanwhile.
    pub async fn update_capacity(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        labels: &BTreeMap<String, String>,
        values: CapacityValues<'_>,
    ) -> Result<UpdateOutcome, ApiError> {
        let Some(mut object) = self.read_raw(&CAPACITIES, namespace, name).await? else {
            return Ok(UpdateOutcome::Overtaken);
        };
        let metadata = &object["metadata"];
        let ours = |(key, value): (&String, &String)| metadata["labels"][key].as_str() == Some(value);
        if metadata["uid"].as_str() != Some(uid) || !labels.iter().all(ours) {
            return Ok(UpdateOutcome::Overtaken);
        }
        write(&mut object, values);
        match self.put_raw(&CAPACITIES, namespace, name, &object).await {
            Ok(()) => Ok(UpdateOutcome::Done),
            Err(error) if error.reason == Reason::NotFound => Ok(UpdateOutcome::Overtaken),
            Err(error) => Err(error),
        }
    }

    /// Deletes the object of this UID and no other. That it is gone already is fine.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn delete_capacity(&self, namespace: &str, name: &str, uid: &str) -> Result<(), ApiError> {
        let place = format!("{namespace}/{name}");
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let request = Request::new(CAPACITIES.path(namespace))
            .delete(name, &params)
            .map_err(|error| ApiError::odd("delete", CAPACITIES.plural, &place, &error.to_string()))?;
        let delete = self.client.request::<IgnoredAny>(request);
        match self
            .ask("delete", CAPACITIES.group, CAPACITIES.plural, &place, delete)
            .await
        {
            Ok(_) => Ok(()),
            // The name is another object's by now.
            Err(error) if matches!(error.reason, Reason::NotFound | Reason::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn write(object: &mut Value, values: CapacityValues<'_>) {
    object["capacity"] = quantity::from_bytes(values.capacity).into();
    match (values.maximum_volume_size, object.as_object_mut()) {
        (Some(bytes), _) => object["maximumVolumeSize"] = quantity::from_bytes(bytes).into(),
        (None, Some(fields)) => _ = fields.remove("maximumVolumeSize"),
        (None, None) => {}
    }
    if let Some(owner) = values.owner {
        add_owner(&mut object["metadata"]["ownerReferences"], owner);
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

    #[test]
    fn an_update_keeps_what_it_does_not_know() {
        let mut object = json!({
            "metadata": {"annotations": {"note": "keep"}, "ownerReferences": [{"uid": "old", "controller": true}]},
            "capacity": "1Gi",
            "maximumVolumeSize": "1Mi",
            "future": 7,
        });
        let new = owner("new");
        let values = CapacityValues {
            capacity: 2 << 30,
            maximum_volume_size: None,
            owner: Some(&new),
        };
        for _ in 0..2 {
            write(&mut object, values);
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
        let values = CapacityValues {
            capacity: i64::MAX,
            maximum_volume_size: Some(0),
            owner: Some(&owner),
        };
        write(&mut object, values);
        assert_eq!(object["metadata"]["ownerReferences"][0]["controller"], true);
        assert_eq!(object["capacity"], "9223372036854775807");
        assert_eq!(object["maximumVolumeSize"], "0");
    }
}
