//! What a call to CreateVolume came to.

use k8s_openapi::api::core::v1::PersistentVolume;

use super::{
    super::outcome::{
        CreateOutcome::{self, *},
        Mismatch::TooSmall,
        outcome_of,
    },
    *,
};
use crate::csi::{
    Code, RpcError,
    proto::{CreateVolumeResponse, Volume},
};

pub(super) fn made(outcome: CreateOutcome) -> PersistentVolume {
    match outcome {
        Created(object) => *object,
        other => panic!("no volume: {other:?}"),
    }
}

fn error(code: Code) -> RpcError {
    RpcError {
        method: "/csi.v1.Controller/CreateVolume",
        code,
        message: "no more".into(),
    }
}

fn volume(bytes: i64) -> Volume {
    Volume {
        volume_id: "vol-1".into(),
        capacity_bytes: bytes,
        ..Volume::default()
    }
}

/// The outcome on this error for a driver with topology.
fn outcome_on(selected: Option<&str>, code: Code) -> CreateOutcome {
    let mut world = World::on(&[("zone=a", "zone")]);
    if let Some(node) = selected {
        world = world.selecting(node);
    }
    outcome_of(&world.plan(), Err(error(code)))
}

/// The outcome on `answer` to a claim of this size.
fn outcome(size: Option<&str>, answer: Result<CreateVolumeResponse, RpcError>) -> CreateOutcome {
    let mut world = world();
    world.claim.storage_request = size.map(str::to_owned);
    outcome_of(&world.plan(), answer)
}

#[test]
fn each_of_the_seventeen_codes_has_its_outcome() {
    const NO_ROOM_AT_THE_NODE: &str = "ctl.ProvisionErrorHandling.20";
    type Expected = fn(RpcError) -> CreateOutcome;
    let rows: [(Code, Expected); 17] = [
        (Code::Ok, InBackground),
        (Code::Canceled, InBackground),
        (Code::Unknown, Failed),
        (Code::InvalidArgument, Infeasible),
        (Code::DeadlineExceeded, InBackground),
        (Code::NotFound, Failed),
        (Code::AlreadyExists, Failed),
        (Code::PermissionDenied, Failed),
        (Code::ResourceExhausted, Failed),
        (Code::FailedPrecondition, Failed),
        (Code::Aborted, InBackground),
        (Code::OutOfRange, Failed),
        (Code::Unimplemented, Failed),
        (Code::Internal, Failed),
        (Code::Unavailable, InBackground),
        (Code::DataLoss, Failed),
        (Code::Unauthenticated, Failed),
    ];
    assert_eq!(rows.map(|(code, _)| code), Code::ALL);
    for (code, expected) in rows {
        assert_eq!(outcome(None, Err(error(code))), expected(error(code)), "{code}");
        assert_eq!(
            outcome_on(None, code),
            expected(error(code)),
            "{code}, no node selected"
        );
        let without_topology = outcome_of(&world().selecting("node-0").plan(), Err(error(code)));
        assert_eq!(
            without_topology,
            expected(error(code)),
            "{code}, a node, no topology"
        );
        let for_node: Expected = match code {
            Code::ResourceExhausted => Reschedule,
            _ => expected,
        };
        assert_eq!(
            outcome_on(Some("node-0"), code),
            for_node(error(code)),
            "{code}, a node selected: {NO_ROOM_AT_THE_NODE}"
        );
    }
}

#[test]
fn a_volume_has_the_size_that_the_driver_says_or_else_the_one_that_was_asked_for() {
    let rows = [
        ("as asked for", Some("100"), 100, "100"),
        ("larger", Some("100"), 101, "101"),
        ("unknown to the driver", Some("5Gi"), 0, "5Gi"),
        ("the largest there is", Some("1"), i64::MAX, "9223372036854775807"),
        (
            "asked for the largest there is",
            Some("9223372036854775807"),
            i64::MAX,
            "9223372036854775807",
        ),
        ("none asked for", None, 1 << 30, "1Gi"),
        ("none asked for, unknown to the driver", None, 0, "0"),
        ("no nice number", Some("1"), 5_970_004_541, "5970004541"),
        ("a nicer number", Some("1"), 5_905_580_032, "5632Mi"),
    ];
    for (name, asked, answered, expected) in rows {
        let answer = CreateVolumeResponse {
            volume: Some(volume(answered)),
        };
        let capacity = made(outcome(asked, Ok(answer))).spec.unwrap().capacity.unwrap();
        assert_eq!(capacity["storage"].0, expected, "{name}");
        assert_eq!(capacity.len(), 1, "{name}");
    }
}

#[test]
fn a_volume_that_is_too_small_is_not_used() {
    let rows = [
        ("one byte short", Some("100"), 99, 100),
        ("negative", Some("100"), -1, 100),
        ("as negative as can be", Some("100"), i64::MIN, 100),
        ("negative though no size was asked for", None, -1, 0),
        (
            "one byte short of the largest",
            Some("9223372036854775807"),
            i64::MAX - 1,
            i64::MAX,
        ),
    ];
    for (name, asked, got, wanted) in rows {
        let answer = CreateVolumeResponse {
            volume: Some(volume(got)),
        };
        let expected = Unusable(volume(got), TooSmall { got, wanted });
        assert_eq!(outcome(asked, Ok(answer)), expected, "{name}");
    }
    let text = TooSmall { got: 99, wanted: 100 }.to_string();
    assert_eq!(text, "created volume has 99 bytes, 100 were asked for");
}

#[test]
fn a_success_that_names_no_volume_is_no_answer() {
    let empty = Volume {
        volume_id: String::new(),
        ..volume(1 << 40)
    };
    let small = Volume {
        volume_id: String::new(),
        ..volume(1)
    };
    let rows = [
        (
            "no volume",
            None,
            "the driver answered CreateVolume with success but without a volume",
        ),
        (
            "empty id",
            Some(empty),
            "the driver answered CreateVolume with a volume whose id is empty",
        ),
        (
            "empty id, and too small: there is nothing that could be deleted",
            Some(small),
            "the driver answered CreateVolume with a volume whose id is empty",
        ),
    ];
    for (name, volume, text) in rows {
        let answer = CreateVolumeResponse { volume };
        assert_eq!(outcome(Some("1Gi"), Ok(answer)), MissingId(text), "{name}");
    }
}
