//! Finds every breach of the rules.

use std::{collections::BTreeMap, path::Path};

use crate::{
    rules::{
        Breach, LONGEST, MUST_BE_PURE, ONE_PER_CONTROLLER, ONE_PER_SIDECAR, OWNERS, Place, Rule, forbidden,
        is_impure, is_nondeterministic, place,
    },
    sources::{Sources, inside, is_pure, is_pure_module, is_test},
    tokens::Found,
};

/// All breaches, file by file, then the names that several types share.
pub(crate) fn breaches(sources: &Sources) -> Vec<Breach> {
    let mut breaches: Vec<_> = sources.keys().flat_map(|file| inspect(sources, file)).collect();
    breaches.extend(shared_names(sources));
    breaches
}

fn inspect(sources: &Sources, file: &str) -> Vec<Breach> {
    let text = &sources[file];
    let mut breaches = Vec::new();
    let mut breach = |rule, line, what: String| {
        breaches.push(Breach {
            rule,
            file: file.to_owned(),
            line,
            what,
        });
    };

    let inner = file.strip_prefix("src/");
    let only_tests = inner.is_none() || is_test(sources, file);
    let counted = if only_tests { text } else { without_tests(text) };
    let length = counted.lines().count();
    if length > LONGEST {
        breach(Rule::Length, LONGEST + 1, format!("{length} lines"));
    }
    let Some(inner) = inner else {
        return breaches;
    };
    let first = inner.split('/').next().unwrap_or(inner);
    let Some(here) = place(first) else {
        breach(Rule::Placed, 1, format!("`{first}` is none of them"));
        return breaches;
    };
    if only_tests {
        return breaches;
    }
    if !text.starts_with("//!") {
        breach(Rule::Opening, 1, "the first line is something else".to_owned());
    }
    let pure = is_pure(sources, file);
    let stem = Path::new(file)
        .file_stem()
        .map(|it| it.to_string_lossy())
        .unwrap_or_default();
    let by_name = matches!(here, Place::Controller(_) | Place::App)
        || [
            "cluster/objects.rs",
            "cluster/queue.rs",
            "lease/elect.rs",
            "lease/record.rs",
        ]
        .contains(&inner);
    let is_translation = inner.starts_with("cluster/migration/");
    if (by_name && MUST_BE_PURE.contains(&&*stem) || is_translation) && !pure {
        breach(Rule::PureByName, 1, format!("`{stem}.rs`"));
    }

    let found = Found::read(text);
    for line in found.silenced {
        breach(Rule::Reason, line, "an `allow` or `expect` attribute".to_owned());
    }
    for name in &found.names {
        let path = name.path.join("::");
        let outside = name.path[0].as_str();
        let named = name.imported || name.path.len() > 1;
        let owner = OWNERS
            .iter()
            .find(|(crates, _)| named && crates.contains(&outside));
        if let Some((_, owners)) = owner
            && !owners.iter().any(|it| file.contains(it))
        {
            breach(
                Rule::OneOwner,
                name.line,
                format!("`{path}` belongs to {}", owners.join(", ")),
            );
        }
        if matches!(here, Place::Controller(_)) && is_nondeterministic(&name.path) {
            breach(Rule::ControllersStartNoTasks, name.line, format!("`{path}`"));
        }
        if pure && is_impure(name) {
            breach(Rule::Pure, name.line, format!("`{path}`"));
        }
        // A lone `super` or `crate` is the `pub(super)` of an item.
        let Some(target) = inside(inner, &name.path).filter(|_| named) else {
            continue;
        };
        let Some(there) = target.first().and_then(|it| place(it)) else {
            continue;
        };
        if let Some(rule) = forbidden(here, there) {
            breach(rule, name.line, format!("`{path}`"));
        } else if pure && !is_pure_module(sources, &target) {
            breach(Rule::PureNeighbours, name.line, format!("`{path}`"));
        }
    }
    breaches
}

/// The text before a module of tests that stands in the same file.
fn without_tests(text: &str) -> &str {
    let declared = "\n#[cfg(test)]\nmod ";
    let mut modules = text.match_indices(declared);
    let inline = modules.find(|(at, _)| {
        let line = text[at + declared.len()..].lines().next();
        line.is_some_and(|line| line.ends_with('{'))
    });
    &text[..inline.map_or(text.len(), |(at, _)| at)]
}

/// Types of one name, each of them a breach; controllers may each have their own of some.
fn shared_names(sources: &Sources) -> Vec<Breach> {
    let mut types = BTreeMap::<String, Vec<(&str, usize)>>::new();
    for (file, text) in sources {
        if file.starts_with("src/") && !is_test(sources, file) {
            for (name, line) in Found::read(text).types {
                types.entry(name).or_default().push((file, line));
            }
        }
    }
    let mut breaches = Vec::new();
    for (name, places) in types {
        for (at, (file, line)) in places.iter().enumerate() {
            let other = places
                .iter()
                .enumerate()
                .find(|(it, (other, _))| *it != at && !may_share(&name, file, other));
            if let Some((_, (other, line_of_other))) = other {
                breaches.push(Breach {
                    rule: Rule::UniqueTypes,
                    file: (*file).to_owned(),
                    line: *line,
                    what: format!("`{name}` stands at {other}:{line_of_other} as well"),
                });
            }
        }
    }
    breaches
}

/// Controllers may each have one of some names, and so may sidecars.
fn may_share(name: &str, a: &str, b: &str) -> bool {
    let owner = |file: &str| {
        let mut parts = file.split('/').skip(1);
        let (first, second) = (parts.next()?, parts.next()?);
        let owner = match place(first)? {
            Place::Controller(_) if ONE_PER_CONTROLLER.contains(&name) => first,
            Place::App if ONE_PER_SIDECAR.contains(&name) => second,
            _ => return None,
        };
        Some(owner.to_owned())
    };
    let (a, b) = (owner(a), owner(b));
    a.is_some() && b.is_some() && a != b
}
