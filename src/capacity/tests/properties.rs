//! From any start the objects become the ones that are wanted, and then nothing is written any more.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{World, class, segment};
use crate::{
    base::segment::Segment,
    capacity::segments::WorkItem,
    cluster::objects::{BindingMode, StorageCapacity},
};

const SEGMENTS: [&str; 5] = ["", "z=a", "z=b", "z=a,r=1", "r=1"];
const CLASSES: [&str; 4] = ["fast", "slow", "triple", "early"];

fn object() -> impl Strategy<Value = StorageCapacity> {
    let quantity = || {
        option::of(select(vec![
            "0",
            "1Gi",
            "1000",
            "1k",
            "-5",
            "odd",
            "9223372036854775808",
            "",
        ]))
    };
    (
        select(CLASSES.to_vec()),
        option::of(select(SEGMENTS.to_vec())),
        quantity(),
        quantity(),
        vec(select(vec!["owner", "other"]), 0..3),
    )
        .prop_map(|(class, place, capacity, maximum, owners)| StorageCapacity {
            class: class.to_owned(),
            segment: place.map(segment),
            capacity: capacity.map(str::to_owned),
            maximum_volume_size: maximum.map(str::to_owned),
            owners: owners.into_iter().map(str::to_owned).collect(),
            ..StorageCapacity::default()
        })
}

fn world() -> impl Strategy<Value = World> {
    let room = (0..=i64::MAX, option::of(0..=i64::MAX));
    (
        vec(object(), 0..12),
        proptest::sample::subsequence(CLASSES.to_vec(), 0..=4),
        vec((select(SEGMENTS.to_vec()), room), 0..5),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(objects, classes, rooms, immediate, owner)| {
            let number = |(at, object): (usize, StorageCapacity)| {
                let uid = format!("uid-{at}");
                let name = uid.clone();
                Arc::new(StorageCapacity { name, uid, ..object })
            };
            let mut classes: Vec<_> = classes.into_iter().map(class).collect();
            for class in &mut classes {
                class.binding_mode = match class.name.as_str() {
                    "early" => Some(BindingMode::Immediate),
                    "slow" => None,
                    _ => class.binding_mode,
                };
            }
            World {
                classes,
                segments: rooms.iter().map(|(text, _)| segment(text)).collect(),
                immediate,
                objects: objects.into_iter().enumerate().map(number).collect(),
                owner,
                room: rooms
                    .into_iter()
                    .map(|(text, (bytes, maximum))| (segment(text), bytes, maximum))
                    .collect(),
                ..World::default()
            }
        })
}

proptest! {
    #[test]
    fn one_round_is_enough_and_leaves_exactly_what_is_wanted(start in world()) {
        let mut world = start.clone();
        world.round();
        prop_assert_eq!(world.round(), 0, "the fixpoint writes nothing");
        let mut there: Vec<_> = world.objects.iter().map(|object| WorkItem::of(object).key()).collect();
        let mut wanted: Vec<_> = world.desired().items().map(|item| item.key()).collect();
        there.sort();
        wanted.sort();
        prop_assert_eq!(there, wanted);
        for object in &world.objects {
            prop_assert!(!world.owner || object.owners.iter().any(|owner| owner == "owner"));
            let before = start.objects.iter().find(|before| before.uid == object.uid);
            let lost = before.into_iter().flat_map(|before| &before.owners).find(|owner| !object.owners.contains(owner));
            prop_assert_eq!(lost, None, "owners of others are kept");
        }
    }

    #[test]
    fn the_order_in_which_objects_are_seen_decides_nothing(start in world(), seed in any::<u64>()) {
        let (mut world, mut other) = (start.clone(), start);
        let turn = seed as usize % (other.objects.len() + 1);
        other.objects.rotate_left(turn);
        world.round();
        other.round();
        prop_assert_eq!(world.print(), other.print());
    }

    #[test]
    fn a_key_is_its_item(class in ".*", labels in option::of(proptest::collection::btree_map(".*", ".*", 0..4))) {
        let labels: Option<BTreeMap<String, String>> = labels;
        let item = WorkItem { class, segment: labels.map(Segment::from) };
        prop_assert_eq!(WorkItem::from_key(&item.key()), Some(item));
    }

    #[test]
    fn the_difference_is_what_one_wants_and_the_other_does_not(one in world(), other in world()) {
        let (one, other) = (one.desired(), other.desired());
        let difference = one.difference(&other);
        for item in one.items().chain(other.items()) {
            let differs = one.contains(&item) != other.contains(&item);
            prop_assert_eq!(difference.contains(&item), differs, "{:?}", item);
        }
        prop_assert!(one.difference(&one).is_empty());
    }
}
