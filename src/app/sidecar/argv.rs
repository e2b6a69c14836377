//! Pure. Command lines as Go's two flag packages read them, rewritten to the one form that clap cannot misread:
//! `--name=value` for every flag.
//!
//! Upstream's provisioner parses with pflag, its sibling sidecars with Go's own `flag`. They differ in what a stray
//! word does and in `-v5`. A long flag behind a single dash is accepted in both, which pflag refuses.

/// Which of Go's packages the command line is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `spf13/pflag`: stray words are skipped, and `-v5` is short for `--v=5`.
    Pflag,
    /// Go's `flag`: parsing ends at the first stray word.
    Goflag,
}

/// What follows a flag's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, or `=value`; never the next word.
    Switch,
    /// `=value` or the next word, whatever that looks like.
    Value,
}

/// A command line in which every flag stands as `--name=value`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Normal {
    /// The flags in their order. What is unknown is passed on for the parser to refuse, and so is a flag at the end
    /// that lacks its value.
    pub args: Vec<String>,
    /// What was dropped, in words for the operator.
    pub warnings: Vec<String>,
}

/// Rewrites `args` (without the program's name); `takes` knows the flags by name.
///
/// `-h` and every form of `--help` become `--help`. Doing it twice changes nothing.
pub fn normalise(
    dialect: Dialect,
    args: impl IntoIterator<Item = String>,
    takes: impl Fn(&str) -> Option<Takes>,
) -> Normal {
    let mut normal = Normal::default();
    let mut args = args.into_iter();
    while let Some(word) = args.next() {
        let Some(flag) = word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix('-'))
            .filter(|f| !f.is_empty())
        else {
            let rest: Vec<String> = if word == "--" || dialect == Dialect::Goflag {
                // Both packages stop at "--", Go's own also at the first stray word.
                let dropped = (word != "--").then_some(word);
                dropped.into_iter().chain(args.by_ref()).collect()
            } else {
                vec![word]
            };
            normal.warnings.extend(stray(&rest, normal.args.last()));
            continue;
        };
        if flag.starts_with(['-', '=']) {
            normal.args.push(word);
            continue;
        }
        let (name, value) = flag
            .split_once('=')
            .map_or((flag, None), |(name, value)| (name, Some(value)));
        let rewritten = match (takes(name), value) {
            (Some(_), Some(value)) => format!("--{name}={value}"),
            (Some(Takes::Switch), None) => format!("--{name}=true"),
            (Some(Takes::Value), None) => match args.next() {
                Some(value) => format!("--{name}={value}"),
                None => format!("--{name}"),
            },
            (None, _) if name == "help" || name == "h" => "--help".to_owned(),
            (None, _) => match shorthand(dialect, &word, &takes) {
                Some((name, value)) => format!("--{name}={value}"),
                None => format!("--{flag}"),
            },
        };
        normal.args.push(rewritten);
    }
    normal
}

/// `-v5`: a one-letter flag that takes a value, and the value right behind it.
fn shorthand(dialect: Dialect, word: &str, takes: impl Fn(&str) -> Option<Takes>) -> Option<(&str, &str)> {
    let flag = word
        .strip_prefix('-')
        .filter(|flag| dialect == Dialect::Pflag && !flag.starts_with('-'))?;
    let (name, value) = flag.split_at(flag.chars().next()?.len_utf8());
    (takes(name) == Some(Takes::Value)).then_some((name, value))
}

