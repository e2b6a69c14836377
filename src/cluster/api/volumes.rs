//! PersistentVolumes: read, created, deleted, and their finalizer. Nothing is written when we do not lead any more:
//! [`Reason::NotLeading`].

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{ApiClient, of_uid};
use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{
        decode::Decoded,
        objects::{VOLUME_FINALIZER, Volume},
    },
};

pub(super) const VOLUMES: &str = "persistentvolumes";

/// How the creation of a volume object ended.
#[derive(Debug, PartialEq, Eq)]
pub enum SaveOutcome {
    /// It stands now.
    Created,
    /// It stood already, for the same claim: an earlier request had arrived after all, or somebody else's had. This is
    /// what it is.
    AlreadySaved(Box<Volume>),
    /// An object of that name is there, and it is for somebody else.
    NameTaken {
        /// UID of the claim that the other object is for; "" if for none.
        by: String,
    },
}

impl ApiClient {
    /// The volume as the API server has it at this moment, not as a watch told.
    ///
    /// # Errors
    /// [`ApiError`]; a volume that does not exist is `Ok(None)`.
    pub async fn volume(&self, name: &str) -> Result<Option<Volume>, ApiError> {
        self.read_lean(Api::all(self.client.clone()), name, name).await
    }

    /// Creates the object for a volume that exists at the driver.
    ///
    /// A create whose answer was lost may have been done, so a volume of that name that is bound to the same claim,
    /// by UID, counts as saved.
    ///
    /// # Errors
    /// [`ApiError`]; the object may stand all the same if that says unreachable.
    pub async fn create_volume(&self, volume: &PersistentVolume) -> Result<SaveOutcome, ApiError> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let api = Api::<PersistentVolume>::all(self.client.clone());
        let created = self
            .ask_leading(
                "create",
                VOLUMES,
                name,
                api.create(&PostParams::default(), volume),
            )
            .await;
        match created {
            Ok(_) => return Ok(SaveOutcome::Created),
            Err(error) if error.reason == Reason::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let wanted = volume
            .spec
            .as_ref()
            .and_then(|spec| spec.claim_ref.as_ref()?.uid.clone());
        match self.volume(name).await? {
            Some(standing) => {
                let claim = standing.claim.as_ref();
                let by = claim.map(|claim| claim.uid.clone()).unwrap_or_default();
                Ok(if Some(&by) == wanted.as_ref() {
                    SaveOutcome::AlreadySaved(Box::new(standing))
                } else {
                    SaveOutcome::NameTaken { by }
                })
            }
            None => Err(ApiError::odd(
                "create",
                VOLUMES,
                name,
                "it existed a moment ago and is gone now",
            )),
        }
    }

    /// Deletes the object of this UID and no other. Returns the finalizers that hold it still, `None` if it is gone.
    ///
    /// # Errors
    /// [`ApiError`], [`Reason::Conflict`] when another object has that name now.
    pub async fn delete_volume(&self, name: &str, uid: &str) -> Result<Option<Vec<String>>, ApiError> {
        let params = of_uid(uid);
        let api = Api::<Decoded<Volume>>::all(self.client.clone());
        let delete = self.ask_leading("delete", VOLUMES, name, api.delete(name, &params));
        let standing = ApiError::found(delete.await)?.and_then(|answer| answer.left());
        Ok(standing
            .map(|decoded| decoded.object.unwrap_or_default().finalizers)
            // Volumes that go at once are returned all the same, as they were.
            .filter(|finalizers| !finalizers.is_empty()))
    }

