//! When a record that was found is trusted.

use super::{
    super::{
        record::{Distrust, Opening},
        trust::{Found, distrust, is_kept},
    },
    DRIVER, UID, opening,
};

#[test]
fn each_condition_has_its_word() {
    let whole = format!("pvc-{UID}");
    let dashless = format!("pvc-{}", UID.replace('-', ""));
    let short = format!("pvc-{}", &UID.replace('-', "")[..12]);
    let found = Found {
        driver: DRIVER,
        lease_uid: "lease-1",
        first_transitions: Some(5),
        kept: true,
    };
    let elsewhere = Found {
        lease_uid: "lease-2",
        ..found
    };
    let other_driver = Found { driver: "x", ..found };
    let stale = Found { kept: false, ..found };
    let broken = Found {
        first_transitions: Some(8),
        ..found
    };
    let same = Found {
        first_transitions: Some(7),
        ..found
    };
    let unelected = Found {
        first_transitions: None,
        ..found
    };
    use Distrust::{Foreign, ShortName, Stale, UnknownLeader};
    #[rustfmt::skip]
    let rows = [
        ("all in order", found, &whole, true, false, None),
        ("retained, and all leaders keep a ledger", found, &whole, false, false, None),
        ("opened by the first of the chain", same, &whole, false, false, None),
        ("the UID without dashes", found, &dashless, true, false, None),
        ("another Lease", elsewhere, &whole, true, false, Some(Foreign)),
        ("another driver", other_driver, &whole, true, false, Some(Foreign)),
        ("nobody kept it", stale, &whole, true, false, Some(Stale)),
        ("a part of the UID", found, &short, true, false, Some(ShortName)),
        ("an unknowing leader, retained", broken, &whole, false, false, Some(UnknownLeader)),
        ("an unknowing leader, deleted", broken, &whole, true, false, None),
        ("deleted, without election", unelected, &whole, true, false, None),
        ("retained, without election", unelected, &whole, false, false, Some(UnknownLeader)),
        ("a person vouches, without election", unelected, &whole, false, true, None),
        ("a person vouches for the name", found, &short, true, true, None),
        ("a person vouches in spite of the leader", broken, &whole, false, true, None),
        ("approved for, and copied", elsewhere, &whole, true, true, Some(Foreign)),
        ("approved for, and left", stale, &whole, true, true, Some(Stale)),
        ("two reasons: the first", Found { kept: false, ..elsewhere }, &short, true, false, Some(Foreign)),
    ];
    for (name, found, volume, deletes, approved, wanted) in rows {
        assert_eq!(
            distrust(UID, &opening(), approved, volume, deletes, found),
            wanted,
            "{name}"
        );
    }
}

#[test]
fn what_nobody_had_kept_for_an_hour_once_is_not_trusted_because_it_is_kept_now() {
    let found = Found {
        driver: DRIVER,
        lease_uid: "lease-1",
        first_transitions: Some(5),
        kept: true,
    };
    let opening = Opening {
        was_stale: true,
        ..opening()
    };
    let why = distrust(UID, &opening, true, &format!("pvc-{UID}"), true, found);
    assert_eq!(why, Some(Distrust::Stale));
}

#[test]
fn a_lease_without_a_uid_is_no_proof() {
    let mut opening = opening();
    opening.lease_uid.clear();
    let found = Found {
        driver: DRIVER,
        lease_uid: "",
        first_transitions: None,
        kept: true,
    };
    assert_eq!(
        distrust(UID, &opening, false, UID, true, found),
        Some(Distrust::Foreign)
    );
}

#[test]
fn a_shard_is_kept_for_an_hour() {
    let now = "2026-11-21T05:00:00Z".parse().unwrap();
    for (renewed, kept) in [
        (Some("2026-11-21T05:00:00.000000Z"), true),
        (Some("2026-11-21T04:00:00.000001Z"), true),
        (Some("2026-11-21T04:00:00.000000Z"), false),
        (Some("2026-11-21T05:59:59.000000Z"), true),
        // No clock is wrong by that much; and this one would count for ever.
        (Some("2027-01-01T00:00:00.000000Z"), false),
        (Some("soon"), false),
        (Some(""), false),
        (None, false),
    ] {
        assert_eq!(is_kept(renewed, now), kept, "{renewed:?}");
    }
}
