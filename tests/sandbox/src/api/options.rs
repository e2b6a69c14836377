//! Reads the query of a list or a watch: pages, revisions, selectors.

use super::{
    failure::{self, Refusal},
    route::Verb,
};

/// The query parameters of lists and watches.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) limit: usize,
    pub(crate) resume: Option<String>,
    pub(crate) revision: Option<u64>,
    pub(crate) exactly: bool,
    pub(crate) initial_events: bool,
    pub(crate) bookmarks: bool,
    pub(crate) timeout: Option<u64>,
    pub(crate) labels: Vec<Label>,
    pub(crate) fields: Vec<(String, String)>,
}

/// One clause of a label selector.
pub(crate) enum Label {
    Is(String, String),
    Not(String, String),
    Has(String),
}

impl Options {
    pub(crate) fn select(&self, object: &serde_json::Value) -> bool {
        let meta = &object["metadata"];
        let fields = self.fields.iter().all(|(path, value)| match path.as_str() {
            "metadata.name" => meta["name"] == **value,
            _ => meta["namespace"] == **value,
        });
        fields
            && self.labels.iter().all(|label| match label {
                Label::Is(key, value) => meta["labels"][key] == **value,
                Label::Not(key, value) => meta["labels"][key] != **value,
                Label::Has(key) => !meta["labels"][key].is_null(),
            })
    }
}

/// A boolean parameter.
pub(super) fn flag(key: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(failure::not_served(&format!("the parameter {key}={value}"))),
    }
}

/// Reads the parameters of a list or a watch.
pub(super) fn options(pairs: &[(String, String)], verb: Verb) -> Result<Options, Refusal> {
    let mut options = Options::default();
    let mut matching = "";
    for (key, value) in pairs {
        match key.as_str() {
            "limit" => {
                let number = value.parse().map_err(|_| {
                    failure::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
                })?;
                options.limit = number;
            }
            "continue" if !value.is_empty() => options.resume = Some(value.clone()),
            "resourceVersion" if !value.is_empty() => {
                let number = value.parse().map_err(|_| bad_revision(value, verb))?;
                options.revision = Some(number);
            }
            "resourceVersionMatch" => matching = value,
            "sendInitialEvents" => options.initial_events = flag(key, value)?,
            "allowWatchBookmarks" => options.bookmarks = flag(key, value)?,
            "timeoutSeconds" => options.timeout = value.parse().ok(),
            "labelSelector" => options.labels = labels(value)?,
            "fieldSelector" => options.fields = fields(value)?,
            // `watch`, and parameters left empty; `is_served` has refused the rest.
            _ => {}
        }
    }
    options.exactly = matching == "Exact";
    if verb == Verb::Watch {
        if options.initial_events && matching != "NotOlderThan" {
            return Err(failure::bad_options(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        if !options.initial_events && !matching.is_empty() {
            return Err(failure::bad_options(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    }
    Ok(options)
}

fn bad_revision(value: &str, verb: Verb) -> Refusal {
    let text = format!(
        "resourceVersion: Invalid value: {value:?}: strconv.ParseUint: parsing {value:?}: invalid syntax"
    );
    match verb {
        Verb::Watch => failure::bare(500, "", text),
        _ => failure::bad_request(format!("invalid resource version: {text}")),
    }
}

fn labels(selector: &str) -> Result<Vec<Label>, Refusal> {
    let clauses = selector
        .split(',')
        .map(str::trim)
        .filter(|clause| !clause.is_empty());
    clauses
        .map(|clause| {
            if clause.contains([' ', '(', '!', '<', '>']) && !clause.contains("!=") {
                return Err(failure::not_served(&format!("the label selector {clause:?}")));
            }
            Ok(match clause.split_once("!=") {
                Some((key, value)) => Label::Not(key.into(), value.into()),
                None => match clause.split_once('=') {
                    Some((key, value)) => Label::Is(key.into(), value.trim_start_matches('=').into()),
                    None => Label::Has(clause.into()),
                },
            })
        })
        .collect()
}

/// Fields that the real server selects some resources by: events, secrets, namespaces, nodes and pods.
const FIELDS_OF_SOME: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "spec.hostNetwork",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.unschedulable",
    "status.nominatedNodeName",
    "status.phase",
    "status.podIP",
    "type",
];

fn fields(selector: &str) -> Result<Vec<(String, String)>, Refusal> {
    let clauses = selector.split(',').filter(|clause| !clause.is_empty());
    clauses
        .map(|clause| match clause.split_once('=') {
            Some((field @ ("metadata.name" | "metadata.namespace"), value)) => {
                Ok((field.to_owned(), value.trim_start_matches('=').to_owned()))
            }
            Some((field, _)) if !field.ends_with('!') && !FIELDS_OF_SOME.contains(&field) => {
                Err(failure::bad_request(format!(
                    "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )))
            }
            _ => Err(failure::not_served(&format!("the field selector {clause:?}"))),
        })
        .collect()
}
