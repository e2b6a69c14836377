//! Any order of claims and records that come and go.

use proptest::{collection::vec, prelude::*};
use tokio::time::sleep;

use super::*;

/// What happens next to one of a few claims.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Its creation is about to be recorded.
    Hold(usize),
    /// Its reconcile is over, and it waits still.
    Waits(usize),
    /// It has what it wanted, or is gone, and so is its record.
    Done(usize),
    /// Somebody else has led.
    Term,
    /// Time for what is under way.
    Pause,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_usize).prop_map(Step::Hold),
        (0..4_usize).prop_map(Step::Waits),
        (0..4_usize).prop_map(Step::Done),
        Just(Step::Term),
        Just(Step::Pause),
    ]
}

/// Even claims are of the snapshot, odd ones of the claim.
fn of(claim: usize) -> Source {
    match claim % 2 {
        0 => backup(),
        _ => source(SourceKind::Claim, "origin"),
    }
}

async fn play(steps: Vec<Step>) {
    let lab = Lab::plain()
        .snapshot("backup", DRIVER, &[OTHERS])
        .origin("origin", DRIVER, &[OTHERS])
        .start()
        .await;
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Hold(claim) => {
                let uid = claim.to_string();
                lab.need(&uid, &of(claim));
                lab.hold(&of(claim), &uid).await.unwrap();
                assert!(lab.is_on(&of(claim)), "{at} of {steps:?}");
            }
            Step::Waits(claim) => lab.protection.reconciled(&claim.to_string()),
            Step::Done(claim) => lab.need_no_more(&claim.to_string()),
            Step::Term => lab.protection.begin_term(),
            Step::Pause => sleep(SECOND).await,
        }
        let needs = lab.needs.lock().clone();
        for (needed, _) in needs.values() {
            assert!(lab.is_on(needed), "{needed} after {at} of {steps:?}");
        }
    }
    sleep(SECOND * 60).await;
    let needs = lab.needs.lock().clone();
    for source in [of(0), of(1)] {
        let is_needed = needs.values().any(|(needed, _)| *needed == source);
        assert_eq!(lab.is_on(&source), is_needed, "{source} after {steps:?}");
        assert_eq!(lab.finalizers(&source)[0], OTHERS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_finalizer_is_on_exactly_while_somebody_needs_the_source(steps in vec(step(), 1..24)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(steps));
    }
}
