//! Pure. What a CreateVolume call came to, and what follows from it.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{plan::Plan, volume};
use crate::{
    cluster::migration::{VolumeTranslationError, in_tree_form, wanted_plugin},
    csi::{
        Code, RpcError,
        proto::{CreateVolumeResponse, Volume, VolumeContentSource, volume_content_source::Type},
    },
};

/// What is true after a CreateVolume call.
#[derive(Debug, PartialEq)]
pub enum CreateOutcome {
    /// The volume exists, and this is its object, with its CSI source.
    Created(Box<PersistentVolume>),
    /// No volume exists, nor will one come of this call. A new attempt may be another request.
    Failed(RpcError),
    /// As before, and there is no room where the selected node is: the scheduler may choose another one.
    Reschedule(RpcError),
    /// As [`CreateOutcome::Failed`], and the driver says that the same request can never succeed.
    Infeasible(RpcError),
    /// A volume may exist or come to exist: only asking again, with the same request, can tell.
    InBackground(RpcError),
    /// A volume exists, but not the one that was asked for. It is to be deleted before asking again, where somebody
    /// waits for another one.
    Unusable(Volume, Mismatch),
    /// The driver says it made a volume and does not say which. Asking again may help, and nothing else can.
    MissingId(&'static str),
}

/// How a volume differs from the one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is too small, or its size is negative.
    #[error("created volume has {got} bytes, {wanted} were asked for")]
    TooSmall {
        /// As the driver says.
        got: i64,
        /// As the claim asked.
        wanted: i64,
    },
    /// It has another content, or none that the driver tells of.
    #[error("created volume has the content of {got}, that of {wanted} was asked for")]
    OtherContent {
        /// As the driver says.
        got: String,
        /// As the claim asked.
        wanted: String,
    },
    /// The in-tree plugin that the class names has no words for it.
    #[error(
        "created volume cannot be a volume of {plugin}, which its class asks for: {error}; make the claim with a class that asks for \
             the CSI driver itself"
    )]
    NotInTree {
        /// The plugin.
        plugin: &'static str,
        /// What there are no words for.
        error: VolumeTranslationError,
    },
}

impl Mismatch {
    /// The same request makes the same again.
    pub(super) const fn is_lasting(&self) -> bool {
        matches!(self, Self::NotInTree { .. })
    }
}

/// Judges an answer to the request of `plan`.
pub fn outcome_of(plan: &Plan, answer: Result<CreateVolumeResponse, RpcError>) -> CreateOutcome {
    let volume = match answer {
        Err(error) => return sort(plan, error),
        Ok(CreateVolumeResponse { volume: None }) => {
            return CreateOutcome::MissingId(
                "the driver answered CreateVolume with success but without a volume",
            );
        }
        Ok(CreateVolumeResponse { volume: Some(volume) }) => volume,
    };
    if volume.volume_id.is_empty() {
        return CreateOutcome::MissingId("the driver answered CreateVolume with a volume whose id is empty");
    }
    if let Some(mismatch) = mismatch(plan, &volume) {
        return CreateOutcome::Unusable(volume, mismatch);
    }
    let object = object_of(plan, &volume);
    match (in_tree_form(&object), wanted_plugin(&object)) {
        (Err(error), Some(plugin)) => CreateOutcome::Unusable(volume, Mismatch::NotInTree { plugin, error }),
        _ => CreateOutcome::Created(Box::new(object)),
    }
}

fn mismatch(plan: &Plan, made: &Volume) -> Option<Mismatch> {
    let (got, wanted) = (made.capacity_bytes, plan.bytes());
    if got < 0 || (got != 0 && got < wanted) {
        return Some(Mismatch::TooSmall { got, wanted });
    }
    // CSI: a driver that was given a source has to tell of it. What one says that was given none means nothing.
    let wanted = plan.request.volume_content_source.as_ref()?;
    let got = made.content_source.as_ref();
    (got != Some(wanted)).then(|| Mismatch::OtherContent {
        got: content_text(got),
        wanted: content_text(Some(wanted)),
    })
}

/// The id of a source in an answer that was given by another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtherId {
    asked: String,
    got: String,
}

/// What the driver calls the source in its answer, if that is of the kind that was asked for and has another id.
pub(super) fn other_id(plan: &Plan, made: &Volume) -> Option<OtherId> {
    let asked = plan.request.volume_content_source.as_ref()?.r#type.as_ref()?;
    let got = made.content_source.as_ref()?.r#type.as_ref()?;
    let (asked, got) = match (asked, got) {
        (Type::Snapshot(asked), Type::Snapshot(got)) => (&asked.snapshot_id, &got.snapshot_id),
        (Type::Volume(asked), Type::Volume(got)) => (&asked.volume_id, &got.volume_id),
        _ => return None,
    };
    (asked != got).then(|| OtherId {
        asked: asked.clone(),
        got: got.clone(),
    })
}

fn content_text(source: Option<&VolumeContentSource>) -> String {
    match source.and_then(|source| source.r#type.as_ref()) {
        Some(Type::Snapshot(of)) => format!("snapshot {}", of.snapshot_id),
        Some(Type::Volume(of)) => format!("volume {}", of.volume_id),
        None => "nothing that the driver tells of".to_owned(),
    }
}

/// The object of a volume, with its CSI source, whatever its size: a volume that nobody waits for is written as it is.
pub fn object_of(plan: &Plan, made: &Volume) -> PersistentVolume {
    let mut object = volume::complete(plan.draft.clone(), made, plan.bytes());
    if let (Some(spec), Some(_)) = (&mut object.spec, &plan.placement) {
        spec.node_affinity = volume::node_affinity(&made.accessible_topology);
    }
    object
}

/// Sorts a failed call. The classes are upstream's: after any other code the driver has given up for good.
fn sort(plan: &Plan, error: RpcError) -> CreateOutcome {
    match error.code {
        // OK is no fault; should one ever carry it, nothing is known about the volume.
        Code::Ok | Code::Canceled | Code::DeadlineExceeded | Code::Unavailable | Code::Aborted => {
            CreateOutcome::InBackground(error)
        }
        Code::InvalidArgument => CreateOutcome::Infeasible(error),
        Code::ResourceExhausted if plan.node().is_some() => CreateOutcome::Reschedule(error),
        Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => CreateOutcome::Failed(error),
    }
}
