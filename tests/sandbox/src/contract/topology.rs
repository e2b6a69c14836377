//! Validation of what topology is made of: labels, CSINode, node affinity, allowed topologies, segments.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, same},
    samples::{capacity, volume},
};
use crate::{Kind, PatchKind};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a label of a node has a qualified key and a plain value", labels),
        Case::new(
            "the affinity of a volume has terms, and values where it needs them",
            affinity,
        ),
        Case::new("the affinity of a volume can be set once", affinity_once),
        Case::new("allowed topologies say each thing once", allowed),
        Case::new("the drivers of a node are named once, with their keys", drivers),
        Case::new("a driver on a node is immutable, and can go", drivers_fixed),
        Case::new("the segment of a capacity is a selector", segment),
    ]
}

fn kind(plural: &str) -> Result<&'static Kind, String> {
    Kind::named(plural).ok_or_else(|| format!("no kind {plural}"))
}

/// Posts what is refused with this text, or made where there is none.
async fn post(probe: &Probe, plural: &str, object: Value, refused: &str) -> CaseResult {
    if refused.is_empty() {
        return probe.make(kind(plural)?, object).await.map(drop);
    }
    let answer = probe
        .post(&kind(plural)?.path(probe.namespace(), ""), object.clone())
        .await;
    answer
        .refused(422, "Invalid", refused)
        .map(drop)
        .map_err(|why| format!("{object}: {why}"))
}

async fn labels(probe: Probe) -> CaseResult {
    for (labels, refused) in [
        (json!({"zone": "", "topology.example.com/zone": "A_b-c.1"}), ""),
        (
            json!({"zone": "bad value!"}),
            "metadata.labels: Invalid value: \"bad value!\": a valid label must be",
        ),
        (
            json!({"zone": "a/b"}),
            "metadata.labels: Invalid value: \"a/b\": a valid label must be",
        ),
        (
            json!({"zone": "n".repeat(64)}),
            "metadata.labels: Invalid value: ",
        ),
        (
            json!({"-zone": "a"}),
            "metadata.labels: Invalid value: \"-zone\": name part must consist",
        ),
    ] {
        let node = json!({"metadata": {"name": probe.name(), "labels": labels}});
        post(&probe, "nodes", node, refused).await?;
    }
    Ok(())
}

fn terms(expressions: Value) -> Value {
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}})
}

fn within(key: &str, values: &[&str]) -> Value {
    json!({"key": key, "operator": "In", "values": values})
}

async fn affinity(probe: Probe) -> CaseResult {
    let at = "spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0]";
    for (affinity, refused) in [
        (terms(json!([within("zone", &["a", "a"]), within("zone", &["b"])])), String::new()),
        (terms(json!([within("zone", &[""])])), String::new()),
        (terms(json!([])), String::new()),
        (json!({}), "spec.nodeAffinity.required: Required value: must specify required node constraints".into()),
        (
            json!({"required": {"nodeSelectorTerms": []}}),
            "spec.nodeAffinity.required.nodeSelectorTerms: Required value: must have at least one node selector term"
                .into(),
        ),
        (
            terms(json!([within("zone", &[])])),
            format!("{at}.values: Required value: must be specified when `operator` is 'In' or 'NotIn'"),
        ),
        (
            terms(json!([within("zone", &["bad value!"])])),
            format!("{at}.values[0]: Invalid value: \"bad value!\": a valid label must be"),
        ),
        (
            terms(json!([within("-zone", &["a"])])),
            format!("{at}.key: Invalid value: \"-zone\": name part must consist"),
        ),
        (terms(json!([within("", &["a"])])), format!("{at}.key: Invalid value: \"\": ")),
        (
            terms(json!([{"key": "zone", "operator": "Is", "values": ["a"]}])),
            format!("{at}.operator: Invalid value: \"Is\": not a valid selector operator"),
        ),
        (
            terms(json!([{"key": "zone", "operator": "Exists", "values": ["a"]}])),
            format!("{at}.values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"),
        ),
    ] {
        let mut object = volume(&probe.name());
        object["spec"]["nodeAffinity"] = affinity;
        post(&probe, "persistentvolumes", object, &refused).await?;
    }
    Ok(())
}

async fn affinity_once(probe: Probe) -> CaseResult {
    let (_, path) = probe
        .make(kind("persistentvolumes")?, volume(&probe.name()))
        .await?;
    let set = |affinity: Value| json!({"spec": {"nodeAffinity": affinity}});
    let first = set(terms(json!([within("zone", &["a"])])));
    probe.patch(&path, PatchKind::Merge, first).await.is(200)?;
    for other in [terms(json!([within("zone", &["b"])])), Value::Null] {
        let refused = probe.patch(&path, PatchKind::Merge, set(other)).await;
        refused.refused(
            422,
            "Invalid",
            "field is immutable, except for updating from beta label to GA",
        )?;
    }
    Ok(())
}

