//! Pure. Which nodes a volume can be reached from: node selectors, as the API server defines them.

use k8s_openapi::api::core::v1;

use crate::base::segment::Segment;

/// One term of a node selector: all of these must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSelectorTerm {
    /// `matchExpressions`: about labels.
    pub expressions: Vec<NodeSelectorRequirement>,
    /// `matchFields`: about `metadata.name`, the only field there is.
    pub fields: Vec<NodeSelectorRequirement>,
}

/// What a label or field of a node has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSelectorRequirement {
    /// The label or field.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
    pub operator: String,
    /// What the operator compares with.
    pub values: Vec<String>,
}

/// From where a volume can be reached that was made just now: the terms of its node affinity, `None` if it has none.
pub fn terms_of(volume: &v1::PersistentVolume) -> Option<Vec<NodeSelectorTerm>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required.as_ref()?;
    Some(required.node_selector_terms.iter().map(Into::into).collect())
}

/// Why a term of a volume's node affinity is no segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermError {
    /// It has `matchFields`.
    #[error("it has matchFields")]
    Fields,
    /// An operator that is not `In`.
    #[error("operator {operator} of key {key} is not In")]
    Operator {
        /// The label.
        key: String,
        /// The operator.
        operator: String,
    },
    /// None or several values.
    #[error("key {key} has {count} values instead of one")]
    Values {
        /// The label.
        key: String,
        /// How many values.
        count: usize,
    },
}

impl From<&v1::NodeSelectorTerm> for NodeSelectorTerm {
    fn from(term: &v1::NodeSelectorTerm) -> Self {
        let requirement = |it: &v1::NodeSelectorRequirement| NodeSelectorRequirement {
            key: it.key.clone(),
            operator: it.operator.clone(),
            values: it.values.clone().unwrap_or_default(),
        };
        let all = |list: &Option<Vec<_>>| list.iter().flatten().map(requirement).collect();
        Self {
            expressions: all(&term.match_expressions),
            fields: all(&term.match_fields),
        }
    }
}

impl NodeSelectorTerm {
    /// Whether the term selects the node of this name whose labels are `segment`. A term without a requirement selects
    /// no node.
    pub fn selects(&self, node: &str, segment: &Segment) -> bool {
        let name = |field: &str| (field == "metadata.name").then_some(node);
        let is_empty = self.expressions.is_empty() && self.fields.is_empty();
        !is_empty
            && self.expressions.iter().all(|it| it.holds(segment.get(&it.key)))
            && self.fields.iter().all(|it| it.holds(name(&it.key)))
    }

    /// The segment that the term stands for: the sidecar writes each key with one value.
    ///
    /// # Errors
    /// [`TermError`]: somebody else has written it.
    pub fn segment(&self) -> Result<Segment, TermError> {
        if !self.fields.is_empty() {
            return Err(TermError::Fields);
        }
        let pair = |expression: &NodeSelectorRequirement| {
            let key = expression.key.clone();
            if expression.operator != "In" {
                let operator = expression.operator.clone();
                return Err(TermError::Operator { key, operator });
            }
            match expression.values.as_slice() {
                [value] => Ok((key, value.clone())),
                values => Err(TermError::Values {
                    key,
                    count: values.len(),
                }),
            }
        };
        self.expressions.iter().map(pair).collect()
    }
}

impl NodeSelectorRequirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value| self.values.iter().any(|listed| listed == value);
        let compare = |holds: fn(&i64, &i64) -> bool| {
            let wanted = self.values.first().and_then(|wanted| wanted.parse().ok());
            let value = value.and_then(|value| value.parse().ok());
            value
                .zip(wanted)
                .is_some_and(|(value, wanted)| holds(&value, &wanted))
        };
        match self.operator.as_str() {
            "In" => value.is_some_and(listed),
            "NotIn" => !value.is_some_and(listed),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compare(i64::gt),
            "Lt" => compare(i64::lt),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> NodeSelectorRequirement {
        NodeSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: values.iter().map(|value| (*value).into()).collect(),
        }
    }

    #[test]
    fn a_requirement_holds_as_the_api_defines_its_operator() {
        let cases = [
            ("In", &["a", "b"][..], Some("a"), true),
            ("In", &["a", "b"], Some("c"), false),
            ("In", &["a"], None, false),
            ("NotIn", &["a"], Some("a"), false),
            ("NotIn", &["a"], Some("b"), true),
            ("NotIn", &["a"], None, true),
            ("Exists", &[], Some(""), true),
            ("Exists", &[], None, false),
            ("DoesNotExist", &[], Some("a"), false),
            ("DoesNotExist", &[], None, true),
            ("Gt", &["3"], Some("4"), true),
            ("Gt", &["4"], Some("4"), false),
            ("Lt", &["4"], Some("3"), true),
            ("Lt", &["x"], Some("3"), false),
            ("Gt", &[], Some("3"), false),
            ("Near", &["3"], Some("3"), false),
        ];
        for (operator, values, value, expected) in cases {
            let holds = requirement("key", operator, values).holds(value);
            assert_eq!(holds, expected, "{value:?} {operator} {values:?}");
        }
    }

    #[test]
    fn a_term_selects_by_labels_and_by_name() {
        let here: Segment = [("zone", "a"), ("rack", "7")].into_iter().collect();
        let term = |expressions, fields| NodeSelectorTerm { expressions, fields };
        let zone = requirement("zone", "In", &["a"]);
        let name = |name| requirement("metadata.name", "In", &[name]);
        let cases = [
            (
                "all hold",
                term(vec![zone.clone(), requirement("rack", "Exists", &[])], vec![]),
                true,
            ),
            (
                "one fails",
                term(vec![zone.clone(), requirement("rack", "In", &["8"])], vec![]),
                false,
            ),
            ("the name", term(vec![zone.clone()], vec![name("node-1")]), true),
            (
                "another name",
                term(vec![zone.clone()], vec![name("node-2")]),
                false,
            ),
            ("nothing", term(vec![], vec![]), false),
        ];
        for (what, term, expected) in cases {
            assert_eq!(term.selects("node-1", &here), expected, "{what}");
        }
    }
}
