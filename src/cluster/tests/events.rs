//! Events as the API server gets them.

use sandbox::{ADMIN, Api, Fault, Harm};
use serde_json::Value;
use tokio::{
    task::JoinHandle,
    time::{Duration, Instant, sleep},
};

use crate::cluster::{
    api::ApiClient,
    events::{Event, EventRecorder},
    objects::Claim,
};

fn start(api: &Api) -> (EventRecorder, JoinHandle<()>) {
    EventRecorder::start(ApiClient::new(api.client(ADMIN), None), "drv_host".into())
}

fn claim(name: &str) -> Claim {
    Claim {
        namespace: "default".into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
        ..Claim::default()
    }
}

fn failed(message: &str) -> Event {
    Event::warning("ProvisioningFailed", message)
}

async fn written(recorder: (EventRecorder, JoinHandle<()>)) {
    drop(recorder.0);
    recorder.1.await.unwrap();
}

fn counts(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .map(|event| event["count"].as_u64().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_same_event_again_counts_up_the_one_that_stands() {
    let api = Api::new();
    let recorder = start(&api);
    for _ in 0..5 {
        recorder.0.publish(&claim("a"), failed("no space"));
    }
    recorder.0.publish(&claim("b"), failed("no space"));
    written(recorder).await;
    let events = api.list("events");
    assert_eq!(counts(&events), [5, 1]);
    assert_eq!(events[0]["message"], "no space");
    assert_eq!(events[0]["involvedObject"]["name"], "a");
    assert_eq!(
        (api.count("create", "events"), api.count("patch", "events")),
        (2, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_has_expired_is_written_anew() {
    let api = Api::new();
    let recorder = start(&api);
    recorder.0.publish(&claim("a"), failed("no space"));
    sleep(Duration::from_secs(3600)).await;
    let name = api.list("events")[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    api.delete("events", "default", &name);
    recorder.0.publish(&claim("a"), failed("no space"));
    recorder.0.publish(&claim("a"), failed("no space"));
    written(recorder).await;
    assert_eq!(counts(&api.list("events")), [2]);
}

#[tokio::test(start_paused = true)]
async fn many_different_messages_become_one_and_an_object_that_never_stops_is_cut_off() {
    let api = Api::new();
    let recorder = start(&api);
    for n in 0..60 {
        recorder
            .0
            .publish(&claim("a"), failed(&format!("request {n} failed")));
    }
    written(recorder).await;
    let events = api.list("events");
    assert_eq!(events.len(), 10);
    let combined = events.iter().find(|event| event["count"] != 1).unwrap();
    assert_eq!(combined["count"], 16, "25 in all, 9 of them alone");
    assert!(
        combined["message"]
            .as_str()
            .unwrap()
            .starts_with("(combined from similar events): ")
    );
}

#[tokio::test(start_paused = true)]
async fn b2_the_combined_event_tells_the_newest_text() {
    let api = Api::new();
    let recorder = start(&api);
    for n in 0..12 {
        recorder
            .0
            .publish(&claim("a"), failed(&format!("request {n}: quota exceeded")));
    }
    recorder.0.publish(&claim("a"), failed("login refused"));
    written(recorder).await;
    let events = api.list("events");
    let combined: Vec<_> = events.iter().filter(|event| event["count"] != 1).collect();
    assert_eq!(combined.len(), 1, "{events:?}");
    assert_eq!(
        combined[0]["message"],
        "(combined from similar events): login refused"
    );
}

#[tokio::test(start_paused = true)]
async fn b2_texts_that_always_differ_stay_one_event_for_hours() {
    let api = Api::new();
    let recorder = start(&api);
    for n in 0..48 {
        recorder
            .0
            .publish(&claim("a"), failed(&format!("request {n}: quota exceeded")));
        sleep(Duration::from_secs(300)).await;
    }
    written(recorder).await;
    let events = api.list("events");
    let told = |event: &Value| {
        event["message"]
            .as_str()
            .unwrap()
            .ends_with("request 47: quota exceeded")
    };
    assert_eq!(
        (events.len(), events.iter().filter(|event| told(event)).count()),
        (10, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn c9_a_text_without_end_is_cut_before_it_is_kept() {
    let api = Api::new();
    let recorder = start(&api);
    recorder.0.publish(&claim("a"), failed(&"x".repeat(3000)));
    recorder.0.publish(&claim("b"), failed(&"ä".repeat(1 << 20)));
    written(recorder).await;
    let events = api.list("events");
    let lengths = events
        .iter()
        .map(|event| event["message"].as_str().unwrap().len());
    assert_eq!(lengths.collect::<Vec<_>>(), [3000, (16 << 10) - 1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_does_not_make_two_events() {
    let api = Api::new();
    api.harm(Fault::new(Harm::LoseReply).on("create", "events").times(1));
    api.harm(Fault::new(Harm::LoseReply).on("patch", "events").times(1));
    let recorder = start(&api);
    recorder.0.publish(&claim("a"), failed("no space"));
    recorder.0.publish(&claim("a"), failed("no space"));
    written(recorder).await;
    assert_eq!(counts(&api.list("events")), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_drops_events_and_never_delays_who_publishes() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Hang).on("create", "events").times(1));
    let recorder = start(&api);
    let began = Instant::now();
    for n in 0..3000 {
        recorder.0.publish(&claim(&n.to_string()), failed("no space"));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    written(recorder).await;
    assert_eq!(
        api.list("events").len(),
        1000,
        "what fitted the queue is written when the server is back"
    );
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_write_events_each_is_tried_once() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Status(403)).on("create", "events"));
    let recorder = start(&api);
    let log = Log::default();
    let _quiet = tracing::subscriber::set_default(log.clone());
    for n in 0..20 {
        recorder.0.publish(&claim(&n.to_string()), failed("no space"));
    }
    written(recorder).await;
    assert_eq!(
        api.requests()
            .iter()
            .filter(|request| request.resource == "events")
            .count(),
        20
    );
    assert_eq!(log.warnings(), 1, "and it is told once");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_event_waits_and_an_outage_is_given_up_on() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Throttle(5)).on("create", "events").times(1));
    let recorder = start(&api);
    recorder.0.publish(&claim("a"), failed("no space"));
    sleep(Duration::from_secs(6)).await;
    assert_eq!(api.list("events").len(), 1);
    api.outage();
    recorder.0.publish(&claim("b"), failed("no space"));
    sleep(Duration::from_secs(60)).await;
    api.heal();
    recorder.0.publish(&claim("c"), failed("no space"));
    written(recorder).await;
    assert_eq!(api.list("events").len(), 2, "a and c");
}

/// Counts warnings.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::atomic::AtomicUsize>);

impl Log {
    fn warnings(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        if *event.metadata().level() == tracing::Level::WARN {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
