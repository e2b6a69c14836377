//! Answers to GetCapacity, and what objects say.

use std::sync::Arc;

use super::{GI, World, segment};
use crate::{
    capacity::diff::{Change, Room, change, keep},
    cluster::objects::StorageCapacity,
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
        let room = Room { capacity, maximum };
        assert_eq!(Room::try_from(answer(capacity, maximum)), Ok(room));
    }
    for (bad, words) in [
        (answer(-1, None), "available_capacity -1"),
        (
            answer(i64::MIN, Some(GI)),
            "available_capacity -9223372036854775808",
        ),
        (answer(GI, Some(-5)), "maximum_volume_size -5"),
    ] {
        let text = Room::try_from(bad).unwrap_err().to_string();
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
    let room = |capacity, maximum| Room { capacity, maximum };
    for (object, room, expected) in [
        (object("1Gi", None), room(GI, None), Change::Nothing),
        (object("1024Mi", None), room(GI, None), Change::Nothing),
        (object("1k", Some("0")), room(1000, Some(0)), Change::Nothing),
        (object("1Gi", None), room(GI, Some(GI)), Change::Update),
        (object("1Gi", Some("1Gi")), room(GI, None), Change::Update),
        (object("0", None), room(1, None), Change::Update),
        (object("odd", None), room(0, None), Change::Update),
        (StorageCapacity::default(), room(0, None), Change::Update),
        (
            object("9223372036854775807", None),
            room(i64::MAX, None),
            Change::Nothing,
        ),
    ] {
        assert_eq!(change(Some(&object), room, None), expected, "{object:?}");
    }
}

#[test]
fn one_of_several_objects_stays_whoever_looks() {
    let object = |uid: &str| {
        Arc::new(StorageCapacity {
            uid: uid.to_owned(),
            ..StorageCapacity::default()
        })
    };
    let (a, b, c) = (object("a"), object("b"), object("c"));
    for objects in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]] {
        let objects = objects.map(Arc::clone);
        let (kept, surplus) = keep(&objects, true);
        assert_eq!((kept, surplus), (Some(&a), vec![&c, &b]));
        let (kept, surplus) = keep(&objects, false);
        assert_eq!((kept, surplus.len()), (None, 3));
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
