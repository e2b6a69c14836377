//! Pure. The name of a volume, names that are joined and fit, and what Kubernetes accepts as a name.

use thiserror::Error;

use super::fnv::fnv1a;

/// How much of a claim's UID goes into the name of its volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UidLength {
    /// All of it, dashes included: 36 characters.
    #[default]
    Whole,
    /// So many hexadecimal digits from its front, dashes removed.
    Digits(u8),
}

/// The number of digits is none that tells volumes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} is no length for the UID in volume names: use 1 to 32, or -1 for the whole UID")]
pub struct UidLengthError(pub i64);

impl TryFrom<i64> for UidLength {
    type Error = UidLengthError;

    /// From the value of `--volume-name-uuid-length`. Upstream checks nothing: more than 32 is a panic at the first
    /// claim, and with 0 all volumes share one name.
    fn try_from(length: i64) -> Result<Self, UidLengthError> {
        match length {
            -1 => Ok(Self::Whole),
            1..=32 => Ok(Self::Digits(length as u8)),
            _ => Err(UidLengthError(length)),
        }
    }
}

/// Why a volume cannot be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum VolumeNameError {
    /// `--volume-name-prefix=` was given empty.
    #[error("the volume name prefix is empty: set --volume-name-prefix")]
    NoPrefix,
    /// The API server gives every claim a UID, so the claim is no real one.
    #[error("the claim has no UID to name its volume after")]
    NoUid,
}

/// Name of the volume at the driver and of the PersistentVolume, the same on every attempt for one claim.
///
/// # Errors
/// [`VolumeNameError`] when the prefix or the UID is empty.
pub fn volume_name(prefix: &str, uid: &str, length: UidLength) -> Result<String, VolumeNameError> {
    if prefix.is_empty() {
        return Err(VolumeNameError::NoPrefix);
    }
    if uid.is_empty() {
        return Err(VolumeNameError::NoUid);
    }
    Ok(match length {
        UidLength::Whole => format!("{prefix}-{uid}"),
        UidLength::Digits(digits) => {
            let uid: String = uid.chars().filter(|c| *c != '-').take(digits.into()).collect();
            format!("{prefix}-{uid}")
        }
    })
}

/// `base-suffix` if that has at most `max` characters, else as much of both as fits, with a hash of what is cut off.
///
/// The rule is upstream's, because the result is a label by which objects are found again: the suffix is kept if there
/// is room for it, else the base.
pub fn join_within(base: &str, suffix: &str, max: usize) -> String {
    /// A dash and eight digits.
    const HASH: usize = 9;
    let joined = if base.is_empty() {
        suffix.to_owned()
    } else {
        format!("{base}-{suffix}")
    };
    if joined.len() <= max {
        return joined;
    }
    let cut = |text: &str, length: usize| text.chars().take(length).collect::<String>();
    let hash = |text: &str| format!("{:08x}", fnv1a(text.as_bytes()));
    match max.saturating_sub(HASH + 1 + suffix.len()) {
        0 if base.is_empty() => cut(&hash(&joined), max),
        0 => cut(
            &format!("{}-{}", cut(base, max.saturating_sub(HASH)), hash(&joined)),
            max,
        ),
        room => format!("{}-{}-{suffix}", cut(base, room), hash(base)),
    }
}

/// Why Kubernetes would not accept a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing, or nothing between two dots.
    #[error("name {0:?} is empty or has an empty part")]
    Empty(String),
    /// Longer than the kind of name may be.
    #[error("name {name:?} has {length} characters, at most {max} are allowed")]
    TooLong {
        /// The name.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// Something else than a lower-case letter, a digit or a dash.
    #[error("name {name:?} contains {character:?}: only lower-case letters, digits and '-' are allowed")]
    Character {
        /// The name.
        name: String,
        /// The first offender.
        character: char,
    },
    /// A dash at either end of a part.
    #[error("name {0:?} must begin and end, also beside each dot, with a letter or digit")]
    Edge(String),
}

/// Checks an RFC 1123 label as Kubernetes does: what namespaces are called.
///
/// # Errors
/// [`NameError`], the first rule that is broken.
pub fn check_label(name: &str) -> Result<(), NameError> {
    check_length(name, 63)?;
    check_part(name, name)
}

/// Checks an RFC 1123 subdomain as Kubernetes does: what leases, secrets and volumes are called.
///
/// # Errors
/// [`NameError`], the first rule that is broken.
pub fn check_subdomain(name: &str) -> Result<(), NameError> {
    check_length(name, 253)?;
    name.split('.').try_for_each(|part| check_part(name, part))
}

