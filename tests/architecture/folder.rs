//! Source files as they lie on the disk.

use std::{collections::BTreeMap, fs, path::Path};

/// Adds every `.rs` file below a folder under its path from `root` on.
pub(crate) fn read(root: &Path, folder: &Path, sources: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder of source") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            read(root, &path, sources);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let name = path
                .strip_prefix(root)
                .expect("below the root")
                .to_string_lossy()
                .into_owned();
            sources.insert(name, fs::read_to_string(&path).expect("a readable file"));
        }
    }
}
