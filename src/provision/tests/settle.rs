//! What an open record needs next, and what each answer of the driver says about it.

use std::time::Duration;

use super::super::settle::{
    ClaimState::{self, *},
    Doubt, FinalAnswer, Finals, HoldReason, MOST_EARLIER, PATIENCE, RecordFacts, SeenObject, Step, Verdict,
    VolumeState, WithoutSecret, settle, without_secret,
};
use crate::{
    csi::Code,
    ledger::{Distrust, Origin},
};

const INHERITED: Origin = Origin::Inherited { distrust: None };
const DISTRUSTED: Origin = Origin::Inherited {
    distrust: Some(Distrust::Stale),
};
const NOT_TRUSTED: Step = Step::Hold(HoldReason::Distrust(Distrust::Stale));
const TIMEOUT: Duration = secs(15);
const CLAIMS: [ClaimState; 3] = [Waits, BeingDeleted, Gone];

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn an_open_record_is_finished_whatever_became_of_its_claim() {
    use VolumeState::*;
    let other = Step::Hold(HoldReason::OtherVolume);
    #[rustfmt::skip]
    let rows = [
        // Its own record: the same for every claim.
        (Origin::Own, Waits, [(Nothing, Step::Create), (CreatedEarlier, Step::Save), (Created, Step::Save)]),
        (Origin::Own, BeingDeleted, [(Nothing, Step::Create), (CreatedEarlier, Step::Save), (Created, Step::Save)]),
        (Origin::Own, Gone, [(Nothing, Step::Create), (CreatedEarlier, Step::Save), (Created, Step::Save)]),
        // Inherited, and somebody waits: asked for again, since what is known may have been deleted, and written.
        (INHERITED, Waits, [(Nothing, Step::Create), (CreatedEarlier, Step::Create), (Created, Step::Save)]),
        (DISTRUSTED, Waits, [(Nothing, Step::Create), (CreatedEarlier, Step::Create), (Created, Step::Save)]),
        // Inherited, and nobody waits: the live list comes between.
        (INHERITED, BeingDeleted, [(Nothing, Step::Create), (CreatedEarlier, Step::Create), (Created, Step::List)]),
        (INHERITED, Gone, [(Nothing, Step::Create), (CreatedEarlier, Step::Create), (Created, Step::List)]),
        (INHERITED, Gone, [(Unlisted, Step::Save), (Listed, Step::Close), (OtherListed, other)]),
        (INHERITED, BeingDeleted, [(Unlisted, Step::Save), (Listed, Step::Close), (OtherListed, other)]),
        // The claim has come back into the cache while the list ran.
        (INHERITED, Waits, [(Unlisted, Step::Save), (Listed, Step::Save), (OtherListed, Step::Save)]),
        // Not trusted, and nobody waits: never acted upon, not even after a call that a claim had waited for.
        (DISTRUSTED, BeingDeleted, [(Nothing, NOT_TRUSTED), (CreatedEarlier, NOT_TRUSTED), (Created, NOT_TRUSTED)]),
        (DISTRUSTED, Gone, [(Nothing, NOT_TRUSTED), (CreatedEarlier, NOT_TRUSTED), (Created, NOT_TRUSTED)]),
        (DISTRUSTED, Gone, [(Unlisted, NOT_TRUSTED), (Listed, NOT_TRUSTED), (OtherListed, NOT_TRUSTED)]),
    ];
    for (origin, claim, steps) in rows {
        for (known, expected) in steps {
            let facts = RecordFacts {
                claim,
                object: SeenObject::Absent,
                asked: false,
                origin,
                known,
            };
            assert_eq!(settle(facts), expected, "{facts:?}");
            // What stands under the volume's name comes first, whatever became of the claim.
            for (object, asked, wanted) in [
                (SeenObject::Same, false, Step::Close),
                (SeenObject::Same, true, Step::Close),
                (SeenObject::Unproven, false, Step::Close),
                (SeenObject::Unproven, true, expected),
                (SeenObject::Other, false, Step::Look),
                (SeenObject::OtherLive, false, Step::Hold(HoldReason::OtherVolume)),
            ] {
                let facts = RecordFacts {
                    object,
                    asked,
                    ..facts
                };
                assert_eq!(settle(facts), wanted, "{facts:?}");
            }
        }
    }
}

