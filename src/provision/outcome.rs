//! Pure. What a CreateVolume call came to, and what follows from it.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{plan::Plan, volume};
use crate::csi::{
    Code, RpcError,
    proto::{CreateVolumeResponse, Volume},
};

/// What is true after a CreateVolume call.
#[derive(Debug, PartialEq)]
pub enum CreateOutcome {
    /// The volume exists, and this is its object.
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
    Unusable(Volume, SizeMismatch),
    /// The driver says it made a volume and does not say which. Asking again may help, and nothing else can.
    MissingId(&'static str),
}

/// How a volume differs from the one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeMismatch {
    /// It is too small, or its size is negative.
    #[error("created volume has {got} bytes, {wanted} were asked for")]
    TooSmall {
        /// As the driver says.
        got: i64,
        /// As the claim asked.
        wanted: i64,
    },
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
    let wanted = wanted(plan);
    let got = volume.capacity_bytes;
    if got < 0 || (got != 0 && got < wanted) {
        return CreateOutcome::Unusable(volume, SizeMismatch::TooSmall { got, wanted });
    }
    CreateOutcome::Created(Box::new(object_of(plan, &volume)))
}

/// The object of a volume, whatever its size: a volume that nobody waits for is written as it is.
pub fn object_of(plan: &Plan, made: &Volume) -> PersistentVolume {
    let mut object = volume::complete(plan.draft.clone(), made, wanted(plan));
    if let (Some(spec), Some(_)) = (&mut object.spec, &plan.placement) {
        spec.node_affinity = volume::node_affinity(&made.accessible_topology);
    }
    object
}

fn wanted(plan: &Plan) -> i64 {
    plan.request
        .capacity_range
        .map_or(0, |range| range.required_bytes)
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
