//! One call to the driver: deadline, code, log and observer, the same for every call.
//!
//! Every error that the driver did not send itself is `Unavailable` or `DeadlineExceeded`: a torn connection, a cut or
//! oversized answer, HTTP without gRPC, a status that cannot be read. In all of them the driver may have done the work,
//! so none may look like a final refusal. (tonic reports them as `Unknown`, `Internal`, `OutOfRange` or `Cancelled`,
//! which a provisioner would take for "no volume was made".)

use std::{
    error::Error as _,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tonic::{body::Body, transport::Channel};
use tower::ServiceExt as _;

use super::{
    connect::ConnectError,
    encoded_codec::EncodedCodec,
    fence::{Fence, MayCall, NotSent},
    grpc_status::{self, GrpcStatus},
    rpc_error::{Code, RpcError},
};

/// What is sent to the driver in `grpc-timeout` beyond our own deadline, so that ours always ends the call
/// first and the driver is not told of a deadline that we do not keep.
const HEADER_GRACE: Duration = Duration::from_secs(1);

/// The longest deadline that `grpc-timeout` can name (tonic panics beyond it): 8 digits of hours.
const HEADER_LIMIT: Duration = Duration::from_secs(99_999_999 * 3600);

/// The driver's name in a [`Call`] before the driver has told it; the value of upstream's metric.
const UNKNOWN_DRIVER: &str = "unknown-driver";

/// One finished call, for the metric `csi_sidecar_operations_seconds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// As the driver names itself; `unknown-driver` before it has.
    pub driver_name: Arc<str>,
    /// The full gRPC path, `/csi.v1.Controller/CreateVolume`.
    pub method: &'static str,
    /// `Ok` or the error's code.
    pub code: Code,
    /// Made for a volume or a class that names an in-tree plugin, see [`super::Driver::migrated`].
    pub migrated: bool,
    /// From the request to the answer or the deadline.
    pub took: Duration,
}

/// Told of every finished call. Called on the caller's task, so it must not block.
pub type OnCall = Arc<dyn Fn(&Call) + Send + Sync>;

/// What every call goes through. Clones share the connection and the driver's name.
#[derive(Clone)]
pub(super) struct RpcClient {
    pub(super) channel: Channel,
    pub(super) timeout: Duration,
    pub(super) migrated: bool,
    pub(super) on_call: OnCall,
    pub(super) driver_name: Arc<OnceLock<Arc<str>>>,
    /// Notified of each new connection, and when a call suggests that the driver may be gone.
    pub(super) recheck: Arc<Notify>,
    /// How many answers have arrived, whatever they said.
    pub(super) answers: Arc<AtomicU64>,
    /// Whether calls that make or delete something may be sent.
    pub(super) may_call: Option<MayCall>,
}

impl RpcClient {
    /// Calls `method`. `Q` and `A` must be its messages; [`super::driver`] is the place that pairs them.
    pub(super) async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, RpcError>
    where
        Q: prost::Message + fmt::Debug + 'static,
        A: prost::Message + Default + fmt::Debug + 'static,
    {
        self.call_through(&Fence::default(), method, request).await
    }

    /// The same, unless we may not call any more when the request would be sent.
    pub(super) async fn call_fenced<Q, A>(
        &self,
        method: &'static str,
        request: Q,
    ) -> Result<Result<A, RpcError>, NotSent>
    where
        Q: prost::Message + fmt::Debug + 'static,
        A: prost::Message + Default + fmt::Debug + 'static,
    {
        let fence = Fence::new(self.may_call.clone());
        // Here, too, so that nothing is dialled for it.
        if !fence.passes() {
            return Err(NotSent);
        }
        let answer = self.call_through(&fence, method, request).await;
        if fence.withheld() {
            Err(NotSent)
        } else {
            Ok(answer)
        }
    }

