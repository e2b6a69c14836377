//! What a live list finds, and how many lists many questions cost.

use futures::future::join_all;
use sandbox::{ADMIN, Api, Fault, Harm};
use serde_json::json;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::{
    base::api_error::Reason,
    cluster::{
        api::{ApiClient, LiveVolumes},
        objects::Volume,
    },
};

const VOLUMES: &str = "persistentvolumes";

fn add(api: &Api, name: &str, driver: &str, handle: &str) {
    let volume = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": driver, "volumeHandle": handle}},
    });
    api.create(VOLUMES, "", volume);
}

fn live(api: &Api) -> LiveVolumes {
    LiveVolumes::new(ApiClient::new(api.client(ADMIN), None), "drv")
}

fn name(volume: Option<Volume>) -> String {
    volume.map_or_else(String::new, |volume| volume.name)
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_driver_is_found_on_any_page_and_no_other_drivers() {
    let api = Api::new();
    for n in 0..1_100 {
        add(&api, &format!("pv-{n:04}"), "drv", &format!("h-{n}"));
    }
    add(&api, "foreign", "other", "theirs");
    let live = live(&api);
    let rows = [
        ("h-3", "pv-0003"),
        ("h-1099", "pv-1099"),
        ("theirs", ""),
        ("none", ""),
    ];
    for (handle, expected) in rows {
        let before = api.count("list", VOLUMES);
        assert_eq!(
            name(live.find_with_handle(handle, |_| true).await.unwrap()),
            expected
        );
        assert_eq!(api.count("list", VOLUMES) - before, 3, "pages of 500");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_who_ask_share_lists_that_begin_after_each_has_asked() {
    let api = Api::new();
    add(&api, "old", "drv", "old");
    api.harm(Fault::new(Harm::Delay(Duration::from_secs(2))).on("list", VOLUMES));
    let live = live(&api);
    let begun = Instant::now();
    let early = live.find_with_handle("new", |_| true);
    let late = async {
        sleep(Duration::from_secs(1)).await;
        // Made while the first list runs, which need not show it.
        add(&api, "new", "drv", "new");
        let all = join_all((0..100).map(|_| live.find_with_handle("new", |_| true))).await;
        all.into_iter()
            .map(|found| name(found.unwrap()))
            .collect::<Vec<_>>()
    };
    let (_, late) = tokio::join!(early, late);
    assert_eq!(late, vec!["new"; 100]);
    assert_eq!(
        api.count("list", VOLUMES),
        2,
        "one for the first, one for all others"
    );
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_an_error_and_one_that_is_given_up_is_made_again() {
    let api = Api::new();
    add(&api, "a", "drv", "a");
    let live = live(&api);
    api.harm(Fault::new(Harm::Status(500)).on("list", VOLUMES).times(1));
    let failed = live.find_with_handle("b", |_| true).await.unwrap_err();
    assert_eq!(failed.reason, Reason::Unavailable);
    api.harm(Fault::new(Harm::Delay(Duration::from_secs(2))).on("list", VOLUMES));
    let first = live.find_with_handle("a", |_| true);
    // Asks while the first list runs, is to list for itself and the one after it, and goes away in the middle of that.
    let second = timeout(Duration::from_secs(3), live.find_with_handle("a", |_| true));
    let third = live.find_with_handle("a", |_| true);
    let (first, second, third) = tokio::join!(first, second, third);
    assert_eq!(name(first.unwrap()), "a");
    assert!(second.is_err());
    assert_eq!(name(third.unwrap()), "a");
}
