//! Events on objects: how the person who made a claim learns what becomes of it.
//!
//! core/v1 Events, because that is what the roles in the field allow to write (kube's own recorder writes the other
//! API group). One task writes them one after the other from a bounded line: when the API server is slow, events are
//! late or lost, never a volume.

use std::{fmt, time::Duration};

use jiff::{Timestamp, fmt::strtime};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};

use super::{
    api::ApiClient,
    correlator::{Correlation, Correlator, Key},
    objects::{Claim, Volume},
};
use crate::base::api_error::Reason;

/// Events waiting to be written; more are dropped.
const LINE: usize = 1000;
/// The API server refuses longer messages.
const LONGEST: usize = 1024;

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectReference {
    api_version: &'static str,
    kind: &'static str,
    /// Namespace of the event: that of the object, `default` for objects without one.
    namespace: String,
    object_namespace: Option<String>,
    name: String,
    uid: String,
    resource_version: String,
}

impl From<&Claim> for ObjectReference {
    fn from(claim: &Claim) -> Self {
        Self {
            api_version: "v1",
            kind: "PersistentVolumeClaim",
            namespace: claim.namespace.clone(),
            object_namespace: Some(claim.namespace.clone()),
            name: claim.name.clone(),
            uid: claim.uid.clone(),
            resource_version: claim.resource_version.clone(),
        }
    }
}

impl From<&Volume> for ObjectReference {
    fn from(volume: &Volume) -> Self {
        Self {
            api_version: "v1",
            kind: "PersistentVolume",
            namespace: "default".to_owned(),
            object_namespace: None,
            name: volume.name.clone(),
            uid: volume.uid.clone(),
            resource_version: volume.resource_version.clone(),
        }
    }
}

impl ObjectReference {
    /// The Lease that the replicas compete for.
    pub fn lease(namespace: &str, name: &str, uid: &str) -> Self {
        Self {
            api_version: "coordination.k8s.io/v1",
            kind: "Lease",
            namespace: namespace.to_owned(),
            object_namespace: Some(namespace.to_owned()),
            name: name.to_owned(),
            uid: uid.to_owned(),
            resource_version: String::new(),
        }
    }
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Something is wrong.
    pub warning: bool,
    /// CamelCase reason, a name of upstream's where upstream has one.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

impl Event {
    /// Something went as it should.
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: false,
            reason,
            message: message.into(),
        }
    }

    /// Something is wrong.
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: true,
            reason,
            message: message.into(),
        }
    }
}

/// Where events go.
#[derive(Clone)]
pub struct EventRecorder {
    line: mpsc::Sender<(ObjectReference, Event)>,
}

impl EventRecorder {
    /// Starts the task that writes. It ends when the last clone of `EventRecorder` is gone and the line is empty.
    /// `component` is who speaks, as in `kubectl describe`.
    pub fn start(api: ApiClient, component: String) -> (Self, JoinHandle<()>) {
        let (line, events) = mpsc::channel(LINE);
        // The one task of this file.
        let writer = tokio::spawn(write(api, component, events));
        (Self { line }, writer)
    }

    /// Says something about an object. Never waits.
    pub fn publish(&self, subject: impl Into<ObjectReference>, event: Event) {
        let subject = subject.into();
        tracing::info!(
            object = %subject,
            kind = subject.kind,
            r#type = kind_of(&event),
            reason = event.reason,
            note = event.message,
            "Event occurred"
        );
        if self.line.try_send((subject, event)).is_err() {
            tracing::debug!("an event was dropped: too many are waiting to be written");
        }
    }
}

impl fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object_namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

const fn kind_of(event: &Event) -> &'static str {
    if event.warning { "Warning" } else { "Normal" }
}

