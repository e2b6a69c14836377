//! CSIStorageCapacity: its rules, and quantities as the server spells them.

use serde_json::Value;

use super::{
    failure::Cause,
    rules::{is_subdomain, remove, text},
    topology::{check_expressions, check_labels},
};

const QUANTITIES: [&str; 2] = ["capacity", "maximumVolumeSize"];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

pub(super) fn check(object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let class = text(&object["storageClassName"]);
    if !is_subdomain(class) {
        let why = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters";
        causes.push(Cause::invalid("storageClassName", &format!("{class:?}"), why));
    }
    let segment = &object["nodeTopology"];
    causes.extend(check_labels("nodeTopology.matchLabels", &segment["matchLabels"]));
    let expressions = &segment["matchExpressions"];
    causes.extend(check_expressions("nodeTopology.matchExpressions", expressions));
    // The server does not look at maximumVolumeSize.
    let size = text(&object["capacity"]);
    if size.starts_with('-') {
        let why = "must be greater than or equal to 0";
        causes.push(Cause::invalid("capacity", &format!("{size:?}"), why));
    }
    for field in ["nodeTopology", "storageClassName"] {
        if old.is_some_and(|old| old[field] != object[field]) {
            let value = object[field].to_string();
            causes.push(Cause::invalid(field, &value, "field is immutable"));
        }
    }
    causes
}

/// What the server makes of it when it decodes and encodes: quantities have one spelling, empty labels are left out.
pub(super) fn canonical(mut object: Value) -> Value {
    for field in QUANTITIES {
        if let Some(spelled) = respelled(text(&object[field])) {
            object[field] = spelled.into();
        }
    }
    let topology = &mut object["nodeTopology"];
    if topology["matchLabels"]
        .as_object()
        .is_some_and(|labels| labels.is_empty())
    {
        remove(topology, "matchLabels");
    }
    if topology.is_null() {
        remove(&mut object, "nodeTopology");
    }
    object
}

/// The shortest spelling of a whole number in the family of its suffix; `None` for other quantities, which stay as
/// they are.
fn respelled(quantity: &str) -> Option<String> {
    let (family, base, number) = parse(quantity)?;
    if quantity.starts_with('0') && number != 0 {
        return None;
    }
    // Less than one Ki is written in decimals.
    let (family, base) = if number.abs() < 1024 {
        (DECIMAL, 1000)
    } else {
        (family, base)
    };
    let (mut left, mut power) = (number, 0);
    while left != 0 && left % base == 0 && power < 6 {
        (left, power) = (left / base, power + 1);
    }
    Some(format!("{left}{}", family[power]))
}

/// A quantity without a fraction, in bytes.
pub(crate) fn bytes(quantity: &str) -> Option<i128> {
    parse(quantity).map(|(.., number)| number)
}

/// The suffixes that a quantity may have instead of its own, their base, and its number, at most 2⁶³−1.
fn parse(quantity: &str) -> Option<([&'static str; 7], i128, i128)> {
    let digits = quantity.trim_start_matches('-');
    let suffix = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: i128 = quantity.strip_suffix(suffix)?.parse().ok()?;
    let find = |family: [&str; 7]| family.iter().position(|one| *one == suffix);
    let (family, base, power) = match (find(DECIMAL), find(BINARY)) {
        (Some(power), _) => (DECIMAL, 1000_i128, power),
        (_, Some(power)) => (BINARY, 1024, power),
        _ => return None,
    };
    let number = number.saturating_mul(base.pow(u32::try_from(power).ok()?));
    let most = i128::from(i64::MAX);
    Some((family, base, number.clamp(-most, most)))
}