async fn allowed(probe: Probe) -> CaseResult {
    let term = |expressions: Value| json!({"matchLabelExpressions": expressions});
    let zone = |values: &[&str]| json!({"key": "zone", "values": values});
    let at = "allowedTopologies[0].matchLabelExpressions";
    for (topologies, refused) in [
        (json!([]), String::new()),
        (json!([term(json!([zone(&["a", ""])]))]), String::new()),
        (json!([{}]), format!("{at}: Duplicate value: \"\"")),
        (
            json!([term(json!([zone(&[])]))]),
            format!("{at}[0].values: Required value"),
        ),
        (
            json!([term(json!([zone(&["a", "a"])]))]),
            format!("{at}[0].values[1]: Duplicate value: \"a\""),
        ),
        (
            json!([term(json!([zone(&["a"]), zone(&["b"])]))]),
            format!("{at}[1].key: Duplicate value: \"zone\""),
        ),
        (
            json!([term(json!([{"key": "-z", "values": ["a"]}]))]),
            format!("{at}[0].key: Invalid value: \"-z\": name part must consist"),
        ),
        (
            json!([term(json!([zone(&["a"])])), term(json!([zone(&["a"])]))]),
            "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"".into(),
        ),
    ] {
        let class = json!({
            "metadata": {"name": probe.name()}, "provisioner": "contract.example.com", "allowedTopologies": topologies,
        });
        post(&probe, "storageclasses", class, &refused).await?;
    }
    let class = json!({"metadata": {"name": probe.name()}, "provisioner": "contract.example.com"});
    let (_, path) = probe.make(kind("storageclasses")?, class).await?;
    let changed = json!({"allowedTopologies": [term(json!([zone(&["a"])]))]});
    probe.patch(&path, PatchKind::Merge, changed).await.is(200)?;
    Ok(())
}

fn node(name: &str, drivers: &Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"drivers": drivers}})
}

async fn drivers(probe: Probe) -> CaseResult {
    let with = |keys: Value| json!([{"name": "contract.example.com", "nodeID": "n", "topologyKeys": keys}]);
    for (drivers, refused) in [
        (
            with(json!(["zone", "zone"])),
            "spec.drivers[0]: Duplicate value: \"zone\"",
        ),
        (with(json!([""])), "spec.drivers[0]: Required value"),
        (
            with(json!(["-a"])),
            "spec.drivers[0]: Invalid value: \"-a\": name part must consist",
        ),
        (
            json!([{"name": "contract.example.com", "nodeID": ""}]),
            "spec.drivers[0].nodeID: Required value",
        ),
        (
            json!([{"name": "contract.example.com", "nodeID": "n"}, {"name": "contract.example.com", "nodeID": "m"}]),
            "spec.drivers[1].name: Duplicate value: \"contract.example.com\"",
        ),
    ] {
        post(&probe, "csinodes", node(&probe.name(), &drivers), refused).await?;
    }
    let none = json!([{"name": "contract.example.com", "nodeID": "n"}]);
    for drivers in [none, with(json!([]))] {
        let (made, _) = probe
            .make(kind("csinodes")?, node(&probe.name(), &drivers))
            .await?;
        let driver = made["spec"]["drivers"][0].as_object();
        let keys = driver.and_then(|driver| driver.get("topologyKeys"));
        same("no keys are null", &json!(keys), json!(Some(Value::Null)))?;
    }
    let (made, _) = probe
        .make(kind("csinodes")?, node(&probe.name(), &json!([])))
        .await?;
    same("no drivers are null", &made["spec"], json!({"drivers": null}))
}

async fn drivers_fixed(probe: Probe) -> CaseResult {
    let with =
        |id: &str, key: &str| json!([{"name": "contract.example.com", "nodeID": id, "topologyKeys": [key]}]);
    let (_, path) = probe
        .make(kind("csinodes")?, node(&probe.name(), &with("n", "zone")))
        .await?;
    let set = async |drivers: Value| {
        let patch = json!({"spec": {"drivers": drivers}});
        probe.patch(&path, PatchKind::Merge, patch).await
    };
    for other in [with("n", "rack"), with("m", "zone")] {
        set(other)
            .await
            .refused(422, "Invalid", "spec.drivers: Invalid value: ")?;
    }
    set(json!([])).await.is(200)?;
    set(with("n", "rack")).await.is(200)?;
    Ok(())
}

async fn segment(probe: Probe) -> CaseResult {
    for (segment, refused) in [
        (json!({"matchLabels": {"zone": ""}}), ""),
        (
            json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}),
            "",
        ),
        (
            json!({"matchLabels": {"zone": "bad value!"}}),
            "nodeTopology.matchLabels: Invalid value: \"bad value!\": a valid label must be",
        ),
        (
            json!({"matchLabels": {"-zone": "a"}}),
            "nodeTopology.matchLabels: Invalid value: \"-zone\": name part must consist",
        ),
        (
            json!({"matchExpressions": [{"key": "zone", "operator": "In"}]}),
            "nodeTopology.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or",
        ),
    ] {
        let mut object = capacity(&probe.name());
        object["nodeTopology"] = segment;
        post(&probe, "csistoragecapacities", object, refused).await?;
    }
    Ok(())
}
