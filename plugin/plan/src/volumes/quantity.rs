//! Kubernetes' quantities (`10Gi`, `500m`, `1.5e3`) as exact numbers.
//!
//! Go keeps them as decimals with at most nine digits behind the point, rounded up; so does this, as a whole number of
//! billionths. Of a number that is written with more than 19 digits the rest is rounded up. What does not fit is the
//! largest number there is; numbers with a binary suffix end at 2^63-1, as in Go.

use std::fmt;

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is no quantity; write for example 500Mi, 10Gi or 2T")]
pub struct QuantityError {
    /// The text.
    pub text: String,
}

/// An exact number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    billionths: i128,
}

/// Digits that are read: as many, times 2^60, fit into an `i128`.
const MOST_DIGITS: usize = 19;
/// The billionths of 2^63-1, where Go's numbers with a binary suffix end.
const BINARY_END: i128 = (i64::MAX as i128) * 1_000_000_000;

impl Quantity {
    /// Reads a quantity as Go's `resource.ParseQuantity` does.
    ///
    /// # Errors
    /// When Go would refuse it too.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        parse(text).ok_or_else(|| QuantityError {
            text: text.to_owned(),
        })
    }

    /// A number of bytes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self {
            billionths: i128::from(bytes) * 1_000_000_000,
        }
    }

    /// The number itself, rounded up to a whole one as Go's `Value()` does, within the range of an `i64`.
    pub fn value(self) -> i64 {
        let whole = self.billionths.div_euclid(1_000_000_000);
        let up = i128::from(self.billionths.rem_euclid(1_000_000_000) > 0);
        i64::try_from(whole + up).unwrap_or(if self.billionths > 0 { i64::MAX } else { i64::MIN })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value())
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let scale = scale(suffix)?;
    let billionths = magnitude(whole, fraction, scale);
    Some(Quantity {
        billionths: if negative { -billionths } else { billionths },
    })
}

/// What the digits are multiplied with.
#[derive(Debug, Clone, Copy)]
enum Scale {
    Binary(u32),
    Decimal(i64),
}

fn scale(suffix: &str) -> Option<Scale> {
    Some(match suffix {
        "" => Scale::Decimal(0),
        "n" => Scale::Decimal(-9),
        "u" => Scale::Decimal(-6),
        "m" => Scale::Decimal(-3),
        "k" => Scale::Decimal(3),
        "M" => Scale::Decimal(6),
        "G" => Scale::Decimal(9),
        "T" => Scale::Decimal(12),
        "P" => Scale::Decimal(15),
        "E" => Scale::Decimal(18),
        "Ki" => Scale::Binary(10),
        "Mi" => Scale::Binary(20),
        "Gi" => Scale::Binary(30),
        "Ti" => Scale::Binary(40),
        "Pi" => Scale::Binary(50),
        "Ei" => Scale::Binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // As Go, which reads it as a 32-bit number.
            Scale::Decimal(i64::from(exponent.parse::<i32>().ok()?))
        }
    })
}

/// `whole.fraction` times the scale in billionths, rounded up.
fn magnitude(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let behind = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    match scale {
        Scale::Decimal(exponent) => shifted(digits, exponent.saturating_sub(behind).saturating_add(9), 1),
        Scale::Binary(bits) => shifted(digits, 9_i64.saturating_sub(behind), 1_i128 << bits).min(BINARY_END),
    }
}

