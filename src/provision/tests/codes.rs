//! Upstream's own cases: what is true after each answer of the driver.

use super::{
    super::outcome::{
        CreateOutcome::{self, *},
        Mismatch::TooSmall,
        outcome_of,
    },
    cases::{answer, lab},
    outcome::made,
};
use crate::csi::{Code, RpcError};

fn error(code: Code) -> RpcError {
    RpcError {
        method: "/csi.v1.Controller/CreateVolume",
        code,
        message: "expected error".into(),
    }
}

type Outcome = fn(RpcError) -> CreateOutcome;

/// Whether the driver has topology, and whether a node is selected.
const PLACES: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// Each code in each of the places. Without room on a selected node the claim goes back to the scheduler, which is
/// tested with topology.
#[rustfmt::skip]
const CODES: [(Code, Outcome, &[&str]); 16] = [
    (Code::Canceled, InBackground, &["ctl.ProvisionErrorHandling.01", "ctl.ProvisionErrorHandling.02", "ctl.ProvisionErrorHandling.03", "ctl.ProvisionErrorHandling.04"]),
    (Code::DeadlineExceeded, InBackground, &["ctl.ProvisionErrorHandling.05", "ctl.ProvisionErrorHandling.06", "ctl.ProvisionErrorHandling.07", "ctl.ProvisionErrorHandling.08"]),
    (Code::Unavailable, InBackground, &["ctl.ProvisionErrorHandling.09", "ctl.ProvisionErrorHandling.10", "ctl.ProvisionErrorHandling.11", "ctl.ProvisionErrorHandling.12"]),
    (Code::Aborted, InBackground, &["ctl.ProvisionErrorHandling.13", "ctl.ProvisionErrorHandling.14", "ctl.ProvisionErrorHandling.15", "ctl.ProvisionErrorHandling.16"]),
    (Code::ResourceExhausted, Failed, &["ctl.ProvisionErrorHandling.17", "ctl.ProvisionErrorHandling.18", "ctl.ProvisionErrorHandling.19"]),
    (Code::Unknown, Failed, &["ctl.ProvisionErrorHandling.21", "ctl.ProvisionErrorHandling.22", "ctl.ProvisionErrorHandling.23", "ctl.ProvisionErrorHandling.24"]),
    (Code::InvalidArgument, Infeasible, &["ctl.ProvisionErrorHandling.25", "ctl.ProvisionErrorHandling.26", "ctl.ProvisionErrorHandling.27", "ctl.ProvisionErrorHandling.28"]),
    (Code::NotFound, Failed, &["ctl.ProvisionErrorHandling.29", "ctl.ProvisionErrorHandling.30", "ctl.ProvisionErrorHandling.31", "ctl.ProvisionErrorHandling.32"]),
    (Code::AlreadyExists, Failed, &["ctl.ProvisionErrorHandling.33", "ctl.ProvisionErrorHandling.34", "ctl.ProvisionErrorHandling.35", "ctl.ProvisionErrorHandling.36"]),
    (Code::PermissionDenied, Failed, &["ctl.ProvisionErrorHandling.37", "ctl.ProvisionErrorHandling.38", "ctl.ProvisionErrorHandling.39", "ctl.ProvisionErrorHandling.40"]),
    (Code::FailedPrecondition, Failed, &["ctl.ProvisionErrorHandling.41", "ctl.ProvisionErrorHandling.42", "ctl.ProvisionErrorHandling.43", "ctl.ProvisionErrorHandling.44"]),
    (Code::OutOfRange, Failed, &["ctl.ProvisionErrorHandling.45", "ctl.ProvisionErrorHandling.46", "ctl.ProvisionErrorHandling.47", "ctl.ProvisionErrorHandling.48"]),
    (Code::Unimplemented, Failed, &["ctl.ProvisionErrorHandling.49", "ctl.ProvisionErrorHandling.50", "ctl.ProvisionErrorHandling.51", "ctl.ProvisionErrorHandling.52"]),
    (Code::Internal, Failed, &["ctl.ProvisionErrorHandling.53", "ctl.ProvisionErrorHandling.54", "ctl.ProvisionErrorHandling.55", "ctl.ProvisionErrorHandling.56"]),
    (Code::DataLoss, Failed, &["ctl.ProvisionErrorHandling.57", "ctl.ProvisionErrorHandling.58", "ctl.ProvisionErrorHandling.59", "ctl.ProvisionErrorHandling.60"]),
    (Code::Unauthenticated, Failed, &["ctl.ProvisionErrorHandling.61", "ctl.ProvisionErrorHandling.62", "ctl.ProvisionErrorHandling.63", "ctl.ProvisionErrorHandling.64"]),
];

#[test]
fn after_each_code_no_volume_is_there_or_it_may_come_wherever_it_was_asked_for() {
    for (code, expected, ids) in CODES {
        for (id, (topology, node)) in ids.iter().zip(PLACES) {
            let mut world = lab(|_| {});
            if topology {
                world.driver.topology = true;
                world = world.with_nodes(&[("zone=a", "zone"), ("zone=b", "zone")]);
            }
            if node {
                world = world.selecting("node-1");
            }
            let outcome = outcome_of(&world.plan(), Err(error(code)));
            assert_eq!(outcome, expected(error(code)), "{id}: {code}");
        }
    }
}

#[test]
fn a_final_answer_a_passing_one_and_a_size_are_taken_as_upstream_takes_them() {
    let plan = lab(|_| {}).plan();
    let failed = |code| outcome_of(&plan, Err(error(code)));
    assert_eq!(
        failed(Code::Unauthenticated),
        Failed(error(Code::Unauthenticated)),
        "ctl.Provision.24"
    );
    assert_eq!(
        failed(Code::DeadlineExceeded),
        InBackground(error(Code::DeadlineExceeded)),
        "ctl.Provision.25"
    );
    let capacity = made(outcome_of(&plan, Ok(answer(0))))
        .spec
        .unwrap()
        .capacity
        .unwrap();
    assert_eq!(capacity["storage"].0, "100", "ctl.Provision.26");
    let small = answer(80);
    let volume = small.volume.clone().unwrap();
    let mismatch = TooSmall { got: 80, wanted: 100 };
    assert_eq!(
        outcome_of(&plan, Ok(small)),
        Unusable(volume, mismatch),
        "ctl.Provision.22"
    );
}
