//! The one door for calls to the driver: deadline, code, log and observer, the same for every call.
//!
//! Whatever the driver did not say itself is `Unavailable` or `DeadlineExceeded`: a torn connection, a cut or
//! oversized answer, HTTP without gRPC. In all of them the driver may have done the work, so none may look like a
//! final refusal. (tonic reports them as `Unknown`, `Internal`, `OutOfRange` or `Cancelled`, which a provisioner
//! would take for "no volume was made".)

use std::{
    error::Error as _,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderMap, uri::PathAndQuery};
use http_body_util::BodyExt as _;
use tokio::{sync::Notify, time::Instant};
use tonic::{body::Body, transport::Channel};
use tower::ServiceExt as _;

use super::connect::Trouble;

/// What is sent to the driver in `grpc-timeout` beyond our own deadline, so that it is always ours that strikes
/// first and the driver is not told of a deadline that we do not keep.
const HEADER_GRACE: Duration = Duration::from_secs(1);

/// The driver's name in a [`Call`] before the driver has told it; the value of upstream's metric.
const UNKNOWN_DRIVER: &str = "unknown-driver";

/// The 17 codes of gRPC, with the names that Go prints; events and metrics carry these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are gRPC's")]
pub enum Code {
    Ok,
    Canceled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Canceled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// A number outside 0..=16 has no meaning in gRPC and is `Unknown`.
    fn of(code: tonic::Code) -> Self {
        usize::try_from(code as i32)
            .ok()
            .and_then(|number| Self::ALL.get(number).copied())
            .unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("OK"),
            named => fmt::Debug::fmt(named, f),
        }
    }
}

/// A call that did not succeed. Prints as Go prints a gRPC status, which is what events quote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {code} desc = {message}")]
pub struct Fault {
    /// The full gRPC path, `/csi.v1.Controller/CreateVolume`.
    pub method: &'static str,
    /// The driver's own word, except that `Unavailable` and `DeadlineExceeded` may also be ours.
    pub code: Code,
    /// The driver's text, or ours where it said nothing.
    pub message: String,
}

/// One finished call, for the metric `csi_sidecar_operations_seconds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As the driver introduced itself; `unknown-driver` before that.
    pub driver_name: Arc<str>,
    /// The full gRPC path, `/csi.v1.Controller/CreateVolume`.
    pub method: &'static str,
    /// `Ok` or the fault's code.
    pub code: Code,
    /// From the request to the answer or the deadline.
    pub took: Duration,
}

/// Told of every finished call. Called on the caller's task, so it must not block.
pub type OnCall = Arc<dyn Fn(&Call) + Send + Sync>;

/// What every call goes through. Clones share the connection and the driver's name.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) channel: Channel,
    pub(super) timeout: Duration,
    pub(super) on_call: OnCall,
    pub(super) driver_name: Arc<OnceLock<Arc<str>>>,
    /// Rung on each new connection, and when a call suggests that the driver may be gone.
    pub(super) stir: Arc<Notify>,
}

impl Door {
    /// Calls `method`. `Q` and `A` must be its messages; [`super::driver`] is the place that pairs them.
    pub(super) async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Fault>
    where
        Q: prost::Message + fmt::Debug + 'static,
        A: prost::Message + Default + fmt::Debug + 'static,
    {
        tracing::trace!(method, ?request, "calling the driver");
        let started = Instant::now();
        let answer = match tokio::time::timeout(self.timeout, self.send(method, request)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.stir.notify_one();
                // The words of Go's context package: whoever searches events for them finds ours too.
                let message = "context deadline exceeded".to_owned();
                Err(Fault {
                    method,
                    code: Code::DeadlineExceeded,
                    message,
                })
            }
        };
        let took = started.elapsed();
        let code = answer.as_ref().map_or_else(|fault| fault.code, |_| Code::Ok);
        match &answer {
            Ok(response) => tracing::trace!(method, ?response, ?took, "the driver answered"),
            Err(fault) => tracing::trace!(method, %fault, ?took, "the call failed"),
        }
        let driver_name = self
            .driver_name
            .get()
            .cloned()
            .unwrap_or_else(|| UNKNOWN_DRIVER.into());
        (self.on_call)(&Call {
            driver_name,
            method,
            code,
            took,
        });
        answer
    }

    async fn send<Q, A>(&self, method: &'static str, request: Q) -> Result<A, Fault>
    where
        Q: prost::Message + fmt::Debug + 'static,
        A: prost::Message + Default + fmt::Debug + 'static,
    {
        // Set once the driver itself has given a status: whether that was "OK".
        let said = Arc::new(OnceLock::new());
        let (early, late) = (said.clone(), said.clone());
        let listening = self
            .channel
            .clone()
            .map_response(move |response: http::Response<Body>| {
                hear(&early, response.headers());
                response.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        frame.trailers_ref().inspect(|trailers| hear(&late, trailers));
                        frame
                    }))
                })
            });
        let mut request = tonic::Request::new(request);
        request.set_timeout(self.timeout.saturating_add(HEADER_GRACE));
        let mut grpc = tonic::client::Grpc::new(listening);
        let answer = match grpc.ready().await {
            Ok(()) => {
                let codec = tonic_prost::ProstCodec::default();
                grpc.unary(request, PathAndQuery::from_static(method), codec)
                    .await
            }
            Err(error) => Err(tonic::Status::from_error(error.into())),
        };
        answer.map(tonic::Response::into_inner).map_err(|status| {
            if said.get() == Some(&false) {
                return Fault {
                    method,
                    code: Code::of(status.code()),
                    message: status.message().to_owned(),
                };
            }
            self.stir.notify_one();
            Fault {
                method,
                code: Code::Unavailable,
                message: unsaid(&status, said.get().is_some()),
            }
        })
    }
}

/// Notes the status in headers or trailers, if there is one.
fn hear(said: &OnceLock<bool>, headers: &HeaderMap) {
    if let Some(status) = headers.get("grpc-status") {
        // Only the first counts: gRPC allows one.
        let _ = said.set(status == "0");
    }
}

/// What happened when the driver did not refuse and there is no answer all the same.
fn unsaid(status: &tonic::Status, said_ok: bool) -> String {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(trouble) = error.downcast_ref::<Trouble>() {
            return trouble.to_string();
        }
        cause = error.source();
    }
    let detail = status.message();
    if said_ok || status.source().is_none() {
        format!("the driver's answer cannot be read: {detail}")
    } else {
        format!("the connection to the driver broke during the call: {detail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grpc_number_has_the_name_that_go_prints() {
        const NAMES: [&str; 17] = [
            "OK",
            "Canceled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        for (number, name) in (0..).zip(NAMES) {
            assert_eq!(
                Code::of(tonic::Code::from_i32(number)).to_string(),
                name,
                "number {number}"
            );
        }
        for number in [-1, 17, 255, i32::MAX] {
            assert_eq!(
                Code::of(tonic::Code::from_i32(number)),
                Code::Unknown,
                "number {number}"
            );
        }
    }

    #[test]
    fn a_fault_prints_as_go_prints_a_status() {
        let message = "no space".to_owned();
        let fault = Fault {
            method: "/csi.v1.Controller/CreateVolume",
            code: Code::ResourceExhausted,
            message,
        };
        assert_eq!(
            fault.to_string(),
            "rpc error: code = ResourceExhausted desc = no space"
        );
    }
}