    async fn call_through<Q, A>(&self, fence: &Fence, method: &'static str, request: Q) -> Result<A, RpcError>
    where
        Q: prost::Message + fmt::Debug + 'static,
        A: prost::Message + Default + fmt::Debug + 'static,
    {
        tracing::trace!(method, ?request, "calling the driver");
        let encoded = Bytes::from(request.encode_to_vec());
        drop(request);
        let started = Instant::now();
        let answer = match tokio::time::timeout(self.timeout, self.send(fence, method, encoded)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.recheck.notify_one();
                // The text of Go's context package: who searches events for it finds ours too.
                let message = "context deadline exceeded".to_owned();
                Err(RpcError {
                    method,
                    code: Code::DeadlineExceeded,
                    message,
                })
            }
        };
        let took = started.elapsed();
        if fence.withheld() {
            tracing::debug!(method, "not sent: this replica does not lead any more");
            return answer;
        }
        let code = answer
            .as_ref()
            .map_or_else(|rpc_error| rpc_error.code, |_| Code::Ok);
        match &answer {
            Ok(response) => tracing::trace!(method, ?response, ?took, "the driver answered"),
            Err(rpc_error) => tracing::trace!(method, %rpc_error, ?took, "the call failed"),
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
            migrated: self.migrated,
            took,
        });
        answer
    }

    async fn send<A>(&self, fence: &Fence, method: &'static str, request: Bytes) -> Result<A, RpcError>
    where
        A: prost::Message + Default + fmt::Debug + 'static,
    {
        // What the driver itself has sent as the end of the call.
        let sent = Arc::new(Mutex::new(None));
        let (in_headers, in_trailers) = (sent.clone(), sent.clone());
        let answers = self.answers.clone();
        let channel = self
            .channel
            .clone()
            .map_response(move |mut response: http::Response<Body>| {
                answers.fetch_add(1, Ordering::Relaxed);
                note_status(&in_headers, grpc_status::take(response.headers_mut()));
                response.map(|body| {
                    Body::new(body.map_frame(move |mut frame| {
                        if let Some(trailers) = frame.trailers_mut() {
                            note_status(&in_trailers, grpc_status::take(trailers));
                        }
                        frame
                    }))
                })
            });
        let mut request = tonic::Request::new(request);
        request.set_timeout(self.timeout.saturating_add(HEADER_GRACE).min(HEADER_LIMIT));
        let mut grpc = tonic::client::Grpc::new(channel);
        let answer = match grpc.ready().await {
            Ok(()) => {
                let path = PathAndQuery::from_static(method);
                grpc.unary(request, path, EncodedCodec::new(fence.clone())).await
            }
            Err(error) => Err(tonic::Status::from_error(error.into())),
        };
        let sent = sent.lock().take();
        let message = match (answer, sent) {
            (_, Some(GrpcStatus::Malformed(what))) => format!("the driver's answer cannot be read: {what}"),
            (Ok(answer), _) => return Ok(answer.into_inner()),
            (Err(_), Some(GrpcStatus::Sent(code, message))) if code != Code::Ok => {
                return Err(RpcError {
                    method,
                    code,
                    message,
                });
            }
            (Err(status), sent) => missing_answer(&status, sent.is_some()),
        };
        if !fence.withheld() {
            self.recheck.notify_one();
        }
        Err(RpcError {
            method,
            code: Code::Unavailable,
            message,
        })
    }
}

fn note_status(sent: &Mutex<Option<GrpcStatus>>, status: Option<GrpcStatus>) {
    let Some(status) = status else { return };
    let mut sent = sent.lock();
    *sent = Some(match sent.take() {
        Some(earlier) => earlier.followed_by(status),
        None => status,
    });
}

/// The text when the driver sent no error and there is no answer all the same.
fn missing_answer(status: &tonic::Status, has_status: bool) -> String {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return error.to_string();
        }
        cause = error.source();
    }
    let detail = status.message();
    if has_status || status.source().is_none() {
        format!("the driver's answer cannot be read: {detail}")
    } else {
        format!("the connection to the driver broke during the call: {detail}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rpc_error_prints_as_go_prints_a_status() {
        let message = "no space".to_owned();
        let rpc_error = RpcError {
            method: "/csi.v1.Controller/CreateVolume",
            code: Code::ResourceExhausted,
            message,
        };
        assert_eq!(
            rpc_error.to_string(),
            "rpc error: code = ResourceExhausted desc = no space"
        );
    }
}
