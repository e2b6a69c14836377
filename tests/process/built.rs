//! Which build of our sidecars is tried.

use std::path::Path;

/// The path of our sidecar of this name: in the folder that `SIDECARS` names, or of this build.
pub(crate) fn built(name: &str) -> String {
    let debug = Path::new(env!("CARGO_BIN_EXE_csi-provisioner"));
    let path = match std::env::var_os("SIDECARS") {
        Some(folder) => Path::new(&folder).join(name),
        None => debug.with_file_name(name),
    };
    path.display().to_string()
}
