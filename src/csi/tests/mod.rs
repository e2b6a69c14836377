//! The driver's side of the socket, made of raw HTTP/2 answers so that it can also be wrong, and what we make of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures::{FutureExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, copy_bidirectional, duplex},
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    Address, Call, Code, ConnectError, Dialer, Driver, DriverState, IdentifyError, Needs, NotADriver,
    NotReadyReason, RpcError, UnsupportedDriver,
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
    Refuse(u32, String),
    Http(u16),
    NoTrailers,
    /// Nothing but these headers, which end the call.
    Headers(Fields),
    /// An empty message between these headers and these trailers.
    Trailers(Fields, Fields),
    Hang,
}

/// Headers or trailers, malformed ones too.
type Fields = Vec<(&'static str, Vec<u8>)>;

fn header_map(fields: Fields) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for (name, value) in fields {
        headers.append(name, http::HeaderValue::from_bytes(&value).unwrap());
    }
    headers
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
        .unwrap_or(Reply::Refuse(12, "unknown method".into()));
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
        Reply::Headers(fields) => response.body(Body::empty()).map(|mut response| {
            response.headers_mut().extend(header_map(fields));
            response
        }),
        Reply::Trailers(headers, trailers) => {
            let trailers = std::future::ready(Some(Ok(header_map(trailers))));
            let body = Body::new(Full::new(frame(&[])).with_trailers(trailers));
            response.body(body).map(|mut response| {
                response.headers_mut().extend(header_map(headers));
                response
            })
        }
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
        self.driver_for(Needs {
            capabilities: true,
            ..Needs::default()
        })
    }

    fn driver_for(&self, needs: Needs) -> Driver {
        let socket = self.clone();
        let dialer = Dialer::over(move || std::future::ready(socket.dial()));
        let calls = self.calls.clone();
        Driver::new(
            &dialer,
            TIMEOUT,
            needs,
            Arc::new(move |call| calls.lock().unwrap().push(call.clone())),
        )
    }

    fn dial(&self) -> Result<DuplexStream, ConnectError> {
        let absent = || ConnectError::NoSocket {
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
        self.hang_up();
    }

    /// All connections break.
    fn hang_up(&self) {
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

async fn create(driver: &Driver) -> Result<CreateVolumeResponse, RpcError> {
    let request = CreateVolumeRequest {
        name: "pvc-1".into(),
        ..Default::default()
    };
    driver
        .create_volume(request)
        .await
        .expect("every call may be sent")
}

mod calls;
mod driver_state;
mod fence;
mod hostile;
mod names;
