//! Pure. Where volumes are: Kubernetes has labels for zones and regions, and each driver has keys of its own.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{self, PersistentVolumeSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::VolumeTranslationError;
use crate::cluster::{
    node_selector::{NodeSelectorRequirement, NodeSelectorTerm},
    objects::TopologySelectorTerm,
};

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE_BETA: &str = "failure-domain.beta.kubernetes.io/zone";
const REGION_BETA: &str = "failure-domain.beta.kubernetes.io/region";
/// Between the zones of a volume that is in several, in its label.
pub(super) const SEPARATOR: &str = "__";

/// How a driver says where volumes are.
pub(super) struct Zones {
    /// Its key of zones.
    pub(super) zone: &'static str,
    pub(super) region: Region,
}

/// What is known of the region of a volume.
pub(super) enum Region {
    /// Nothing.
    Unknown,
    /// It follows from the name of the zone: how, and what such a name looks like.
    OfZone(fn(&str) -> Option<String>, &'static str),
    /// The driver says it under a key of its own.
    Key(&'static str),
}

type Labels = BTreeMap<String, String>;

/// The terms of a class with the driver's key instead of Kubernetes' labels of zones.
pub(super) fn allowed(terms: &[TopologySelectorTerm], zone: &str) -> Vec<TopologySelectorTerm> {
    let expression = |(key, values): &(String, Vec<String>)| match key.as_str() {
        ZONE | ZONE_BETA => (zone.to_owned(), values.clone()),
        _ => (key.clone(), values.clone()),
    };
    let terms = terms.iter();
    terms.map(|term| term.iter().map(expression).collect()).collect()
}

/// The labels of zone and region that a volume uses: old volumes have the beta ones.
fn names(has_term: impl Fn(&str) -> bool, labels: &Labels) -> [&'static str; 2] {
    let has_label = |label: &str| labels.contains_key(label);
    let beta_label = has_label(ZONE_BETA) && !has_label(ZONE);
    match !has_term(ZONE) && (has_term(ZONE_BETA) || beta_label) {
        true => [ZONE_BETA, REGION_BETA],
        false => [ZONE, REGION],
    }
}

/// Says where a volume is in the labels of Kubernetes.
pub(super) fn to_in_tree(
    meta: &mut ObjectMeta,
    spec: &mut PersistentVolumeSpec,
    zones: &Zones,
) -> Result<(), VolumeTranslationError> {
    let required = spec
        .node_affinity
        .as_mut()
        .and_then(|affinity| affinity.required.as_mut());
    let Some(v1::NodeSelector { node_selector_terms }) = required else {
        return Ok(());
    };
    let mut terms: Vec<_> = node_selector_terms
        .iter_mut()
        .map(|term| term.match_expressions.get_or_insert_default())
        .collect();
    let has_term = |key: &str| terms.iter().any(|term| term.iter().any(|it| it.key == key));
    let mut labels = meta.labels.take().unwrap_or_default();
    let [zone, region] = names(has_term, &labels);
    for expression in terms.iter_mut().flat_map(|term| term.iter_mut()) {
        if expression.key == zones.zone {
            zone.clone_into(&mut expression.key);
        } else if matches!(zones.region, Region::Key(key) if expression.key == key) {
            region.clone_into(&mut expression.key);
        }
    }
    if let Region::OfZone(region_of, expected) = zones.region {
        for term in terms
            .iter_mut()
            .filter(|term| term.iter().all(|it| it.key != region))
        {
            let value = region_of_term(term, zone, zones.zone, region_of, expected)?;
            term.push(v1::NodeSelectorRequirement {
                key: region.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![value]),
            });
        }
    }
    let values = |key: &str| -> BTreeSet<&str> {
        let expressions = terms.iter().flat_map(|term| term.iter());
        let of_key = expressions.filter(|it| it.key == key);
        of_key
            .flat_map(|it| it.values.iter().flatten().map(String::as_str))
            .collect()
    };
    let (in_zones, in_regions) = (values(zone), values(region));
    // A driver with a key of its own for regions reads one value from a label.
    let (zone_label, region_label) = match zones.region {
        Region::Key(_) => (first(&in_zones), first(&in_regions)),
        Region::OfZone(..) if in_regions.len() == 1 => (joined(&in_zones), first(&in_regions)),
        Region::OfZone(..) | Region::Unknown => (joined(&in_zones), None),
    };
    for (label, value) in [(zone, zone_label), (region, region_label)] {
        if let Some(value) = value {
            labels.entry(label.to_owned()).or_insert(value);
        }
    }
    meta.labels = (!labels.is_empty()).then_some(labels);
    Ok(())
}

fn first(values: &BTreeSet<&str>) -> Option<String> {
    values.first().map(ToString::to_string)
}

/// No label has more than 63 characters, and the terms say the same: what is longer is left out.
fn joined(values: &BTreeSet<&str>) -> Option<String> {
    let values: Vec<_> = values.iter().copied().collect();
    let joined = values.join(SEPARATOR);
    (!joined.is_empty() && joined.len() <= 63).then_some(joined)
}

/// The one region of the zones that a term names.
fn region_of_term(
    term: &[v1::NodeSelectorRequirement],
    zone: &str,
    csi_zone: &'static str,
    region_of: fn(&str) -> Option<String>,
    expected: &'static str,
) -> Result<String, VolumeTranslationError> {
    let zones = term.iter().filter(|it| it.key == zone);
    let zones = zones.flat_map(|it| it.values.iter().flatten());
    region_of_zones(zones.map(String::as_str), region_of, expected)?
        .ok_or(VolumeTranslationError::NoZone { zone: csi_zone })
}

/// The one region of these zones, `None` if there are none.
pub(super) fn region_of_zones<'a>(
    zones: impl Iterator<Item = &'a str>,
    region_of: fn(&str) -> Option<String>,
    expected: &'static str,
) -> Result<Option<String>, VolumeTranslationError> {
    let region = |zone: &str| {
        region_of(zone).ok_or_else(|| VolumeTranslationError::OddZone {
            zone: zone.to_owned(),
            expected,
        })
    };
    let mut regions = zones.map(region).collect::<Result<BTreeSet<_>, _>>()?;
    match regions.len() {
        0 | 1 => Ok(regions.pop_first()),
        _ => Err(VolumeTranslationError::Regions(regions.into_iter().collect())),
    }
}

