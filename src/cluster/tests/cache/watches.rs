//! Watches that end, say what cannot be read, or are answered by somebody else than before.

use sandbox::{Fault, Harm};

use super::*;

/// How often claims are watched from now on, in five minutes.
async fn asked(world: &World) -> usize {
    let before = world.codes("watch", CLAIMS).len();
    sleep(Duration::from_secs(300)).await;
    world.codes("watch", CLAIMS).len() - before
}

#[tokio::test(start_paused = true)]
async fn b7_watches_that_end_at_once_are_asked_for_with_growing_pauses() {
    let api = furnished();
    api.latency(Duration::from_millis(1));
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    api.harm(Fault::new(Harm::End(0)).on("watch", CLAIMS));
    api.cut_watches();
    let asked = asked(&world).await;
    assert!((8..30).contains(&asked), "asked {asked} times in five minutes");
    assert_eq!(world.codes("list", CLAIMS), [] as [u16; 0]);
    claim(&api, "next", "drv");
    api.heal();
    until("the next claim", || world.claims() == ["next", "ours"]).await;
}

#[tokio::test(start_paused = true)]
async fn b7_lists_that_end_too_early_are_asked_for_with_growing_pauses() {
    for lines in [0, 1, 2] {
        let api = furnished();
        api.latency(Duration::from_millis(1));
        api.harm(Fault::new(Harm::End(lines)).on("watch", CLAIMS));
        let world = World::new(&api, api.client(ADMIN));
        let asked = asked(&world).await;
        assert!(
            (8..30).contains(&asked),
            "{lines} lines: asked {asked} times in five minutes"
        );
        let missing = world.cache.sync_status().borrow().missing(Need::Volumes);
        assert!(missing.len() == 1 && missing[0].contains(CLAIMS), "{missing:?}");
        api.heal();
        world.complete().await;
        sees_what_is_there(&world);
        assert_eq!(world.codes("list", CLAIMS), [] as [u16; 0], "no reason to page");
    }
}

#[tokio::test(start_paused = true)]
async fn b7_a_watch_that_was_quiet_until_its_end_is_followed_by_the_next_one_at_once() {
    let api = furnished();
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    sleep(Duration::from_secs(1000)).await;
    let requests = api.requests().into_iter();
    let at: Vec<_> = requests
        .filter(|request| request.resource == CLAIMS)
        .map(|request| request.at.as_secs())
        .collect();
    assert_eq!(at, [0, 290, 580, 870]);
}

#[tokio::test(start_paused = true)]
async fn b8_an_event_that_cannot_be_decoded_leads_to_a_new_list() {
    for streaming in [true, false] {
        let api = furnished();
        api.streaming_lists(streaming);
        let world = World::new(&api, api.client(ADMIN));
        world.complete().await;
        let ours = uid(&api.get(CLAIMS, "default", "ours").unwrap());
        api.garble(CLAIMS);
        remove(&api, CLAIMS, "default", "ours");
        until("the claim is gone", || world.departed(&ours)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn b8_events_that_can_never_be_decoded_do_not_lead_to_lists_without_a_pause() {
    let api = furnished();
    api.latency(Duration::from_millis(1));
    let world = World::new(&api, api.client(ADMIN));
    world.complete().await;
    let busy = api.clone();
    let noise = tokio::spawn(async move {
        for n in 0.. {
            busy.garble(CLAIMS);
            busy.edit(CLAIMS, "default", "theirs", |object| {
                object["metadata"]["labels"]["n"] = n.to_string().into();
            });
            sleep(Duration::from_millis(100)).await;
        }
    });
    let asked = asked(&world).await;
    noise.abort();
    assert!((8..30).contains(&asked), "asked {asked} times in five minutes");
}

#[tokio::test(start_paused = true)]
async fn c17_a_list_after_the_first_never_goes_back_in_time() {
    for streaming in [true, false] {
        let api = furnished();
        api.streaming_lists(streaming);
        let world = World::new(&api, api.client(ADMIN));
        world.complete().await;
        let ours = uid(&api.get(CLAIMS, "default", "ours").unwrap());
        remove(&api, CLAIMS, "default", "ours");
        until("the claim is gone", || world.departed(&ours)).await;
        // The next list comes from a server that has not seen the deletion yet.
        api.garble(CLAIMS);
        api.edit(CLAIMS, "default", "theirs", |object| {
            object["metadata"]["labels"]["n"] = "1".into();
        });
        sleep(Duration::from_millis(100)).await;
        api.lag(4);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(world.claims(), [] as [&str; 0], "streaming {streaming}");
    }
}

#[tokio::test(start_paused = true)]
async fn c18_a_proxy_that_holds_a_quiet_watch_back_does_not_make_it_fail() {
    let api = furnished();
    let client = crate::cluster::client::over(api.service(ADMIN), "default");
    let world = World::new(&api, client);
    world.complete().await;
    api.harm(Fault::new(Harm::HoldBack).on("watch", CLAIMS));
    api.cut_watches();
    sleep(Duration::from_secs(200)).await;
    claim(&api, "next", "drv");
    sleep(Duration::from_secs(100)).await;
    assert_eq!(world.claims(), ["next", "ours"]);
    let codes = world.codes("watch", CLAIMS);
    assert_eq!(
        codes,
        [200, 200],
        "the first, and the one that was held back to its end"
    );
}
