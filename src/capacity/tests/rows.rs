//! Upstream's own cases: what was there, what happened, what is there then, and how much was written.

use super::{GI, MI, World, segment};
use crate::cluster::objects::BindingMode;

/// One case: the id, the world, what happens once all is published, and what comes of it.
struct Row {
    id: &'static str,
    world: World,
    then: fn(&mut World),
    /// Objects at the end.
    objects: &'static [&'static str],
    /// Upstream's gauges before anything is done, and at the end.
    gauges: [[usize; 3]; 2],
    /// Objects that were created, updated and deleted.
    writes: [usize; 3],
}

fn two() -> World {
    World::new(
        &[("layer0=foo", GI), ("layer0=bar", 2 * GI)],
        &["direct", "triple"],
    )
}

fn one() -> World {
    World::new(&[("layer0=foo", GI)], &["direct"])
}

const ONE: &[&str] = &["new direct layer0=foo 1Gi owner"];
const FOUR: &[&str] = &[
    "new direct layer0=bar 2Gi owner",
    "new direct layer0=foo 1Gi owner",
    "new triple layer0=bar 6Gi owner",
    "new triple layer0=foo 3Gi owner",
];

fn nothing(_: &mut World) {}

fn row(id: &'static str, world: World) -> Row {
    Row {
        id,
        world,
        then: nothing,
        objects: &[],
        gauges: [[0; 3]; 2],
        writes: [0; 3],
    }
}

