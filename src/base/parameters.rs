//! Pure. The parameters of a class: which of them the driver gets, and which are meant for the sidecars.

use std::collections::BTreeMap;

use super::secrets::{PREFIX, is_secret_key};

/// Why the parameters of a class cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The file system type is given more than once.
    #[error("parameters {0} and {1} both give the file system type: remove one")]
    FsTypeTwice(String, String),
    /// A key under the reserved prefix that nobody knows.
    #[error("parameter {0} is unknown: keys under {PREFIX} are reserved, remove it or correct its name")]
    Unknown(String),
}

const FS_TYPE: &str = "fstype";

/// The file system type: `csi.storage.k8s.io/fstype`, or the deprecated `fstype` in any case of letters.
///
/// # Errors
/// [`ParameterError::FsTypeTwice`]
pub fn fs_type(parameters: &BTreeMap<String, String>, default: &str) -> Result<String, ParameterError> {
    let names_it = |key: &str| key.eq_ignore_ascii_case(FS_TYPE) || key.strip_prefix(PREFIX) == Some(FS_TYPE);
    let mut found = parameters.iter().filter(|(key, _)| names_it(key));
    let Some((first, value)) = found.next() else {
        return Ok(default.to_owned());
    };
    if let Some((second, _)) = found.next() {
        return Err(ParameterError::FsTypeTwice(first.clone(), second.clone()));
    }
    Ok(if value.is_empty() { default } else { value }.to_owned())
}

/// The parameters that the driver gets: the class's, without those that are meant for the sidecars.
///
/// # Errors
/// [`ParameterError::Unknown`]
pub fn parameters(class: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ParameterError> {
    let mut passed = BTreeMap::new();
    for (key, value) in class {
        match key.strip_prefix(PREFIX) {
            None => {
                passed.insert(key.clone(), value.clone());
            }
            Some(reserved) if reserved == FS_TYPE || is_secret_key(reserved) => {}
            Some(_) => return Err(ParameterError::Unknown(key.clone())),
        }
    }
    Ok(passed)
}
