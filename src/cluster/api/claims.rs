//! Claims: read as they are at this moment, and written back whole.

use serde_json::Value;

use super::{ApiClient, raw::Collection};
use crate::{
    base::{
        api_error::{ApiError, Reason},
        quantity,
    },
    cluster::{
        active::Active,
        decode::Decoded,
        objects::{Claim, ClaimRef, SELECTED_NODE},
        source::SourceClaim,
    },
};

pub(super) const CLAIMS: Collection = Collection {
    group: "",
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
};

/// How a change of a claim's selected node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectOutcome {
    /// It is as it should be now.
    Done,
    /// The claim is gone, or is another one by now, or its node is not the one that was expected; or we do not lead any
    /// more.
    Overtaken,
}

/// A claim as the API server has it at this moment.
#[derive(Debug)]
pub enum LiveClaim {
    /// What it says.
    Read(Box<Claim>),
    /// It is not what the API promises.
    Odd {
        /// `metadata.uid`, "" if there is none.
        uid: String,
    },
}

impl ApiClient {
    /// The claim as the API server has it at this moment, not as a watch told.
    ///
    /// # Errors
    /// [`ApiError`]; a claim that does not exist is `Ok(None)`.
    pub async fn claim(&self, namespace: &str, name: &str) -> Result<Option<LiveClaim>, ApiError> {
        let Some(raw) = self.read_raw(&CLAIMS, namespace, name).await? else {
            return Ok(None);
        };
        let uid = raw["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let decoded = serde_json::from_value::<Decoded<Claim>>(raw);
        Ok(Some(match decoded.map(|decoded| decoded.object) {
            Ok(Ok(claim)) => LiveClaim::Read(Box::new(claim)),
            Ok(Err(_)) | Err(_) => LiveClaim::Odd { uid },
        }))
    }

    /// A claim whose volume is to be cloned.
    ///
    /// # Errors
    /// [`ApiError`]; a claim that does not exist is `Ok(None)`.
    pub async fn source_claim(&self, namespace: &str, name: &str) -> Result<Option<SourceClaim>, ApiError> {
        let Some(raw) = self.read_raw(&CLAIMS, namespace, name).await? else {
            return Ok(None);
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (phase, volume) = (text(&raw["status"]["phase"]), text(&raw["spec"]["volumeName"]));
        let claim = serde_json::from_value::<Decoded<Claim>>(raw).map(|decoded| decoded.object);
        let odd = |text: &str| ApiError::odd("list", CLAIMS.plural, &format!("{namespace}/{name}"), text);
        let Ok(Ok(claim)) = claim else {
            return Err(odd("it is not what the API promises"));
        };
        let bytes = claim.storage_request.as_deref().map_or(Ok(0), quantity::to_bytes);
        Ok(Some(SourceClaim {
            bytes: bytes.map_err(|error| odd(&error.to_string()))?,
            claim,
            phase,
            volume,
        }))
    }

    /// Whether the claim that a volume names stands at this moment, and has this volume or waits for it. One that is
    /// bound elsewhere, or that goes before it has a volume, needs this one no more.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn is_claimed(&self, volume: &str, claim: &ClaimRef) -> Result<bool, ApiError> {
        let read = self.read_raw(&CLAIMS, &claim.namespace, &claim.name).await?;
        let Some(read) = read.filter(|read| read["metadata"]["uid"].as_str() == Some(&claim.uid)) else {
            return Ok(false);
        };
        Ok(match read["spec"]["volumeName"].as_str() {
            None | Some("") => read["metadata"]["deletionTimestamp"].is_null(),
            Some(bound) => bound == volume,
        })
    }

    /// Changes the node that is selected for the claim of this UID from `seen` to `node`; `None` is no node.
    ///
    /// The claim is read by a list that is limited to its name, and written by PUT as the raw object with the
    /// resourceVersion that was read: the roles that operators have installed grant list and update on claims, neither
    /// get nor patch, and a typed copy would drop what it does not know.
    ///
    /// # Errors
    /// [`ApiError`]; [`Reason::Conflict`] when somebody else has written the claim meanwhile.
    pub async fn select_node(
        &self,
        Claim {
            namespace, name, uid, ..
        }: &Claim,
        seen: Option<&str>,
        node: Option<&str>,
        active: &Active,
    ) -> Result<SelectOutcome, ApiError> {
        let Some(mut claim) = self.read_raw(&CLAIMS, namespace, name).await? else {
            return Ok(SelectOutcome::Overtaken);
        };
        if claim["metadata"]["uid"].as_str() != Some(uid) {
            return Ok(SelectOutcome::Overtaken);
        }
        let selected = claim["metadata"]["annotations"][SELECTED_NODE]
            .as_str()
            .filter(|node| !node.is_empty());
        if selected == node {
            return Ok(SelectOutcome::Done);
        }
        if selected != seen {
            return Ok(SelectOutcome::Overtaken);
        }
        select(&mut claim, node);
        match self.put_raw(&CLAIMS, namespace, name, &claim, active).await {
            Ok(Some(_)) => Ok(SelectOutcome::Done),
            // Another replica leads, which may be at work on the claim.
            Ok(None) => Ok(SelectOutcome::Overtaken),
            Err(error) if error.reason == Reason::NotFound => Ok(SelectOutcome::Overtaken),
            Err(error) => Err(error),
        }
    }
}

fn select(claim: &mut Value, node: Option<&str>) {
    let annotations = &mut claim["metadata"]["annotations"];
    match (node, annotations.as_object_mut()) {
        (Some(node), _) => annotations[SELECTED_NODE] = node.into(),
        (None, Some(annotations)) => _ = annotations.remove(SELECTED_NODE),
        (None, None) => {}
    }
}
