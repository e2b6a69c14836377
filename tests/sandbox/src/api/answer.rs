//! From a request to its answer: fault, identity, right, verb, log.

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Response, StatusCode, header::CONTENT_TYPE, request::Parts};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

use super::{
    Api, KINDS, Request, State,
    failure::{self, Refusal},
    faults::{self, Harm},
    list::{self, Listed},
    media::Form,
    patch::PatchKind,
    rbac::Rbac,
    route::{self, Route, Verb},
    serve::{ApiBody, BoxError, full},
    store::{By, Part, Preconditions},
    watch,
};

/// How long the server waits for a revision of the future.
const TOO_NEW_WAIT: std::time::Duration = std::time::Duration::from_secs(3);

type Answer = Response<ApiBody>;

impl Api {
    pub(super) async fn answer(
        &self,
        user: &str,
        parts: &Parts,
        body: &Bytes,
        harm: Option<Harm>,
    ) -> Result<Answer, BoxError> {
        let latency = self.state.lock().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let route = match route::route(parts) {
            Ok(Some(route)) => route,
            Ok(None) => return self.other(user, parts, body),
            Err(status) => return Ok(refuse(&status)),
        };
        let name = match route.verb {
            Verb::Create => name_in(body),
            _ => route.name.clone(),
        };
        let record = Request {
            user: user.to_owned(),
            verb: route.verb,
            resource: match route.status {
                true => format!("{}/status", route.kind.plural),
                false => route.kind.plural.to_owned(),
            },
            group: route.kind.group,
            namespace: route.namespace.clone().unwrap_or_default(),
            name,
            code: 0,
            at: self.epoch.1.elapsed(),
        };
        let harm = harm.or_else(|| self.state.lock().faults.next(user, &route, &record.name));
        let served = match &harm {
            Some(Harm::Hang) => std::future::pending().await,
            Some(Harm::Cut) => Err("connection reset by the sandbox, request not read".into()),
            Some(Harm::Status(code)) => Ok(refuse(&faults::refusal(*code, user, &route))),
            Some(Harm::Body(code, text)) => Ok(response(*code, full(text.clone()))),
            Some(Harm::Throttle(seconds)) => Ok(faults::throttled(*seconds)),
            Some(Harm::Deny(seconds)) => Ok(refuse(&faults::denied(*seconds))),
            Some(Harm::Quota) => Ok(refuse(&faults::over_quota(&route, &record.name))),
            Some(Harm::End(lines)) => Ok(faults::ended(self.serve(user, route, parts, body).await, *lines)),
            Some(Harm::HoldBack) => Ok(faults::held_back(self.serve(user, route, parts, body).await).await),
            Some(Harm::Delay(time)) => {
                tokio::time::sleep(*time).await;
                Ok(self.serve(user, route, parts, body).await)
            }
            Some(Harm::Late(time)) => {
                let (api, user, time) = (self.clone(), user.to_owned(), *time);
                let (parts, body) = (parts.clone(), body.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    api.serve(&user, route, &parts, &body).await;
                });
                std::future::pending().await
            }
            Some(Harm::DelayReply(time)) => {
                let answer = self.serve(user, route, parts, body).await;
                tokio::time::sleep(*time).await;
                Ok(answer)
            }
            Some(Harm::LoseReply) => {
                self.serve(user, route, parts, body).await;
                Err("connection reset by the sandbox, request carried out".into())
            }
            None => Ok(self.serve(user, route, parts, body).await),
        };
        let code = served.as_ref().map_or(0, |answer| answer.status().as_u16());
        self.state.lock().log.push(Request { code, ..record });
        served
    }

    async fn serve(&self, user: &str, route: Route, parts: &Parts, body: &Bytes) -> Answer {
        match self.try_serve(user, route, parts, body) {
            Ok(Served::Answer(answer)) => answer,
            Ok(Served::After(status)) => {
                tokio::time::sleep(TOO_NEW_WAIT).await;
                refuse(&status)
            }
            Err(status) => refuse(&status),
        }
    }

    fn try_serve(&self, user: &str, route: Route, parts: &Parts, body: &Bytes) -> Result<Served, Refusal> {
        let mut state = self.state.lock();
        permit(&state.rbac, user, &route)?;
        if state.hidden.contains(route.kind.plural) {
            return match route.kind.custom {
                true => Ok(Served::Answer(no_page())),
                false => Err(unknown()),
            };
        }
        if route.kind.custom && route.verb == Verb::Patch(PatchKind::Strategic) {
            return Err(failure::no_strategic_patch());
        }
        let form = Form::of(&parts.headers, route.verb)?;
        if !route.kind.serves(route.verb, route.status) {
            return Err(failure::not_served(&format!(
                "{:?} of {}",
                route.verb, route.kind.plural
            )));
        }
        let now = self.now();
        let (kind, place) = (route.kind, route.place());
        let part = if route.status { Part::Status } else { Part::Main };
        let (code, object) = match route.verb {
            Verb::Get => (200, form.object(state.store.get(kind, &place)?)),
            Verb::List => match list::list(&state, &route, form)? {
                Listed::Now(list) => (200, list),
                Listed::TooNew(status) => return Ok(Served::After(status)),
            },
            Verb::Watch => {
                let lines = watch::watch(self, &mut state, route, form)?;
                let body = StreamBody::new(lines.map(|line| line.map(Frame::data))).boxed_unsync();
                return Ok(Served::Answer(response(200, body)));
            }
            Verb::Create => (
                201,
                json!(
                    *state
                        .store
                        .create(kind, &place.0, parse(kind.kind, body)?, &now)?
                ),
            ),
            Verb::Update => {
                let object: Value = parse(kind.kind, body)?;
                let named = object["metadata"]["name"].as_str().unwrap_or_default();
                if named != route.name {
                    return Err(failure::bad_request(format!(
                        "the name of the object ({named}) does not match the name on the URL ({})",
                        route.name
                    )));
                }
                if kind.upsert && state.store.get(kind, &place).is_err() {
                    (201, json!(*state.store.create(kind, &place.0, object, &now)?))
                } else {
                    (
                        200,
                        json!(
                            *state
                                .store
                                .update(kind, &place, (part, By::Put), &now, |_| Ok(object))?
                        ),
                    )
                }
            }
            Verb::Patch(patch) => {
                let made = state.store.update(kind, &place, (part, By::Patch), &now, |old| {
                    patch.apply(body, old)
                })?;
                (200, json!(*made))
            }
            Verb::Delete => {
                let only = preconditions(kind.kind, body)?;
                let (last, gone) = state.store.delete(kind, &place, &only, &now)?;
                match gone && !kind.echoes {
                    true => (200, deleted(kind, &last)),
                    false => (200, json!(*last)),
                }
            }
        };
        Ok(Served::Answer(response(code, full(object.to_string()))))
    }

    /// Paths that are no resource of the table.
    fn other(&self, user: &str, parts: &Parts, body: &Bytes) -> Result<Answer, BoxError> {
        let state = self.state.lock();
        if state.faults.down {
            return Err("connection refused by the sandbox".into());
        }
        if !state.rbac.knows(user) {
            return Ok(refuse(&failure::bare(401, "Unauthorized", "Unauthorized")));
        }
        let path: Vec<_> = parts
            .uri
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let answer = match (&parts.method, path.as_slice()) {
            (&Method::GET, ["version"]) => json!({
                "major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "",
                "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
            }),
            (&Method::POST, ["apis", "authorization.k8s.io", "v1", "selfsubjectaccessreviews"]) => {
                if parts.uri.query().is_some() {
                    return Ok(refuse(&failure::not_served("parameters of a review")));
                }
                let Ok(mut review) = serde_json::from_slice::<Value>(body) else {
                    return Ok(refuse(&failure::bad_request(
                        "the object provided is unrecognized",
                    )));
                };
                review["status"] =
                    json!({"allowed": allowed(&state.rbac, user, &review["spec"]["resourceAttributes"])});
                return Ok(response(201, full(review.to_string())));
            }
            (method, path) if route::is_elsewhere(method, path, &state.hidden) => {
                return Ok(refuse(&failure::not_served(&format!(
                    "{method} {}",
                    parts.uri.path()
                ))));
            }
            (&Method::GET, ["api", version]) => return Ok(discover(&state, "", version)),
            (&Method::GET, ["apis", group, version]) => return Ok(discover(&state, group, version)),
            (_, ["apis", group, ..]) if !known(&state, group) => return Ok(no_page()),
            _ => return Ok(refuse(&unknown())),
        };
        Ok(response(200, full(answer.to_string())))
    }
}