fn with(mut world: World, change: impl FnOnce(&mut World)) -> World {
    change(&mut world);
    world
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let immediate = |world: &mut World| {
        world.classes[0].binding_mode = Some(BindingMode::Immediate);
    };
    let created = [[1, 0, 0], [1, 1, 0]];
    let found = [[1, 1, 0]; 2];
    vec![
        row("cap.CapacityController.01", World::new(&[], &[])),
        row("cap.CapacityController.02", World::new(&[("layer0=foo", GI)], &[])),
        row("cap.CapacityController.03", World::new(&[], &["direct"])),
        Row { objects: ONE, gauges: created, writes: [1, 0, 0], ..row("cap.CapacityController.04", one()) },
        Row {
            objects: &["new direct layer0=foo 1Gi"],
            gauges: created,
            writes: [1, 0, 0],
            ..row("cap.CapacityController.05", with(one(), |world| world.owner = false))
        },
        Row {
            objects: &["new direct layer0=foo 1Gi max 1Mi owner"],
            gauges: created,
            writes: [1, 0, 0],
            ..row("cap.CapacityController.06", with(one(), |world| world.room[0].2 = Some(MI)))
        },
        row("cap.CapacityController.07", with(one(), immediate)),
        Row {
            objects: ONE,
            gauges: created,
            writes: [1, 0, 0],
            ..row("cap.CapacityController.08", with(one(), |world| { immediate(world); world.immediate = true; }))
        },
        Row {
            objects: &["old direct layer0=foo 1Gi owner"],
            gauges: found,
            ..row("cap.CapacityController.09", one().object("old", "direct", "layer0=foo", GI, true))
        },
        Row {
            objects: &["old direct layer0=foo 2Gi owner"],
            gauges: found,
            writes: [0, 1, 0],
            ..row("cap.CapacityController.10",
                with(one(), |world| world.room[0].1 = 2 * GI).object("old", "direct", "layer0=foo", GI, true))
        },
        Row {
            objects: &["old direct layer0=foo 1Gi owner"],
            gauges: found,
            writes: [0, 1, 0],
            ..row("cap.CapacityController.11", one().object("old", "direct", "layer0=foo", GI, false))
        },
        Row {
            objects: &["old direct layer0=foo 1Gi owner"],
            gauges: found,
            ..row("cap.CapacityController.12",
                with(one(), |world| world.owner = false).object("old", "direct", "layer0=foo", GI, true))
        },
        Row {
            gauges: [[0, 0, 1], [0, 0, 0]],
            writes: [0, 0, 1],
            ..row("cap.CapacityController.13",
                World::new(&[("layer0=foo", GI)], &[]).object("old", "direct", "layer0=foo", GI, true))
        },
        Row {
            gauges: [[0, 0, 1], [0, 0, 0]],
            writes: [0, 0, 1],
            ..row("cap.CapacityController.14",
                World::new(&[], &["direct"]).object("old", "direct", "layer0=foo", GI, true))
        },
        Row { objects: FOUR, gauges: [[4, 0, 0], [4, 4, 0]], writes: [4, 0, 0], ..row("cap.CapacityController.17", two()) },
        Row {
            objects: &[
                "a direct layer0=foo 1Gi owner",
                "b triple layer0=foo 3Gi owner",
                "c direct layer0=bar 2Gi owner",
                "d triple layer0=bar 6Gi owner",
            ],
            gauges: [[4, 4, 0]; 2],
            writes: [0, 4, 0],
            ..row("cap.CapacityController.18", two()
                .object("a", "direct", "layer0=foo", MI, true)
                .object("b", "triple", "layer0=foo", 3 * MI, true)
                .object("c", "direct", "layer0=bar", 2 * MI, true)
                .object("d", "triple", "layer0=bar", 6 * MI, true))
        },
        Row {
            objects: &[
                "a direct layer0=foo 1Gi owner",
                "d triple layer0=bar 6Gi owner",
                "new direct layer0=bar 2Gi owner",
                "new triple layer0=foo 3Gi owner",
            ],
            gauges: [[4, 2, 2], [4, 4, 0]],
            writes: [2, 2, 2],
            ..row("cap.CapacityController.19", two()
                .object("a", "direct", "layer0=foo", MI, true)
                .object("b", "old", "layer0=foo", 3 * MI, true)
                .object("c", "direct", "layer0=gone", 2 * MI, true)
                .object("d", "triple", "layer0=bar", 6 * MI, true))
        },
        Row {
            then: |world| world.objects.clear(),
            objects: ONE,
            gauges: created,
            writes: [2, 0, 0],
            ..row("cap.CapacityController.20", one())
        },
        Row {
            then: |world| *world = world.clone().object("odd", "direct", "layer0=no-such", GI, true),
            objects: ONE,
            gauges: created,
            writes: [1, 0, 1],
            ..row("cap.CapacityController.21", one())
        },
        // The labels are taken off: the object is left as it is, although it has other values.
        Row {
            then: |world| {
                world.unlabelled = std::mem::take(&mut world.objects);
                let object = std::sync::Arc::make_mut(&mut world.unlabelled[0]);
                (object.capacity, object.owners) = (Some("9".into()), Vec::new());
            },
            objects: &["new direct layer0=foo 1Gi owner", "new direct layer0=foo 9"],
            gauges: created,
            writes: [2, 0, 0],
            ..row("cap.CapacityController.22", one())
        },
        Row {
            then: |world| {
                world.objects.clear();
                *world = world.clone().object("theirs", "direct", "layer0=foo", 5 * GI, true);
            },
            objects: &["theirs direct layer0=foo 1Gi owner"],
            gauges: created,
            writes: [1, 1, 0],
            ..row("cap.CapacityController.23", one())
        },
        Row {
            then: |world| world.room[0].1 = 2 * GI,
            objects: &["new direct layer0=foo 2Gi owner"],
            gauges: created,
            writes: [1, 1, 0],
            ..row("cap.CapacityController.24", one())
        },
        Row {
            then: |world| _ = world.segments.insert(segment("layer0=foo")),
            objects: ONE,
            gauges: [[0, 0, 0], [1, 1, 0]],
            writes: [1, 0, 0],
            ..row("cap.CapacityController.25", with(one(), |world| {
                world.segments.clear();
                let mut early = super::class("early");
                early.binding_mode = Some(BindingMode::Immediate);
                world.classes.push(early);
            }))
        },
        Row {
            then: |world| _ = world.segments.insert(segment("layer0=foo")),
            objects: &["new direct layer0=foo 1Gi owner", "new early layer0=foo 1Gi owner"],
            gauges: [[0, 0, 0], [2, 2, 0]],
            writes: [2, 0, 0],
            ..row("cap.CapacityController.26", with(one(), |world| {
                world.segments.clear();
                world.immediate = true;
                let mut early = super::class("early");
                early.binding_mode = Some(BindingMode::Immediate);
                world.classes.push(early);
            }))
        },
        Row {
            then: |world| world.segments.clear(),
            gauges: [[1, 0, 0], [0, 0, 0]],
            writes: [1, 0, 1],
            ..row("cap.CapacityController.27", one())
        },
        Row {
            then: |world| {
                world.segments = [segment("layer0=bar")].into();
                world.room.push((segment("layer0=bar"), 2 * GI, None));
            },
            objects: &["new direct layer0=bar 2Gi owner"],
            gauges: created,
            writes: [2, 0, 1],
            ..row("cap.CapacityController.28", one())
        },
    ]
}

#[test]
fn what_upstream_publishes_is_published_and_nothing_is_written_twice() {
    for Row {
        id,
        mut world,
        then,
        objects,
        gauges,
        writes,
    } in rows()
    {
        assert_eq!(world.gauges(), gauges[0], "{id}: gauges before");
        world.round();
        assert_eq!(world.round(), 0, "{id}: once is enough");
        then(&mut world);
        world.round();
        assert_eq!(world.print(), objects, "{id}");
        assert_eq!(world.gauges(), gauges[1], "{id}: gauges after");
        assert_eq!(
            [world.created, world.updated, world.deleted],
            writes,
            "{id}: writes"
        );
        assert_eq!(world.round(), 0, "{id}: stable");
    }
}
