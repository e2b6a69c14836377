//! The driver's side of the socket, made of raw HTTP/2 answers so that it can also be wrong, and what we make of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::{FutureExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional, duplex},
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    Absence, Address, Call, Code, ContactError, Driver, Fault, IntroduceError, Line, Reach, Trouble, Unfit,
    proto::{
        ControllerGetCapabilitiesResponse, ControllerServiceCapability, CreateVolumeRequest,
        CreateVolumeResponse, DeleteVolumeRequest, GetPluginCapabilitiesResponse, GetPluginInfoResponse,
        PluginCapability, ProbeResponse, Volume, controller_service_capability, plugin_capability,
    },
};

const TIMEOUT: Duration = Duration::from_secs(15);
const CREATE: &str = "/csi.v1.Controller/CreateVolume";

/// What a driver answers to one call.
#[derive(Clone)]
enum Reply {
    Message(Vec<u8>),
    Bytes(Vec<u8>),
    Refuse(u32, &'static str),
    Http(u16),
    NoTrailers,
    Hang,
}

fn message(message: &impl prost::Message) -> Reply {
    Reply::Message(message.encode_to_vec())
}

type Script = BTreeMap<&'static str, Reply>;

/// A driver that can do its job, as a start for one that cannot.
fn good(name: &str) -> Script {
    use plugin_capability::{Service, service};
    let plugin = PluginCapability {
        r#type: Some(plugin_capability::Type::Service(Service {
            r#type: service::Type::ControllerService as i32,
        })),
    };
    [
        ("/csi.v1.Identity/Probe", message(&ProbeResponse { ready: None })),
        (
            "/csi.v1.Identity/GetPluginInfo",
            message(&GetPluginInfoResponse {
                name: name.into(),
                ..Default::default()
            }),
        ),
        (
            "/csi.v1.Identity/GetPluginCapabilities",
            message(&GetPluginCapabilitiesResponse {
                capabilities: vec![plugin],
            }),
        ),
        (
            "/csi.v1.Controller/ControllerGetCapabilities",
            message(&ControllerGetCapabilitiesResponse {
                capabilities: vec![can(controller_service_capability::rpc::Type::CreateDeleteVolume)],
            }),
        ),
        (
            CREATE,
            message(&CreateVolumeResponse {
                volume: Some(Volume {
                    volume_id: "vol-1".into(),
                    ..Default::default()
                }),
            }),
        ),
    ]
    .into()
}

fn can(what: controller_service_capability::rpc::Type) -> ControllerServiceCapability {
    use controller_service_capability::{Rpc, Type};
    ControllerServiceCapability {
        r#type: Some(Type::Rpc(Rpc { r#type: what as i32 })),
    }
}

/// One gRPC frame: not compressed, length, bytes.
fn frame(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame.into()
}

async fn answer(script: Script, path: &str) -> http::Response<Body> {
    let reply = script
        .get(path)
        .cloned()
        .unwrap_or(Reply::Refuse(12, "unknown method"));
    let response = http::Response::builder().header("content-type", "application/grpc");
    let status = |code: u32| {
        let trailers: http::HeaderMap = [("grpc-status".parse().unwrap(), code.into())]
            .into_iter()
            .collect();
        std::future::ready(Some(Ok(trailers)))
    };
    match reply {
        Reply::Message(bytes) => response.body(Body::new(Full::new(frame(&bytes)).with_trailers(status(0)))),
        Reply::Bytes(bytes) => {
            response.body(Body::new(Full::new(Bytes::from(bytes)).with_trailers(status(0))))
        }
        Reply::Refuse(code, text) => response
            .header("grpc-status", code)
            .header("grpc-message", text)
            .body(Body::empty()),
        Reply::Http(code) => http::Response::builder()
            .status(code)
            .body(Body::from("no gRPC here")),
        Reply::NoTrailers => response.body(Body::from(frame(&[]))),
        Reply::Hang => std::future::pending().await,
    }
    .unwrap()
}

/// A place where a driver may listen, in memory, so that paused time works.
#[derive(Clone, Default)]
struct Socket {
    listener: Arc<Mutex<Option<mpsc::UnboundedSender<DuplexStream>>>>,
    wires: Arc<Mutex<Vec<AbortHandle>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    authorities: Arc<Mutex<Vec<String>>>,
}

