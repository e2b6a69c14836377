//! What storage capacity costs a large cluster that is idle.

use sandbox::driver::Segment;

use crate::{
    capacity::{CAPACITIES, ON, RIGHTS, writes},
    sidecar::{HOME, Sidecar, TOPOLOGY, empty_world, secs},
};

const SEGMENTS: usize = 500;
const CLASSES: usize = 20;

#[tokio::test(start_paused = true)]
async fn ten_thousand_idle_items_write_nothing() {
    let mut world = empty_world().rbac(TOPOLOGY, HOME).rbac(RIGHTS, HOME);
    for n in 0..CLASSES {
        world = world.class_with(&format!("class-{n}"), |class| {
            class["volumeBindingMode"] = "WaitForFirstConsumer".into();
        });
    }
    for n in 0..SEGMENTS {
        let zone = format!("zone-{n}");
        world
            .driver
            .segment(Segment::new(&[("zone", &zone)], Some(1 << 40)));
        world = world.node(&format!("node-{n}"), &[("zone", &zone)]);
    }
    let flags = [
        ON,
        "--capacity-ownerref-level=-1",
        "--capacity-threads=50",
        "--capacity-poll-interval=10m",
    ];
    let sidecar = Sidecar::with(&world, &flags);
    world
        .eventually("all items have their object", |world| {
            world.api.len(CAPACITIES) == SEGMENTS * CLASSES
        })
        .await;
    // The poll that comes next is the idle one.
    let asked = world.driver.count("GetCapacity");
    assert_eq!(
        asked,
        SEGMENTS * CLASSES,
        "an object that was made is no reason to ask"
    );
    let written = writes(&world);
    world
        .eventually("all items were asked for again", |world| {
            world.driver.count("GetCapacity") >= asked + SEGMENTS * CLASSES
        })
        .await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(writes(&world), written);
    assert_eq!(
        sidecar.metric("csistoragecapacities_desired_current", &[]).await,
        10_000.0
    );
    let page = sidecar.page("/metrics").await;
    for queue in ["csistoragecapacity", "csitopology"] {
        let line = format!("workqueue_adds_total{{name=\"{queue}\"}}");
        assert!(page.contains(&line), "{queue}");
    }
    sidecar.end(&world).await;
}