async fn write(api: ApiClient, component: String, mut events: mpsc::Receiver<(ObjectReference, Event)>) {
    let born = Instant::now();
    let mut correlator = Correlator::default();
    // A role without the right to write events is told of once, not once for each event.
    let mut forbidden = false;
    while let Some((subject, event)) = events.recv().await {
        let key = Key {
            object: subject.uid.clone(),
            warning: event.warning,
            reason: event.reason.to_owned(),
            message: event.message.clone(),
        };
        let (key, mut correlation) = correlator.correlate(key, born.elapsed());
        let mut tries = 0;
        let now = Timestamp::now();
        // One name for all tries: a create whose answer was lost must not become two events.
        let name = event_name(&subject.name, now);
        loop {
            let done = match &correlation {
                Correlation::Drop => break,
                Correlation::CountUp(name, count) => {
                    let patch = json!({"count": count, "lastTimestamp": seconds(now)});
                    api.patch_event(&subject.namespace, name, &patch).await
                }
                Correlation::Create | Correlation::CreateCombined => {
                    let combined = correlation == Correlation::CreateCombined;
                    let body = event_body(&name, &subject, &event, combined, &component, now);
                    let done = match api.create_event(&subject.namespace, &body).await {
                        Err(error) if tries > 0 && error.reason == Reason::AlreadyExists => Ok(()),
                        done => done,
                    };
                    if done.is_ok() {
                        correlator.stands(key.clone(), name.clone());
                    }
                    done
                }
            };
            let Err(error) = done else {
                forbidden = false;
                break;
            };
            tries += 1;
            match error.reason {
                Reason::NotFound if matches!(correlation, Correlation::CountUp(..)) => {
                    correlator.vanished(&key);
                    correlation = Correlation::Create;
                }
                Reason::TooManyRequests(pause) if tries < 5 => tokio::time::sleep(pause).await,
                Reason::Unavailable if tries < 5 => tokio::time::sleep(Duration::from_secs(tries)).await,
                Reason::Forbidden if forbidden => break,
                why => {
                    forbidden = why == Reason::Forbidden;
                    tracing::warn!(object = %subject, %error, "an event could not be written");
                    break;
                }
            }
        }
    }
}

/// `<object>.<hex nanoseconds>`, as client-go names events; within the 253 characters of a name.
fn event_name(object: &str, now: Timestamp) -> String {
    let stamp = format!("{:x}", now.as_nanosecond());
    let room = 253 - stamp.len() - 1;
    let object: String = object.chars().take(room).collect();
    format!("{}.{stamp}", object.trim_end_matches(['.', '-']))
}

fn event_body(
    name: &str,
    subject: &ObjectReference,
    event: &Event,
    combined: bool,
    component: &str,
    now: Timestamp,
) -> Value {
    let prefix = if combined {
        "(combined from similar events): "
    } else {
        ""
    };
    let mut involved = json!({
        "apiVersion": subject.api_version,
        "kind": subject.kind,
        "name": subject.name,
        "uid": subject.uid,
    });
    if let Some(namespace) = &subject.object_namespace {
        involved["namespace"] = json!(namespace);
    }
    if !subject.resource_version.is_empty() {
        involved["resourceVersion"] = json!(subject.resource_version);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": subject.namespace},
        "involvedObject": involved,
        "reason": event.reason,
        "message": shorten(&format!("{prefix}{}", event.message)),
        "type": kind_of(event),
        "count": 1,
        "firstTimestamp": seconds(now),
        "lastTimestamp": seconds(now),
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
    })
}

fn seconds(now: Timestamp) -> String {
    strtime::format("%Y-%m-%dT%H:%M:%SZ", now).unwrap_or_else(|_| now.to_string())
}

/// Cuts a text to what an event may hold, between characters.
fn shorten(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let mut cut = LONGEST - 3;
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}...", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_shape_that_kubectl_describe_shows() {
        let claim = Claim {
            namespace: "ns".into(),
            name: "data".into(),
            uid: "u".into(),
            resource_version: "7".into(),
            ..Claim::default()
        };
        let now = Timestamp::from_nanosecond(0x10_0000_0000).unwrap_or_default();
        let subject = ObjectReference::from(&claim);
        let value = event_body(
            "data.1",
            &subject,
            &Event::warning("ProvisioningFailed", "m"),
            true,
            "drv_host_id",
            now,
        );
        assert_eq!(
            value,
            json!({
                "apiVersion": "v1", "kind": "Event",
                "metadata": {"name": "data.1", "namespace": "ns"},
                "involvedObject": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data",
                    "namespace": "ns", "uid": "u", "resourceVersion": "7"},
                "reason": "ProvisioningFailed", "message": "(combined from similar events): m", "type": "Warning",
                "count": 1, "firstTimestamp": "1970-01-01T00:01:08Z", "lastTimestamp": "1970-01-01T00:01:08Z",
                "source": {"component": "drv_host_id"}, "reportingComponent": "drv_host_id",
                "reportingInstance": "",
            })
        );
        assert_eq!(event_name(&"x".repeat(300), now).len(), 253);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = "ä".repeat(1000);
        let short = shorten(&long);
        assert!(
            short.len() <= LONGEST && short.ends_with("..."),
            "{}",
            short.len()
        );
        assert_eq!(shorten("m"), "m");
    }
}