    /// Puts our finalizer on a volume, or takes it off, if the finalizers are still the ones that were seen.
    ///
    /// A JSON patch with a test: upstream patches without one and can wipe finalizers that others added meanwhile.
    ///
    /// # Errors
    /// [`ApiError`], [`Reason::Invalid`] or [`Reason::Conflict`] when the finalizers have changed.
    pub async fn protect_volume(&self, name: &str, seen: &[String], protect: bool) -> Result<(), ApiError> {
        // Nothing can be tested in a list that is absent, so the whole object has to be the one that was seen. That
        // hardly ever happens: the control plane puts a finalizer of its own on each volume.
        let fresh = if protect && seen.is_empty() {
            let Some(fresh) = self.volume(name).await? else {
                return Ok(());
            };
            fresh
        } else {
            Volume {
                finalizers: seen.to_vec(),
                ..Volume::default()
            }
        };
        let Some(patch) = finalizer_patch(&fresh, protect) else {
            return Ok(());
        };
        let patch: json_patch::Patch = serde_json::from_value(patch)
            .map_err(|error| ApiError::odd("patch", VOLUMES, name, &error.to_string()))?;
        let api = Api::<Decoded<Volume>>::all(self.client.clone());
        let (params, patch) = (PatchParams::default(), Patch::<()>::Json(patch));
        match self
            .ask_leading("patch", VOLUMES, name, api.patch(name, &params, &patch))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.reason == Reason::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The patch that adds or removes our finalizer, `None` if nothing is to be done.
fn finalizer_patch(volume: &Volume, protect: bool) -> Option<serde_json::Value> {
    let seen = &volume.finalizers;
    let place = seen.iter().position(|finalizer| finalizer == VOLUME_FINALIZER);
    match (place, protect) {
        (None, true) if seen.is_empty() => Some(json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": volume.resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": [VOLUME_FINALIZER]},
        ])),
        (None, true) => Some(json!([
            {"op": "test", "path": "/metadata/finalizers", "value": seen},
            {"op": "add", "path": "/metadata/finalizers/-", "value": VOLUME_FINALIZER},
        ])),
        (Some(place), false) => Some(json!([
            {"op": "test", "path": format!("/metadata/finalizers/{place}"), "value": VOLUME_FINALIZER},
            {"op": "remove", "path": format!("/metadata/finalizers/{place}")},
        ])),
        (None, false) | (Some(_), true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_patch_tests_what_it_changes() {
        let ours = VOLUME_FINALIZER.to_owned();
        let other = "kubernetes.io/pv-protection".to_owned();
        let volume = |finalizers: &[&String]| Volume {
            finalizers: finalizers.iter().map(|it| (*it).clone()).collect(),
            ..Volume::default()
        };
        let remove = finalizer_patch(&volume(&[&other, &ours]), false);
        let expected = json!([
            {"op": "test", "path": "/metadata/finalizers/1", "value": VOLUME_FINALIZER},
            {"op": "remove", "path": "/metadata/finalizers/1"},
        ]);
        assert_eq!(remove, Some(expected));
        let add = finalizer_patch(&volume(&[&other]), true);
        assert_eq!(add.map(|patch| patch[0]["value"].clone()), Some(json!([other])));
        assert_eq!(
            finalizer_patch(&volume(&[]), true).map(|patch| patch[1]["value"].clone()),
            Some(json!([ours]))
        );
        assert_eq!(finalizer_patch(&volume(&[&other]), false), None);
        assert_eq!(finalizer_patch(&volume(&[&ours]), true), None);
    }

    /// The finalizers of an object after the patch, `None` if there is nothing to patch.
    fn patched(finalizers: Option<&[&str]>, protect: bool) -> Option<serde_json::Value> {
        let mut object = json!({"metadata": {"resourceVersion": "7"}});
        if let Some(finalizers) = finalizers {
            object["metadata"]["finalizers"] = json!(finalizers);
        }
        let volume = Volume {
            resource_version: "7".into(),
            finalizers: finalizers
                .unwrap_or_default()
                .iter()
                .map(ToString::to_string)
                .collect(),
            ..Volume::default()
        };
        let patch: json_patch::Patch =
            serde_json::from_value(finalizer_patch(&volume, protect)?).expect("a patch");
        json_patch::patch(&mut object, &patch).expect("it applies to what was seen");
        Some(object["metadata"]["finalizers"].take())
    }

    #[test]
    fn a_finalizer_is_put_on_once_and_taken_off_among_others() {
        type Row = (
            &'static str,
            bool,
            Option<&'static [&'static str]>,
            Option<&'static [&'static str]>,
        );
        const OURS: &str = VOLUME_FINALIZER;
        const OTHER: &str = "kubernetes.io/pv-protection";
        const ROWS: &[Row] = &[
            ("lib.RemoveFinalizer.01", false, Some(&[OURS]), Some(&[])),
            ("lib.RemoveFinalizer.02", false, Some(&[OTHER]), None),
            (
                "lib.RemoveFinalizer.03",
                false,
                Some(&[OTHER, OURS]),
                Some(&[OTHER]),
            ),
            ("lib.RemoveFinalizer.04", false, Some(&[]), None),
            ("lib.RemoveFinalizer.05", false, None, None),
            ("lib.AddFinalizer.01", true, Some(&[OURS]), None),
            ("lib.AddFinalizer.02", true, None, Some(&[OURS])),
            ("lib.AddFinalizer.03", true, Some(&[]), Some(&[OURS])),
            ("lib.AddFinalizer.04", true, Some(&[OTHER]), Some(&[OTHER, OURS])),
        ];
        for (id, protect, before, after) in ROWS {
            assert_eq!(
                patched(*before, *protect),
                after.map(|after| json!(after)),
                "{id}"
            );
        }
    }
}
