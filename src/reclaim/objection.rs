//! The last looks before DeleteVolume: whether somebody wants what is behind the volume, although the object says that it
//! is to go.

use std::fmt;

use super::reconcile::Reclaim;
use crate::{
    base::api_error::ApiError,
    cluster::objects::{ClaimRef, Volume},
};

/// Why a volume is not deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// It has another claimRef than when it was released.
    OtherClaim {
        /// The one that it had.
        before: ClaimRef,
        /// The one that it has.
        now: Option<ClaimRef>,
    },
    /// Its claimRef has no UID: somebody makes it available again.
    NoClaim,
    /// Its claim stands, and has it or waits for it.
    ClaimStands(ClaimRef),
    /// Another PersistentVolume has its handle, and is in use or retained.
    SharedHandle {
        handle: String,
        /// Its name.
        other: String,
        phase: String,
        claim: Option<ClaimRef>,
    },
}

/// A claim as people write it.
fn path(claim: Option<&ClaimRef>) -> String {
    match claim {
        Some(ClaimRef { uid, namespace, name }) if uid.is_empty() => format!("{namespace}/{name}"),
        Some(ClaimRef { uid, namespace, name }) => format!("{namespace}/{name} (UID {uid})"),
        None => "none".to_owned(),
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherClaim { before, now } => write!(
                f,
                "the volume is not deleted, because its claimRef was changed after it was released: from {} to {}; to \
                 keep the data, change persistentVolumeReclaimPolicy to Retain; to have the volume deleted, put the \
                 claimRef back",
                path(Some(before)),
                path(now.as_ref())
            ),
            Self::NoClaim => f.write_str(
                "the volume is not deleted, because its claimRef has no UID, as if it were to be available again; to \
                 keep the data, change persistentVolumeReclaimPolicy to Retain; to have the volume deleted, put the \
                 claimRef back",
            ),
            Self::ClaimStands(claim) => write!(
                f,
                "the volume is not deleted, because claim {} stands, and has it or waits for it; to have the volume \
                 deleted, delete the claim",
                path(Some(claim))
            ),
            Self::SharedHandle {
                handle,
                other,
                phase,
                claim,
            } => write!(
                f,
                "the volume is not deleted, because PersistentVolume {other} has the same volumeHandle {handle:?} (phase \
                 {phase:?}, claim {}): if {other} is to keep the data, change persistentVolumeReclaimPolicy of this one to \
                 Retain and delete this object; otherwise delete {other} first",
                path(claim.as_ref())
            ),
        }
    }
}

impl Reclaim {
    /// Whether something speaks against the deletion of this volume, as the cache has it. It takes time, so the volume
    /// itself is read afterwards.
    ///
    /// The cache says whether another volume may have the handle, for nothing; only then are all volumes read. It also
    /// says which claim the volume had before it was released; only where that was not seen, as after a restart, or was
    /// another one, the claim is read.
    ///
    /// # Errors
    /// [`ApiError`]: it is not known.
    pub(super) async fn objection(
        &self,
        volume: &Volume,
        handle: &str,
    ) -> Result<Option<Objection>, ApiError> {
        if let Some(before) = self.deletions.other_claim(volume) {
            let now = volume.claim.clone();
            return Ok(Some(Objection::OtherClaim { before, now }));
        }
        let Some(claim) = volume.claim.as_ref().filter(|claim| !claim.uid.is_empty()) else {
            return Ok(Some(Objection::NoClaim));
        };
        if self.cache.may_share_handle(handle, &volume.uid)
            && let Some(objection) = self.shared(volume, handle).await?
        {
            return Ok(Some(objection));
        }
        if !self.cache.was_released_from(&volume.uid, &claim.uid)
            && self.api.is_claimed(&volume.name, claim).await?
        {
            return Ok(Some(Objection::ClaimStands(claim.clone())));
        }
        Ok(None)
    }

    /// Another volume with this handle that somebody may want.
    async fn shared(&self, volume: &Volume, handle: &str) -> Result<Option<Objection>, ApiError> {
        let uid = volume.uid.clone();
        let is_wanted = move |other: &Volume| other.uid != uid && !other.is_unwanted();
        let others = self.live.find_with_handle(handle, is_wanted);
        Ok(others.await?.map(|other| Objection::SharedHandle {
            handle: handle.to_owned(),
            other: other.name,
            phase: other.phase,
            claim: other.claim,
        }))
    }
}
