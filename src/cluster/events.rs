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
    correlate::{Correlator, Key, Verdict},
    denied::Why,
    rows::{Claim, Volume},
    write::Door,
};

/// Events waiting to be written; more are dropped.
const LINE: usize = 1000;
/// The API server refuses longer messages.
const LONGEST: usize = 1024;

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    api_version: &'static str,
    kind: &'static str,
    /// Namespace of the event: that of the object, `default` for objects without one.
    namespace: String,
    object_namespace: Option<String>,
    name: String,
    uid: String,
    resource_version: String,
}

impl From<&Claim> for Subject {
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

impl From<&Volume> for Subject {
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

impl Subject {
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
pub struct Notice {
    /// Something is wrong.
    pub warning: bool,
    /// CamelCase reason, a name of upstream's where upstream has one.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

impl Notice {
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

/// Where notices go.
#[derive(Clone)]
pub struct Events {
    line: mpsc::Sender<(Subject, Notice)>,
}

impl Events {
    /// Starts the task that writes. It ends when the last clone of `Events` is gone and the line is empty.
    /// `component` is who speaks, as in `kubectl describe`.
    pub fn start(door: Door, component: String) -> (Self, JoinHandle<()>) {
        let (line, notices) = mpsc::channel(LINE);
        // The one task of this file.
        let writer = tokio::spawn(write(door, component, notices));
        (Self { line }, writer)
    }

    /// Says something about an object. Never waits.
    pub fn say(&self, subject: impl Into<Subject>, notice: Notice) {
        let subject = subject.into();
        tracing::info!(
            object = %subject,
            kind = subject.kind,
            r#type = kind_of(&notice),
            reason = notice.reason,
            note = notice.message,
            "Event occurred"
        );
        if self.line.try_send((subject, notice)).is_err() {
            tracing::debug!("an event was dropped: too many are waiting to be written");
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object_namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

const fn kind_of(notice: &Notice) -> &'static str {
    if notice.warning { "Warning" } else { "Normal" }
}

async fn write(door: Door, component: String, mut notices: mpsc::Receiver<(Subject, Notice)>) {
    let born = Instant::now();
    let mut correlator = Correlator::default();
    // A role without the right to write events is told of once, not once for each event.
    let mut forbidden = false;
    while let Some((subject, notice)) = notices.recv().await {
        let key = Key {
            object: subject.uid.clone(),
            warning: notice.warning,
            reason: notice.reason.to_owned(),
            message: notice.message.clone(),
        };
        let (key, mut verdict) = correlator.judge(key, born.elapsed());
        let mut tries = 0;
        let now = Timestamp::now();
        // One name for all tries: a create whose answer was lost must not become two events.
        let name = event_name(&subject.name, now);
        loop {
            let done = match &verdict {
                Verdict::Drop => break,
                Verdict::CountUp(name, count) => {
                    let patch = json!({"count": count, "lastTimestamp": seconds(now)});
                    door.patch_event(&subject.namespace, name, &patch).await
                }
                Verdict::Create | Verdict::CreateCombined => {
                    let combined = verdict == Verdict::CreateCombined;
                    let event = event(&name, &subject, &notice, combined, &component, now);
                    let done = match door.create_event(&subject.namespace, &event).await {
                        Err(denied) if tries > 0 && denied.why == Why::AlreadyExists => Ok(()),
                        done => done,
                    };
                    if done.is_ok() {
                        correlator.stands(key.clone(), name.clone());
                    }
                    done
                }
            };
            let Err(denied) = done else {
                forbidden = false;
                break;
            };
            tries += 1;
            match denied.why {
                Why::NotFound if matches!(verdict, Verdict::CountUp(..)) => {
                    correlator.vanished(&key);
                    verdict = Verdict::Create;
                }
                Why::Throttled(pause) if tries < 5 => tokio::time::sleep(pause).await,
                Why::Unreachable if tries < 5 => tokio::time::sleep(Duration::from_secs(tries)).await,
                Why::Forbidden if forbidden => break,
                why => {
                    forbidden = why == Why::Forbidden;
                    tracing::warn!(object = %subject, %denied, "an event could not be written");
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

fn event(
    name: &str,
    subject: &Subject,
    notice: &Notice,
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
        "reason": notice.reason,
        "message": shorten(&format!("{prefix}{}", notice.message)),
        "type": kind_of(notice),
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
        let subject = Subject::from(&claim);
        let value = event(
            "data.1",
            &subject,
            &Notice::warning("ProvisioningFailed", "m"),
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
