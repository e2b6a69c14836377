//! Pure. The settings of the log, and which lines they show: `-v` for all code, `--vmodule` for single files or
//! modules.

use super::klog::{Format, Severity};

/// What the logging flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// `--logging-format`.
    pub format: Format,
    /// `-v`: news from 0 on, single steps from 3 on, every call from 5 on.
    pub verbosity: u32,
    /// `--vmodule`.
    pub vmodule: Vmodule,
}

/// `--vmodule`: a verbosity for each pattern. In a pattern `*` stands for any text and `?` for one character.
///
/// A pattern with `/` is compared with the path of the file below `src/`, one with `::` with the module path, any other
/// with the name of the file; `.rs` is left off as klog leaves off `.go`. The names are those of our files: patterns
/// made for upstream's Go files match nothing here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vmodule(Vec<(String, u32)>);

impl FromIterator<(String, u32)> for Vmodule {
    fn from_iter<T: IntoIterator<Item = (String, u32)>>(patterns: T) -> Self {
        Self(patterns.into_iter().collect())
    }
}

/// Below this verbosity, lines of libraries are shown only when they are errors or warnings.
const LIBRARIES_DEBUG: u32 = 8;
/// From this verbosity on, every line of a library is shown.
const LIBRARIES_TRACE: u32 = 10;

impl LogSettings {
    /// Whether a line of that severity from that module and file is shown.
    pub(super) fn is_shown(&self, module: &str, file: &str, severity: Severity) -> bool {
        let needed = match severity {
            Severity::Info(needed) => needed,
            // It says at each try what the reflector says once, with what to do about it.
            Severity::Warning if module.starts_with("kube_runtime::watcher") => {
                return self.verbosity >= LIBRARIES_DEBUG;
            }
            _ => return true,
        };
        if module.split("::").next() != Some(env!("CARGO_PKG_NAME")) {
            let trace = severity >= Severity::TRACE;
            return self.verbosity >= if trace { LIBRARIES_TRACE } else { LIBRARIES_DEBUG };
        }
        let file = file.strip_suffix(".rs").unwrap_or(file);
        let file = file.rsplit_once("src/").map_or(file, |(_, below)| below);
        let stem = file.rsplit('/').next().unwrap_or(file);
        // As in klog, the first pattern that matches decides, even if it shows less than `-v`.
        let own = self.vmodule.0.iter().find(|(pattern, _)| {
            let name = match pattern {
                p if p.contains("::") => module,
                p if p.contains('/') => file,
                _ => stem,
            };
            matches(pattern.as_bytes(), name.as_bytes())
        });
        own.map_or(self.verbosity, |(_, verbosity)| *verbosity) >= needed
    }
}

/// Whether a shell pattern with `*` and `?` matches; without recursion, so that no pattern exhausts the stack.
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
    use super::*;

    fn settings(verbosity: u32, patterns: &[(&str, u32)]) -> LogSettings {
        let patterns = patterns
            .iter()
            .map(|(pattern, verbosity)| ((*pattern).to_owned(), *verbosity));
        LogSettings {
            format: Format::Text,
            verbosity,
            vmodule: patterns.collect(),
        }
    }

    #[test]
    fn verbosity_maps_to_severities_and_libraries_stay_quiet() {
        use Severity::Warning;
        const INFO: Severity = Severity::INFO;
        const DEBUG: Severity = Severity::DEBUG;
        const TRACE: Severity = Severity::TRACE;
        let cases = [
            // module, -v, the least severe line that is shown
            ("volwright::lease", 0, INFO),
            ("volwright::lease", 2, INFO),
            ("volwright::lease", 3, DEBUG),
            ("volwright::lease", 4, DEBUG),
            ("volwright::lease", 5, TRACE),
            ("volwright", 5, TRACE),
            ("volwright_other", 5, Warning),
            ("hyper::proto", 5, Warning),
            ("kube_runtime::watcher", 5, Severity::Error),
            ("kube_runtime::watcher", 8, DEBUG),
            ("kube_client", 8, DEBUG),
            ("kube_client", 10, TRACE),
        ];
        for (module, v, least) in cases {
            for severity in [Severity::Error, Warning, INFO, DEBUG, TRACE] {
                assert_eq!(
                    settings(v, &[]).is_shown(module, "src/lease/mod.rs", severity),
                    severity <= least,
                    "{module} at -v={v}: {severity:?}"
                );
            }
        }
    }

    #[test]
    fn a_pattern_overrides_the_verbosity_for_what_it_names() {
        let cases: [(&[(&str, u32)], bool); 14] = [
            // patterns, whether trace of src/lease/elect.rs shows at -v=0
            (&[("elect", 5)], true),
            (&[("el*", 5)], true),
            (&[("e?ect", 5)], true),
            (&[("*", 9)], true),
            (&[("lease/*", 5)], true),
            (&[("lease/elect", 5)], true),
            (&[("volwright::lease*", 5)], true),
            (&[("*::elect", 5)], true),
            (&[("elect", 4)], false),
            (&[("elec", 5)], false),
            (&[("lect", 5)], false),
            (&[("telemetry/*", 5)], false),
            (&[("elect", 0), ("elect", 5)], false),
            (&[], false),
        ];
        let is_shown = |settings: LogSettings, severity| {
            settings.is_shown("volwright::lease::elect", "src/lease/elect.rs", severity)
        };
        for (patterns, wanted) in cases {
            assert_eq!(
                is_shown(settings(0, patterns), Severity::TRACE),
                wanted,
                "{patterns:?}"
            );
        }
        let quieter = [("elect", 0)];
        assert!(!is_shown(settings(5, &quieter), Severity::DEBUG));
        assert!(is_shown(settings(0, &quieter), Severity::Warning));
    }
}
