//! Answers to GetCapacity, and what objects say.

use std::sync::Arc;

use super::{GI, World, segment};
use crate::{
    capacity::diff::{Change, Goal, values, writes},
    cluster::objects::{CapacityValues, StorageCapacity},
    csi::proto::GetCapacityResponse,
};

fn answer(capacity: i64, maximum: Option<i64>) -> GetCapacityResponse {
    GetCapacityResponse {
        available_capacity: capacity,
        maximum_volume_size: maximum,
        ..GetCapacityResponse::default()
    }
}

#[test]
fn an_answer_is_published_unless_it_is_below_zero() {
    for (capacity, maximum) in [(0, None), (0, Some(0)), (GI, Some(1)), (i64::MAX, Some(i64::MAX))] {
        let expected = CapacityValues {
            capacity,
            maximum_volume_size: maximum,
        };
        assert_eq!(values(&answer(capacity, maximum)), Ok(expected));
    }
    for (bad, words) in [
        (answer(-1, None), "available_capacity -1"),
        (
            answer(i64::MIN, Some(GI)),
            "available_capacity -9223372036854775808",
        ),
        (answer(GI, Some(-5)), "maximum_volume_size -5"),
    ] {
        let text = values(&bad).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn quantities_are_compared_by_what_they_mean() {
    let object = |capacity: &str, maximum: Option<&str>| StorageCapacity {
        capacity: Some(capacity.to_owned()),
        maximum_volume_size: maximum.map(str::to_owned),
        ..StorageCapacity::default()
    };
    for (object, capacity, maximum_volume_size, right) in [
        (object("1Gi", None), GI, None, true),
        (object("1024Mi", None), GI, None, true),
        (object("1k", Some("0")), 1000, Some(0), true),
        (object("1Gi", None), GI, Some(GI), false),
        (object("1Gi", Some("1Gi")), GI, None, false),
        (object("0", None), 1, None, false),
        (object("odd", None), 0, None, false),
        (StorageCapacity::default(), 0, None, false),
        (object("9223372036854775807", None), i64::MAX, None, true),
    ] {
        let values = CapacityValues {
            capacity,
            maximum_volume_size,
        };
        let object = [Arc::new(object)];
        let expected = match right {
            true => Change::Nothing,
            false => Change::Update(&object[0], values),
        };
        let goal = Goal {
            values: Some(values),
            owner: None,
            version: None,
        };
        assert_eq!(writes(&object, Some(goal)).change, expected, "{object:?}");
    }
}

fn number(uid: &str, capacity: &str, version: &str) -> Arc<StorageCapacity> {
    Arc::new(StorageCapacity {
        uid: uid.to_owned(),
        capacity: Some(capacity.to_owned()),
        resource_version: version.to_owned(),
        ..StorageCapacity::default()
    })
}

const ONE_BYTE: CapacityValues = CapacityValues {
    capacity: 1,
    maximum_volume_size: None,
};

#[test]
fn one_of_several_objects_stays_whoever_looks_and_is_written_although_the_others_are_there() {
    let (a, b, c) = (number("a", "5", ""), number("b", "1", ""), number("c", "1", ""));
    for objects in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]] {
        let objects = objects.map(Arc::clone);
        let mut goal = Goal {
            values: Some(ONE_BYTE),
            owner: None,
            version: None,
        };
        let both = writes(&objects, Some(goal));
        assert_eq!(both.change, Change::Update(&a, ONE_BYTE));
        assert_eq!(both.obsolete, [&*c, &*b]);
        // A driver that does not answer keeps no duplicate.
        goal.values = None;
        let deleted = writes(&objects, Some(goal));
        assert_eq!((deleted.change, deleted.obsolete.len()), (Change::Nothing, 2));
        let none = writes(&objects, None);
        assert_eq!((none.change, none.obsolete.len()), (Change::Nothing, 3));
    }
}

#[test]
fn a_cache_that_does_not_show_what_was_written_last_does_not_decide() {
    let objects = [number("a", "1", "7")];
    for (version, right) in [(None, true), (Some("7"), true), (Some("8"), false)] {
        let goal = Goal {
            values: Some(ONE_BYTE),
            owner: None,
            version,
        };
        let change = writes(&objects, Some(goal)).change;
        assert_eq!(change == Change::Nothing, right, "{version:?}");
    }
}

#[test]
fn d2_the_empty_segment_is_stable() {
    let mut world = World::new(&[("", GI)], &["direct"]);
    assert_eq!(world.round(), 1);
    assert_eq!(world.print(), ["new direct  1Gi owner"]);
    assert_eq!(world.round(), 0);
}

#[test]
fn objects_that_choose_nodes_in_another_way_are_obsolete() {
    let mut world = World::new(&[("", GI), ("zone=a", GI)], &["direct"]);
    world = world.object("odd", "direct", "zone=a", GI, true);
    Arc::make_mut(&mut world.objects[0]).segment = None;
    assert_eq!(world.gauges(), [2, 0, 1]);
    world.round();
    assert!(
        world.print().iter().all(|line| line.starts_with("new")),
        "{:?}",
        world.print()
    );
    assert_eq!(segment(""), segment("").with_keys(&[]).unwrap());
}
