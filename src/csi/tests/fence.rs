//! What is not sent any more when we may not call: looked at when the request would go out, not when it was asked for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::csi::{NotSent, proto::GetCapacityRequest};

/// A switch for a fence, and the fence.
fn fence(open: bool) -> (Arc<AtomicBool>, crate::csi::MayCall) {
    let switch = Arc::new(AtomicBool::new(open));
    let asked = Arc::clone(&switch);
    (switch, Arc::new(move || asked.load(Ordering::SeqCst)))
}

/// How often the driver has been given a whole request.
#[derive(Clone, Default)]
struct Received(Arc<AtomicUsize>);

impl Socket {
    /// A driver that answers each whole request, and counts them.
    fn listen_and_count(&self) -> Received {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener.lock().unwrap() = Some(sender);
        let received = Received::default();
        let count = received.clone();
        let router = axum::Router::new().fallback(move |request: http::Request<Body>| {
            let count = count.clone();
            async move {
                let path = request.uri().path().to_owned();
                if request
                    .into_body()
                    .collect()
                    .await
                    .is_ok_and(|body| !body.to_bytes().is_empty())
                {
                    count.0.fetch_add(1, Ordering::SeqCst);
                }
                answer(good("d.io"), &path).await
            }
        });
        let incoming = stream::unfold(receiver, |mut receiver| async {
            receiver
                .recv()
                .await
                .map(|pipe| (Ok::<_, std::io::Error>(pipe), receiver))
        });
        let server = tonic::transport::Server::builder().add_routes(tonic::service::Routes::from(router));
        tokio::spawn(server.serve_with_incoming(incoming.boxed()));
        received
    }
}

async fn create_fenced(driver: &Driver) -> Result<Result<CreateVolumeResponse, RpcError>, NotSent> {
    driver.create_volume(CreateVolumeRequest::default()).await
}

#[tokio::test(start_paused = true)]
async fn what_makes_or_deletes_is_not_sent_when_we_may_not_call_and_the_driver_is_still_watched() {
    let socket = Socket::default();
    let received = socket.listen_and_count();
    let (switch, may_call) = fence(false);
    let driver = socket.driver().fenced(may_call);
    assert_eq!(create_fenced(&driver).await, Err(NotSent));
    let deleted = driver.delete_volume(DeleteVolumeRequest::default()).await;
    assert_eq!(deleted, Err(NotSent));
    let capacity = driver
        .within(TIMEOUT)
        .get_capacity(GetCapacityRequest::default())
        .await;
    assert_eq!(capacity, Err(NotSent));
    // Nothing is dialled, and the observer, which counts failures, hears nothing.
    assert!(socket.wires.lock().unwrap().is_empty());
    assert_eq!(socket.seen(), []);
    driver.identify().await.unwrap();
    switch.store(true, Ordering::SeqCst);
    assert!(matches!(create_fenced(&driver).await, Ok(Ok(_))));
    // GetPluginInfo, its capabilities, the controller's, and the one CreateVolume.
    assert_eq!(received.0.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_long_carries_no_call_past_the_lease() {
    let socket = Socket::default();
    let received = socket.listen_and_count();
    let (connected, seen) = (socket.clone(), Arc::new(AtomicBool::new(false)));
    let dials = Arc::clone(&seen);
    let dialer = Dialer::over(move || {
        let (socket, dials) = (connected.clone(), Arc::clone(&dials));
        async move {
            dials.store(true, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(5)).await;
            socket.dial()
        }
    });
    let calls = socket.calls.clone();
    let on_call = Arc::new(move |call: &Call| calls.lock().unwrap().push(call.clone()));
    let (switch, may_call) = fence(true);
    let driver = Driver::new(&dialer, TIMEOUT, Needs::default(), on_call).fenced(may_call);
    let calling = tokio::spawn({
        let driver = driver.clone();
        async move { create_fenced(&driver).await }
    });
    while !seen.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
    switch.store(false, Ordering::SeqCst);
    let started = Instant::now();
    assert_eq!(calling.await.unwrap(), Err(NotSent));
    assert!(
        started.elapsed() < TIMEOUT,
        "it ends with the connection, not with its deadline"
    );
    assert_eq!((received.0.load(Ordering::SeqCst), socket.seen().len()), (0, 0));
    // The connection is good for the next call.
    switch.store(true, Ordering::SeqCst);
    assert!(matches!(create_fenced(&driver).await, Ok(Ok(_))));
    assert_eq!(
        (
            received.0.load(Ordering::SeqCst),
            socket.wires.lock().unwrap().len()
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_sent_is_waited_for_whatever_becomes_of_the_lease() {
    let socket = Socket::default();
    socket.listen([(CREATE, Reply::Hang)].into());
    let (switch, may_call) = fence(true);
    let driver = socket.driver().fenced(may_call);
    let calling = tokio::spawn(async move { create_fenced(&driver).await });
    while socket.authorities.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    switch.store(false, Ordering::SeqCst);
    let late = calling.await.unwrap().expect("it was sent").unwrap_err();
    assert_eq!(late.code, Code::DeadlineExceeded);
}
