//! Pure. Kubernetes quantities, as far as storage needs them: text to whole bytes, and whole bytes to text.
//!
//! The arithmetic is exact because a claim of `0.1Ei` must ask the driver for the same byte count as upstream does;
//! the published crates go through floating point.

use thiserror::Error;

/// Why a quantity is no byte count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not the grammar of `resource.ParseQuantity`.
    #[error("quantity {0:?} is not a number with an optional suffix such as 5Gi, 1.5M, 1e9 or 100m")]
    Malformed(String),
    /// Below zero; no volume has such a size.
    #[error("quantity {0:?} is negative, and a size cannot be")]
    Negative(String),
    /// More bytes than the CSI protocol can carry in its signed 64 bits.
    #[error("quantity {0:?} is more than 9223372036854775807 bytes")]
    TooLarge(String),
}

/// What a suffix multiplies by.
enum Scale {
    /// 2 to the power of this.
    Two(u32),
    /// 10 to the power of this.
    Ten(i64),
}

/// Whole bytes of a quantity, rounded up, as `Quantity.Value()` gives them.
///
/// Accepts what `resource.ParseQuantity` accepts: leading and trailing dots, signs, `n u m k M G T P E`, `Ki` to `Ei`
/// and decimal exponents (`1e3`, `1E-3`); `E` alone is exa. Unlike upstream, which silently stops at the largest
/// number, too much is an error.
///
/// # Errors
/// [`QuantityError`] when the text is no quantity, or no size that CSI can carry.
pub fn to_bytes(text: &str) -> Result<i64, QuantityError> {
    let malformed = || QuantityError::Malformed(text.to_owned());
    let too_large = || QuantityError::TooLarge(text.to_owned());
    if text.is_empty() {
        return Err(malformed());
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, rest) = split_digits(unsigned);
    let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    let scale = scale(suffix).ok_or_else(malformed)?;
    let digits: Vec<u8> = whole
        .bytes()
        .chain(fraction.bytes())
        .map(|digit| digit - b'0')
        .collect();
    if digits.iter().all(|&digit| digit == 0) {
        return Ok(0);
    }
    if text.starts_with('-') {
        return Err(QuantityError::Negative(text.to_owned()));
    }
    let bytes = match scale {
        Scale::Ten(power) => decimal(&digits, power.saturating_add(whole.len() as i64)),
        Scale::Two(power) => binary(digits, whole.len(), power),
    };
    bytes.ok_or_else(too_large)
}

/// The canonical text of a byte count, as `NewQuantity(bytes, BinarySI)` prints it: the largest binary suffix that
/// divides it, else the plain number.
pub fn from_bytes(bytes: i64) -> String {
    // Below 1024 upstream changes to decimal suffixes, and this is the only number there that has one.
    if bytes.unsigned_abs() == 1000 {
        return format!("{}k", bytes / 1000);
    }
    let (mut number, mut steps) = (bytes, 0);
    while number != 0 && number % 1024 == 0 && steps < SUFFIXES.len() - 1 {
        number /= 1024;
        steps += 1;
    }
    format!("{number}{}", SUFFIXES[steps])
}

/// Binary suffixes; each is 1024 times the one before it.
const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

fn scale(suffix: &str) -> Option<Scale> {
    if let Some(steps) = SUFFIXES.iter().position(|known| *known == suffix) {
        return Some(if steps == 0 {
            Scale::Ten(0)
        } else {
            Scale::Two(steps as u32 * 10)
        });
    }
    Some(Scale::Ten(match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
    }))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The number whose decimal point stands before `digits[point]`, rounded up. None when it does not fit.
fn decimal(digits: &[u8], point: i64) -> Option<i64> {
    let mut whole = 0i64;
    for place in 0..point {
        // Terminates although `point` may be astronomical: the digits are not all zero, so this overflows soon.
        let digit = digits.get(place as usize).copied().unwrap_or(0);
        whole = whole.checked_mul(10)?.checked_add(digit.into())?;
    }
    let fraction = digits.get(point.max(0) as usize..).unwrap_or(&[]);
    whole.checked_add(fraction.iter().any(|&digit| digit != 0).into())
}

