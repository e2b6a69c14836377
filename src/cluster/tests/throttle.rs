//! The throttle, over real requests.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::future::{BoxFuture, join_all};
use http::Request;
use kube::client::Body;
use sandbox::{ADMIN, Api, Fault, Harm};
use tokio::time::{Duration, sleep, timeout};
use tower::{Service, ServiceExt};

use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{api::ApiClient, client::over, objects::Volume, rate_limiter::RateLimit},
};

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

async fn ask(client: &ApiClient) -> Result<Option<Volume>, ApiError> {
    client.volume("default").await
}

/// When the requests were answered.
fn answered(api: &Api) -> Vec<Duration> {
    let all = api.requests().into_iter();
    all.filter(|request| request.resource == "persistentvolumes" && request.code != 0)
        .map(|request| request.at)
        .collect()
}

/// Counts the requests that are under way behind the throttle.
#[derive(Clone)]
struct Counted(sandbox::Service, Arc<Mutex<(usize, usize)>>);

struct UnderWay(Arc<Mutex<(usize, usize)>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

impl Service<Request<Body>> for Counted {
    type Response = <sandbox::Service as Service<Request<Body>>>::Response;
    type Error = <sandbox::Service as Service<Request<Body>>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (service, count) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            {
                let mut count = count.lock().unwrap();
                count.0 += 1;
                count.1 = count.1.max(count.0);
            }
            let _under_way = UnderWay(count);
            service.oneshot(request).await
        })
    }
}

fn counted(api: &Api) -> (ApiClient, Arc<Mutex<(usize, usize)>>) {
    let count = Arc::<Mutex<(usize, usize)>>::default();
    (
        ApiClient::new(over(Counted(api.service(ADMIN), count.clone()), "default"), None),
        count,
    )
}

#[tokio::test(start_paused = true)]
async fn a_given_limit_is_kept_over_requests_that_come_all_at_once() {
    let api = Api::new();
    let client = ApiClient::new(
        over(api.service(ADMIN), "default"),
        Some(RateLimit { qps: 10.0, burst: 5 }),
    );
    let answers = join_all((0..25).map(|_| ask(&client))).await;
    assert!(answers.iter().all(Result::is_ok));
    let at = answered(&api);
    assert_eq!(
        at.iter().filter(|at| **at < millis(50)).count(),
        5,
        "the burst: {at:?}"
    );
    for window in at[5..].windows(2) {
        let gap = window[1] - window[0];
        assert!(gap >= millis(99) && gap <= millis(110), "{at:?}");
    }
    assert!(
        at[24] >= millis(1990) && at[24] <= millis(2200),
        "20 after the burst take 2 s: {at:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn one_429_pauses_everything_for_as_long_as_the_server_says() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Throttle(7)).times(1));
    let client = ApiClient::new(over(api.service(ADMIN), "default"), None);
    assert!(ask(&client).await.is_err());
    join_all((0..50).map(|_| ask(&client))).await;
    let at = answered(&api);
    assert_eq!(at.len(), 51);
    assert!(
        at[1] >= Duration::from_secs(7) && at[50] < Duration::from_secs(8),
        "{at:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn c15_a_429_with_a_status_pauses_nothing_else() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Deny(30)).times(1));
    let client = ApiClient::new(over(api.service(ADMIN), "default"), None);
    let error = ask(&client).await.unwrap_err();
    assert_eq!(error.reason, Reason::RetryLater);
    assert!(error.to_string().contains("admission webhook"), "{error}");
    join_all((0..50).map(|_| ask(&client))).await;
    let at = answered(&api);
    assert!(at.len() == 51 && at[50] < Duration::from_secs(1), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_slow_down_under_429_and_win_back() {
    let api = Api::new();
    api.latency(millis(10));
    let (client, count) = counted(&api);
    let wave = async |n: usize| {
        count.lock().unwrap().1 = 0;
        join_all((0..n).map(|_| ask(&client))).await;
        count.lock().unwrap().1
    };
    assert_eq!(wave(500).await, 128);
    for (round, expected) in [64, 32, 16].into_iter().enumerate() {
        api.harm(Fault::new(Harm::Throttle(1)).times(1));
        wave(1).await;
        let peak = wave(expected).await;
        assert_eq!(peak, expected, "round {round}");
    }
    wave(4000).await;
    assert!(wave(500).await > 80, "won back: {:?}", count.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_its_caller_gave_up_gives_its_place_back() {
    let api = Api::new();
    api.harm(Fault::new(Harm::Hang).times(128));
    let (client, count) = counted(&api);
    let hanging: Vec<_> = (0..128)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { ask(&client).await })
        })
        .collect();
    sleep(millis(10)).await;
    assert_eq!(count.lock().unwrap().0, 128);
    assert!(timeout(millis(100), ask(&client)).await.is_err(), "no room");
    hanging[0].abort();
    timeout(millis(100), ask(&client))
        .await
        .expect("room for one")
        .unwrap();
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
    let all = timeout(millis(1000), join_all((0..300).map(|_| ask(&client)))).await;
    assert!(all.expect("room for all").iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_does_not_take_the_place_with_it() {
    let api = Api::new();
    let (client, _) = counted(&api);
    // Room for one.
    for _ in 0..7 {
        api.harm(Fault::new(Harm::Throttle(1)).times(1));
        assert!(ask(&client).await.is_err());
    }
    sleep(Duration::from_secs(2)).await;
    // It is taken by a request that will be told to come back much later.
    api.latency(millis(100));
    api.harm(Fault::new(Harm::Throttle(30)).times(1));
    let first = ask(&client);
    // The next is told that there is room, then waits for the pause, and gives up.
    let second = async {
        sleep(millis(1)).await;
        timeout(Duration::from_secs(10), ask(&client)).await
    };
    // This one must not wait for a place that nobody holds.
    let third = async {
        sleep(millis(2)).await;
        timeout(Duration::from_secs(40), ask(&client)).await
    };
    let (first, second, third) = tokio::join!(first, second, third);
    assert!(first.is_err() && second.is_err(), "{first:?} {second:?}");
    third.expect("a place").unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_turn_is_no_part_of_the_deadline() {
    let api = Api::new();
    let client = ApiClient::new(
        over(api.service(ADMIN), "default"),
        Some(RateLimit { qps: 5.0, burst: 10 }),
    );
    let answers = join_all((0..300).map(|_| ask(&client))).await;
    assert!(answers.iter().all(Result::is_ok), "the last one goes after 58 s");
}
