//! What Kubernetes' own library for the migration of in-tree plugins makes of classes and volumes that are generated
//! (tests/cluster/translation): ours is the same, but for what the rules of [`on_purpose`] say.

#[path = "translation/dice.rs"]
mod dice;

use k8s_openapi::api::core::v1::PersistentVolume;
use serde::Deserialize;
use serde_json::Value;
use volwright::cluster::{
    migration::{class_for_driver, csi_source, csi_terms, in_tree_form, in_tree_name},
    node_selector::{NodeSelectorTerm, terms_of},
    objects::{Class, TopologySelectorTerm},
};

use self::dice::{Dice, KEYS};
use crate::program::answers;

const CASES: usize = 6000;
const DRIVERS: [&str; 7] = [
    "ebs.csi.aws.com",
    "pd.csi.storage.gke.io",
    "cinder.csi.openstack.org",
    "disk.csi.azure.com",
    "file.csi.azure.com",
    "csi.vsphere.vmware.com",
    "pxd.portworx.com",
];
#[derive(Debug, Deserialize)]
struct Answer {
    class: Option<Value>,
    volume: Option<PersistentVolume>,
    error: Option<String>,
}

pub(crate) fn is_the_same() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut dice = Dice::new(seed);
    let cases: Vec<_> = (0..CASES).map(|_| dice.case()).collect();
    let mut translated = [0; 3];
    for (case, theirs) in cases.iter().zip(answers::<_, Answer>("translation", &cases)) {
        let (kind, same) = match case.as_object().unwrap().iter().next().unwrap() {
            (kind, class) if kind == "class" => (0, compare_class(class, &theirs)),
            (kind, volume) if kind == "csi" => (1, compare_in_tree(volume, &theirs)),
            (_, volume) => (2, compare_csi(volume, &theirs)),
        };
        translated[kind] += usize::from(theirs.error.is_none());
        if let Err(ours) = same {
            panic!("SEED={seed}\n{case:#}\nours: {ours}\ntheirs: {theirs:#?}");
        }
    }
    let enough = CASES / 3 / 4;
    assert!(translated.iter().all(|count| *count > enough), "{translated:?}");
}

fn same<T: PartialEq + std::fmt::Debug>(ours: &T, theirs: &T) -> Result<(), String> {
    match ours == theirs {
        true => Ok(()),
        false => Err(format!("{ours:#?}")),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn map(value: &Value) -> std::collections::BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), text(value))).collect()
}

fn topologies(terms: &Value) -> Vec<TopologySelectorTerm> {
    let expression = |it: &Value| {
        let values = it["values"].as_array().into_iter().flatten().map(text);
        (text(&it["key"]), values.collect())
    };
    let term = |term: &Value| {
        let expressions = term["matchLabelExpressions"].as_array().into_iter().flatten();
        expressions.map(expression).collect()
    };
    terms.as_array().into_iter().flatten().map(term).collect()
}

fn driver_of(plugin: &str) -> &'static str {
    let drivers = DRIVERS.into_iter();
    let mut drivers = drivers.filter(|driver| in_tree_name(driver) == Some(plugin));
    drivers.next().unwrap()
}

/// The library gives one of the seven another provisioner, which nothing depends on.
fn compare_class(class: &Value, theirs: &Answer) -> Result<(), String> {
    let class = Class {
        provisioner: text(&class["provisioner"]),
        parameters: map(&class["parameters"]),
        allowed_topologies: topologies(&class["allowedTopologies"]),
        ..Class::default()
    };
    match (
        class_for_driver(&class, driver_of(&class.provisioner)),
        &theirs.class,
    ) {
        (Ok(ours), Some(theirs)) => {
            let theirs = (
                map(&theirs["parameters"]),
                topologies(&theirs["allowedTopologies"]),
            );
            same(
                &(ours.parameters.clone(), ours.allowed_topologies.clone()),
                &theirs,
            )
        }
        (Err(_), None) => Ok(()),
        (ours, _) => Err(format!("{ours:?}")),
    }
}

fn compare_in_tree(volume: &Value, theirs: &Answer) -> Result<(), String> {
    let volume: PersistentVolume = serde_json::from_value(volume.clone()).unwrap();
    match (in_tree_form(&volume), &theirs.volume) {
        (Ok(Some(ours)), Some(theirs)) if !on_purpose(theirs) => {
            let mut theirs = theirs.clone();
            // Go writes an empty status.
            theirs.status = None;
            // No label has more characters: the API server refuses it.
            let labels = theirs.metadata.labels.as_mut();
            if let Some(labels) = labels {
                labels.retain(|_, value| value.len() <= 63);
            }
            theirs.metadata.labels = theirs.metadata.labels.filter(|labels| !labels.is_empty());
            same(&ours, &theirs)
        }
        (Err(_), Some(theirs)) if on_purpose(theirs) => Ok(()),
        (Err(_), None) => Ok(()),
        (ours, _) => Err(format!("{ours:#?}")),
    }
}

/// The library writes what the API server refuses, or what it could not read itself: ours says so before.
fn on_purpose(theirs: &PersistentVolume) -> bool {
    let spec = theirs.spec.as_ref().unwrap();
    let odd_partition = |partition: Option<i32>| !(0..256).contains(&partition.unwrap_or_default());
    let ebs = spec.aws_elastic_block_store.as_ref();
    let gce = spec.gce_persistent_disk.as_ref();
    let disk = spec.azure_disk.as_ref();
    let file = spec.azure_file.as_ref();
    let modes = ["None", "ReadOnly", "ReadWrite"];
    matches!(csi_source(theirs), Some(Err(_)))
        || ebs.is_some_and(|ebs| odd_partition(ebs.partition))
        || gce.is_some_and(|gce| odd_partition(gce.partition) || gce.pd_name.is_empty())
        || disk.is_some_and(|disk| {
            let mode = disk.caching_mode.as_deref();
            !disk.disk_uri.starts_with("/subscriptions/") || mode.is_some_and(|mode| !modes.contains(&mode))
        })
        || file.is_some_and(|file| file.share_name.is_empty() || file.secret_namespace.as_deref() == Some(""))
        || spec
            .vsphere_volume
            .as_ref()
            .is_some_and(|volume| volume.volume_path.is_empty())
}

fn compare_csi(volume: &Value, theirs: &Answer) -> Result<(), String> {
    let volume: PersistentVolume = serde_json::from_value(volume.clone()).unwrap();
    let ours = csi_source(&volume).expect("a source of a plugin");
    let (source, theirs) = match (ours, &theirs.volume) {
        (Ok(source), Some(theirs)) => (source, theirs),
        (Err(_), None) => return Ok(()),
        (ours, _) => return Err(format!("{ours:?}")),
    };
    let csi = theirs.spec.as_ref().unwrap().csi.as_ref().unwrap();
    same(
        &(&source.driver, &source.handle),
        &(&csi.driver, &csi.volume_handle),
    )?;
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    let terms = csi_terms(&source.driver, &labels, terms_of(&volume));
    same(
        &terms.unwrap_or_default(),
        &without_regions(&source.driver, terms_of(theirs).unwrap_or_default()),
    )
}

/// Ours leaves out the region that follows from the zone beside it.
fn without_regions(driver: &str, mut terms: Vec<NodeSelectorTerm>) -> Vec<NodeSelectorTerm> {
    let Some(at) = DRIVERS[..2].iter().position(|it| *it == driver) else {
        return terms;
    };
    for term in &mut terms {
        if term.expressions.iter().any(|it| it.key == KEYS[at]) {
            term.expressions.retain(|it| it.key != KEYS[7]);
        }
    }
    terms
}
