//! Events on objects: how the person who made a claim learns what becomes of it.
//!
//! core/v1 Events, because that is what the roles in the field allow to write (kube's own recorder writes the other
//! API group). One task writes them one after the other from a bounded queue: when the API server is slow, events are
//! late or lost, never a volume.

mod write;

use std::fmt;

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    api::ApiClient,
    objects::{Claim, Volume},
};

/// Events waiting to be written; more are dropped.
const QUEUE: usize = 1000;
/// Bytes of a message. The API server would store more; drivers have sent a megabyte.
const LONGEST: usize = 16 << 10;

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

impl fmt::Display for ObjectReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object_namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is to be published.
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

    const fn kind(&self) -> &'static str {
        if self.warning { "Warning" } else { "Normal" }
    }
}

/// Where events go.
#[derive(Clone)]
pub struct EventRecorder {
    queue: mpsc::Sender<(ObjectReference, Event)>,
}

impl EventRecorder {
    /// Starts the task that writes. It ends when the last clone of `EventRecorder` is gone and the queue is empty.
    /// `component` is whose events they are, as in `kubectl describe`.
    pub fn start(api: ApiClient, component: String) -> (Self, JoinHandle<()>) {
        let (queue, events) = mpsc::channel(QUEUE);
        // The one task of this module.
        let writer = tokio::spawn(write::write(api, component, events));
        (Self { queue }, writer)
    }

    /// Publishes an event about an object. Never waits.
    pub fn publish(&self, subject: impl Into<ObjectReference>, mut event: Event) {
        let subject = subject.into();
        // Cut here, so that neither the log nor the queue holds more.
        event.message = cut(event.message);
        tracing::info!(
            object = %subject,
            kind = subject.kind,
            r#type = event.kind(),
            reason = event.reason,
            note = event.message,
            "Event occurred"
        );
        if self.queue.try_send((subject, event)).is_err() {
            tracing::debug!("an event was dropped: too many are waiting to be written");
        }
    }
}

/// Cuts a message to what is published of it, between characters.
fn cut(mut message: String) -> String {
    if message.len() > LONGEST {
        message.truncate(message.floor_char_boundary(LONGEST - 3));
        message.push_str("...");
        message.shrink_to_fit();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let short = cut("ä".repeat(10_000));
        assert_eq!((short.len(), &short[short.len() - 5..]), (LONGEST - 1, "ä..."));
        assert_eq!(cut("m".repeat(LONGEST)).len(), LONGEST);
    }

    #[test]
    fn c9_the_queue_holds_no_more_of_a_message_than_is_written() {
        let (queue, mut events) = mpsc::channel(1);
        let claim = Claim::default();
        EventRecorder { queue }.publish(&claim, Event::warning("R", "x".repeat(1 << 20)));
        let message = events.try_recv().map(|(_, event)| event.message.capacity());
        assert!(message.is_ok_and(|bytes| bytes <= LONGEST), "{message:?}");
    }
}
