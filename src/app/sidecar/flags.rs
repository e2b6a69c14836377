//! The command line: a table of flags with Go's types, the reading of a line by that table, and the end of a process
//! that its command line does not let start.
//!
//! The table names each flag's type, so that Go's syntax is known in one place ([`argv`] for the line, [`literal`] for
//! the values) and clap only has to match names, print the help and say what is wrong.

use std::any::Any;

use clap::{
    Arg, ArgAction, ArgMatches, Command,
    builder::ValueParser,
    error::{ContextKind, ErrorKind},
    parser::ValueSource,
};

use crate::{
    app::sidecar::{
        argv::{self, Dialect, Takes},
        literal,
    },
    base::{duration::GoDuration, quantity},
};

/// A Go flag type. In brackets the Rust type under which [`ParsedFlags::get`] or [`ParsedFlags::all`] finds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A boolean in any of Go's spellings (`bool`).
    Switch,
    /// Any text (`String`).
    Text,
    /// A duration with its unit ([`GoDuration`]).
    Duration,
    /// An integer (`i64`).
    Int,
    /// An integer from zero up (`u64`).
    Uint,
    /// A floating-point number (`f64`).
    Float,
    /// A log level (`u32`).
    Level,
    /// A Kubernetes quantity in bytes (`i64`).
    Bytes,
    /// `key:value,…`; repeats add up (`(String, String)`).
    Labels,
    /// `Name=bool,…`; repeats add up (`(String, bool)`).
    Gates,
    /// `pattern=level,…`; repeats add up (`(String, u32)`).
    Levels,
}

/// One flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// As one would write it on the command line.
    pub default: &'static str,
    /// One line for the operator.
    pub help: &'static str,
}

impl Flag {
    /// A flag; the arguments are the fields in their order.
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self {
            name,
            kind,
            default,
            help,
        }
    }
}

/// Flags that belong together in the help.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Above them.
    pub heading: &'static str,
    /// Sorted by name.
    pub flags: &'static [Flag],
}

/// The process ends here: what it prints and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// 0 asked for; 1 settings that contradict each other or are not built; 2 a line that cannot be read or holds an
    /// impossible value; 255 what upstream logs as fatal.
    pub code: u8,
    /// Text for the standard output.
    pub stdout: String,
    /// Text for the standard error stream.
    pub stderr: String,
}

impl Exit {
    /// An end with a reason.
    pub fn error(code: u8, reason: impl std::fmt::Display) -> Self {
        Self {
            code,
            stdout: String::new(),
            stderr: format!("error: {reason}\n"),
        }
    }

    /// An end without words, as asked for.
    pub(crate) fn success() -> Self {
        Self {
            code: 0,
            stdout: String::new(),
            stderr: String::new(),
        }
    }

    /// The end that `--version` asks for.
    pub(crate) fn version(program: &str) -> Self {
        Self {
            code: 0,
            stdout: format!("{program} v{}\n", env!("CARGO_PKG_VERSION")),
            stderr: String::new(),
        }
    }
}

/// What a command line says, defaults filled in.
#[derive(Debug)]
pub struct ParsedFlags {
    matches: ArgMatches,
    /// What was ignored on the line.
    pub warnings: Vec<String>,
}

impl ParsedFlags {
    /// The value of a flag; of several, the last.
    pub fn get<T: Any + Clone + Default + Send + Sync>(&self, name: &str) -> T {
        self.matches.get_one::<T>(name).cloned().unwrap_or_default()
    }

    /// All items of a list flag, in their order.
    pub fn all<T: Any + Clone + Send + Sync>(&self, name: &str) -> Vec<T> {
        self.matches
            .get_many::<Vec<T>>(name)
            .into_iter()
            .flatten()
            .flatten()
            .cloned()
            .collect()
    }

    /// The text of a flag, None when empty, which Go's programs take for "not given".
    pub fn text(&self, name: &str) -> Option<String> {
        Some(self.get::<String>(name)).filter(|text| !text.is_empty())
    }

    /// Whether the flag is on the line, be it with its default.
    pub fn explicit(&self, name: &str) -> bool {
        self.matches.value_source(name) == Some(ValueSource::CommandLine)
    }
}