#[test]
fn without_its_secret_a_request_is_repeated_only_as_last_sent_and_only_when_nobody_waits() {
    let rows = [
        (Waits, true, WithoutSecret::Wait),
        (Waits, false, WithoutSecret::Wait),
        (BeingDeleted, true, WithoutSecret::UseLast),
        (BeingDeleted, false, WithoutSecret::Wait),
        (Gone, true, WithoutSecret::UseLast),
        (Gone, false, WithoutSecret::Wait),
    ];
    for (claim, at_hand, expected) in rows {
        assert_eq!(
            without_secret(claim, at_hand),
            expected,
            "{claim:?}, at hand: {at_hand}"
        );
    }
}

fn answer(code: Code, claim: ClaimState, now: Duration) -> FinalAnswer {
    FinalAnswer {
        code,
        has_source: false,
        earlier: 0,
        claim,
        now,
        timeout: TIMEOUT,
    }
}

/// The verdicts on these answers, one after the other.
fn verdicts(claim: ClaimState, answers: &[(Code, u64)]) -> Vec<Verdict> {
    verdicts_beside(0, claim, answers)
}

/// The verdicts where so many earlier requests may have made the volume.
fn verdicts_beside(earlier: usize, claim: ClaimState, answers: &[(Code, u64)]) -> Vec<Verdict> {
    let mut doubt = Doubt::FRESH;
    let judge = |(code, at): &(Code, u64)| {
        let answer = FinalAnswer {
            earlier,
            ..answer(*code, claim, secs(*at))
        };
        let (next, verdict) = doubt.judge(answer);
        doubt = next;
        verdict
    };
    answers.iter().map(judge).collect()
}

/// Those after which the driver has given up.
fn final_codes() -> impl Iterator<Item = Code> {
    let open = [
        Code::Ok,
        Code::Canceled,
        Code::DeadlineExceeded,
        Code::Unavailable,
        Code::Aborted,
    ];
    Code::ALL.into_iter().filter(move |code| !open.contains(code))
}

#[test]
fn without_doubt_every_final_answer_ends_the_record() {
    for code in final_codes() {
        for claim in CLAIMS {
            let judged = Doubt::None.judge(answer(code, claim, secs(1)));
            assert_eq!(judged, (Doubt::None, Verdict::Erase), "{code} {claim:?}");
        }
    }
}

#[test]
fn in_doubt_each_code_says_after_two_answers_what_it_may_say() {
    use Verdict::*;
    // The second answer: claim waits, is being deleted, is gone.
    let rows = [
        (Code::Unknown, [Renew, Repeat, RepeatSlowly]),
        (Code::InvalidArgument, [Erase, Erase, Erase]),
        (Code::NotFound, [Erase, Erase, Erase]),
        (Code::AlreadyExists, [Repeat, Repeat, RepeatSlowly]),
        (Code::PermissionDenied, [Renew, Repeat, RepeatSlowly]),
        (Code::ResourceExhausted, [Erase, Erase, Erase]),
        (Code::FailedPrecondition, [Renew, Repeat, RepeatSlowly]),
        (Code::OutOfRange, [Erase, Erase, Erase]),
        (Code::Unimplemented, [Erase, Erase, Erase]),
        (Code::Internal, [Renew, Repeat, RepeatSlowly]),
        (Code::DataLoss, [Renew, Repeat, RepeatSlowly]),
        (Code::Unauthenticated, [Renew, Repeat, RepeatSlowly]),
    ];
    assert_eq!(
        rows.map(|(code, _)| code).to_vec(),
        final_codes().collect::<Vec<_>>()
    );
    for (code, expected) in rows {
        for (claim, second) in CLAIMS.into_iter().zip(expected) {
            let answers = [(code, 100), (code, 114), (code, 115)];
            let expected = [Repeat, Repeat, second];
            assert_eq!(verdicts(claim, &answers), expected, "{code} {claim:?}");
        }
    }
}