impl Socket {
    fn driver(&self) -> Driver {
        let socket = self.clone();
        let line = Line::over(move || std::future::ready(socket.dial()));
        let calls = self.calls.clone();
        Driver::new(
            &line,
            TIMEOUT,
            Arc::new(move |call| calls.lock().unwrap().push(call.clone())),
        )
    }

    fn dial(&self) -> Result<DuplexStream, Trouble> {
        let absent = || Trouble::NoSocket {
            path: "/csi/csi.sock".into(),
        };
        let (ours, mut near) = duplex(1 << 16);
        let (mut far, theirs) = duplex(1 << 16);
        self.listener
            .lock()
            .unwrap()
            .as_ref()
            .ok_or_else(absent)?
            .send(theirs)
            .map_err(|_| absent())?;
        let wire = tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
        self.wires.lock().unwrap().push(wire.abort_handle());
        Ok(ours)
    }

    /// A driver starts to listen, in place of any before it.
    fn listen(&self, script: Script) {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener.lock().unwrap() = Some(sender);
        let authorities = self.authorities.clone();
        let router = axum::Router::new().fallback(move |request: http::Request<Body>| {
            let authority = request
                .uri()
                .authority()
                .map(ToString::to_string)
                .unwrap_or_default();
            authorities.lock().unwrap().push(authority);
            let script = script.clone();
            async move { answer(script, request.uri().path()).await }
        });
        let incoming = stream::unfold(receiver, |mut receiver| async {
            receiver
                .recv()
                .await
                .map(|pipe| (Ok::<_, std::io::Error>(pipe), receiver))
        });
        let server = tonic::transport::Server::builder().add_routes(tonic::service::Routes::from(router));
        tokio::spawn(server.serve_with_incoming(incoming.boxed()));
    }

    /// Something listens that does this with every connection.
    fn listen_raw<F, D>(&self, each: F)
    where
        F: Fn(DuplexStream) -> D + Send + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        *self.listener.lock().unwrap() = Some(sender);
        tokio::spawn(async move {
            while let Some(pipe) = receiver.recv().await {
                tokio::spawn(each(pipe));
            }
        });
    }

    /// The driver is gone, and its connections with it.
    fn kill(&self) {
        *self.listener.lock().unwrap() = None;
        self.wires.lock().unwrap().drain(..).for_each(|wire| wire.abort());
    }

    /// Code and driver's name of each call so far.
    fn seen(&self) -> Vec<(String, &'static str, Code)> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|call| (call.driver_name.to_string(), call.method, call.code))
            .collect()
    }
}

