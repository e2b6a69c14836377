//! The log: component-base's flags and the settings that they make.

use crate::{
    app::sidecar::flags::{
        Exit, Flag, Group,
        Kind::{self, Bytes, Levels, Switch, Text},
        ParsedFlags,
    },
    telemetry::log::{Format, LogSettings},
};

/// The flags of the log.
#[rustfmt::skip] // One line per flag.
pub const FLAGS: Group = Group {
    heading: "Log",
    flags: &[
        Flag::new("log-flush-frequency", Kind::Duration, "5s", "No effect: nothing is held back"),
        Flag::new("log-json-info-buffer-size", Bytes, "0", "Only 0 is allowed, as in upstream's releases"),
        Flag::new("log-json-split-stream", Switch, "false", "Only false is allowed, as in upstream's releases"),
        Flag::new("log-text-info-buffer-size", Bytes, "0", "Only 0 is allowed, as in upstream's releases"),
        Flag::new("log-text-split-stream", Switch, "false", "Only false is allowed, as in upstream's releases"),
        Flag::new("logging-format", Text, "text", "text or json"),
        Flag::new("v", Kind::Level, "0", "How much is logged; 5 shows the calls to the driver"),
        Flag::new("vmodule", Levels, "", "Levels of their own for source files, with text only"),
    ],
};

/// Takes the settings from the command line, by component-base's rules. Its switches for buffers and streams belong to
/// a gate that nobody can set.
///
/// # Errors
/// The process ends here.
pub(crate) fn read(flags: &ParsedFlags) -> Result<LogSettings, Exit> {
    let refuse = |reason: String| Err(Exit::error(1, reason));
    let format = match flags.get::<String>("logging-format").as_str() {
        "text" => Format::Text,
        "json" => Format::Json,
        other => return refuse(format!("--logging-format={other} is unknown: use text or json")),
    };
    let modules: Vec<(String, u32)> = flags.all("vmodule");
    if format == Format::Json && !modules.is_empty() {
        return refuse("--vmodule works only with --logging-format=text".to_owned());
    }
    for kind in ["json", "text"] {
        let (split, buffer) = (
            format!("log-{kind}-split-stream"),
            format!("log-{kind}-info-buffer-size"),
        );
        if flags.get(&split) {
            return refuse(format!(
                "--{split} is not available: the log is one stream, leave the flag out"
            ));
        }
        if flags.get::<i64>(&buffer) != 0 {
            return refuse(format!(
                "--{buffer} is not available: the log is not buffered, leave the flag out"
            ));
        }
    }
    Ok(LogSettings {
        format,
        verbosity: flags.get("v"),
        vmodule: modules.into_iter().collect(),
    })
}
