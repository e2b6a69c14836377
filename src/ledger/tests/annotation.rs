//! What is written can be read, and what is damaged is never guessed at.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use miniz_oxide::deflate::compress_to_vec_zlib;
use proptest::{collection::vec, prelude::any, prop_assert, prop_assert_eq, proptest};

use super::{
    super::annotation::{StoredRecord, Unreadable, decode, encode, fits_key, whole_seconds},
    UID, head, opening,
};

fn stored() -> StoredRecord {
    StoredRecord {
        head: head(),
        opening: opening(),
        approved: false,
        record: b"what the controller wrote".to_vec(),
    }
}

#[test]
fn people_can_read_the_head() {
    let value = encode(&stored());
    let wanted = format!("shop/data pvc-{UID} 2026-11-21T04:36:01Z v1 ");
    assert!(value.starts_with(&wanted), "{value}");
    assert_eq!(value.split(' ').count(), 5);
}

#[test]
fn what_is_written_is_read_again() {
    let mut spaced = stored();
    // Nobody keeps --volume-name-prefix from having one.
    spaced.head.volume = "my volume v1 ".to_owned();
    let approved = StoredRecord {
        approved: true,
        ..stored()
    };
    for stored in [stored(), spaced, approved] {
        assert_eq!(decode(&encode(&stored)), Ok(stored));
    }
}

#[test]
fn what_cannot_be_read_says_why() {
    let good = encode(&stored());
    let (before, packed) = good.rsplit_once(' ').unwrap();
    let bytes = STANDARD.decode(packed).unwrap();
    let with = |packed: &[u8]| format!("{before} {}", STANDARD.encode(packed));
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        with(&bytes)
    };
    let bomb = compress_to_vec_zlib(&vec![0; 5 << 20], 9);
    assert!(bomb.len() < 32 << 10, "it would fit into a shard");
    let rows = [
        ("empty", String::new(), Unreadable::Parts),
        ("a word", "x".to_owned(), Unreadable::Parts),
        ("four parts", before.to_owned(), Unreadable::Parts),
        ("no time", good.replace("2026", "then"), Unreadable::Parts),
        (
            "another version",
            good.replace(" v1 ", " v2 "),
            Unreadable::Version,
        ),
        ("no base64", format!("{before} !!"), Unreadable::Packed),
        ("cut off", with(&bytes[..bytes.len() - 1]), Unreadable::Packed),
        ("nothing packed", with(&[]), Unreadable::Packed),
        ("damaged at the beginning", flipped(0), Unreadable::Packed),
        ("damaged within", flipped(bytes.len() / 2), Unreadable::Packed),
        (
            "its checksum damaged",
            flipped(bytes.len() - 1),
            Unreadable::Packed,
        ),
        (
            "no message",
            with(&compress_to_vec_zlib(b"\xff\xff\xff", 6)),
            Unreadable::Packed,
        ),
        ("unpacks to five megabytes", with(&bomb), Unreadable::Packed),
    ];
    for (name, value, why) in rows {
        assert_eq!(decode(&value), Err(why), "{name}");
    }
}

#[test]
fn a_moment_is_stored_in_whole_seconds() {
    for (at, wanted) in [
        ("2026-11-21T04:36:01.999999999Z", "2026-11-21T04:36:01Z"),
        ("2026-11-21T04:36:01Z", "2026-11-21T04:36:01Z"),
    ] {
        assert_eq!(whole_seconds(at.parse().unwrap()), wanted.parse().unwrap());
    }
}

#[test]
fn only_a_uid_that_makes_a_key_is_taken() {
    let (fits, long) = ("a".repeat(63), "a".repeat(64));
    for good in [UID, "a", "A.b_c-9", &fits] {
        assert!(fits_key(good), "{good}");
    }
    for bad in ["", "-a", "a-", "a b", "a/b", "é", &long] {
        assert!(!fits_key(bad), "{bad}");
    }
}

proptest! {
    #[test]
    fn any_record_is_read_as_it_was_written(
        record in vec(any::<u8>(), 0..4000), transitions: i64, seconds in 0i64..4_000_000_000, driver in "[a-z.]{0,63}"
    ) {
        let mut stored = StoredRecord { record, ..stored() };
        stored.opening.transitions = transitions;
        stored.opening.driver = driver;
        stored.opening.at = jiff::Timestamp::from_second(seconds).unwrap();
        prop_assert_eq!(decode(&encode(&stored)), Ok(stored));
    }

    #[test]
    fn nothing_that_people_write_brings_it_down(value in ".{0,200}") {
        prop_assert!(decode(&value).is_err());
    }
}
