//! The source files, and what their paths and first lines say of them.

use std::collections::BTreeMap;

use crate::tokens::Found;

/// Source files by path (`src/provision/decide.rs`).
pub(crate) type Sources = BTreeMap<String, String>;

/// A file that its module, or one further up, compiles for tests only.
pub(crate) fn is_test(sources: &Sources, file: &str) -> bool {
    let module = file.strip_suffix(".rs").unwrap_or(file);
    let module = module.strip_suffix("/mod").unwrap_or(module);
    let Some((parent, stem)) = module.rsplit_once('/') else {
        return false;
    };
    let declared = format!("#[cfg(test)]\nmod {stem};");
    let mut above = [format!("{parent}/mod.rs"), format!("{parent}.rs")].into_iter();
    above.any(|it| sources.get(&it).is_some_and(|text| text.contains(&declared))) || is_test(sources, parent)
}

/// Base is pure as a whole; elsewhere the first line decides.
pub(crate) fn is_pure(sources: &Sources, file: &str) -> bool {
    file.starts_with("src/base/") || sources[file].starts_with("//! Pure.")
}

/// Whether the file that a path leads to is pure, behind a `pub use` as well. Generated messages are data.
pub(crate) fn is_pure_module(sources: &Sources, path: &[String]) -> bool {
    if matches!(path, [csi, proto, ..] if csi == "csi" && proto == "proto") {
        return true;
    }
    let found = (1..=path.len()).rev().find_map(|depth| {
        let stem = format!("src/{}", path[..depth].join("/"));
        let files = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
        Some((files.into_iter().find(|it| sources.contains_key(it))?, depth))
    });
    let Some((file, depth)) = found else { return false };
    if is_pure(sources, &file) {
        return true;
    }
    let Some(item) = path.get(depth) else { return false };
    let names = Found::read(&sources[&file]).names;
    names.iter().any(|name| {
        let shown = name.imported && name.path.len() > 1 && name.path.last() == Some(item);
        let beside = || [&path[..depth], &name.path[..]].concat();
        let inner = file.strip_prefix("src/").unwrap_or(&file);
        shown && is_pure_module(sources, &inside(inner, &name.path).unwrap_or_else(beside))
    })
}

/// A path of ours from the crate's root on; none for one that leads outside.
pub(crate) fn inside(file: &str, path: &[String]) -> Option<Vec<String>> {
    let mut base: Vec<String> = Vec::new();
    let mut rest = path;
    match path[0].as_str() {
        "crate" | "volwright" => rest = &path[1..],
        "self" | "super" => {
            let module = file.strip_suffix(".rs").unwrap_or(file);
            let module = module.strip_suffix("/mod").unwrap_or(module);
            base.extend(module.split('/').map(str::to_owned));
            while let Some((head, tail)) = rest.split_first() {
                match head.as_str() {
                    "self" => {}
                    "super" => drop(base.pop()),
                    _ => break,
                }
                rest = tail;
            }
        }
        _ => return None,
    }
    base.extend(rest.iter().cloned());
    Some(base)
}
