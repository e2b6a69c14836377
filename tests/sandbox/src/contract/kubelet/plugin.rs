//! A plugin as a case scripts it: a registration socket in the kubelet's folder, and a driver's socket beside. What
//! the kubelet calls is written down.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::UnixListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use tonic::{Request, Response, Status};

use crate::{
    driver::proto::{
        NodeGetInfoRequest, NodeGetInfoResponse, Topology,
        node_server::{Node, NodeServer},
    },
    kubelet::{
        Exchange, ORIGINAL,
        proto::{
            InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
            registration_server::{Registration, RegistrationServer},
        },
        through,
    },
};

/// What the kubelet called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    GetInfo,
    NodeGetInfo,
    Registered,
    Refused(String),
}

/// One call, when it came and the `:authority` that its connection began with.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) call: Call,
    /// Nothing for later calls over one connection.
    pub(crate) authority: Option<String>,
}

/// What the plugin answers.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) info: PluginInfo,
    pub(crate) node: Result<NodeGetInfoResponse, Status>,
    /// How many more calls of GetInfo are not answered.
    pub(crate) hangs: usize,
    /// How many more notifications of a registration are answered with an error.
    pub(crate) fails_when_told: usize,
}

/// See the module. Dropped, its sockets are removed.
pub(crate) struct Plugin {
    pub(crate) name: String,
    /// The registration socket.
    pub(crate) socket: PathBuf,
    /// The driver's socket.
    pub(crate) endpoint: PathBuf,
    service: Service,
    registration: Option<JoinHandle<()>>,
    driver: JoinHandle<()>,
}

#[derive(Clone)]
struct Service {
    script: Arc<Mutex<Script>>,
    heard: watch::Sender<Vec<Heard>>,
}

impl Plugin {
    /// A driver that serves and has not registered yet.
    pub(crate) fn new(name: String, socket: PathBuf, endpoint: PathBuf) -> io::Result<Self> {
        let info = PluginInfo {
            r#type: "CSIPlugin".into(),
            name: name.clone(),
            endpoint: endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".into()],
        };
        let node = NodeGetInfoResponse {
            node_id: format!("{name}-id"),
            ..Default::default()
        };
        let script = Script {
            info,
            node: Ok(node),
            hangs: 0,
            fails_when_told: 0,
        };
        let service = Service {
            script: Arc::new(Mutex::new(script)),
            heard: watch::Sender::new(Vec::new()),
        };
        let driver = service.serve(&endpoint)?;
        Ok(Self {
            name,
            socket,
            endpoint,
            service,
            registration: None,
            driver,
        })
    }

    /// Changes what it answers.
    pub(crate) fn script(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.service.script.lock());
    }

    /// Changes what it answers to NodeGetInfo.
    pub(crate) fn node(&self, change: impl FnOnce(&mut NodeGetInfoResponse)) {
        self.script(|script| {
            if let Ok(node) = &mut script.node {
                change(node);
            }
        });
    }

    /// What it says of where the node is.
    pub(crate) fn topology(&self, segments: &[(&str, &str)]) {
        let segments = segments
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let segments = segments.collect();
        self.node(|node| node.accessible_topology = Some(Topology { segments }));
    }

    /// The registration socket appears. One that is there is removed before, as a registrar does that starts anew.
    pub(crate) fn open(&mut self) -> Result<(), String> {
        self.kill();
        drop(fs::remove_file(&self.socket));
        self.registration = Some(self.service.serve(&self.socket).map_err(text)?);
        Ok(())
    }

    /// The registration socket appears in place of the one that is there, by a rename.
    pub(crate) fn open_over(&mut self) -> Result<(), String> {
        let name = self.socket.file_name().unwrap_or_default();
        let hidden = self.socket.with_file_name(format!(".{}", name.display()));
        let registration = self.service.serve(&hidden).map_err(text)?;
        fs::rename(&hidden, &self.socket).map_err(text)?;
        self.kill();
        self.registration = Some(registration);
        Ok(())
    }

    /// The registrar ends and removes its socket.
    pub(crate) fn close(&mut self) {
        self.kill();
        drop(fs::remove_file(&self.socket));
    }

    /// The registrar is killed; its socket stays.
    pub(crate) fn kill(&mut self) {
        if let Some(registration) = self.registration.take() {
            registration.abort();
        }
    }

    /// The driver is killed, and its socket removed.
    pub(crate) fn kill_driver(&self) {
        self.driver.abort();
        drop(fs::remove_file(&self.endpoint));
    }

    /// Everything that was called, in order.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.service.heard.borrow().clone()
    }

    /// As [`Plugin::heard`], only the calls.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.heard().into_iter().map(|heard| heard.call).collect()
    }

    /// Waits until a number of calls have come that fulfil a condition.
    pub(crate) async fn wait(
        &self,
        what: &str,
        limit: Duration,
        times: usize,
        condition: impl Fn(&Call) -> bool,
    ) -> Result<Vec<Heard>, String> {
        let mut heard = self.service.heard.subscribe();
        let enough = |heard: &Vec<Heard>| heard.iter().filter(|it| condition(&it.call)).count() >= times;
        if let Ok(Ok(heard)) = timeout(limit, heard.wait_for(enough)).await {
            return Ok(heard.clone());
        }
        let heard = self.calls();
        Err(format!(
            "{what}: not within {limit:?}; {} heard {heard:?}",
            self.name
        ))
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.close();
        self.kill_driver();
    }
}

impl Service {
    /// Serves both services on a socket, until the handle is aborted.
    fn serve(&self, socket: &Path) -> io::Result<JoinHandle<()>> {
        let listener = UnixListener::bind(socket)?;
        let service = self.clone();
        Ok(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let routes = tonic::transport::Server::builder()
                    .add_service(RegistrationServer::new(service.clone()))
                    .add_service(NodeServer::new(service.clone()));
                let stream = through(stream, Exchange::Receive);
                let once = futures::stream::iter([Ok::<_, io::Error>(stream)]);
                connections.spawn(async move { routes.serve_with_incoming(once).await });
            }
        }))
    }

    fn hear<T>(&self, call: Call, request: &Request<T>) {
        let authority = request.metadata().get(ORIGINAL);
        let authority = authority.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
        let at = Instant::now();
        let heard = Heard { at, call, authority };
        self.heard.send_modify(|all| all.push(heard));
    }
}

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, request: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        self.hear(Call::GetInfo, &request);
        let script = {
            let mut script = self.script.lock();
            let before = script.clone();
            script.hangs = script.hangs.saturating_sub(1);
            before
        };
        if script.hangs > 0 {
            return std::future::pending().await;
        }
        Ok(Response::new(script.info))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.get_ref();
        let call = match status.plugin_registered {
            true => Call::Registered,
            false => Call::Refused(status.error.clone()),
        };
        self.hear(call, &request);
        let mut script = self.script.lock();
        if status.plugin_registered && script.fails_when_told > 0 {
            script.fails_when_told -= 1;
            return Err(Status::internal("the plugin cannot take that"));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl Node for Service {
    async fn node_get_info(
        &self,
        request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.hear(Call::NodeGetInfo, &request);
        self.script.lock().node.clone().map(Response::new)
    }
}

fn text(error: io::Error) -> String {
    error.to_string()
}
