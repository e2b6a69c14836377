//! Pure. Durations in Go's notation: what flags accept (`1h30m`, `-1.5s`) and what logs and events print (`5m0s`).
//!
//! The crates for durations either know another grammar or cannot print; a port of the parser wraps on overflow.

use std::{fmt, str::FromStr, time::Duration};

use thiserror::Error;

/// A `time.Duration` of Go: signed nanoseconds in 64 bits, some 292 years to either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub i64);

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not the grammar of `time.ParseDuration`.
    #[error("{0:?} is not a duration such as 300ms, 1.5h or 2h45m")]
    Malformed(String),
    /// A number without a unit; Go insists on one, except for a bare 0.
    #[error("duration {0:?} lacks a unit: ns, us, ms, s, m or h")]
    NoUnit(String),
    /// A unit that Go does not know, such as `d`.
    #[error("duration {text:?} has the unknown unit {unit:?}, known are ns, us, ms, s, m and h")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The part that is no unit.
        unit: String,
    },
    /// More than 64 bits of nanoseconds.
    #[error("duration {0:?} is longer than 292 years")]
    TooLong(String),
}

impl GoDuration {
    /// The length of time, None when it is negative.
    pub fn length(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }

    /// The length of time, nothing when it is negative: a timer that is set to the past fires at once.
    pub fn or_zero(self) -> Duration {
        self.length().unwrap_or_default()
    }
}

impl From<Duration> for GoDuration {
    /// Lengths beyond what Go can hold become its maximum.
    fn from(length: Duration) -> Self {
        Self(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let too_long = || DurationError::TooLong(text.to_owned());
        let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(DurationError::Malformed(text.to_owned()));
        }
        let mut total = 0u64;
        while !rest.is_empty() {
            let (nanoseconds, after) = term(text, rest)?;
            total = total.checked_add(nanoseconds).ok_or_else(too_long)?;
            rest = after;
        }
        let signed = if text.starts_with('-') {
            0i64.checked_sub_unsigned(total)
        } else {
            i64::try_from(total).ok()
        };
        signed.map(Self).ok_or_else(too_long)
    }
}

/// One number with its unit at the front of `rest`, in nanoseconds, and what follows it.
fn term<'a>(text: &str, rest: &'a str) -> Result<(u64, &'a str), DurationError> {
    let too_long = || DurationError::TooLong(text.to_owned());
    let (whole, after) = split_while(rest, |c| c.is_ascii_digit());
    let (fraction, after) = after
        .strip_prefix('.')
        .map_or(("", after), |after| split_while(after, |c| c.is_ascii_digit()));
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Malformed(text.to_owned()));
    }
    let (unit, after) = split_while(after, |c| c != '.' && !c.is_ascii_digit());
    let scale: u64 = match unit {
        "ns" => 1,
        // Both spellings of micro: the sign U+00B5 and the Greek letter U+03BC.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(DurationError::NoUnit(text.to_owned())),
        _ => {
            return Err(DurationError::UnknownUnit {
                text: text.to_owned(),
                unit: unit.to_owned(),
            });
        }
    };
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| too_long())?
    };
    let nanoseconds = whole.checked_mul(scale).ok_or_else(too_long)?;
    // In floating point, digit for digit as Go does it: 0.3333333333333333333h is 20 minutes there, so it is here.
    let (mut part, mut place) = (0u64, 1f64);
    for digit in fraction.bytes() {
        if part > i64::MAX as u64 / 10 {
            break;
        }
        part = part * 10 + u64::from(digit - b'0');
        place *= 10.0;
    }
    let part = (part as f64 * (scale as f64 / place)) as u64;
    Ok((nanoseconds.checked_add(part).ok_or_else(too_long)?, after))
}

fn split_while(text: &str, keep: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !keep(c)).unwrap_or(text.len()))
}

