//! What a replica concludes from the object that its cache shows.

use super::world::{Broken, Replica, Rules};
use crate::provision::settle::SeenObject;

impl Replica {
    /// The object of its record was seen.
    pub(super) fn is_saved(&self, rules: Rules) -> bool {
        let asked = self.record.is_some_and(|open| open.asked);
        self.record.is_some() && self.seen_object(rules).closes(asked)
    }

    /// What was seen of the object of its record.
    pub(super) fn seen_object(&self, rules: Rules) -> SeenObject {
        let created = self.record.and_then(|open| open.created);
        match (self.sees_object, created) {
            (None, _) => SeenObject::Absent,
            (Some(_), _) if rules.broken == Some(Broken::ClosedByName) => SeenObject::Same,
            (Some(_), None) => SeenObject::Unproven,
            (Some(object), Some(handle)) if object.handle == handle => SeenObject::Same,
            (Some(_), Some(_)) => SeenObject::Other,
        }
    }

    /// The object stands.
    pub(super) fn close(&mut self) {
        self.saved = true;
        self.erasing |= self.record.take().is_some();
    }
}