/// The same number times 2 to the `power`, doubling the decimal fraction digit by digit, which loses nothing.
fn binary(mut digits: Vec<u8>, point: usize, power: u32) -> Option<i64> {
    let mut fraction = digits.split_off(point);
    let mut whole = decimal(&digits, point as i64)?;
    for _ in 0..power {
        let mut carry = 0;
        for digit in fraction.iter_mut().rev() {
            let doubled = *digit * 2 + carry;
            *digit = doubled % 10;
            carry = doubled / 10;
        }
        whole = whole.checked_mul(2)?.checked_add(carry.into())?;
    }
    whole.checked_add(fraction.iter().any(|&digit| digit != 0).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_becomes_the_bytes_that_upstream_asks_the_driver_for() {
        const ROWS: &[(&str, i64)] = &[
            ("0", 0),
            ("-0", 0),
            ("+0.000", 0),
            ("1", 1),
            ("+5", 5),
            ("007", 7),
            ("1Ki", 1024),
            ("1k", 1000),
            ("1M", 1_000_000),
            ("1Mi", 1 << 20),
            ("5Gi", 5 << 30),
            ("1Ti", 1 << 40),
            ("1Pi", 1 << 50),
            ("7Ei", 7 << 60),
            ("1G", 1_000_000_000),
            ("1T", 1_000_000_000_000),
            ("1P", 1_000_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1e+3", 1000),
            ("1500e-3", 2),
            ("1.5Gi", 1_610_612_736),
            (".5Ki", 512),
            ("5.Ki", 5120),
            ("0.1Gi", 107_374_183),
            ("0.1Ei", 115_292_150_460_684_698),
            ("1m", 1),
            ("1u", 1),
            ("1n", 1),
            ("1000m", 1),
            ("1001m", 2),
            ("1.0000000000000000000000000000000000000000001", 2),
            ("0.0000000000000000000000000000000000000000001Ei", 1),
            ("1000000000000000000000000000n", 1_000_000_000_000_000_000),
            ("1e-1000000000000", 1),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775806.1", i64::MAX),
            ("7.999999999999999999Ei", i64::MAX),
        ];
        for &(text, bytes) in ROWS {
            assert_eq!(to_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn garbage_is_refused_with_its_own_text() {
        for text in [
            "",
            " ",
            " 1",
            "1 ",
            "Gi5",
            "1GiB",
            "1gi",
            "1KI",
            "1K",
            "1e",
            "1E+",
            "1e3Ki",
            "1ee3",
            "1.2.3",
            "--1",
            "+-1",
            "1+1",
            "0x10",
            "1_000",
            "١",
            "NaN",
            "inf",
            "1i",
            "1e99999999999999999999",
        ] {
            assert_eq!(
                to_bytes(text),
                Err(QuantityError::Malformed(text.to_owned())),
                "{text:?}"
            );
        }
    }

    #[test]
    fn negative_and_oversized_sizes_are_errors_of_their_own() {
        for text in ["-1", "-1Gi", "-0.001", "-1n", "-9e99"] {
            assert_eq!(
                to_bytes(text),
                Err(QuantityError::Negative(text.to_owned())),
                "{text}"
            );
        }
        for text in [
            "9223372036854775808",
            "9223372036854775807.1",
            "8Ei",
            "10E",
            "1e19",
            "1e9223372036854775807",
        ] {
            assert_eq!(
                to_bytes(text),
                Err(QuantityError::TooLarge(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn bytes_print_as_upstream_prints_the_capacity_of_a_volume() {
        const ROWS: &[(i64, &str)] = &[
            (0, "0"),
            (1, "1"),
            (999, "999"),
            (1000, "1k"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1025, "1025"),
            (1536, "1536"),
            (2000, "2000"),
            (1 << 20, "1Mi"),
            (1536 << 20, "1536Mi"),
            (1_073_741_824, "1Gi"),
            (1_073_741_825, "1073741825"),
            (1 << 40, "1Ti"),
            (1 << 50, "1Pi"),
            (7 << 60, "7Ei"),
            (i64::MAX, "9223372036854775807"),
            (i64::MIN, "-8Ei"),
        ];
        for &(bytes, text) in ROWS {
            assert_eq!(from_bytes(bytes), text);
        }
    }

    #[test]
    fn a_size_is_written_with_the_largest_unit_that_loses_nothing() {
        const ROWS: &[(&str, i64, &str)] = &[
            ("ctl.BytesToQuantity.01", 5_970_004_541, "5970004541"),
            ("ctl.BytesToQuantity.02", 5_905_580_032, "5632Mi"),
            ("ctl.BytesToQuantity.03", 5 << 30, "5Gi"),
            ("ctl.BytesToQuantity.04", 5_484_052, "5484052"),
            ("ctl.BytesToQuantity.05", 102_400, "100Ki"),
        ];
        for &(id, bytes, text) in ROWS {
            assert_eq!(from_bytes(bytes), text, "{id}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_as_the_same_bytes(bytes in 0..=i64::MAX, shift in 0u32..63) {
            let bytes = bytes >> shift << (shift / 2);
            prop_assume!(bytes >= 0);
            prop_assert_eq!(to_bytes(&from_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn a_fraction_of_a_binary_unit_is_exact(thousandths in 0u64..8_000_000, steps in 1usize..5) {
            let text = format!("{}.{:03}{}", thousandths / 1000, thousandths % 1000, SUFFIXES[steps]);
            let exact = (u128::from(thousandths) << (10 * steps)).div_ceil(1000);
            prop_assert_eq!(to_bytes(&text).unwrap() as u128, exact);
        }

        #[test]
        fn no_text_panics(text in "[-+]?[0-9.]{0,30}[eEinumkKMGTP]{0,2}[-+]?[0-9]{0,20}|.*") {
            let _ = to_bytes(&text);
        }
    }
}