impl fmt::Display for GoDuration {
    /// As Go's `Duration.String`: the largest fitting unit below a second, else hours, minutes and seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let (scale, unit) = match total {
            0 => return f.write_str("0s"),
            1..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => (1_000_000, "ms"),
            _ => (1_000_000_000, "s"),
        };
        let (mut whole, part) = (total / scale, total % scale);
        if unit == "s" {
            let minutes = whole / 60;
            if minutes >= 60 {
                write!(f, "{}h", minutes / 60)?;
            }
            if minutes > 0 {
                write!(f, "{}m", minutes % 60)?;
            }
            whole %= 60;
        }
        write!(f, "{whole}")?;
        if part > 0 {
            let digits = format!("{:0width$}", part, width = scale.ilog10() as usize);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn what_go_accepts_is_accepted() {
        const ROWS: &[(&str, i64)] = &[
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5 * SECOND),
            ("30s", 30 * SECOND),
            ("1478s", 1478 * SECOND),
            ("-5s", -5 * SECOND),
            ("+5s", 5 * SECOND),
            ("5.0s", 5 * SECOND),
            ("5.6s", 5_600_000_000),
            ("5.s", 5 * SECOND),
            (".5s", SECOND / 2),
            ("1.004s", 1_004_000_000),
            ("100.00100s", 100_001_000_000),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("13ms", 13_000_000),
            ("15m", 900 * SECOND),
            ("16h", 16 * 3600 * SECOND),
            ("3h30m", 12_600 * SECOND),
            ("10.5s4m", 250_500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("39h9m14.425s", 140_954_425_000_000),
            ("52763797000ns", 52_763_797_000),
            ("0.3333333333333333333h", 1200 * SECOND),
            ("0.100000000000000000000h", 360 * SECOND),
            ("0.830103483285477580700h", 2_988_372_539_827),
            ("0.9ns", 0),
            ("9223372036854775807ns", i64::MAX),
            ("9223372036s854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for &(text, nanoseconds) in ROWS {
            assert_eq!(text.parse(), Ok(GoDuration(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_with_the_reason() {
        let reason = |text: &str| match text.parse::<GoDuration>() {
            Err(DurationError::Malformed(_)) => "malformed",
            Err(DurationError::NoUnit(_)) => "no unit",
            Err(DurationError::UnknownUnit { .. }) => "unknown unit",
            Err(DurationError::TooLong(_)) => "too long",
            Ok(_) => "accepted",
        };
        for (text, expected) in [
            ("", "malformed"),
            ("-", "malformed"),
            (".", "malformed"),
            ("s", "malformed"),
            (".s", "malformed"),
            ("+.s", "malformed"),
            ("-.", "malformed"),
            (" 1s", "malformed"),
            ("1s ", "unknown unit"),
            ("1s 2s", "unknown unit"),
            ("3", "no unit"),
            ("15", "no unit"),
            ("1m30", "no unit"),
            ("1d", "unknown unit"),
            ("1S", "unknown unit"),
            ("1m-30s", "unknown unit"),
            ("1e3s", "unknown unit"),
            ("9223372036854775808ns", "too long"),
            ("9223372036854775.808us", "too long"),
            ("-9223372036854775809ns", "too long"),
            ("3000000h", "too long"),
            ("99999999999999999999s", "too long"),
            ("9223372036s1s", "too long"),
        ] {
            assert_eq!(reason(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_print_as_in_go() {
        const ROWS: &[(i64, &str)] = &[
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (1_500_000_000, "1.5s"),
            (3_300_000_000, "3.3s"),
            (300 * SECOND, "5m0s"),
            (3600 * SECOND, "1h0m0s"),
            (4 * 60 * SECOND + 5_001_000_000, "4m5.001s"),
            (5 * 3600 * SECOND + 6 * 60 * SECOND + 7_001_000_000, "5h6m7.001s"),
            (8 * 60 * SECOND + 1, "8m0.000000001s"),
            (-90 * SECOND, "-1m30s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for &(nanoseconds, text) in ROWS {
            assert_eq!(GoDuration(nanoseconds).to_string(), text);
        }
    }

    #[test]
    fn a_negative_duration_has_no_length_and_fires_at_once() {
        assert_eq!(GoDuration(-1).length(), None);
        assert_eq!(GoDuration(-1).or_zero(), Duration::ZERO);
        assert_eq!(GoDuration(5).length(), Some(Duration::from_nanos(5)));
        assert_eq!(GoDuration::from(Duration::MAX), GoDuration(i64::MAX));
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanoseconds: i64, shift in 0u32..63) {
            let duration = GoDuration(nanoseconds >> shift);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "[-+]?([0-9]{0,25}(\\.[0-9]{0,30})?(ns|us|ms|s|m|h|d)?){0,4}|.*") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
