//! What becomes of single objects, and who is reconciled because of it.

use super::*;

#[tokio::test(start_paused = true)]
async fn deletions_are_noticed_that_happened_while_the_server_forgot() {
    for streaming in [true, false] {
        let api = furnished();
        api.streaming_lists(streaming);
        let old = uid(&api.get(CLAIMS, "default", "ours").unwrap());
        let waiting = claim(&api, "waiting", "drv");
        volume(&api, "for-waiting", "drv", &waiting, "Bound");
        let world = World::new(&api, api.client(ADMIN));
        world.complete().await;
        let [waiting, released] = ["waiting", "released"].map(|name| world.events(name));

        api.outage();
        remove(&api, CLAIMS, "default", "ours");
        let new = claim(&api, "ours", "drv");
        remove(&api, VOLUMES, "", "bound");
        remove(&api, VOLUMES, "", "for-waiting");
        remove(&api, ATTACHMENTS, "", "held");
        remove(&api, CLASSES, "", "fast");
        api.expire();
        sleep(Duration::from_secs(20)).await;
        api.heal();
        until("the claim is gone", || world.departed(&old)).await;
        until("the volume is forgotten", || {
            world.cache.claim_of_volume("bound").is_none()
        })
        .await;
        until("the class is forgotten", || world.cache.class("fast").is_none()).await;
        until("the volume is free", || {
            world.cache.node_of_volume("released").is_none()
        })
        .await;
        until("the released volume is looked at", || {
            world.events("released") == released + 1
        })
        .await;
        until("the claim without its volume is looked at", || {
            world.events("waiting") == waiting + 1
        })
        .await;
        assert!(world.cache.claim(&new).is_some() && world.cache.claim(&old).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_relist_that_shows_nothing_new_is_no_reason_to_look() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    let events = || (world.events("ours"), world.events("released"));
    let before = events();
    api.expire();
    api.cut_watches();
    let watches = world.codes("watch", CLAIMS).len();
    until("a relist", || world.codes("watch", CLAIMS).len() >= watches + 2).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(events(), before);
    api.edit(CLAIMS, "default", "ours", |object| {
        object["metadata"]["annotations"]["x"] = "y".into();
    });
    until("a change is one", || world.events("ours") == before.0 + 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_recreated_under_its_old_name_is_another_claim() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    let old = uid(&api.get(CLAIMS, "default", "ours").unwrap());
    remove(&api, CLAIMS, "default", "ours");
    let new = claim(&api, "ours", "drv");
    until("both are known", || {
        world.departed(&old) && world.cache.claim(&new).is_some()
    })
    .await;
    assert_eq!(world.claims(), ["ours"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_gets_its_volume_leaves_and_is_not_remembered() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    let bound = uid(&api.get(CLAIMS, "default", "ours").unwrap());
    api.edit(CLAIMS, "default", "ours", |object| {
        object["spec"]["volumeName"] = "pv".into()
    });
    until("it departed", || world.departed(&bound)).await;
    assert_eq!(world.cache.claim_uids().len(), 0);
    assert_eq!(world.cache.remembered()[0], 0);
}

#[tokio::test(start_paused = true)]
async fn a_class_that_comes_later_wakes_the_claims_that_wait_for_it() {
    let api = furnished();
    remove(&api, CLASSES, "", "fast");
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    class(&api, "other", "drv");
    until("it is there", || world.cache.class("other").is_some()).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.events("ours"), 1, "not its class");
    class(&api, "fast", "drv");
    until("the claim is looked at", || world.events("ours") == 2).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_attachment_to_go_wakes_the_volume() {
    let api = furnished();
    attachment(&api, "held-too", "drv", "released");
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    remove(&api, ATTACHMENTS, "", "held");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.events("released"), 1, "another node holds it");
    remove(&api, ATTACHMENTS, "", "held-too");
    until("it is looked at", || world.events("released") == 2).await;
    assert_eq!(world.cache.remembered()[3..], [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn c16_an_attachment_of_our_volume_counts_whoever_made_it() {
    for streaming in [true, false] {
        let api = furnished();
        api.streaming_lists(streaming);
        remove(&api, ATTACHMENTS, "", "held");
        attachment(&api, "early", "other", "released");
        let world = World::new(&api, api.client(ADMIN));
        world.complete().await;
        attachment(&api, "late", "other", "released");
        attachment(&api, "not-ours-too", "other", "foreign");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(
            world.cache.remembered()[3..],
            [2, 1],
            "streaming lists: {streaming}"
        );
        remove(&api, ATTACHMENTS, "", "early");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(world.cache.node_of_volume("released").as_deref(), Some("n1"));
        remove(&api, ATTACHMENTS, "", "late");
        until("it is looked at", || world.events("released") == 2).await;
        assert_eq!(world.cache.remembered()[3..], [0, 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_does_not_keep_the_others() {
    for streaming in [true, false] {
        let api = furnished();
        api.streaming_lists(streaming);
        claim(&api, "odd", "drv");
        volume(&api, "odd", "drv", "c9", "Released");
        api.edit(CLAIMS, "default", "odd", |object| {
            object["spec"]["accessModes"] = json!({"a": 1})
        });
        api.edit(VOLUMES, "", "odd", |object| {
            object["spec"]["csi"]["volumeHandle"] = json!(7)
        });
        let world = World::new(&api, api.client(ADMIN));
        world.complete().await;
        sees_what_is_there(&world);
        // Nor does one that comes later.
        api.edit(CLAIMS, "default", "odd", |object| {
            object["spec"]["accessModes"] = json!(3)
        });
        claim(&api, "next", "drv");
        until("the next claim", || world.claims() == ["next", "ours"]).await;
    }
}
