//! Pure. One log line as bytes: klog's structured text or component-base's JSON.
//!
//! Log pipelines in clusters parse both already, so an operator who swaps the image keeps the parser. Whatever a driver
//! or the name of an object contains, the text form stays one line: control characters are escaped as Go's
//! `strconv.Quote` escapes them.

use std::fmt::Write as _;

use jiff::Zoned;
use serde_json::{Map, Value, json};

/// How lines look (`--logging-format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// klog: `I1121 04:36:01.123456   12345 file.rs:42] "message" key="value"`.
    #[default]
    Text,
    /// component-base: `{"ts":…,"caller":…,"msg":…,"v":0,…}`.
    Json,
}

/// klog's severities, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Something failed.
    Error,
    /// Something is odd, but the work goes on.
    Warning,
    /// Shown from this verbosity (`-v`) on.
    Info(u32),
}

impl Severity {
    /// Information.
    pub(super) const INFO: Self = Self::Info(0);
    /// Single steps.
    pub(super) const DEBUG: Self = Self::Info(3);
    /// Every call with its request.
    pub(super) const TRACE: Self = Self::Info(5);
}

/// The content of a log line.
#[derive(Clone, Debug)]
pub(super) struct LogEntry<'a> {
    /// When the line was logged, in the time zone in which the text form shows it.
    pub at: &'a Zoned,
    /// How grave it is.
    pub severity: Severity,
    /// The ID of this process.
    pub pid: u32,
    /// The source file, as the compiler names it.
    pub file: &'a str,
    /// The line in that file; 0 when unknown.
    pub line: u32,
    /// The message without its values.
    pub message: &'a str,
    /// The values in the order in which they were given.
    pub fields: &'a [(&'static str, Value)],
}

/// The line in that format, with its newline.
pub(super) fn render(format: Format, entry: &LogEntry<'_>) -> String {
    let mut out = match format {
        Format::Text => text(entry),
        Format::Json => object(entry),
    };
    out.push('\n');
    out
}

fn text(entry: &LogEntry<'_>) -> String {
    let letter = match entry.severity {
        Severity::Error => 'E',
        Severity::Warning => 'W',
        Severity::Info(_) => 'I',
    };
    let at = entry.at;
    let file = entry.file.rsplit('/').next().unwrap_or(entry.file);
    let mut out = String::with_capacity(128);
    let _ = write!(
        out,
        "{letter}{:02}{:02} {:02}:{:02}:{:02}.{:06} {:>7} {file}:{}] ",
        at.month(),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.subsec_nanosecond() / 1000,
        entry.pid,
        entry.line,
    );
    quote(&mut out, entry.message);
    for (key, value) in entry.fields {
        let _ = write!(out, " {key}=");
        match value {
            Value::String(text) => quote(&mut out, text),
            other => {
                let _ = write!(out, "{other}");
            }
        }
    }
    out
}

fn object(entry: &LogEntry<'_>) -> String {
    // component-base counts milliseconds since the epoch, with a fraction.
    let ts = entry.at.timestamp().as_microsecond() as f64 / 1000.0;
    let mut from_the_end = entry.file.rmatch_indices('/').map(|(i, _)| i);
    let start = from_the_end.nth(1).map_or(0, |i| i + 1);
    let mut map = Map::new();
    map.insert("ts".into(), json!(ts));
    map.insert(
        "caller".into(),
        json!(format!("{}:{}", &entry.file[start..], entry.line)),
    );
    map.insert("msg".into(), json!(entry.message));
    // In component-base's JSON errors have no verbosity; that is how readers tell them apart.
    match entry.severity {
        Severity::Error => {}
        Severity::Warning => drop(map.insert("v".into(), json!(0))),
        Severity::Info(v) => drop(map.insert("v".into(), json!(v))),
    }
    // The object is put together here because a sorted map would move `ts` from the front, and because a field with
    // the name of one of the four above must not replace it.
    let mut out = String::from("{");
    let own = ["ts", "caller", "msg", "v"]
        .into_iter()
        .filter_map(|k| map.get(k).map(|v| (k, v)));
    let fields = entry
        .fields
        .iter()
        .map(|(k, v)| (*k, v))
        .filter(|(k, _)| !map.contains_key(*k));
    for (i, (key, value)) in own.chain(fields).enumerate() {
        let _ = write!(
            out,
            "{}{}:{value}",
            if i == 0 { "" } else { "," },
            Value::from(key)
        );
    }
    out.push('}');
    out
}

/// Quotes as Go does, so that no value can start a new line or control a terminal.
fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '\x7f' => drop(write!(out, "\\x{:02x}", c as u32)),
            // The other control characters, line separators, and marks that change the reading direction.
            '\u{80}'..='\u{9f}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => drop(write!(out, "\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;

    fn noon() -> Zoned {
        "2025-11-21T04:36:01.123456Z"
            .parse::<jiff::Timestamp>()
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    fn entry<'a>(
        at: &'a Zoned,
        severity: Severity,
        message: &'a str,
        fields: &'a [(&'static str, Value)],
    ) -> LogEntry<'a> {
        LogEntry {
            at,
            severity,
            pid: 12345,
            file: "src/lease/elect.rs",
            line: 42,
            message,
            fields,
        }
    }

    #[test]
    fn text_lines_look_like_klog() {
        let at = noon();
        let fields = [
            ("claim", json!("default/data")),
            ("tries", json!(3)),
            ("ready", json!(true)),
        ];
        for (severity, letter) in [
            (Severity::Error, 'E'),
            (Severity::Warning, 'W'),
            (Severity::Info(5), 'I'),
        ] {
            assert_eq!(
                render(Format::Text, &entry(&at, severity, "Volume made", &fields)),
                format!(
                    "{letter}1121 04:36:01.123456   12345 elect.rs:42] \"Volume made\" claim=\"default/data\" tries=3 ready=true\n"
                )
            );
        }
    }

    #[test]
    fn json_lines_look_like_component_base() {
        let at = noon();
        let fields = [("claim", json!("default/data")), ("msg", json!("shadow"))];
        assert_eq!(
            render(
                Format::Json,
                &entry(&at, Severity::Info(3), "Volume made", &fields)
            ),
            "{\"ts\":1763699761123.456,\"caller\":\"lease/elect.rs:42\",\"msg\":\"Volume made\",\"v\":3,\"claim\":\"default/data\"}\n"
        );
        assert!(!render(Format::Json, &entry(&at, Severity::Error, "x", &[])).contains("\"v\""));
    }

    #[test]
    fn odd_characters_are_escaped_as_go_does() {
        let at = noon();
        let odd = "a\"b\\c\nd\re\tf\0g\u{1b}[31m\u{85}\u{2028}\u{202e}é漢";
        let text = render(Format::Text, &entry(&at, Severity::Error, odd, &[]));
        assert!(
            text.ends_with("] \"a\\\"b\\\\c\\nd\\re\\tf\\x00g\\x1b[31m\\u0085\\u2028\\u202eé漢\"\n"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_message_is_one_line_and_json_reads_back(message in any::<String>(), value in any::<String>()) {
            let at = noon();
            let fields = [("key", json!(value))];
            let text = render(Format::Text, &entry(&at, Severity::Error, &message, &fields));
            prop_assert_eq!(text.lines().count(), 1);
            prop_assert!(!text.trim_end_matches('\n').chars().any(char::is_control));
            let text = render(Format::Json, &entry(&at, Severity::Error, &message, &fields));
            prop_assert_eq!(text.matches('\n').count(), 1);
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read["msg"], &json!(message));
            prop_assert_eq!(&read["key"], &json!(value));
        }
    }
}
