//! What etcd and the registry do: objects under one revision counter, every change remembered, finalizers and
//! preconditions honoured. Synchronous; nothing here waits or knows who asks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{
    failure::{self, Refusal},
    kinds::Kind,
    object::{copy, decode, finalizers, validate},
    rules::{self, text},
};

/// Namespace (empty for cluster scope) and name: the order of lists.
pub(crate) type Place = (String, String);

/// One write, as watches report it and as old lists undo it.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) place: Place,
    pub(crate) before: Option<Arc<Value>>,
    pub(crate) after: Option<Arc<Value>>,
}

/// Which half of an object a write may touch.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Part {
    Main,
    Status,
}

/// How a write came.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum By {
    Put,
    Patch,
}

/// What a DELETE asks to hold.
#[derive(Default, serde::Deserialize)]
pub(crate) struct Preconditions {
    uid: Option<String>,
    #[serde(rename = "resourceVersion")]
    revision: Option<String>,
}

pub(crate) struct Store {
    pub(crate) revision: u64,
    /// Revisions up to this one can not be listed or watched from any more.
    pub(crate) horizon: u64,
    objects: HashMap<&'static str, BTreeMap<Place, Arc<Value>>>,
    changes: HashMap<&'static str, Vec<Change>>,
    rng: fastrand::Rng,
    changed: tokio::sync::watch::Sender<u64>,
}

/// A fresh server has a history, so that revision 1 is already too old.
const FIRST_REVISION: u64 = 100;

impl Store {
    pub(crate) fn new() -> Self {
        Self {
            revision: FIRST_REVISION,
            horizon: FIRST_REVISION,
            objects: HashMap::new(),
            changes: HashMap::new(),
            rng: fastrand::Rng::with_seed(7),
            changed: tokio::sync::watch::Sender::new(FIRST_REVISION),
        }
    }