fn check_length(name: &str, max: usize) -> Result<(), NameError> {
    match name.len() {
        length if length > max => Err(NameError::TooLong {
            name: name.to_owned(),
            length,
            max,
        }),
        _ => Ok(()),
    }
}

fn check_part(name: &str, part: &str) -> Result<(), NameError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if part.is_empty() {
        return Err(NameError::Empty(name.to_owned()));
    }
    if let Some(character) = part.chars().find(|&c| !allowed(c)) {
        return Err(NameError::Character {
            name: name.to_owned(),
            character,
        });
    }
    if part.starts_with('-') || part.ends_with('-') {
        return Err(NameError::Edge(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_named_after_its_claim() {
        const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
        for (name, prefix, uid, length, expected) in [
            (
                "whole uid",
                "pvc",
                UID,
                -1,
                Ok("pvc-01234567-89ab-cdef-0123-456789abcdef"),
            ),
            ("ten digits", "pvc", UID, 10, Ok("pvc-0123456789")),
            ("one digit", "pvc", UID, 1, Ok("pvc-0")),
            (
                "all digits",
                "vol",
                UID,
                32,
                Ok("vol-0123456789abcdef0123456789abcdef"),
            ),
            ("uid shorter than asked for", "pvc", "a-b", 10, Ok("pvc-ab")),
            ("no prefix", "", UID, -1, Err(VolumeNameError::NoPrefix)),
            ("no uid", "pvc", "", 5, Err(VolumeNameError::NoUid)),
        ] {
            let named = UidLength::try_from(length).map(|length| volume_name(prefix, uid, length));
            assert_eq!(named, Ok(expected.map(str::to_owned)), "{name}");
        }
    }

    #[test]
    fn a_joined_name_fits_and_is_the_one_that_upstream_makes() {
        const BASE: &str = "external-provisioner";
        let node = |more: usize| format!("node{}", "a".repeat(more));
        let one_over = format!("external-p-53f40b57-{}", node(39));
        let long = format!("e-53f40b57-{}", node(48));
        for (id, base, suffix, expected) in [
            (
                "name.GetNameWithMaxLength.01",
                BASE,
                "node01".to_owned(),
                "external-provisioner-node01",
            ),
            ("name.GetNameWithMaxLength.02", "", "node01".to_owned(), "node01"),
            (
                "name.GetNameWithMaxLength.03",
                BASE,
                node(38),
                &format!("external-provisioner-{}", node(38)),
            ),
            ("name.GetNameWithMaxLength.04", BASE, node(39), &one_over),
            ("name.GetNameWithMaxLength.05", BASE, node(48), &long),
            (
                "name.GetNameWithMaxLength.06",
                BASE,
                node(49),
                "external-provisioner-a3607ff1",
            ),
            (
                "name.GetNameWithMaxLength.07",
                BASE,
                node(63),
                "external-provisioner-df38e37f",
            ),
            ("name.GetNameWithMaxLength.08", "", node(63), "fa65587e"),
        ] {
            let name = join_within(base, &suffix, 63);
            assert_eq!(name, expected, "{id}");
            assert!(name.len() <= 63, "{id}");
        }
    }

    #[test]
    fn a_length_that_cannot_tell_volumes_apart_is_refused() {
        for length in [i64::MIN, -2, 0, 33, i64::MAX] {
            assert_eq!(UidLength::try_from(length), Err(UidLengthError(length)), "D-23");
        }
    }

    #[test]
    fn names_are_checked_as_the_api_server_does_and_the_reason_is_told() {
        let long = "a".repeat(64);
        let too_long = "b".repeat(254);
        for (name, label, subdomain) in [
            ("default", "ok", "ok"),
            ("0-9", "ok", "ok"),
            ("a.b-c.d", "character", "ok"),
            (long.as_str(), "too long", "ok"),
            (too_long.as_str(), "too long", "too long"),
            ("", "empty", "empty"),
            ("a..b", "character", "empty"),
            (".a", "character", "empty"),
            ("Upper", "character", "character"),
            ("under_score", "character", "character"),
            ("\u{fc}ber", "character", "character"),
            ("-a", "edge", "edge"),
            ("a-", "edge", "edge"),
            ("a-.b", "character", "edge"),
        ] {
            assert_eq!(kind(check_label(name)), label, "label {name:?}");
            assert_eq!(kind(check_subdomain(name)), subdomain, "subdomain {name:?}");
        }
    }

    fn kind(checked: Result<(), NameError>) -> &'static str {
        match checked {
            Ok(()) => "ok",
            Err(NameError::Empty(_)) => "empty",
            Err(NameError::TooLong { .. }) => "too long",
            Err(NameError::Character { .. }) => "character",
            Err(NameError::Edge(_)) => "edge",
        }
    }
}
