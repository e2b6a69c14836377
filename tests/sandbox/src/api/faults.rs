//! What goes wrong between a client and the server, by script or by seed.

use std::time::Duration;

use futures::{StreamExt, future::ready, stream};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::Gust;

use super::{
    failure::{self, Refusal},
    route::{Route, Verb},
    serve::{ApiBody, full},
};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Harm {
    /// Answered with this code (401, 403, 404, 409, 500, 503) and a fitting `Status`.
    Status(u16),
    /// Answered with this code and this text instead of what the server has; nothing is done.
    Body(u16, String),
    /// The server's flow control: 429 with `Retry-After` in seconds, and no `Status`.
    Throttle(u64),
    /// An admission webhook denies this one request: 429 with a `Status`, and after how many seconds it may be made
    /// again.
    Deny(u64),
    /// Served after this much time.
    Delay(Duration),
    /// Carried out after this much time, though the client has gone, and not answered.
    Late(Duration),
    /// Carried out at once, and answered after this much time, whether the client still waits or not.
    DelayReply(Duration),
    /// A resource quota is used up: 403, as for a missing right, with another text.
    Quota,
    /// The connection breaks before the request is read.
    Cut,
    /// The request is carried out, then the connection breaks.
    LoseReply,
    /// No answer, ever, and nothing is done.
    Hang,
    /// The answer is properly at its end after so many lines: a proxy or a server that goes away.
    End(usize),
    /// The answer comes, headers and all, when it is complete: a proxy that holds it back.
    HoldBack,
}

/// Which requests are harmed, and how. Made with [`Fault::new`], narrowed by
/// its methods, handed to [`Api::harm`](super::Api::harm).
#[derive(Clone, Debug)]
pub struct Fault {
    harm: Harm,
    verb: Option<&'static str>,
    resource: Option<&'static str>,
    name: Option<String>,
    part: Option<String>,
    user: Option<String>,
    skip: usize,
    times: usize,
}

impl Fault {
    /// Every request, for ever.
    pub fn new(harm: Harm) -> Self {
        Self {
            harm,
            verb: None,
            resource: None,
            name: None,
            part: None,
            user: None,
            skip: 0,
            times: usize::MAX,
        }
    }

    /// Only this verb of RBAC on this resource.
    pub fn on(mut self, verb: &'static str, resource: &'static str) -> Self {
        (self.verb, self.resource) = (Some(verb), Some(resource));
        self
    }

    /// Only objects of this name.
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only objects whose name has this in it.
    pub fn like(mut self, part: &str) -> Self {
        self.part = Some(part.to_owned());
        self
    }

    /// Only requests of this user.
    pub fn by(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self
    }

    /// Not the first `n` that match.
    pub fn after(mut self, n: usize) -> Self {
        self.skip = n;
        self
    }

    /// Only `n` times.
    pub fn times(mut self, n: usize) -> Self {
        self.times = n;
        self
    }

    fn matches(&self, user: &str, route: &Route, name: &str) -> bool {
        self.verb.is_none_or(|verb| verb == route.verb.rbac())
            && self.resource.is_none_or(|resource| resource == route.kind.plural)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
            && self.part.as_deref().is_none_or(|part| name.contains(part))
            && self.user.as_deref().is_none_or(|wanted| wanted == user)
    }
}

/// The script and the random numbers of one API.
#[derive(Default)]
pub(crate) struct Faults {
    script: Vec<Fault>,
    chaos: Option<(fastrand::Rng, u32)>,
    /// Nobody answers.
    pub(crate) down: bool,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.script.push(fault);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// From now on `per_mille` of all requests are harmed, repeatably.
    pub(crate) fn chaos(&mut self, seed: u64, per_mille: u32) {
        self.chaos = Some((fastrand::Rng::with_seed(seed), per_mille));
    }