async fn create(driver: &Driver) -> Result<CreateVolumeResponse, Fault> {
    driver
        .create_volume(CreateVolumeRequest {
            name: "pvc-1".into(),
            ..Default::default()
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_good_driver_introduces_itself_and_makes_a_volume() {
    let socket = Socket::default();
    socket.listen(good("d.io"));
    let driver = socket.driver();
    driver.first_contact(None).await.unwrap();
    let profile = driver.introduce().await.unwrap();
    assert_eq!(
        (
            profile.name.as_str(),
            profile.create_delete_volume,
            profile.topology
        ),
        ("d.io", true, false)
    );
    assert_eq!(create(&driver).await.unwrap().volume.unwrap().volume_id, "vol-1");
    assert!(matches!(&*driver.reach().borrow(), Reach::Ready(known) if **known == profile));

    let unknown = || "unknown-driver".to_owned();
    assert_eq!(
        socket.seen(),
        [
            (unknown(), "/csi.v1.Identity/Probe", Code::Ok),
            (unknown(), "/csi.v1.Identity/GetPluginInfo", Code::Ok),
            ("d.io".into(), "/csi.v1.Identity/GetPluginCapabilities", Code::Ok),
            (
                "d.io".into(),
                "/csi.v1.Controller/ControllerGetCapabilities",
                Code::Ok
            ),
            ("d.io".into(), CREATE, Code::Ok),
        ]
    );
    assert!(
        socket
            .authorities
            .lock()
            .unwrap()
            .iter()
            .all(|authority| authority == "localhost")
    );
}

#[tokio::test(start_paused = true)]
async fn the_drivers_own_code_and_text_come_through_for_every_code() {
    let socket = Socket::default();
    let driver = socket.driver();
    for (number, code) in (1..).zip(Code::ALL.into_iter().skip(1)) {
        socket.kill();
        socket.listen([(CREATE, Reply::Refuse(number, "because"))].into());
        // The first call after a restart may still meet the old connection's end.
        let _ = driver.probe().await;
        let fault = create(&driver).await.unwrap_err();
        assert_eq!(
            fault,
            Fault {
                method: CREATE,
                code,
                message: "because".into()
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_driver_did_not_say_is_unavailable_and_never_final() {
    let mut truncated = frame(&[0; 100]).to_vec();
    truncated.truncate(50);
    let rows = [
        (
            "a message over 4 MiB",
            Reply::Message(vec![0; (4 << 20) + 1]),
            "length too large",
        ),
        (
            "bytes that are no message",
            Reply::Message(vec![0xff; 40]),
            "cannot be read",
        ),
        ("a cut message", Reply::Bytes(truncated), "cannot be read"),
        (
            "success without a message",
            Reply::Bytes(Vec::new()),
            "cannot be read",
        ),
        ("no status at the end", Reply::NoTrailers, "cannot be read"),
        ("HTTP 404", Reply::Http(404), "404"),
        ("HTTP 200 that is no gRPC", Reply::Http(200), "cannot be read"),
    ];
    for (row, reply, text) in rows {
        let socket = Socket::default();
        socket.listen([(CREATE, reply)].into());
        let fault = create(&socket.driver()).await.unwrap_err();
        assert_eq!(fault.code, Code::Unavailable, "{row}: {fault}");
        assert!(fault.message.contains(text), "{row}: {fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_volume_is_an_answer() {
    let socket = Socket::default();
    socket.listen([(CREATE, message(&CreateVolumeResponse::default()))].into());
    assert_eq!(
        create(&socket.driver()).await,
        Ok(CreateVolumeResponse { volume: None })
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_at_its_deadline_as_deadline_exceeded() {
    let socket = Socket::default();
    socket.listen([(CREATE, Reply::Hang)].into());
    let driver = socket.driver();
    for deadline in [TIMEOUT, Duration::from_millis(1500)] {
        let started = Instant::now();
        let fault = create(&driver.within(deadline)).await.unwrap_err();
        assert_eq!(
            fault.to_string(),
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        );
        let took = started.elapsed();
        assert!(
            took >= deadline && took < deadline + Duration::from_millis(10),
            "{took:?}"
        );
        assert_eq!(
            socket.calls.lock().unwrap().last().unwrap().code,
            Code::DeadlineExceeded
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_during_a_call_leaves_the_outcome_open() {
    let socket = Socket::default();
    socket.listen([(CREATE, Reply::Hang)].into());
    let driver = socket.driver();
    let calling = tokio::spawn(async move { create(&driver).await });
    while socket.authorities.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    socket.kill();
    let fault = calling.await.unwrap().unwrap_err();
    assert_eq!(fault.code, Code::Unavailable);
    assert!(fault.message.contains("broke during the call"), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_restarted_driver_is_found_again_by_the_same_handle() {
    let socket = Socket::default();
    socket.listen(good("d.io"));
    let driver = socket.driver();
    create(&driver).await.unwrap();
    socket.kill();
    // Until the loss is seen a call may still meet the dying connection; then it names the missing socket.
    while let Err(fault) = create(&driver).await
        && !fault.message.contains("no socket at")
    {}
    let fault = create(&driver).await.unwrap_err();
    assert_eq!(fault.code, Code::Unavailable);
    assert!(fault.message.starts_with("no socket at /csi/csi.sock"), "{fault}");
    socket.listen(good("d.io"));
    assert_eq!(create(&driver).await.unwrap().volume.unwrap().volume_id, "vol-1");
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_no_provisioners_driver_is_refused_by_name_of_the_lack() {
    let name = || "d.io".to_owned();
    let without =
        |path: &'static str, reply: Reply| good("d.io").into_iter().chain([(path, reply)]).collect();
    let nothing = || Reply::Message(Vec::new());
    let rows: [(Script, IntroduceError); 4] = [
        (good(""), Unfit::NoName.into()),
        (good("d io"), Unfit::OddName { name: "d io".into() }.into()),
        (
            without("/csi.v1.Identity/GetPluginCapabilities", nothing()),
            Unfit::NoControllerService { name: name() }.into(),
        ),
        (
            without("/csi.v1.Controller/ControllerGetCapabilities", nothing()),
            Unfit::NoCreateDelete { name: name() }.into(),
        ),
    ];
    for (script, expected) in rows {
        let socket = Socket::default();
        socket.listen(script);
        assert_eq!(socket.driver().introduce().await, Err(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn first_contact_waits_for_a_driver_that_starts_late() {
    let socket = Socket::default();
    let driver = socket.driver();
    let later = socket.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let not_ready = message(&ProbeResponse { ready: Some(false) });
        later.listen([("/csi.v1.Identity/Probe", not_ready)].into());
        tokio::time::sleep(Duration::from_secs(60)).await;
        later.kill();
        later.listen(good("d.io"));
    });
    let started = Instant::now();
    let mut reach = driver.reach();
    let (contact, states) = tokio::join!(driver.first_contact(None), async {
        let mut states = Vec::new();
        for _ in 0..2 {
            reach.changed().await.unwrap();
            states.push(reach.borrow_and_update().clone());
        }
        states
    });
    assert_eq!(contact, Ok(()));
    assert!(
        (3660..3665).contains(&started.elapsed().as_secs()),
        "{:?}",
        started.elapsed()
    );
    assert!(
        matches!(&states[0], Reach::Lost { why: Absence::Unreachable(text), .. } if text.contains("no socket"))
    );
    assert!(matches!(
        &states[1],
        Reach::Lost {
            why: Absence::NotReady,
            ..
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn first_contact_gives_up_only_at_its_limit_and_says_what_was_missing() {
    let limit = Duration::from_secs(30);
    let absent = Socket::default();
    let silent = Socket::default();
    silent.listen_raw(async |pipe| {
        std::future::pending::<()>().await;
        drop(pipe);
    });
    let closing = Socket::default();
    closing.listen_raw(async |pipe| drop(pipe));
    let web = Socket::default();
    web.listen_raw(async |mut pipe| {
        let _ = pipe.read(&mut [0; 512]).await;
        let _ = pipe
            .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
            .await;
    });
    let rows = [
        ("no socket", absent, "no socket at /csi/csi.sock"),
        ("accepts and is silent", silent, "does not answer Probe"),
        ("accepts and closes", closing, "cannot be reached"),
        ("speaks HTTP/1", web, "cannot be reached"),
    ];
    for (row, socket, text) in rows {
        let error = socket.driver().first_contact(Some(limit)).await.unwrap_err();
        assert!(
            matches!(&error, ContactError::TooLong { after, .. } if *after == limit),
            "{row}: {error}"
        );
        assert!(error.to_string().contains(text), "{row}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_grpc_server_that_is_no_csi_driver_is_refused_at_once() {
    let socket = Socket::default();
    socket.listen(Script::new());
    let error = socket.driver().first_contact(None).await.unwrap_err();
    assert!(
        matches!(&error, ContactError::NoCsi(fault) if fault.code == Code::Unimplemented),
        "{error}"
    );
}

/// Waits, at most a minute of paused time, until the reach is as wanted.
async fn until(driver: &Driver, wanted: impl Fn(&Reach) -> bool) -> Reach {
    let mut reach = driver.reach();
    let found = timeout(Duration::from_secs(60), reach.wait_for(|reach| wanted(reach))).await;
    found
        .unwrap_or_else(|_| panic!("still {:?}", driver.reach().borrow()))
        .unwrap()
        .clone()
}

async fn watched(socket: &Socket) -> Driver {
    socket.listen(good("d.io"));
    let driver = socket.driver();
    driver.introduce().await.unwrap();
    tokio::spawn(driver.clone().watch_reach(Duration::from_secs(10)));
    driver
}

fn is_ready(reach: &Reach) -> bool {
    matches!(reach, Reach::Ready(_))
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_noticed_while_idle_and_keeps_its_first_time() {
    let socket = Socket::default();
    let driver = watched(&socket).await;
    let killed = Instant::now();
    socket.kill();
    let Reach::Lost { since, .. } = until(&driver, |reach| !is_ready(reach)).await else {
        panic!()
    };
    assert!(since - killed <= Duration::from_secs(10), "{:?}", since - killed);
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(matches!(&*driver.reach().borrow(), Reach::Lost { since: still, .. } if *still == since));

    socket.listen(good("d.io"));
    let back = Instant::now();
    until(&driver, is_ready).await;
    assert!(back.elapsed() <= Duration::from_secs(2), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_meets_the_loss_makes_it_known_at_once() {
    let socket = Socket::default();
    let driver = watched(&socket).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    socket.kill();
    let met = Instant::now();
    create(&driver).await.unwrap_err();
    until(&driver, |reach| !is_ready(reach)).await;
    assert!(met.elapsed() < Duration::from_millis(100), "{:?}", met.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_comes_back_with_new_capabilities_is_known_by_them() {
    let socket = Socket::default();
    let driver = watched(&socket).await;
    socket.kill();
    let capabilities = [
        controller_service_capability::rpc::Type::CreateDeleteVolume,
        controller_service_capability::rpc::Type::CloneVolume,
    ];
    let answer = ControllerGetCapabilitiesResponse {
        capabilities: capabilities.map(can).into(),
    };
    let mut script = good("d.io");
    script.insert("/csi.v1.Controller/ControllerGetCapabilities", message(&answer));
    socket.listen(script);
    // The restart falls between two looks: no loss is seen, only the new connection.
    until(
        &driver,
        |reach| matches!(reach, Reach::Ready(profile) if profile.clone),
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_comes_back_without_its_capability_or_as_another_is_shown_and_not_used() {
    let socket = Socket::default();
    let driver = watched(&socket).await;

    socket.kill();
    let mut script = good("d.io");
    script.insert(
        "/csi.v1.Controller/ControllerGetCapabilities",
        Reply::Message(Vec::new()),
    );
    socket.listen(script);
    let unfit = IntroduceError::Unfit(Unfit::NoCreateDelete { name: "d.io".into() });
    until(
        &driver,
        |reach| matches!(reach, Reach::Lost { why: Absence::Unfit(error), .. } if *error == unfit),
    )
    .await;

    socket.kill();
    socket.listen(good("other.io"));
    let stranger = Absence::Stranger {
        expected: "d.io".into(),
        found: "other.io".into(),
    };
    until(
        &driver,
        |reach| matches!(reach, Reach::Lost { why, .. } if *why == stranger),
    )
    .await;
    let before = socket.seen().len();
    let fault = create(&driver).await.unwrap_err();
    let delete = driver
        .delete_volume(DeleteVolumeRequest::default())
        .await
        .unwrap_err();
    assert_eq!((fault.code, delete.code), (Code::Unavailable, Code::Unavailable));
    assert!(fault.message.contains("other.io"), "{fault}");
    assert_eq!(socket.seen().len(), before, "a stranger was called");

    socket.kill();
    socket.listen(good("d.io"));
    until(&driver, is_ready).await;
    create(&driver).await.unwrap();
}

#[tokio::test]
async fn over_a_real_socket_a_restart_needs_no_new_handle() {
    let path = std::env::temp_dir().join(format!("volwright-driver-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let address: Address = format!("unix://{}", path.display()).parse().unwrap();
    let driver = Driver::new(&Line::to(address), Duration::from_secs(10), Arc::new(|_| {}));
    assert!(
        create(&driver)
            .await
            .unwrap_err()
            .message
            .starts_with("no socket at")
    );

    for generation in 1..=2 {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let router = axum::Router::new()
            .fallback(async |request: http::Request<Body>| answer(good("d.io"), request.uri().path()).await);
        let incoming = stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(pipe, _)| pipe);
            Some((accepted, listener))
        });
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tonic::transport::Server::builder()
            .add_routes(tonic::service::Routes::from(router))
            .serve_with_incoming_shutdown(incoming.boxed(), stopped.map(drop));
        let server = tokio::spawn(server);
        // A graceful stop may still be on its way to us.
        let made = timeout(Duration::from_secs(10), async {
            loop {
                if let Ok(made) = create(&driver).await {
                    return made;
                }
                tokio::task::yield_now().await;
            }
        });
        assert!(made.await.unwrap().volume.is_some(), "generation {generation}");
        drop(stop);
        server.await.unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
