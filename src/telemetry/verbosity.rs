//! Pure. Which lines are shown: `-v` for everything, `--vmodule` for single files or modules.

use std::fmt;

/// The parsed `--vmodule`: `pattern=N,…`. In a pattern `*` stands for any text and `?` for one character.
///
/// A pattern with `/` is compared with the path of the file below `src/`, one with `::` with the
/// module path, any other with the name of the file; `.rs` is left off as klog leaves off `.go`.
/// The names are those of our files: patterns made for upstream's Go files match nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vmodule(Vec<(String, u8)>);

/// `--vmodule` cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--vmodule: {0:?} is not of the form pattern=N with N a whole number from 0 on")]
pub struct BadVmodule(String);

impl std::str::FromStr for Vmodule {
    type Err = BadVmodule;

    fn from_str(text: &str) -> Result<Self, BadVmodule> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items
            .map(|item| {
                let bad = || BadVmodule(item.to_owned());
                let (pattern, level) = item.split_once('=').ok_or_else(bad)?;
                let level: u32 = level.trim().parse().map_err(|_| bad())?;
                if pattern.trim().is_empty() {
                    return Err(bad());
                }
                Ok((pattern.trim().to_owned(), level.min(u8::MAX.into()) as u8))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Vmodule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (pattern, level)) in self.0.iter().enumerate() {
            write!(f, "{}{pattern}={level}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The verbosity at which a kind of line appears first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// Errors and warnings: always.
    Always,
    /// News: `-v=0`.
    Info,
    /// Steps: `-v=3`.
    Debug,
    /// Every call with its request: `-v=5`.
    Trace,
}

impl Level {
    /// The smallest `-v` that shows such lines of ours.
    pub(super) fn verbosity(self) -> u8 {
        match self {
            Self::Always | Self::Info => 0,
            Self::Debug => 3,
            Self::Trace => 5,
        }
    }
}

/// From here on libraries may speak, too; below it they only warn.
const LIBRARIES_DEBUG: u8 = 8;
const LIBRARIES_TRACE: u8 = 10;

/// Whether a line from that module and file is shown.
pub(super) fn shown(verbosity: u8, vmodule: &Vmodule, module: &str, file: &str, level: Level) -> bool {
    if module.split("::").next() != Some(env!("CARGO_PKG_NAME")) {
        return match level {
            Level::Always => true,
            Level::Info | Level::Debug => verbosity >= LIBRARIES_DEBUG,
            Level::Trace => verbosity >= LIBRARIES_TRACE,
        };
    }
    let file = file.strip_suffix(".rs").unwrap_or(file);
    let file = file.rsplit_once("src/").map_or(file, |(_, below)| below);
    let stem = file.rsplit('/').next().unwrap_or(file);
    // The first pattern that matches decides, also downwards, as in klog.
    let own = vmodule.0.iter().find(|(pattern, _)| {
        let name = match pattern {
            p if p.contains("::") => module,
            p if p.contains('/') => file,
            _ => stem,
        };
        matches(pattern.as_bytes(), name.as_bytes())
    });
    level == Level::Always || own.map_or(verbosity, |(_, level)| *level) >= level.verbosity()
}

/// Shell pattern with `*` and `?`; linear in memory, no recursion.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn verbosity_maps_to_levels_and_libraries_stay_quiet() {
        use Level::*;
        let rows = [
            // module, -v, loudest kind that is shown
            ("volwright::lease", 0, Info),
            ("volwright::lease", 2, Info),
            ("volwright::lease", 3, Debug),
            ("volwright::lease", 4, Debug),
            ("volwright::lease", 5, Trace),
            ("volwright", 5, Trace),
            ("volwright_other", 5, Always),
            ("hyper::proto", 5, Always),
            ("kube_client", 8, Debug),
            ("kube_client", 10, Trace),
        ];
        for (module, v, loudest) in rows {
            for kind in [Always, Info, Debug, Trace] {
                assert_eq!(
                    shown(v, &Vmodule::default(), module, "src/lease/mod.rs", kind),
                    kind <= loudest,
                    "{module} at -v={v}: {kind:?}"
                );
            }
        }
    }

    #[test]
    fn a_pattern_overrides_the_verbosity_for_what_it_names() {
        let rows = [
            // pattern, whether trace of src/lease/elect.rs shows at -v=0
            ("elect=5", true),
            ("el*=5", true),
            ("e?ect=5", true),
            ("*=9", true),
            ("lease/*=5", true),
            ("lease/elect=5", true),
            ("volwright::lease*=5", true),
            ("*::elect=5", true),
            ("elect=4", false),
            ("elec=5", false),
            ("lect=5", false),
            ("serve/*=5", false),
            ("elect=0,elect=5", false),
            ("", false),
        ];
        for (pattern, wanted) in rows {
            let vmodule: Vmodule = pattern.parse().unwrap();
            let got = shown(
                0,
                &vmodule,
                "volwright::lease::elect",
                "src/lease/elect.rs",
                Level::Trace,
            );
            assert_eq!(got, wanted, "{pattern}");
        }
        let quieter: Vmodule = "elect=0".parse().unwrap();
        assert!(!shown(
            5,
            &quieter,
            "volwright::lease::elect",
            "src/lease/elect.rs",
            Level::Debug
        ));
        assert!(shown(
            0,
            &quieter,
            "volwright::lease::elect",
            "src/lease/elect.rs",
            Level::Always
        ));
    }

    #[test]
    fn nonsense_is_refused_with_the_item_named() {
        for text in ["elect", "=3", "elect=x", "elect=-1", "a=1,b"] {
            let error = text.parse::<Vmodule>().unwrap_err().to_string();
            assert!(error.starts_with("--vmodule: "), "{text}: {error}");
        }
        let parsed: Vmodule = " a=1, b/*=999 ,".parse().unwrap();
        assert_eq!(parsed.to_string(), "a=1,b/*=255");
    }
}