    /// The harm for this request, used up by asking.
    pub(crate) fn next(&mut self, user: &str, route: &Route, name: &str) -> Option<Harm> {
        if self.down {
            return Some(Harm::Cut);
        }
        for fault in self
            .script
            .iter_mut()
            .filter(|fault| fault.matches(user, route, name))
        {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Some(fault.harm.clone());
            }
        }
        let (rng, per_mille) = self.chaos.as_mut()?;
        if rng.u32(0..1000) >= *per_mille {
            return None;
        }
        let delay = Duration::from_millis(rng.u64(1..3000));
        let all = [
            Harm::Status(500),
            Harm::Status(503),
            Harm::Throttle(1),
            Harm::Delay(delay),
            Harm::Cut,
            Harm::LoseReply,
        ];
        Some(all[rng.usize(0..all.len())].clone())
    }
}

/// What a gust is to a request.
pub(crate) fn blown(gust: Gust) -> Harm {
    match gust {
        Gust::Lost => Harm::Cut,
        Gust::Delayed(time) => Harm::Delay(time),
        Gust::Refused(which) => match which % 3 {
            0 => Harm::Status(500),
            1 => Harm::Status(503),
            _ => Harm::Throttle(1),
        },
        Gust::ReplyLost => Harm::LoseReply,
    }
}

/// What an admission webhook's answer becomes on the API server.
pub(crate) fn denied(seconds: u64) -> Refusal {
    let text = "admission webhook \"quota.example.com\" denied the request: come back later";
    let mut status = failure::bare(429, "TooManyRequests", text);
    status.details = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusDetails {
        retry_after_seconds: i32::try_from(seconds).ok(),
        ..Default::default()
    });
    status
}

/// What the admission of a resource quota that is used up answers.
pub(crate) fn over_quota(route: &Route, name: &str) -> Refusal {
    let what = route.kind.qualified();
    let why = format!(
        "exceeded quota: few, requested: count/{what}=1, used: count/{what}=1, limited: count/{what}=1"
    );
    failure::forbidden_because(route.kind, name, &why)
}

/// The answer for [`Harm::End`].
pub(crate) fn ended(answer: Response<ApiBody>, lines: usize) -> Response<ApiBody> {
    answer.map(|body| {
        let lines = body.into_data_stream().take(lines);
        StreamBody::new(lines.map(|line| line.map(Frame::data))).boxed_unsync()
    })
}

/// The answer for [`Harm::HoldBack`].
pub(crate) async fn held_back(answer: Response<ApiBody>) -> Response<ApiBody> {
    let (parts, body) = answer.into_parts();
    let lines: Vec<_> = body
        .into_data_stream()
        .take_while(|line| ready(line.is_ok()))
        .collect()
        .await;
    let frames = stream::iter(lines).map(|line| line.map(Frame::data));
    Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}

/// The answer for [`Harm::Throttle`].
pub(crate) fn throttled(seconds: u64) -> Response<ApiBody> {
    let mut answer = Response::new(full("Too many requests, please try again later.\n"));
    *answer.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
    let headers = answer.headers_mut();
    headers.insert(http::header::RETRY_AFTER, seconds.into());
    let text = http::HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(http::header::CONTENT_TYPE, text);
    answer
}

/// The answer for [`Harm::Status`].
pub(crate) fn refusal(code: u16, user: &str, route: &Route) -> Refusal {
    let kind = route.kind;
    match code {
        401 => failure::bare(401, "Unauthorized", "Unauthorized"),
        403 => failure::forbidden(
            user,
            route.verb.rbac(),
            kind,
            route.subresource(),
            route.namespace.as_deref(),
            &route.name,
        ),
        404 => failure::not_found(kind, &route.name),
        409 if route.verb == Verb::Create => failure::already_exists(kind, &route.name),
        409 => failure::conflict(kind, &route.name, failure::MODIFIED),
        503 => failure::bare(
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        code => failure::bare(
            code,
            "InternalError",
            "Internal error occurred: scripted by the sandbox",
        ),
    }
}
