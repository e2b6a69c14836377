//! Each rule is broken once, and the model finds what comes of it: it can fail.

use super::{
    ALL,
    search::search,
    world::{Broken, Rules},
};

const SMALL: Rules = Rules {
    crashes: 0,
    losses: 0,
    terms: 1,
    unknowing: false,
    stale: false,
    ..ALL
};

/// Runs the model with a rule that is broken; it must find exactly this.
fn finds(broken: Broken, rules: Rules, wanted: &str) {
    let rules = Rules {
        broken: Some(broken),
        ..rules
    };
    let searched = search(rules, 25);
    let (what, trace) = searched.wrong.unwrap_or_default();
    println!("{broken:?}: {} states\n  {}", searched.states, trace.join("\n  "));
    assert_eq!(what, wanted, "{broken:?}");
}

#[test]
fn the_model_finds_it_when_nothing_is_recorded() {
    finds(
        Broken::NoRecord,
        Rules { crashes: 1, ..SMALL },
        "a volume is lost",
    );
}

#[test]
fn the_model_finds_it_when_a_record_is_erased_early() {
    finds(
        Broken::ErasedEarly,
        Rules { crashes: 1, ..SMALL },
        "a volume is lost",
    );
}

#[test]
fn the_model_finds_it_when_a_copied_record_is_trusted() {
    finds(
        Broken::CopyTrusted,
        Rules {
            copied: true,
            ..SMALL
        },
        "DeleteVolume for a volume in use",
    );
}

#[test]
fn the_model_finds_it_when_no_list_comes_before_the_object() {
    finds(
        Broken::NoList,
        Rules {
            deletes: false,
            terms: 2,
            ..SMALL
        },
        "two objects for one volume",
    );
}

#[test]
fn the_model_finds_it_when_what_is_deleted_was_not_looked_at() {
    finds(
        Broken::NoLiveLook,
        Rules { stale: true, ..SMALL },
        "DeleteVolume for a volume in use",
    );
}

#[test]
fn the_model_finds_it_when_a_flag_says_who_leads() {
    finds(
        Broken::NoFence,
        Rules { terms: 2, ..SMALL },
        "something is sent outside the lease",
    );
}

#[test]
fn the_model_finds_it_when_one_final_answer_is_enough() {
    finds(Broken::OneFinalAnswer, SMALL, "a volume is lost");
}

#[test]
fn the_model_finds_it_when_an_old_erasure_is_carried_into_a_later_term() {
    finds(
        Broken::OldErasures,
        Rules {
            crashes: 1,
            terms: 3,
            ..SMALL
        },
        "a volume is lost",
    );
}

#[test]
fn the_model_finds_it_when_any_object_of_the_name_closes_a_record() {
    finds(
        Broken::ClosedByName,
        Rules {
            terms: 2,
            stale: true,
            ..SMALL
        },
        "a volume is lost",
    );
}

#[test]
fn the_model_finds_it_when_an_old_request_is_repeated_that_is_not_stored() {
    finds(
        Broken::RepeatedUnstored,
        Rules {
            crashes: 1,
            losses: 1,
            ..SMALL
        },
        "two volumes at the driver for one claim",
    );
}

#[test]
fn the_model_finds_it_when_a_driver_works_on_after_it_said_ok() {
    finds(Broken::LateAfterOk, SMALL, "a volume is lost");
}

#[test]
fn the_model_finds_it_when_a_volume_is_made_anew_under_the_object_of_a_deleted_one() {
    finds(
        Broken::AskedWhileDeleting,
        Rules {
            id_is_name: true,
            crashes: 1,
            ..SMALL
        },
        "a volume is lost",
    );
}