enum Served {
    Answer(Answer),
    /// A refusal that the client has to wait for.
    After(Refusal),
}

#[derive(serde::Deserialize)]
struct DeleteOptions {
    preconditions: Option<Preconditions>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// The only options of a DELETE that the contract covers. Dry runs come here too: clients send them in the body.
fn preconditions(kind: &str, body: &[u8]) -> Result<Preconditions, Refusal> {
    if body.is_empty() {
        return Ok(Preconditions::default());
    }
    let options: DeleteOptions = parse(kind, body)?;
    let known = |key: &str| matches!(key, "kind" | "apiVersion");
    match options.rest.keys().find(|key| !known(key)) {
        Some(key) => Err(failure::not_served(&format!("the option {key:?} of a DELETE"))),
        None => Ok(options.preconditions.unwrap_or_default()),
    }
}

fn permit(rbac: &Rbac, user: &str, route: &Route) -> Result<(), Refusal> {
    if !rbac.knows(user) {
        return Err(failure::bare(401, "Unauthorized", "Unauthorized"));
    }
    let resource = match route.subresource() {
        "" => route.kind.plural.to_owned(),
        sub => format!("{}/{sub}", route.kind.plural),
    };
    let namespace = route.namespace.as_deref();
    let right = (route.verb.rbac(), route.kind.group, resource.as_str());
    if rbac.allows(user, right, namespace, &route.name) {
        return Ok(());
    }
    let verb = route.verb.rbac();
    Err(failure::forbidden(
        user,
        verb,
        route.kind,
        route.subresource(),
        namespace,
        &route.name,
    ))
}

fn allowed(rbac: &Rbac, user: &str, wanted: &Value) -> bool {
    let text = |key: &str| wanted[key].as_str().unwrap_or_default();
    let resource = match text("subresource") {
        "" => text("resource").to_owned(),
        sub => format!("{}/{sub}", text("resource")),
    };
    let namespace = Some(text("namespace")).filter(|namespace| !namespace.is_empty());
    rbac.allows(
        user,
        (text("verb"), text("group"), &resource),
        namespace,
        text("name"),
    )
}

fn discover(state: &State, group: &str, version: &str) -> Answer {
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let resources: Vec<_> = KINDS
        .iter()
        .filter(|kind| kind.group == group && kind.version == version && !state.hidden.contains(kind.plural))
        .map(|kind| {
            json!({
                "name": kind.plural, "singularName": kind.kind.to_lowercase(),
                "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs,
            })
        })
        .collect();
    if resources.is_empty() {
        return no_page();
    }
    let version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources});
    response(200, full(list.to_string()))
}

/// Whether anything of a group is served.
fn known(state: &State, group: &str) -> bool {
    KINDS
        .iter()
        .any(|kind| kind.group == group && !state.hidden.contains(kind.plural))
}

fn parse<T: serde::de::DeserializeOwned>(kind: &str, body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): json parse error: {error}"
        ))
    })
}

pub(super) fn name_in(body: &[u8]) -> String {
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn deleted(kind: &super::Kind, last: &Value) -> Value {
    let mut details =
        json!({"name": last["metadata"]["name"], "kind": kind.plural, "uid": last["metadata"]["uid"]});
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// What is no API group at all, that of a CRD that is not installed included.
fn no_page() -> Answer {
    response(404, full("404 page not found\n"))
}

fn unknown() -> Refusal {
    failure::bare(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )
}

fn refuse(status: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Status) -> Answer {
    let code = status
        .code
        .and_then(|code| u16::try_from(code).ok())
        .unwrap_or(500);
    response(code, full(json!(status).to_string()))
}

fn response(code: u16, body: ApiBody) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
