//! Pure. Booleans, integers and lists as Go's flags read them.

/// A boolean in one of the six spellings each way that `strconv.ParseBool` knows.
///
/// # Errors
/// Any other text.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A signed integer: decimal, or with the prefix 0x, 0o, 0 or 0b, with single underscores between digits.
///
/// # Errors
/// The text is no such integer, or does not fit into 64 bits.
pub fn signed(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let magnitude = magnitude(digits).map(i128::from);
    let signed = magnitude.map(|n| if text.starts_with('-') { -n } else { n });
    signed
        .and_then(|n| n.try_into().ok())
        .ok_or_else(|| format!("{text:?} is no integer of 64 bits"))
}

/// The same without a sign.
///
/// # Errors
/// The text is no such integer, or does not fit into 64 bits.
pub fn unsigned(text: &str) -> Result<u64, String> {
    magnitude(text).ok_or_else(|| format!("{text:?} is no integer of 64 bits that is zero or more"))
}

/// A number in plain decimal of at most 31 bits, as log levels are.
///
/// # Errors
/// The text is no such number.
pub fn level(text: &str) -> Result<u32, String> {
    let digits = Some(text).filter(|text| !text.starts_with('+'));
    let level = digits
        .and_then(|text| text.parse().ok())
        .filter(|&level: &u32| level <= i32::MAX as u32);
    level.ok_or_else(|| format!("{text:?} is no level from 0 to 2147483647"))
}

/// Items of the form `key<separator>value`.
///
/// # Errors
/// An item without a key or without exactly one separator, or a value that `value` refuses.
pub fn pairs<'a, V>(
    items: impl Iterator<Item = &'a str>,
    separator: char,
    value: impl Fn(&str) -> Result<V, String>,
) -> Result<Vec<(String, V)>, String> {
    items
        .map(|item| match item.split_once(separator) {
            Some((key, text)) if !key.trim().is_empty() && !text.contains(separator) => {
                Ok((key.trim().to_owned(), value(text.trim())?))
            }
            _ => Err(format!("item {item:?} is not of the form key{separator}value")),
        })
        .collect()
}

fn magnitude(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // Behind a prefix an underscore may come first.
    let digits = if radix == 10 {
        digits
    } else {
        digits.strip_prefix('_').unwrap_or(digits)
    };
    let misplaced = digits.starts_with(['_', '+']) || digits.ends_with('_') || digits.contains("__");
    if misplaced {
        None
    } else {
        u64::from_str_radix(&digits.replace('_', ""), radix).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn booleans_have_six_spellings_each_way() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(text), Ok(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(text), Ok(false), "{text}");
        }
        for text in ["", "yes", "on", "tRUE", " true", "2"] {
            assert!(boolean(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn integers_are_read_in_every_base_that_go_reads() {
        for (text, number) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("-1", Some(-1)),
            ("+5", Some(5)),
            ("0x1F", Some(31)),
            ("-0b101", Some(-5)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("1_000", Some(1000)),
            ("0x_ff", Some(255)),
            ("0_7", Some(7)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("+-1", None),
            ("08", None),
            ("0x", None),
            ("0x+1", None),
            ("1__0", None),
            ("_1", None),
            ("1_", None),
            ("1.5", None),
            ("1e3", None),
            (" 1", None),
        ] {
            assert_eq!(signed(text).ok(), number, "{text:?}");
            let unsigned_number = number.filter(|_| !text.starts_with(['+', '-'])).map(|n| n as u64);
            if text != "9223372036854775808" {
                assert_eq!(unsigned(text).ok(), unsigned_number, "{text:?} without sign");
            }
        }
        assert_eq!(unsigned("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn levels_are_plain_decimals_of_31_bits() {
        assert_eq!(level("5"), Ok(5));
        assert_eq!(level("2147483647"), Ok(i32::MAX as u32));
        for text in ["2147483648", "-1", "+1", "0x1", "", "high"] {
            assert!(level(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_list_of_pairs_is_whole_or_an_error() {
        let read = |text: &str| pairs(text.split(','), ':', |value| Ok(value.to_owned())).ok();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(read("a:1"), Some(vec![pair("a", "1")]));
        assert_eq!(read("a:1, b:"), Some(vec![pair("a", "1"), pair("b", "")]));
        for text in ["", "a", "a:1,", "a:1:2", ":1"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+]?0?[xXoObB_]?[0-9a-f_]{0,25}|.*") {
            let _ = (signed(&text), unsigned(&text), level(&text), boolean(&text));
        }
    }
}
