//! Pure. A part of the cluster, as topology keys and their values (CSI: the `segments` of a `Topology`).

use std::{cmp::Ordering, collections::BTreeMap, fmt, sync::Arc};

/// Topology keys and their values, for instance `zone=a,rack=7`. Empty: the whole cluster. A clone costs nothing: with a
/// driver that tells its nodes apart there are as many as nodes.
///
/// The order is the one in which upstream sends terms: those with fewer keys first, then by keys and values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Segment(Arc<[(Box<str>, Box<str>)]>);

impl Segment {
    /// By key, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.binary_search_by(|(known, _)| (**known).cmp(key));
        found.ok().map(|at| &*self.0[at].1)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No key at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether everything of this segment also holds in the other: it is the same part of the cluster, or a larger one
    /// that contains it.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.iter().all(|(key, value)| other.get(key) == Some(value))
    }

    /// The segment with these keys only, `None` if it lacks one.
    pub fn with_keys<'k>(&self, keys: impl IntoIterator<Item = &'k String>) -> Option<Self> {
        let pair = |key: &'k String| self.get(key).map(|value| (key.as_str(), value));
        let pairs: Vec<_> = keys.into_iter().map(pair).collect::<Option<_>>()?;
        match pairs.len() == self.len() {
            true => Some(self.clone()),
            false => Some(pairs.into_iter().collect()),
        }
    }

    /// The segment with those keys only that fulfil the predicate.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        if !self.iter().all(|(key, _)| keep(key)) {
            *self = self.iter().filter(|(key, _)| keep(key)).collect();
        }
    }
}

impl From<BTreeMap<String, String>> for Segment {
    fn from(segments: BTreeMap<String, String>) -> Self {
        let pairs = segments.into_iter();
        Self(pairs.map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl From<Segment> for BTreeMap<String, String> {
    fn from(segment: Segment) -> Self {
        let pairs = segment.iter();
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Segment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter().map(|(key, value)| (key.into(), value.into()));
        pairs.collect::<BTreeMap<String, String>>().into()
    }
}

impl Ord for Segment {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.len(), &self.0).cmp(&(other.len(), &other.0))
    }
}

impl PartialOrd for Segment {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(pairs: &[(&str, &str)]) -> Segment {
        pairs.iter().copied().collect()
    }

    #[test]
    fn fewer_keys_come_first_then_keys_and_values_decide() {
        let sorted = [
            segment(&[]),
            segment(&[("b", "1")]),
            segment(&[("b", "2")]),
            segment(&[("a", "1"), ("b", "1")]),
            segment(&[("a", "1"), ("c", "0")]),
            segment(&[("a", "2"), ("b", "0")]),
        ];
        assert!(sorted.is_sorted());
        assert_eq!(sorted[5].to_string(), "a=2,b=0");
    }

    #[test]
    fn a_subset_is_the_same_part_or_a_larger_one() {
        let rack = segment(&[("rack", "7"), ("zone", "a")]);
        assert!(segment(&[("zone", "a")]).is_subset_of(&rack) && rack.is_subset_of(&rack));
        assert!(segment(&[]).is_subset_of(&rack));
        assert!(!segment(&[("zone", "b")]).is_subset_of(&rack));
        assert!(!rack.is_subset_of(&segment(&[("zone", "a")])));
    }

    #[test]
    fn a_segment_lacks_a_key_or_has_it() {
        let rack = segment(&[("rack", "7"), ("zone", "a")]);
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        assert_eq!(rack.with_keys(&keys(&["zone"])), Some(segment(&[("zone", "a")])));
        assert_eq!(rack.with_keys(&keys(&["zone", "region"])), None);
        assert_eq!(rack.with_keys(&[]), Some(Segment::default()));
    }
}
