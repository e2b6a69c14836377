//! What storage capacity writes, and how often: nothing feeds itself, whatever driver, watch and others do.

use sandbox::{
    Driver, Fault, Harm, World,
    driver::{Segment, Trouble},
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tonic::Code;

use crate::{
    capacity::{CAPACITIES, ON, RIGHTS, USUAL, becomes, pods, published, room_in_a, writes, zones},
    capacity_trouble::answer,
    sidecar::{DRIVER, HOME, Sidecar, secs, text},
};

const GI: i64 = 1 << 30;

/// The capacities published for zone a.
fn in_a(world: &World) -> Vec<Value> {
    world
        .api
        .filter(CAPACITIES, |it| it["nodeTopology"]["matchLabels"]["zone"] == "a")
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_answers_otherwise_each_time_is_asked_at_the_polls_only() {
    let world = zones();
    for n in 0..3000 {
        world.driver.upset("GetCapacity", 1, answer(n * GI, None));
    }
    let sidecar = Sidecar::with(&world, &[ON]);
    world
        .eventually("both are published", |world| world.api.len(CAPACITIES) == 2)
        .await;
    world.api.freeze_cache();
    sleep(secs(200)).await;
    // Now the watch tells of several writes at once, and each but the last is old.
    let asked = world.driver.count("GetCapacity");
    world.api.thaw_cache();
    sleep(secs(600)).await;
    let asked = world.driver.count("GetCapacity") - asked;
    assert!((18..=22).contains(&asked), "two items, ten polls: {asked}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn two_sidecars_whose_drivers_disagree_write_at_their_polls_only() {
    let world = zones();
    let flags = [ON, "--leader-election=false"];
    let other = Driver::new(DRIVER);
    for zone in ["a", "b"] {
        other.segment(Segment::new(&[("zone", zone)], Some(6 * GI)));
    }
    other.configure(|identity| identity.topology = false);
    let sidecar = Sidecar::with(&world, &flags);
    let beside = sidecar.beside_with(&world, "pod-b", &other, &flags);
    world
        .eventually("both are published", |world| world.api.len(CAPACITIES) == 2)
        .await;
    let written = writes(&world);
    sleep(secs(600)).await;
    let written = writes(&world) - written;
    assert!(written <= 2 * 2 * 11, "{written}");
    assert_eq!(world.api.len(CAPACITIES), 2, "no duplicates");
    beside.end(&world).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_is_lost_is_not_repeated_although_the_watch_lags() {
    let world = zones();
    let lost = Fault::new(Harm::LoseReply).on("create", CAPACITIES);
    world.api.harm(lost.times(2));
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-poll-interval=1s"]);
    sidecar.leads(&world).await;
    world.api.freeze_cache();
    sleep(secs(300)).await;
    assert_eq!(published(&world), USUAL);
    world.api.thaw_cache();
    sleep(secs(60)).await;
    assert_eq!(published(&world), USUAL);
    assert_eq!(world.api.count("update", CAPACITIES), 0, "they were right");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_already_is_not_written_again_although_the_watch_lags() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-poll-interval=1s"]);
    becomes(&world, USUAL).await;
    sleep(secs(5)).await;
    world.api.freeze_cache();
    room_in_a(&world, 7 * GI);
    becomes(&world, &["fast zone=a 7Gi", "fast zone=b 10Gi"]).await;
    sleep(secs(60)).await;
    assert_eq!(world.api.count("update", CAPACITIES), 1);
    // The cache still says 5 GiB, which is right again and on the server is not.
    room_in_a(&world, 5 * GI);
    becomes(&world, USUAL).await;
    sleep(secs(60)).await;
    assert_eq!(world.api.count("update", CAPACITIES), 2);
    world.api.thaw_cache();
    sleep(secs(60)).await;
    assert_eq!(
        (world.api.count("update", CAPACITIES), published(&world).len()),
        (2, 2)
    );
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_that_cannot_be_deleted_holds_nothing_up() {
    let world = zones();
    world.api.withdraw("delete", "storage.k8s.io", CAPACITIES);
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    let mut double = in_a(&world).remove(0);
    for field in ["uid", "resourceVersion", "creationTimestamp", "name"] {
        double["metadata"].as_object_mut().unwrap().remove(field);
    }
    double["metadata"]["generateName"] = "hand-".into();
    world.api.create(CAPACITIES, HOME, double);
    sleep(secs(5)).await;
    room_in_a(&world, 7 * GI);
    world
        .eventually("one of the two says it", |world| {
            in_a(world).iter().any(|object| object["capacity"] == "7Gi")
        })
        .await;
    for (metric, value) in [
        ("csistoragecapacities_desired_goal", 2.0),
        ("csistoragecapacities_desired_current", 2.0),
        ("csistoragecapacities_obsolete", 1.0),
        ("volwright_capacity_failing", 1.0),
    ] {
        assert_eq!(sidecar.metric(metric, &[]).await, value, "{metric}");
    }
    world.api.load_rbac(RIGHTS, HOME).expect("the component");
    becomes(&world, &["fast zone=a 7Gi", "fast zone=b 10Gi"]).await;
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn errors_that_differ_in_their_text_only_are_one_kind_of_problem_in_the_log() {
    let world = zones();
    for n in 0..1000 {
        let text: &'static str = Box::leak(format!("request {n} failed").into_boxed_str());
        world
            .driver
            .upset("GetCapacity", 1, Trouble::Refuse(Code::Internal, text));
    }
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-poll-interval=1s"]);
    sidecar.leads(&world).await;
    sleep(secs(60)).await;
    assert!(world.driver.count("GetCapacity") > 100);
    let lines = sidecar.log();
    let lines: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("storage capacity cannot be published"))
        .collect();
    assert!((6..=8).contains(&lines.len()), "one in ten seconds: {lines:#?}");
    assert!(!lines[5].contains("request 0 "), "the latest text: {lines:#?}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn no_delay_between_retries_is_no_hot_loop() {
    let world = zones();
    world.api.delete("pods", HOME, "pod-a");
    let flags = [ON, "--retry-interval-start=0s", "--capacity-poll-interval=10h"];
    let sidecar = Sidecar::with(&world, &flags);
    sidecar.leads(&world).await;
    sleep(secs(60)).await;
    let requests = world.api.requests();
    let looked = requests.iter().filter(|it| it.resource == "pods").count();
    assert!((2..=61).contains(&looked), "{looked}");
    world
        .driver
        .upset("GetCapacity", usize::MAX, Trouble::Refuse(Code::Internal, "no"));
    for plural in ["pods", "replicasets", "deployments"] {
        for name in ["pod-b", "sidecar-1", "sidecar"] {
            world.api.delete(plural, HOME, name);
        }
    }
    pods(&world);
    sleep(secs(600)).await;
    let asked = world.driver.count("GetCapacity");
    assert!((2..=60).contains(&asked), "{asked}");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn objects_that_somebody_deletes_again_and_again_are_made_once_more_and_then_at_the_polls() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    let made = world.api.count("create", CAPACITIES);
    for _ in 0..600 {
        for object in world.api.list(CAPACITIES) {
            world
                .api
                .delete(CAPACITIES, HOME, text(&object, "/metadata/name"));
        }
        sleep(secs(1)).await;
    }
    let made = world.api.count("create", CAPACITIES) - made;
    assert!((20..=2 * 2 * 11).contains(&made), "{made}");
    becomes(&world, USUAL).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_replaced_is_found_when_the_objects_have_gone_with_it() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    for (plural, name) in [
        ("pods", "pod-a"),
        ("pods", "pod-b"),
        ("replicasets", "sidecar-1"),
        ("deployments", "sidecar"),
    ] {
        world.api.delete(plural, HOME, name);
    }
    pods(&world);
    let owner = world
        .api
        .get("replicasets", HOME, "sidecar-1")
        .expect("the new one");
    let owner = json!(text(&owner, "/metadata/uid"));
    // As the garbage collector does.
    for object in world.api.list(CAPACITIES) {
        world
            .api
            .delete(CAPACITIES, HOME, text(&object, "/metadata/name"));
    }
    world
        .eventually("they belong to the new owner", |world| {
            let objects = world.api.list(CAPACITIES);
            let owned = |object: &Value| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| owners.iter().any(|it| it["uid"] == owner))
            };
            objects.len() == 2 && objects.iter().all(owned)
        })
        .await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_its_turn_is_not_sent_after_the_term() {
    let world = zones();
    let flags = [ON, "--kube-api-capacity-qps=0.05", "--kube-api-capacity-burst=1"];
    let sidecar = Sidecar::with(&world, &[&flags[..], &["--capacity-ownerref-level=-1"]].concat());
    world
        .eventually("the first one is there", |world| world.api.len(CAPACITIES) == 1)
        .await;
    sleep(secs(2)).await;
    sidecar.end(&world).await;
    sleep(secs(300)).await;
    assert_eq!(
        (world.driver.count("GetCapacity"), world.api.len(CAPACITIES)),
        (2, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_taken_away_later_is_named_once_and_heals() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    for verb in ["list", "watch"] {
        world.api.withdraw(verb, "storage.k8s.io", CAPACITIES);
    }
    world.api.cut_watches();
    let grows_old = |line: &&String| line.contains("published storage capacity grows old");
    sleep(secs(900)).await;
    let log = sidecar.log();
    let lines: Vec<_> = log.iter().filter(grows_old).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(
        lines[0].contains("resources: [\"csistoragecapacities\"]"),
        "{lines:?}"
    );
    assert_eq!(sidecar.metric("volwright_capacity_ready", &[]).await, 0.0);
    world.api.load_rbac(RIGHTS, HOME).expect("the component");
    sleep(secs(300)).await;
    assert_eq!(sidecar.metric("volwright_capacity_ready", &[]).await, 1.0);
    sidecar.end_without_rights(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d74_a_sidecar_that_starts_during_a_roll_out_keeps_what_is_published() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    sidecar.kill();
    let names = |world: &World| {
        let objects = world.api.list(CAPACITIES);
        let mut names: Vec<_> = objects
            .iter()
            .map(|it| text(it, "/metadata/name").to_owned())
            .collect();
        names.sort();
        names
    };
    let before = names(&world);
    world.unregister("n1");
    let sidecar = Sidecar::with(&world, &[ON]);
    world
        .always("D-74: the zone is not taken away", secs(60), |world| {
            names(world) == before
        })
        .await;
    world.register("n1", &["zone"]);
    sleep(secs(180)).await;
    assert_eq!(names(&world), before);
    // A plugin that does not come back is another matter.
    sidecar.kill();
    world.unregister("n1");
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, &[USUAL[1]]).await;
    sidecar.end(&world).await;
}