    pub(crate) fn subscribe(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn get(&self, kind: &Kind, place: &Place) -> Result<&Arc<Value>, Refusal> {
        let found = self
            .objects
            .get(kind.plural)
            .and_then(|objects| objects.get(place));
        found.ok_or_else(|| failure::not_found(kind, &place.1))
    }

    /// The objects as they are now, in the order of their places.
    pub(crate) fn list(&self, kind: &Kind) -> BTreeMap<Place, Arc<Value>> {
        self.objects.get(kind.plural).cloned().unwrap_or_default()
    }

    /// The objects as they were at `revision`, by undoing what came later.
    pub(crate) fn list_at(&self, kind: &Kind, revision: u64) -> BTreeMap<Place, Arc<Value>> {
        let mut objects = self.list(kind);
        for change in self.since(kind, revision).iter().rev() {
            match &change.before {
                Some(before) => objects.insert(change.place.clone(), before.clone()),
                None => objects.remove(&change.place),
            };
        }
        objects
    }

    /// Changes after `revision`, oldest first.
    pub(crate) fn since(&self, kind: &Kind, revision: u64) -> &[Change] {
        let changes = self
            .changes
            .get(kind.plural)
            .map(Vec::as_slice)
            .unwrap_or_default();
        &changes[changes.partition_point(|change| change.revision <= revision)..]
    }

    pub(crate) fn create(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        object: Value,
        now: &str,
    ) -> Result<Arc<Value>, Refusal> {
        let mut object = decode(kind, object)?;
        let meta = &mut object["metadata"];
        if !text(&meta["resourceVersion"]).is_empty() {
            return Err(failure::bare(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        if kind.namespaced {
            match text(&meta["namespace"]) {
                "" => meta["namespace"] = namespace.into(),
                other if other != namespace => {
                    return Err(failure::bad_request(
                        "the namespace of the provided object does not match the namespace sent on the request",
                    ));
                }
                _ => {}
            }
        } else {
            rules::remove(meta, "namespace");
        }
        let prefix = text(&meta["generateName"]).to_owned();
        if text(&meta["name"]).is_empty() && !prefix.is_empty() {
            let tail: String = (0..5).map(|_| self.rng.lowercase()).collect();
            meta["name"] = format!("{prefix}{tail}").into();
        }
        meta["uid"] = self.uid().into();
        meta["creationTimestamp"] = now.into();
        for server_side in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            rules::remove(meta, server_side);
        }
        if let Some(finalizer) = kind.finalizer {
            let had = rules::items(&meta["finalizers"]).any(|f| f == finalizer);
            if !had {
                let mut all: Vec<_> = rules::items(&meta["finalizers"]).cloned().collect();
                all.push(finalizer.into());
                meta["finalizers"] = all.into();
            }
        }
        let place = (
            if kind.namespaced {
                namespace.to_owned()
            } else {
                String::new()
            },
            text(&meta["name"]).to_owned(),
        );
        (kind.fill)(&mut object);
        validate(kind, &object, None)?;
        if kind.namespaced && !self.has_namespace(namespace) {
            return Err(failure::bare_not_found("namespaces", namespace));
        }
        if self.get(kind, &place).is_ok() {
            return Err(failure::already_exists(kind, &place.1));
        }
        Ok(self.commit(kind, place, Some(object)))
    }

    /// PUT and PATCH: `edit` makes the new object out of the old one.
    pub(crate) fn update(
        &mut self,
        kind: &'static Kind,
        place: &Place,
        (part, by): (Part, By),
        now: &str,
        edit: impl FnOnce(&Value) -> Result<Value, Refusal>,
    ) -> Result<Arc<Value>, Refusal> {
        let old = self.get(kind, place)?.clone();
        let mut new = decode(kind, edit(&old)?)?;
        let meta = &mut new["metadata"];
        let (uid, version) = (text(&meta["uid"]), text(&meta["resourceVersion"]));
        if !uid.is_empty() && uid != old["metadata"]["uid"] {
            // A PUT makes it a precondition, a patch just tries to change it.
            if by == By::Patch {
                let cause =
                    failure::Cause::invalid("metadata.uid", &format!("{uid:?}"), "field is immutable");
                return Err(failure::invalid(kind, &place.1, &[cause]));
            }
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                text(&old["metadata"]["uid"])
            );
            return Err(failure::conflict(kind, &place.1, &why));
        }
        if !version.is_empty() && version != old["metadata"]["resourceVersion"] {
            if version.parse::<u64>().is_err() {
                let text = format!("strconv.ParseUint: parsing {version:?}: invalid syntax");
                return Err(failure::bare(500, "", text));
            }
            return Err(failure::conflict(kind, &place.1, failure::MODIFIED));
        }
        if version.is_empty() && !kind.unconditional {
            return Err(failure::unversioned(kind, &place.1));
        }
        for fixed in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generateName",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
        ] {
            match &old["metadata"][fixed] {
                Value::Null => drop(rules::remove(meta, fixed)),
                value => meta[fixed] = value.clone(),
            }
        }
        if kind.status {
            match part {
                Part::Main => copy(&mut new, &old, "status"),
                Part::Status => copy(&mut new, &old, "spec"),
            }
            if kind.custom && part == Part::Status {
                copy(&mut new, &old, "metadata");
            }
            if kind.plural == "persistentvolumes" && new["status"]["phase"] != old["status"]["phase"] {
                new["status"]["lastPhaseTransitionTime"] = now.into();
            }
        }
        validate(kind, &new, Some(&old))?;
        if new == *old {
            // The real server writes nothing either: no revision, no event.
            return Ok(old);
        }
        if !new["metadata"]["deletionTimestamp"].is_null() && finalizers(&new) == 0 {
            self.commit(kind, place.clone(), None);
            return Ok(Arc::new(new));
        }
        Ok(self.commit(kind, place.clone(), Some(new)))
    }

    /// Gives the object as it was last, and whether it is gone.
    pub(crate) fn delete(
        &mut self,
        kind: &'static Kind,
        place: &Place,
        only: &Preconditions,
        now: &str,
    ) -> Result<(Arc<Value>, bool), Refusal> {
        let old = self.get(kind, place)?.clone();
        let meta = &old["metadata"];
        for (what, wanted, found, hint) in [
            (
                "UID",
                &only.uid,
                &meta["uid"],
                ". The object might have been deleted and then recreated",
            ),
            (
                "ResourceVersion",
                &only.revision,
                &meta["resourceVersion"],
                ". The object might have been modified",
            ),
        ] {
            let found = text(found);
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let why = format!(
                    "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}){hint}"
                );
                return Err(failure::precondition(kind, &place.1, &why));
            }
        }
        if finalizers(&old) == 0 {
            let last = self.commit(kind, place.clone(), None);
            return Ok((last, true));
        }
        if !meta["deletionTimestamp"].is_null() {
            return Ok((old, false));
        }
        let mut dying = (*old).clone();
        dying["metadata"]["deletionTimestamp"] = now.into();
        dying["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        Ok((self.commit(kind, place.clone(), Some(dying)), false))
    }

    /// Writes past all rules, as only a test and the binder may.
    pub(crate) fn force(
        &mut self,
        kind: &'static Kind,
        place: &Place,
        edit: impl FnOnce(&mut Value),
    ) -> bool {
        let Ok(old) = self.get(kind, place).cloned() else {
            return false;
        };
        let mut new = (*old).clone();
        edit(&mut new);
        if new != *old {
            let gone = !new["metadata"]["deletionTimestamp"].is_null() && finalizers(&new) == 0;
            self.commit(kind, place.clone(), (!gone).then_some(new));
        }
        true
    }

    /// Writes and remembers; a removal is reported under a revision of its own.
    fn commit(&mut self, kind: &'static Kind, place: Place, after: Option<Value>) -> Arc<Value> {
        self.revision += 1;
        let objects = self.objects.entry(kind.plural).or_default();
        let before = objects.get(&place).cloned();
        let stamped = |mut object: Value| {
            object["metadata"]["resourceVersion"] = self.revision.to_string().into();
            Arc::new(object)
        };
        let after = after.map(stamped);
        let (last, change) = match after {
            Some(after) => {
                objects.insert(place.clone(), after.clone());
                (
                    after.clone(),
                    Change {
                        revision: self.revision,
                        place,
                        before,
                        after: Some(after),
                    },
                )
            }
            None => {
                objects.remove(&place);
                let last = stamped(before.as_deref().cloned().unwrap_or(json!({"metadata": {}})));
                (
                    last.clone(),
                    Change {
                        revision: self.revision,
                        place,
                        before: Some(last),
                        after: None,
                    },
                )
            }
        };
        self.changes.entry(kind.plural).or_default().push(change);
        self.changed.send_replace(self.revision);
        last
    }

    /// Every revision so far becomes too old to list or watch from.
    pub(crate) fn expire(&mut self) {
        // A write of no kind: even a watch from the newest revision known is late.
        self.revision += 1;
        self.horizon = self.revision;
    }

    /// Wakes everybody who waits for a change, to look at something else.
    pub(crate) fn wake(&self) {
        self.changed.send_replace(self.revision);
    }

    fn has_namespace(&self, name: &str) -> bool {
        let namespaces = self.objects.get("namespaces");
        namespaces.is_some_and(|all| all.contains_key(&(String::new(), name.to_owned())))
    }

    fn uid(&mut self) -> String {
        let (a, b) = (self.rng.u64(..), self.rng.u64(..));
        let (a, b) = (format!("{a:016x}"), format!("{b:016x}"));
        format!(
            "{}-{}-4{}-8{}-{}",
            &a[..8],
            &a[8..12],
            &a[13..],
            &b[1..4],
            &b[4..]
        )
    }
}
