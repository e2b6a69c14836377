//! The election against a small API server that knows Leases only, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::json;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum RpcError {
    None,
    /// No answer, ever; the request is not seen.
    Deaf,
    /// Requests are carried out, writes are never answered.
    Mute,
    Answers(u16),
}

struct World {
    lease: Option<Value>,
    version: u64,
    fault: RpcError,
    seen: Vec<(Method, String)>,
    watches: Vec<mpsc::UnboundedSender<String>>,
    may_watch: bool,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn reply(code: StatusCode, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

#[derive(Clone)]
struct Api(Arc<Mutex<World>>);

impl Api {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(World {
            lease: None,
            version: 1,
            fault: RpcError::None,
            seen: Vec::new(),
            watches: Vec::new(),
            may_watch: true,
        })))
    }

    fn client(&self) -> Client {
        let world = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let world = world.clone();
            async move { Ok::<_, Infallible>(world.answer(request).await) }
        });
        Client::new(service, "default")
    }

    fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        if head.uri.query().is_some_and(|query| query.contains("watch=true")) {
            return self.watch(head.uri.query().unwrap_or_default());
        }
        let sent: Option<Value> = serde_json::from_slice(&body.collect_bytes().await.unwrap()).ok();
        let fault = self.with(|world| {
            world.seen.push((head.method.clone(), head.uri.path().to_owned()));
            world.fault
        });
        if fault == RpcError::Deaf {
            std::future::pending::<()>().await;
        }
        let (code, answer) = match fault {
            RpcError::Answers(code) => (code, None),
            _ => self.with(|world| world.serve(&head.method, sent)),
        };
        if fault == RpcError::Mute && head.method != Method::GET {
            std::future::pending::<()>().await;
        }
        let body = answer.unwrap_or_else(|| {
            json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "Test"})
        });
        reply(StatusCode::from_u16(code).unwrap(), &body)
    }

    fn watch(&self, query: &str) -> Answer {
        assert!(query.contains("fieldSelector=metadata.name%3Dlab"), "{query}");
        if !self.with(|world| world.may_watch) {
            let no = json!({"kind": "Status", "status": "Failure", "code": 403, "message": "no", "reason": "Forbidden"});
            return reply(StatusCode::FORBIDDEN, &no);
        }
        let (news, lines) = mpsc::unbounded_channel::<String>();
        self.with(|world| world.watches.push(news));
        let frames = futures::stream::unfold(lines, |mut lines| async {
            let line = lines.recv().await?;
            Some((
                Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(line))),
                lines,
            ))
        });
        Response::new(http_body_util::StreamBody::new(frames).boxed_unsync())
    }

    fn fault(&self, fault: RpcError) {
        self.with(|world| world.fault = fault);
    }

    fn lease(&self) -> Value {
        self.with(|world| world.lease.clone()).unwrap()
    }

    fn edit(&self, change: impl FnOnce(&mut Value)) {
        self.with(|world| {
            let mut lease = world.lease.clone().unwrap();
            change(&mut lease);
            world.store(lease);
        });
    }

    fn holder(&self) -> String {
        self.lease()["spec"]["holderIdentity"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

impl World {
    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        lease["metadata"]["uid"] = json!("uid-1");
        self.lease = Some(lease.clone());
        let line = format!("{}\n", json!({"type": "MODIFIED", "object": lease}));
        self.watches.retain(|watch| watch.send(line.clone()).is_ok());
        lease
    }

    fn serve(&mut self, method: &Method, sent: Option<Value>) -> (u16, Option<Value>) {
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (method, self.lease.clone(), sent) {
            (&Method::GET, Some(lease), _) => (200, Some(lease)),
            (&Method::GET | &Method::PUT, None, _) => (404, None),
            (&Method::POST, None, Some(sent)) => (201, Some(self.store(sent))),
            (&Method::POST, Some(_), _) => (409, None),
            (&Method::PUT, Some(lease), Some(sent)) if version(&lease) == version(&sent) => {
                (200, Some(self.store(sent)))
            }
            (&Method::PUT, Some(_), Some(_)) => (409, None),
            (method, ..) => panic!("the election may not {method}"),
        }
    }
}

struct Running {
    leadership: watch::Receiver<Leadership>,
    health: Health,
    compete: watch::Sender<bool>,
    stop: CancellationToken,
    slow: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

fn start(api: &Api, identity: &str) -> Running {
    let s = Duration::from_secs;
    let candidate = Candidate {
        namespace: "ns".into(),
        name: "lab".into(),
        identity: identity.into(),
        labels: BTreeMap::from([("team".to_owned(), "storage".to_owned())]),
        timing: Timing::new(s(15), s(10), s(5)).unwrap(),
    };
    let slow = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&slow);
    let election = Election::new(api.client(), candidate, move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let (compete, wanted) = watch::channel(true);
    let stop = CancellationToken::new();
    let (leadership, health) = (election.leadership(), election.health());
    let task = tokio::spawn(election.run(wanted, stop.clone()));
    Running {
        leadership,
        health,
        compete,
        stop,
        slow,
        task,
    }
}

impl Running {
    async fn until(&mut self, what: impl FnMut(&Leadership) -> bool) -> Leadership {
        let reached = tokio::time::timeout(Duration::from_secs(120), self.leadership.wait_for(what));
        reached.await.expect("not within two minutes").unwrap().clone()
    }

    async fn term(&mut self) -> Term {
        match self.until(|now| matches!(now, Leadership::Leading(_))).await {
            Leadership::Leading(term) => term,
            other => panic!("{other:?}"),
        }
    }

    async fn over(&mut self) -> Over {
        match self.until(|now| matches!(now, Leadership::Over { .. })).await {
            Leadership::Over { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    async fn standby(&mut self, by: &str) {
        self.until(|now| matches!(now, Leadership::Standby { holder } if holder.as_deref() == Some(by)))
            .await;
    }

    /// As kill -9 does.
    fn kill(self) {
        self.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_creates_the_lease_and_renews_it_with_one_request_each() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let term = a.term().await;
    assert_eq!(
        (term.number, term.lease.uid.as_str(), term.lease.name.as_str()),
        (1, "uid-1", "lab")
    );
    let lease = api.lease();
    assert_eq!(lease["metadata"]["labels"], json!({"team": "storage"}));
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 15);
    assert_eq!(lease["spec"]["leaseTransitions"], 0);
    api.edit(|lease| {
        lease["spec"]["strategy"] = json!("new");
        lease["metadata"]["labels"] = json!({"theirs": "1"});
    });
    api.with(|world| world.seen.clear());
    tokio::time::sleep(Duration::from_secs(61)).await;
    // The edit from outside costs a conflict and one renewal that reads again; the term goes on.
    assert_eq!(a.slow.load(Ordering::Relaxed), 1);
    let requests = api.with(|world| world.seen.clone());
    assert!((13..=15).contains(&requests.len()), "{requests:?}");
    assert_eq!(
        requests
            .iter()
            .filter(|(method, _)| method == Method::GET)
            .count(),
        1
    );
    assert_eq!(
        requests[0].1,
        "/apis/coordination.k8s.io/v1/namespaces/ns/leases/lab"
    );
    let lease = api.lease();
    assert_eq!(lease["spec"]["strategy"], "new");
    assert_eq!(
        lease["metadata"]["labels"],
        json!({"theirs": "1", "team": "storage"})
    );
    assert_ne!(lease["spec"]["renewTime"], json!(null));
    assert!(matches!(&*a.leadership.borrow(), Leadership::Leading(same) if same.number == 1));
    assert_eq!(a.health.check(), Ok(()));
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_from_a_killed_leader_after_the_lease_duration() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    a.kill();
    let killed = Instant::now();
    b.term().await;
    let took = killed.elapsed();
    // 15 s from when b saw the last renewal, at most a retry period with its jitter after it was made.
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_secs(27),
        "{took:?}"
    );
    assert_eq!(api.lease()["spec"]["leaseTransitions"], 1);
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn a_restarted_container_leads_again_at_once() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let acquired = api.lease()["spec"]["acquireTime"].clone();
    a.kill();
    let killed = Instant::now();
    let mut again = start(&api, "a");
    again.term().await;
    assert!(killed.elapsed() < Duration::from_secs(1));
    assert_eq!(api.lease()["spec"]["leaseTransitions"], 0);
    assert_eq!(api.lease()["spec"]["acquireTime"], acquired);
    again.kill();
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_the_work_while_renewing_and_then_hands_over() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    a.stop.cancel();
    assert_eq!(a.over().await, Over::Stopped);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(api.holder(), "a");
    assert!(matches!(&*b.leadership.borrow(), Leadership::Standby { .. }));
    // Somebody else's write must not keep us from releasing.
    api.edit(|lease| lease["metadata"]["annotations"] = json!({"x": "y"}));
    drop(work);
    let stopped = Instant::now();
    a.until(|now| matches!(now, Leadership::Ended)).await;
    a.task.await.unwrap();
    b.term().await;
    assert!(
        stopped.elapsed() < Duration::from_secs(13),
        "{:?}",
        stopped.elapsed()
    );
    assert_eq!(api.lease()["metadata"]["annotations"], json!({"x": "y"}));
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_at_once_when_the_lease_is_released() {
    for (may_watch, at_most) in [
        (true, Duration::from_millis(100)),
        (false, Duration::from_secs(11)),
    ] {
        let api = Api::new();
        api.with(|world| world.may_watch = may_watch);
        let mut first = start(&api, "a");
        drop(first.term().await);
        let mut second = start(&api, "b");
        second.standby("a").await;
        // Long after the standby's first look, so that its watch is all it goes by.
        tokio::time::sleep(Duration::from_secs(61)).await;
        first.stop.cancel();
        first.until(|now| matches!(now, Leadership::Ended)).await;
        let released = Instant::now();
        second.term().await;
        let took = released.elapsed();
        assert!(took <= at_most, "may watch: {may_watch}, took {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_leaves_an_empty_holder_and_one_second() {
    let api = Api::new();
    let mut a = start(&api, "a");
    drop(a.term().await);
    a.stop.cancel();
    a.task.await.unwrap();
    let lease = api.lease();
    assert_eq!(
        (
            &lease["spec"]["holderIdentity"],
            &lease["spec"]["leaseDurationSeconds"]
        ),
        (&json!(""), &json!(1))
    );
    assert_eq!(lease["metadata"]["labels"], json!({"team": "storage"}));
}

#[tokio::test(start_paused = true)]
async fn a_standby_stops_at_once_and_leaves_the_lease_alone() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let mut b = start(&api, "b");
    b.standby("a").await;
    api.fault(RpcError::Deaf);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stopping = Instant::now();
    b.stop.cancel();
    b.task.await.unwrap();
    assert!(
        stopping.elapsed() < Duration::from_millis(100),
        "{:?}",
        stopping.elapsed()
    );
    assert_eq!(api.holder(), "a");
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_the_term_before_anybody_may_take_over_and_there_is_a_way_back() {
    for fault in [
        RpcError::Deaf,
        RpcError::Mute,
        RpcError::Answers(500),
        RpcError::Answers(403),
        RpcError::Answers(429),
    ] {
        let api = Api::new();
        let mut a = start(&api, "a");
        let work = a.term().await;
        tokio::time::sleep(Duration::from_millis(5_100)).await;
        api.fault(fault);
        let broken = Instant::now();
        let why = a.over().await;
        let took = broken.elapsed();
        assert_eq!(why, Over::Deadline, "{fault:?}");
        assert!(
            took > Duration::from_secs(9) && took < Duration::from_secs(11),
            "{fault:?}: {took:?}"
        );
        assert_eq!(a.health.check(), Ok(()));
        api.fault(RpcError::None);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(
            matches!(&*a.leadership.borrow(), Leadership::Over { .. }),
            "not before the work has stopped"
        );
        drop(work);
        assert_eq!(a.term().await.number, 2);
        a.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_taken_or_deleted_by_hand_ends_the_term() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    api.edit(|lease| lease["spec"]["holderIdentity"] = json!("you"));
    assert_eq!(
        a.over().await,
        Over::Taken {
            by: Some("you".into())
        }
    );
    drop(work);
    a.standby("you").await;
    let work = a.term().await;
    api.with(|world| world.lease = None);
    assert_eq!(a.over().await, Over::Taken { by: None });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(api.with(|world| world.lease.clone()), None);
    drop(work);
    assert_eq!(a.term().await.number, 3);
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn who_shall_not_compete_gives_the_lease_up_until_it_shall() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    a.compete.send(false).unwrap();
    assert_eq!(a.over().await, Over::Yielded);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(api.holder(), "a");
    drop(work);
    a.until(|now| matches!(now, Leadership::Standby { .. })).await;
    assert_eq!(api.holder(), "");
    let requests = api.with(|world| world.seen.len());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(
        (api.holder(), api.with(|world| world.seen.len())),
        (String::new(), requests)
    );
    a.compete.send(true).unwrap();
    assert_eq!(a.term().await.number, 2);
    a.kill();
}

#[tokio::test(start_paused = true)]
async fn without_anybody_to_say_whether_to_compete_the_last_word_stands() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let (gone, _) = watch::channel(true);
    drop(std::mem::replace(&mut a.compete, gone));
    a.term().await;
    let requests = api.with(|world| world.seen.len());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(api.with(|world| world.seen.len()) < requests + 20);
    a.stop.cancel();
    a.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_cleaned_up_on_stop() {
    let api = Api::new();
    api.fault(RpcError::Mute);
    let a = start(&api, "a");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.holder(), "a");
    api.fault(RpcError::None);
    a.stop.cancel();
    a.task.await.unwrap();
    assert_eq!(api.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn two_that_start_together_have_one_leader() {
    let api = Api::new();
    let (mut a, mut b) = (start(&api, "a"), start(&api, "b"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let leads = |one: &mut Running| matches!(&*one.leadership.borrow_and_update(), Leadership::Leading(_));
    assert!(leads(&mut a) != leads(&mut b));
    a.kill();
    b.kill();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_is_ill_after_the_lease_and_twenty_seconds() {
    let api = Api::new();
    let mut a = start(&api, "a");
    a.term().await;
    let health = a.health.clone();
    a.kill();
    tokio::time::sleep(Duration::from_secs(34)).await;
    assert_eq!(health.check(), Ok(()));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(health.check().unwrap_err().contains("not renewed for 36 s"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_right_names_the_rule_to_add() {
    let api = Api::new();
    api.fault(RpcError::Answers(403));
    let lease = LeaseApi::new(api.client(), "ns", "lab");
    let error = lease.get().await.unwrap_err().to_string();
    for word in [
        "cannot get lease ns/lab",
        "coordination.k8s.io",
        "leases",
        "[get, watch, create, update]",
    ] {
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_tells_its_work_to_stop_even_while_the_api_server_is_silent() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    api.fault(RpcError::Deaf);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let stopping = Instant::now();
    a.stop.cancel();
    assert_eq!(a.over().await, Over::Stopped);
    assert!(
        stopping.elapsed() < Duration::from_millis(100),
        "{:?}",
        stopping.elapsed()
    );
    api.fault(RpcError::None);
    drop(work);
    a.task.await.unwrap();
    assert_eq!(api.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_term_that_ran_out_is_released_on_stop_all_the_same() {
    let api = Api::new();
    let mut a = start(&api, "a");
    let work = a.term().await;
    api.fault(RpcError::Answers(500));
    assert_eq!(a.over().await, Over::Deadline);
    a.stop.cancel();
    api.fault(RpcError::None);
    drop(work);
    a.task.await.unwrap();
    assert_eq!(api.holder(), "");
}