/// Says where a volume is in the driver's keys.
///
/// A region that follows from the zone of its term is left out, which the way back had added: it says nothing, and no
/// driver has it.
pub(super) fn to_csi(
    terms: Option<Vec<NodeSelectorTerm>>,
    labels: &Labels,
    zones: &Zones,
) -> Option<Vec<NodeSelectorTerm>> {
    let mut terms = terms.unwrap_or_default();
    let has_term = |key: &str| terms.iter().any(|term| has(term, key));
    let [zone, region] = names(has_term, labels);
    match zones.region {
        Region::Key(key) => {
            rename(
                &mut terms,
                zone,
                zones.zone,
                labels.get(zone).map(|label| vec![&**label]),
            );
            rename(
                &mut terms,
                region,
                key,
                labels.get(region).map(|label| vec![&**label]),
            );
        }
        Region::Unknown | Region::OfZone(..) => {
            let in_label = labels.get(zone).map(|label| label.split(SEPARATOR).collect());
            rename(&mut terms, zone, zones.zone, in_label);
            rename(&mut terms, region, REGION, None);
        }
    }
    if matches!(zones.region, Region::OfZone(..)) {
        for term in terms.iter_mut().filter(|term| has(term, zones.zone)) {
            term.expressions.retain(|it| it.key != REGION);
        }
    }
    (!terms.is_empty()).then_some(terms)
}

fn has(term: &NodeSelectorTerm, key: &str) -> bool {
    term.expressions.iter().any(|it| it.key == key)
}

/// Gives the expressions about a label the driver's key; where there are none, what the volume's label says is added to
/// each term.
fn rename(terms: &mut Vec<NodeSelectorTerm>, label: &str, key: &str, in_label: Option<Vec<&str>>) {
    let expressions = || terms.iter().flat_map(|term| &term.expressions);
    if expressions().any(|it| it.key == label && !it.values.is_empty()) {
        let expressions = terms.iter_mut().flat_map(|term| &mut term.expressions);
        for expression in expressions.filter(|it| it.key == label) {
            key.clone_into(&mut expression.key);
        }
        return;
    }
    let values = in_label.unwrap_or_default().into_iter().map(str::trim);
    let values: BTreeSet<_> = values.filter(|value| !value.is_empty()).collect();
    if values.is_empty() {
        return;
    }
    if terms.is_empty() {
        terms.push(NodeSelectorTerm::default());
    }
    for term in terms {
        term.expressions.push(NodeSelectorRequirement {
            key: key.to_owned(),
            operator: "In".to_owned(),
            values: values.iter().map(ToString::to_string).collect(),
        });
    }
}

/// The zones that a volume's label names, "" without one. The beta label goes first, where it is not empty.
pub(super) fn zone_label(labels: Option<&Labels>) -> &str {
    let label = |key| {
        labels
            .and_then(|labels| labels.get(key))
            .map_or("", String::as_str)
    };
    match label(ZONE_BETA) {
        "" => label(ZONE),
        zones => zones,
    }
}
