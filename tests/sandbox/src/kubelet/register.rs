//! The two operations of the kubelet: a socket's plugin is registered, a registered one is unregistered.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use super::{
    Action, Authority, Event, Shared, Step,
    proto::{InfoRequest, PluginInfo, RegistrationStatus, registration_client::RegistrationClient},
    validate,
    wire::{Exchange, ORIGINAL, through},
};
use crate::driver::proto::{NodeGetInfoRequest, NodeGetInfoResponse, node_client::NodeClient};

const DIAL: Duration = Duration::from_secs(10);
const GET_INFO: Duration = Duration::from_secs(1);
const NODE_GET_INFO: Duration = Duration::from_secs(120);
const NOTIFY: Duration = Duration::from_secs(5);

type Client = RegistrationClient<Channel>;

impl Shared {
    /// Carries an operation out; gives its socket and whether all of it went well.
    pub(super) async fn operate(self, action: Action) -> (PathBuf, bool) {
        match action {
            Action::Register { socket, incarnation } => {
                let done = self.register(&socket, incarnation).await;
                (socket, done.is_ok())
            }
            Action::Unregister { socket, name } => {
                self.inner.lock().state.forget(&socket);
                self.leave(&socket, &name).await;
                self.record(&socket, Event::Unregistered(name));
                (socket, true)
            }
        }
    }

