//! Pure. Which plugins the kubelet takes: type and versions.

use std::cmp::Ordering;

/// The one type that the double has a handler for.
const CSI: &str = "CSIPlugin";

/// A version as its numbers; zeros at the end do not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(Vec<u64>);

/// Whether there is a handler for plugins of this type.
pub(crate) fn handler(kind: &str) -> Result<(), String> {
    if kind == CSI {
        return Ok(());
    }
    Err(format!("no handler for plugins of type {kind:?}"))
}

/// The version that the driver counts with from now on.
///
/// # Errors
/// When no version has major 1, or `existing`, what a driver of the same name is registered with, is not lower.
pub(crate) fn validate(
    name: &str,
    versions: &[String],
    existing: Option<&Version>,
) -> Result<Version, String> {
    let failed = |why: &str| Err(format!("validation failed: driver {name}: {why}"));
    if versions.is_empty() {
        return failed("it names no supported version");
    }
    let known = versions.iter().filter_map(|it| parse(it));
    let Some(highest) = known.filter(|version| major(version) <= 1).max() else {
        return failed(&format!("none of the versions {versions:?} is known"));
    };
    if major(&highest) != 1 {
        return failed(&format!("the highest of the versions {versions:?} is not 1.x"));
    }
    match existing.map(|existing| existing.cmp(&highest)) {
        None | Some(Ordering::Less) => Ok(highest),
        Some(_) => failed("another driver of this name is registered with the same or a higher version"),
    }
}

fn major(version: &Version) -> u64 {
    version.0.first().copied().unwrap_or_default()
}

/// At least two numbers with dots between, maybe a `v` before and anything behind.
fn parse(text: &str) -> Option<Version> {
    let text = text.trim_start();
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if end == 0 {
            break;
        }
        if numbers.is_empty() && end > 1 && rest.starts_with('0') {
            return None;
        }
        numbers.push(rest[..end].parse().ok()?);
        let Some(next) = rest[end..].strip_prefix('.') else {
            break;
        };
        rest = next;
    }
    if numbers.len() < 2 {
        return None;
    }
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(Version(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_below_2_must_have_major_1() {
        let rows: &[(&[&str], Option<&[u64]>)] = &[
            (&["1.0.0"], Some(&[1])),
            (&["1.0"], Some(&[1])),
            (&["v1.2.3"], Some(&[1, 2, 3])),
            (&[" 1.2-alpha"], Some(&[1, 2])),
            (&["1.2."], Some(&[1, 2])),
            (&["1.0.0", "1.10.0", "1.9.0"], Some(&[1, 10])),
            (&["2.0.0", "1.1.0"], Some(&[1, 1])),
            (&["x", "1.0.0"], Some(&[1])),
            (&["0.9.0", "1.0.0"], Some(&[1])),
            (&[], None),
            (&["1"], None),
            (&["01.0"], None),
            (&["x"], None),
            (&[""], None),
            (&["2.0.0"], None),
            (&["0.9.0"], None),
            (&["0.0"], None),
            (&["0.9.0", "2.0.0"], None),
            (&["99999999999999999999.0"], None),
        ];
        for (versions, expected) in rows {
            let versions: Vec<_> = versions.iter().map(|it| (*it).to_owned()).collect();
            let found = validate("d", &versions, None).ok().map(|it| it.0);
            assert_eq!(found.as_deref(), *expected, "{versions:?}");
        }
    }

    #[test]
    fn a_second_driver_of_a_name_needs_a_higher_version() {
        for (existing, new, taken) in [
            ("1.0.0", "1.0.0", false),
            ("1.0.0", "1.0", false),
            ("1.1.0", "1.0.0", false),
            ("1.0.0", "1.0.1", true),
            ("1.9.0", "1.10.0", true),
        ] {
            let found = validate("d", &[new.to_owned()], parse(existing).as_ref());
            assert_eq!(found.is_ok(), taken, "{new} after {existing}: {found:?}");
        }
    }
}
