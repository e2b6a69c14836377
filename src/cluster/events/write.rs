//! The task that writes events: created, counted up, or dropped, as [`Correlator`] decides.

use std::time::Duration;

use jiff::{Timestamp, fmt::strtime};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{Event, ObjectReference};
use crate::{
    base::api_error::Reason,
    cluster::{
        api::ApiClient,
        correlator::{Correlation, Correlator, EventKey},
    },
};

pub(super) async fn write(
    api: ApiClient,
    component: String,
    mut events: mpsc::Receiver<(ObjectReference, Event)>,
) {
    let origin = Instant::now();
    let mut correlator = Correlator::default();
    // A role without the right to write events is told of once, not once for each event.
    let mut forbidden = false;
    while let Some((subject, mut event)) = events.recv().await {
        let key = EventKey::new(&subject.uid, event.warning, event.reason, &event.message);
        let (key, mut correlation) = correlator.correlate(key, origin.elapsed());
        if key.is_combined() {
            event.message.insert_str(0, "(combined from similar events): ");
        }
        let mut tries = 0;
        let now = Timestamp::now();
        // One name for all tries: a create whose answer was lost must not become two events.
        let name = event_name(&subject.name, now);
        loop {
            let done = match &correlation {
                Correlation::Drop => break,
                Correlation::CountUp(name, count) => {
                    // The message, too: that of a combined event is another one each time.
                    let patch =
                        json!({"count": count, "lastTimestamp": seconds(now), "message": event.message});
                    api.patch_event(&subject.namespace, name, &patch).await
                }
                Correlation::Create => {
                    let body = event_body(&name, &subject, &event, &component, now);
                    let done = match api.create_event(&subject.namespace, &body).await {
                        Err(error) if tries > 0 && error.reason == Reason::AlreadyExists => Ok(()),
                        done => done,
                    };
                    if done.is_ok() {
                        correlator.created(key.clone(), name.clone(), origin.elapsed());
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
                // The API server forgets events after a while.
                Reason::NotFound if matches!(correlation, Correlation::CountUp(..)) => {
                    correlator.vanished(&key);
                    correlation = Correlation::Create;
                }
                Reason::TooManyRequests(pause) if tries < 5 => tokio::time::sleep(pause).await,
                Reason::Unavailable | Reason::RetryLater if tries < 5 => {
                    tokio::time::sleep(Duration::from_secs(tries)).await
                }
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
    component: &str,
    now: Timestamp,
) -> Value {
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
        "message": event.message,
        "type": event.kind(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::objects::Claim;

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
        let value = event_body(
            "data.1",
            &ObjectReference::from(&claim),
            &Event::warning("ProvisioningFailed", "m"),
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
                "reason": "ProvisioningFailed", "message": "m", "type": "Warning",
                "count": 1, "firstTimestamp": "1970-01-01T00:01:08Z", "lastTimestamp": "1970-01-01T00:01:08Z",
                "source": {"component": "drv_host_id"}, "reportingComponent": "drv_host_id",
                "reportingInstance": "",
            })
        );
        assert_eq!(event_name(&"x".repeat(300), now).len(), 253);
    }
}