    async fn register(&self, socket: &Path, incarnation: u64) -> Result<(), String> {
        let mut client = self.dial(socket).await?;
        let info = self.ask(&mut client, socket).await?;
        if self.knobs().twice {
            self.ask(&mut client, socket).await?;
        }
        let taken = async {
            self.troubles
                .meet(Step::Handler)
                .and_then(|()| validate::handler(&info.r#type))?;
            self.troubles.meet(Step::Validate)?;
            let existing = self.inner.lock().drivers.get(&info.name).cloned();
            let existing = existing.map(|it| it.version);
            let version = validate::validate(&info.name, &info.supported_versions, existing.as_ref())?;
            let endpoint = match info.endpoint.as_str() {
                "" => socket.to_owned(),
                endpoint => PathBuf::from(endpoint),
            };
            Ok(super::Driver { endpoint, version })
        };
        let driver: super::Driver = match taken.await {
            Ok(driver) => driver,
            Err(why) => return self.refuse(&mut client, socket, why).await,
        };
        {
            let mut inner = self.inner.lock();
            inner.state.add(socket.to_owned(), incarnation, info.name.clone());
            inner.drivers.insert(info.name.clone(), driver.clone());
        }
        let installed = async {
            let answer = self.node_get_info(socket, &driver.endpoint).await?;
            self.node.install(&info.name, &answer).await
        };
        if let Err(why) = installed.await {
            self.leave(socket, &info.name).await;
            self.give_back(socket);
            let why = format!("plugin registration failed: {why}");
            return self.refuse(&mut client, socket, why).await;
        }
        self.record(socket, Event::Registered(info.name.clone()));
        let told = self.notify(&mut client, socket, true, "").await;
        if told.is_err() && self.give_back(socket) {
            self.leave(socket, &info.name).await;
            self.record(socket, Event::Unregistered(info.name));
        }
        told
    }

    /// What has failed is not registered, so that it is tried again; unless this kubelet is an older one.
    fn give_back(&self, socket: &Path) -> bool {
        let mut inner = self.inner.lock();
        if !inner.knobs.keeps_failed {
            inner.state.forget(socket);
        }
        !inner.knobs.keeps_failed
    }

    /// The driver is forgotten and its traces removed, labels aside.
    async fn leave(&self, socket: &Path, name: &str) {
        self.inner.lock().drivers.remove(name);
        if let Err(why) = self.node.uninstall(name).await {
            self.record(socket, Event::Stuck(why));
        }
    }

    /// A socket without a listener is dialed again until the limit.
    async fn dial(&self, socket: &Path) -> Result<Client, String> {
        self.troubles.meet(Step::Dial)?;
        let dialed = timeout(DIAL, async {
            loop {
                match channel(socket).await {
                    Ok(channel) => return Client::new(channel),
                    Err(_) => tokio::time::sleep(self.tick).await,
                }
            }
        });
        let dialed = dialed.await;
        let dialed = dialed.map_err(|_| format!("{}: nobody listens", socket.display()));
        if let Err(why) = &dialed {
            self.record(socket, Event::Stuck(why.clone()));
        }
        dialed
    }

    /// A request that asks the wire for the `:authority` of this socket.
    fn request<T>(&self, socket: &Path, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let authority = match self.knobs().authority {
            Authority::Encoded => encoded(socket.as_os_str().as_bytes()),
            Authority::Raw => socket.to_string_lossy().into_owned(),
            Authority::Localhost => return request,
        };
        // A path that no header can hold is sent as `localhost`.
        if let Ok(mut authority) = MetadataValue::try_from(authority) {
            authority.set_sensitive(true);
            request.metadata_mut().insert(ORIGINAL, authority);
        }
        request
    }

    async fn ask(&self, client: &mut Client, socket: &Path) -> Result<PluginInfo, String> {
        self.troubles.meet(Step::GetInfo)?;
        tokio::time::sleep(self.knobs().get_info_delay).await;
        let at = self.now();
        let answer = within(GET_INFO, client.get_info(self.request(socket, InfoRequest {}))).await;
        let why = answer.as_ref().err().map(ToString::to_string);
        self.record_at(at, socket, Event::GetInfo(answer.clone()));
        answer.map_err(|_| why.unwrap_or_default())
    }

    async fn node_get_info(&self, socket: &Path, endpoint: &Path) -> Result<NodeGetInfoResponse, String> {
        self.troubles.meet(Step::NodeGetInfo)?;
        let here = match &self.mapped {
            Some((host, test)) => endpoint.strip_prefix(host).map(|rest| test.join(rest)),
            None => Ok(endpoint.to_owned()),
        };
        let here = here.unwrap_or_else(|_| endpoint.to_owned());
        let at = self.now();
        let answer = within(NODE_GET_INFO, async {
            let channel = channel(&here).await;
            let channel = channel.map_err(|error| Status::unavailable(format!("{error:?}")))?;
            let mut client = NodeClient::new(channel);
            client.node_get_info(NodeGetInfoRequest {}).await
        });
        let answer = answer.await;
        self.record_at(at, socket, Event::NodeGetInfo(answer.clone()));
        answer.map_err(|status| format!("NodeGetInfo at {}: {status}", endpoint.display()))
    }

    /// The plugin hears why not, and the operation has failed.
    async fn refuse(&self, client: &mut Client, socket: &Path, why: String) -> Result<(), String> {
        self.notify(client, socket, false, &why).await?;
        Err(why)
    }

    async fn notify(
        &self,
        client: &mut Client,
        socket: &Path,
        registered: bool,
        error: &str,
    ) -> Result<(), String> {
        let times = if self.knobs().twice { 2 } else { 1 };
        for _ in 0..times {
            self.troubles.meet(Step::Notify)?;
            let status = RegistrationStatus {
                plugin_registered: registered,
                error: error.to_owned(),
            };
            let at = self.now();
            let request = self.request(socket, status);
            let answer = within(NOTIFY, client.notify_registration_status(request)).await;
            let answer = answer.map(drop);
            let event = Event::Notified {
                registered,
                error: error.to_owned(),
                answer: answer.clone(),
            };
            self.record_at(at, socket, event);
            answer.map_err(|status| status.to_string())?;
        }
        Ok(())
    }
}

/// What is not answered in time is what grpc-go calls it.
async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    let answer = timeout(limit, call).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded")));
    answer.map(tonic::Response::into_inner)
}

/// A connection to a socket. `:authority` is what the first request asks for, or `localhost` as from any client here.
async fn channel(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connect = move |_| {
        let socket = socket.clone();
        async move {
            let stream = UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(TokioIo::new(through(stream, Exchange::Send)))
        }
    };
    Endpoint::from_static("http://localhost")
        .connect_with_connector(service_fn(connect))
        .await
}

/// A path as grpc-go puts it into `:authority`: what RFC 3986, 3.2, has for an authority stays, the rest is
/// percent-encoded.
pub(crate) fn encoded(path: &[u8]) -> String {
    let mut out = String::new();
    for byte in path.iter().copied() {
        if byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]@".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_path_is_encoded_as_grpc_go_encodes_it() {
        assert_eq!(
            super::encoded(b"/var/lib/kubelet/plugins_registry/x.y-reg.sock"),
            "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fx.y-reg.sock"
        );
        assert_eq!(super::encoded("a b%c@ü".as_bytes()), "a%20b%25c@%C3%BC");
    }
}