/// Reads `args` (without the program's name) by the table.
///
/// # Errors
/// `--help` ends with the help on stderr and code 0; an unknown flag or a bad value with the help, the reason below
/// it, where the end of a container's log shows it, and code 2. That is what Go's flag packages do.
pub fn read(
    program: &'static str,
    groups: &[Group],
    dialect: Dialect,
    args: impl IntoIterator<Item = String>,
) -> Result<ParsedFlags, Exit> {
    let takes = |name: &str| {
        let flag = groups
            .iter()
            .flat_map(|group| group.flags)
            .find(|flag| flag.name == name)?;
        Some(if flag.kind == Kind::Switch {
            Takes::Switch
        } else {
            Takes::Value
        })
    };
    let argv::Normal { args, warnings } = argv::normalise(dialect, args, takes);
    let mut command = command(program, groups);
    match command.try_get_matches_from_mut(args) {
        Ok(matches) => Ok(ParsedFlags { matches, warnings }),
        Err(error) => {
            let help = command.render_help().to_string();
            if error.kind() == ErrorKind::DisplayHelp {
                return Err(Exit {
                    code: 0,
                    stdout: String::new(),
                    stderr: help,
                });
            }
            let text = match (error.kind(), error.get(ContextKind::InvalidArg)) {
                // clap asks for an equal sign, which the operator need not write.
                (ErrorKind::NoEquals, Some(flag)) => format!("error: {flag} lacks its value"),
                _ => error.to_string(),
            };
            let reason = text.split("\n\nUsage:").next().unwrap_or_default();
            let reason = reason
                .split("\n\nFor more information")
                .next()
                .unwrap_or_default()
                .trim_end();
            Err(Exit {
                code: 2,
                stdout: String::new(),
                stderr: format!("{help}\n{reason}\n"),
            })
        }
    }
}

fn command(program: &'static str, groups: &[Group]) -> Command {
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::Help)
        .help("Print this text");
    let command = Command::new(program)
        .no_binary_name(true)
        .disable_help_flag(true)
        .args_override_self(true);
    let command = groups.iter().fold(command, |command, group| {
        command
            .next_help_heading(group.heading)
            .args(group.flags.iter().map(argument))
    });
    command.arg(help)
}

fn argument(flag: &Flag) -> Arg {
    let (value, parser): (&str, ValueParser) = match flag.kind {
        Kind::Switch => ("bool", ValueParser::new(literal::boolean)),
        Kind::Text => ("text", ValueParser::string()),
        Kind::Duration => (
            "duration",
            ValueParser::new(|text: &str| text.parse::<GoDuration>()),
        ),
        Kind::Int => ("int", ValueParser::new(literal::signed)),
        Kind::Uint => ("uint", ValueParser::new(literal::unsigned)),
        Kind::Float => ("float", ValueParser::new(|text: &str| text.parse::<f64>())),
        Kind::Level => ("level", ValueParser::new(literal::level)),
        Kind::Bytes => ("quantity", ValueParser::new(quantity::to_bytes)),
        Kind::Labels => (
            "key:value,...",
            ValueParser::new(|text: &str| literal::pairs(text.split(','), ':', |v| Ok(v.to_owned()))),
        ),
        Kind::Gates => (
            "Name=bool,...",
            ValueParser::new(|text: &str| sparse(text, literal::boolean)),
        ),
        Kind::Levels => (
            "pattern=level,...",
            ValueParser::new(|text: &str| sparse(text, literal::level)),
        ),
    };
    let list = matches!(flag.kind, Kind::Labels | Kind::Gates | Kind::Levels);
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .value_name(value)
        .value_parser(parser)
        .help(flag.help);
    let arg = arg
        .require_equals(true)
        .action(if list { ArgAction::Append } else { ArgAction::Set });
    let arg = if flag.kind == Kind::Level {
        arg.short('v')
    } else {
        arg
    };
    match flag.default {
        "" if list => arg,
        // Nothing to see in the help.
        "" => arg.default_value("").hide_default_value(true),
        default => arg.default_value(default),
    }
}

/// The lists of gates and levels ignore empty items, the list of labels does not.
fn sparse<V>(text: &str, value: impl Fn(&str) -> Result<V, String>) -> Result<Vec<(String, V)>, String> {
    literal::pairs(text.split(',').filter(|item| !item.is_empty()), '=', value)
}