#[test]
fn the_content_of_a_source_that_is_not_found_says_nothing_about_the_volume() {
    let doubt = Doubt::Doubted {
        finals: Some(Finals {
            first: secs(1),
            judging: Some(secs(1)),
        }),
    };
    let from_nothing = answer(Code::NotFound, Gone, secs(60));
    assert_eq!(doubt.judge(from_nothing).1, Verdict::Erase);
    let from_source = FinalAnswer {
        has_source: true,
        ..from_nothing
    };
    assert_eq!(doubt.judge(from_source).1, Verdict::RepeatSlowly);
}

#[test]
fn the_doubt_ends_only_by_two_answers_that_judge_whatever_comes_between() {
    use Verdict::*;
    let down = Code::Internal;
    let full = Code::ResourceExhausted;
    assert_eq!(
        verdicts(Gone, &[(down, 0), (full, 20), (full, 40)]),
        [Repeat, Repeat, Erase]
    );
    assert_eq!(
        verdicts(Waits, &[(down, 0), (full, 20), (full, 40)]),
        [Repeat, Renew, Erase]
    );
    assert_eq!(
        verdicts(Gone, &[(full, 0), (down, 20), (full, 40)]),
        [Repeat, RepeatSlowly, Erase]
    );
    assert_eq!(verdicts(Gone, &[(full, 0), (down, 20)]), [Repeat, RepeatSlowly]);
}

#[test]
fn an_answer_that_is_none_starts_the_count_again() {
    let (doubt, _) = Doubt::FRESH.judge(answer(Code::OutOfRange, Gone, secs(0)));
    assert_eq!(
        doubt.judge(answer(Code::OutOfRange, Gone, secs(20))).1,
        Verdict::Erase
    );
    // An answer without a word, or a volume that had to be deleted, in between.
    for doubt in [Doubt::FRESH, doubt.cleaned_up()] {
        assert_eq!(
            doubt.judge(answer(Code::OutOfRange, Gone, secs(20))).1,
            Verdict::Repeat
        );
    }
    assert_eq!(Doubt::None.cleaned_up(), Doubt::None, "what was made is gone");
}

#[test]
fn one_answer_never_counts_as_two() {
    let at_once = FinalAnswer {
        timeout: Duration::ZERO,
        ..answer(Code::OutOfRange, Gone, secs(7))
    };
    let (doubt, verdict) = Doubt::FRESH.judge(at_once);
    assert_eq!(verdict, Verdict::Repeat);
    let (_, verdict) = doubt.judge(at_once);
    assert_eq!(verdict, Verdict::Repeat, "in the same moment");
}

#[test]
fn after_a_day_of_refusals_the_record_of_a_gone_claim_is_held() {
    let hold = Verdict::Hold(HoldReason::OnlyRefusals);
    let day = PATIENCE.as_secs();
    for code in [Code::Internal, Code::AlreadyExists] {
        let answers = [(code, 10), (code, day), (code, day + 10)];
        let expected = [Verdict::Repeat, Verdict::RepeatSlowly, hold];
        assert_eq!(verdicts(Gone, &answers), expected, "{code}");
        let living = verdicts(Waits, &answers);
        assert!(!living.contains(&hold), "somebody waits: {living:?}");
    }
    // A driver that judges at last is heard.
    let answers = [
        (Code::Internal, 10),
        (Code::OutOfRange, day),
        (Code::OutOfRange, day + 60),
    ];
    assert_eq!(
        verdicts(Gone, &answers),
        [Verdict::Repeat, Verdict::Repeat, Verdict::Erase]
    );
}