/// `digits` times `factor` times 10 to the `exponent`, rounded up.
fn shifted(digits: &str, exponent: i64, factor: i128) -> i128 {
    let (head, tail) = digits.split_at(digits.len().min(MOST_DIGITS));
    let Ok(mantissa) = head.parse::<i128>() else {
        return i128::MAX;
    };
    let mantissa = mantissa + i128::from(tail.bytes().any(|byte| byte != b'0'));
    let exponent = exponent.saturating_add(i64::try_from(tail.len()).unwrap_or(i64::MAX));
    let power = u32::try_from(exponent.unsigned_abs())
        .ok()
        .and_then(|exponent| 10_i128.checked_pow(exponent));
    let product = mantissa.checked_mul(factor);
    match (power, exponent >= 0) {
        (Some(power), true) => product
            .and_then(|product| product.checked_mul(power))
            .unwrap_or(i128::MAX),
        (None, true) => i128::MAX,
        (Some(power), false) => product.map_or(i128::MAX, |product| {
            product / power + i128::from(product % power != 0)
        }),
        (None, false) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mantissa: i128, exponent: u32) -> Quantity {
        Quantity {
            billionths: mantissa * 10_i128.pow(exponent + 9),
        }
    }

    fn small(mantissa: i128, behind: u32) -> Quantity {
        Quantity {
            billionths: mantissa * 10_i128.pow(9 - behind),
        }
    }

    /// The table of Go's `TestQuantityParse`.
    #[test]
    fn vectors_of_go() {
        let cap = of(i128::from(i64::MAX), 0);
        let table = [
            ("0", of(0, 0)),
            ("0n", of(0, 0)),
            ("0u", of(0, 0)),
            ("0m", of(0, 0)),
            ("0Ki", of(0, 0)),
            ("0k", of(0, 0)),
            ("0T", of(0, 0)),
            ("1", of(1, 0)),
            ("1Ki", of(1 << 10, 0)),
            ("8Ki", of(8 << 10, 0)),
            ("7Mi", of(7 << 20, 0)),
            ("6Gi", of(6 << 30, 0)),
            ("5Ti", of(5 << 40, 0)),
            ("4Pi", of(4 << 50, 0)),
            ("3Ei", of(3 << 60, 0)),
            ("100Ti", of(100 << 40, 0)),
            ("5n", small(5, 9)),
            ("4u", small(4, 6)),
            ("3m", small(3, 3)),
            ("9", of(9, 0)),
            ("8k", of(8, 3)),
            ("50k", of(5, 4)),
            ("7M", of(7, 6)),
            ("6G", of(6, 9)),
            ("5T", of(5, 12)),
            ("2P", of(2, 15)),
            ("1E", of(1, 18)),
            ("1E-3", small(1, 3)),
            ("1e3", of(1, 3)),
            ("1E6", of(1, 6)),
            ("1e9", of(1, 9)),
            ("1E12", of(1, 12)),
            ("1E18", of(1, 18)),
            ("100.035k", of(100_035, 0)),
            ("0.001", small(1, 3)),
            ("0.0005k", small(5, 1)),
            ("0.00500", small(5, 3)),
            ("0.50000", small(5, 1)),
            ("0.5e0", small(5, 1)),
            ("0.5e-2", small(5, 3)),
            ("10.035M", of(10_035, 3)),
            ("1.3E+6", of(13, 5)),
            ("1.53E12", of(153, 10)),
            ("1.7E18", of(17, 17)),
            ("9.01", small(901, 2)),
            ("7.123456M", of(7_123_456, 0)),
            ("6.987654321G", of(6_987_654_321, 0)),
            ("1.01E", of(101, 16)),
            ("3.001n", small(4, 9)),
            ("1.1E-9", small(2, 9)),
            ("0.0000000001", small(1, 9)),
            ("0.00000000050", small(1, 9)),
            ("0.5e-9", small(1, 9)),
            ("0.9n", small(1, 9)),
            ("0.00000012345", small(124, 9)),
            ("9Ei", cap),
            ("9223372036854775807Ki", cap),
            ("12E", of(12, 18)),
            ("100.035Ki", small(10_243_584, 2)),
            ("0.5Mi", of(1 << 19, 0)),
            ("0.05Gi", small(536_870_912, 1)),
            ("0.025Ti", small(274_877_906_944, 1)),
            ("0.000000000001Ki", small(2, 9)),
            (".001", small(1, 3)),
            (".0001k", small(100, 3)),
            ("1.", of(1, 0)),
            ("1.G", of(1, 9)),
        ];
        for (text, expected) in table {
            assert_eq!(Quantity::parse(text).unwrap(), expected, "{text}");
            assert_eq!(Quantity::parse(&format!("+{text}")).unwrap(), expected, "+{text}");
            let negative = Quantity::parse(&format!("-{text}")).unwrap();
            assert_eq!(negative.billionths, -expected.billionths, "-{text}");
        }
        for text in [
            "", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-", " 1", "1 ",
            "+-1", "1e", "1e+-3", "é", "1e3Ki", "1K",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_without_end_are_no_fault() {
        let nines = "9".repeat(400);
        for text in [
            nines.clone(),
            format!("0.{nines}Ei"),
            format!("{nines}e2147483647"),
            format!("0.{nines}e-2147483648"),
        ] {
            assert!(
                Quantity::parse(&text).unwrap() > Quantity::from_bytes(0),
                "{text}"
            );
        }
        assert!(Quantity::parse("1e99999999999").is_err());
        assert_eq!(Quantity::parse("1e30").unwrap().value(), i64::MAX);
        assert_eq!(Quantity::parse("1500m").unwrap().value(), 2);
        assert_eq!(Quantity::parse("-1500m").unwrap().value(), -1);
    }
}