/// The warning about words that belong to no flag. The usual cause is a boolean given as `--name false`.
fn stray(words: &[String], before: Option<&String>) -> Option<String> {
    let first = words.first()?;
    let hint = match before.and_then(|flag| flag.strip_suffix("=true")) {
        Some(flag) if words.len() == 1 => format!("; a boolean takes its value as {flag}={first}"),
        _ => String::new(),
    };
    Some(format!("ignored on the command line: {}{hint}", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes(name: &str) -> Option<Takes> {
        match name {
            "leader-election" => Some(Takes::Switch),
            "v" | "vmodule" | "csi-address" | "volume-name-uuid-length" => Some(Takes::Value),
            _ => None,
        }
    }

    fn run(dialect: Dialect, line: &str) -> Normal {
        normalise(dialect, line.split_whitespace().map(str::to_owned), takes)
    }

    #[test]
    fn both_dialects_read_a_line_as_their_go_package_does() {
        // What is given, what pflag's reading is, what Go flag's reading is.
        for (line, pflag, goflag) in [
            ("--v=5", "--v=5", "--v=5"),
            ("-v=5", "--v=5", "--v=5"),
            ("-v 5", "--v=5", "--v=5"),
            ("--v 5", "--v=5", "--v=5"),
            ("-v5", "--v=5", "--v5"),
            ("--v5", "--v5", "--v5"),
            ("-vmodule=a=1", "--vmodule=a=1", "--vmodule=a=1"),
            ("-csi-address=x", "--csi-address=x", "--csi-address=x"),
            ("-csi-address x", "--csi-address=x", "--csi-address=x"),
            ("--csi-address=", "--csi-address=", "--csi-address="),
            ("--csi-address", "--csi-address", "--csi-address"),
            (
                "--csi-address -- --v=1",
                "--csi-address=-- --v=1",
                "--csi-address=-- --v=1",
            ),
            (
                "--leader-election",
                "--leader-election=true",
                "--leader-election=true",
            ),
            (
                "-leader-election",
                "--leader-election=true",
                "--leader-election=true",
            ),
            (
                "--leader-election=T",
                "--leader-election=T",
                "--leader-election=T",
            ),
            (
                "--leader-election false --v=1",
                "--leader-election=true --v=1",
                "--leader-election=true",
            ),
            (
                "--volume-name-uuid-length -1",
                "--volume-name-uuid-length=-1",
                "--volume-name-uuid-length=-1",
            ),
            ("--v=1 --v=2", "--v=1 --v=2", "--v=1 --v=2"),
            ("--v=1 -- --v=2", "--v=1", "--v=1"),
            ("- --v=2", "--v=2", ""),
            ("stray --v=2", "--v=2", ""),
            ("-h", "--help", "--help"),
            ("-help", "--help", "--help"),
            ("--help=false", "--help", "--help"),
            ("--bogus", "--bogus", "--bogus"),
            ("-bogus=1", "--bogus=1", "--bogus=1"),
            ("---v=1 -=x --=y", "---v=1 -=x --=y", "---v=1 -=x --=y"),
        ] {
            assert_eq!(
                run(Dialect::Pflag, line).args.join(" "),
                pflag,
                "pflag reads {line}"
            );
            assert_eq!(
                run(Dialect::Goflag, line).args.join(" "),
                goflag,
                "Go flag reads {line}"
            );
        }
    }

    #[test]
    fn what_is_dropped_is_told_and_nothing_else() {
        for (dialect, line, warnings) in [
            (Dialect::Pflag, "--v=5 --leader-election", vec![]),
            (Dialect::Pflag, "--v=5 --", vec![]),
            (
                Dialect::Pflag,
                "--leader-election false --v=1",
                vec![
                    "ignored on the command line: false; a boolean takes its value as --leader-election=false",
                ],
            ),
            (
                Dialect::Pflag,
                "a --v 1 b",
                vec!["ignored on the command line: a", "ignored on the command line: b"],
            ),
            (
                Dialect::Pflag,
                "-- --v=1 b",
                vec!["ignored on the command line: --v=1 b"],
            ),
            (
                Dialect::Goflag,
                "--v=1 a --v=2",
                vec!["ignored on the command line: a --v=2"],
            ),
        ] {
            assert_eq!(run(dialect, line).warnings, warnings, "{line}");
        }
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(
            words in prop::collection::vec(
                "-{0,3}(v|h|help|vmodule|leader-election|csi-address|x)?=?(true|-1|--|5)?|.{0,5}", 0..8),
            pflag: bool,
        ) {
            let dialect = if pflag { Dialect::Pflag } else { Dialect::Goflag };
            let once = normalise(dialect, words, takes);
            let twice = normalise(dialect, once.args.clone(), takes);
            prop_assert_eq!(twice, Normal { args: once.args, warnings: vec![] });
        }
    }
}