#[test]
fn beside_earlier_requests_no_code_erases_the_record() {
    use Verdict::*;
    // The second answer: claim waits, is being deleted, is gone.
    let rows = [
        (Code::Unknown, [Renew, Repeat, RepeatSlowly]),
        (Code::InvalidArgument, [Drop, Drop, Drop]),
        (Code::NotFound, [Drop, Drop, Drop]),
        (Code::AlreadyExists, [FallBack, FallBack, FallBack]),
        (Code::PermissionDenied, [Renew, Repeat, RepeatSlowly]),
        (Code::ResourceExhausted, [Drop, Drop, Drop]),
        (Code::FailedPrecondition, [Renew, Repeat, RepeatSlowly]),
        (Code::OutOfRange, [Drop, Drop, Drop]),
        (Code::Unimplemented, [Drop, Drop, Drop]),
        (Code::Internal, [Renew, Repeat, RepeatSlowly]),
        (Code::DataLoss, [Renew, Repeat, RepeatSlowly]),
        (Code::Unauthenticated, [Renew, Repeat, RepeatSlowly]),
    ];
    assert_eq!(
        rows.map(|(code, _)| code).to_vec(),
        final_codes().collect::<Vec<_>>()
    );
    for (code, expected) in rows {
        // That the name is taken is no matter of time.
        let first = if code == Code::AlreadyExists {
            FallBack
        } else {
            Repeat
        };
        for (claim, second) in CLAIMS.into_iter().zip(expected) {
            let judged = verdicts_beside(1, claim, &[(code, 100), (code, 115)]);
            assert_eq!(judged, [first, second], "{code} {claim:?}");
        }
    }
}

#[test]
fn the_request_that_is_fallen_back_to_is_in_fresh_doubt() {
    let finals = Some(Finals {
        first: secs(1),
        judging: Some(secs(1)),
    });
    for doubt in [Doubt::None, Doubt::FRESH, Doubt::Doubted { finals }] {
        for (code, claim) in [
            (Code::AlreadyExists, Waits),
            (Code::AlreadyExists, BeingDeleted),
            (Code::OutOfRange, Waits),
            (Code::OutOfRange, Gone),
        ] {
            let answer = FinalAnswer {
                earlier: 1,
                ..answer(code, claim, secs(60))
            };
            let (next, verdict) = doubt.judge(answer);
            if matches!(verdict, Verdict::FallBack | Verdict::Drop) {
                assert_eq!(next, Doubt::FRESH, "{doubt:?} {code} {claim:?}");
            } else {
                assert_eq!(verdict, Verdict::Repeat, "{doubt:?} {code} {claim:?}");
            }
        }
    }
}

#[test]
fn requests_of_a_gone_claim_that_take_turns_are_held_after_a_day() {
    let day = PATIENCE.as_secs();
    let taken = Code::AlreadyExists;
    let answers = [(taken, 10), (taken, 300), (taken, day), (taken, day + 10)];
    let hold = Verdict::Hold(HoldReason::OnlyRefusals);
    assert_eq!(
        verdicts_beside(1, Gone, &answers),
        [Verdict::FallBack, Verdict::FallBack, Verdict::FallBack, hold]
    );
    assert_eq!(
        verdicts_beside(1, Waits, &answers),
        [Verdict::FallBack; 4],
        "somebody waits"
    );
    // A judging answer to one request says nothing about the next.
    let answers = [(Code::OutOfRange, 10), (taken, 11), (Code::OutOfRange, 60)];
    assert_eq!(
        verdicts_beside(1, Gone, &answers),
        [Verdict::Repeat, Verdict::FallBack, Verdict::Repeat]
    );
}

#[test]
fn a_claim_gets_another_request_only_so_often() {
    let answers = [(Code::Internal, 0), (Code::Internal, 20)];
    for (earlier, second) in [
        (0, Verdict::Renew),
        (MOST_EARLIER - 1, Verdict::Renew),
        (MOST_EARLIER, Verdict::Repeat),
    ] {
        let judged = verdicts_beside(earlier, Waits, &answers);
        assert_eq!(judged, [Verdict::Repeat, second], "{earlier}");
    }
}

#[test]
fn the_reasons_to_hold_read_well() {
    let texts = [
        (
            HoldReason::Distrust(Distrust::Stale),
            "nobody has kept it for an hour",
        ),
        (HoldReason::OtherVolume, "another PersistentVolume"),
        (HoldReason::OnlyRefusals, "24 hours"),
    ];
    for (why, words) in texts {
        assert!(why.to_string().contains(words), "{why}");
    }
}
