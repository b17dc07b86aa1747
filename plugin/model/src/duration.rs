//! Durations in Go's text form, the only one that Velero reads and writes: `720h0m0s`, `1h30m`, `1.5h`, `300ms`.
//!
//! Source of the grammar: Go's `time.ParseDuration` and `Duration.String`. Negative durations are refused: nothing in a
//! backup has one.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A non-negative duration, printed as Go prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GoDuration(pub Duration);

/// Why a duration is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no duration; write hours, minutes and seconds such as `720h`, `1h30m` or `45s`")]
pub struct DurationError(String);

/// Go's units with their length in nanoseconds. `µ` is both the micro sign and the Greek letter.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Go keeps durations in a signed 64-bit count of nanoseconds.
const MAX_NANOSECONDS: u128 = i64::MAX as u128;

impl GoDuration {
    /// A duration of whole hours.
    pub fn from_hours(hours: u64) -> Self {
        Self(Duration::from_secs(hours.saturating_mul(3600)))
    }

    /// Parses Go's text form.
    ///
    /// # Errors
    /// [`DurationError`] when the text is no duration, is negative, or is longer than Go can hold (292 years).
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        nanoseconds(text)
            .filter(|total| *total <= MAX_NANOSECONDS)
            .and_then(|total| u64::try_from(total).ok())
            .map(|total| Self(Duration::from_nanos(total)))
            .ok_or_else(|| DurationError(text.chars().take(100).collect()))
    }
}

fn nanoseconds(text: &str) -> Option<u128> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(number_end);
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.contains('.') {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let digits = fraction.get(..fraction.len().min(18))?;
        let part: u128 = if digits.is_empty() {
            0
        } else {
            digits.parse().ok()?
        };
        let divisor = 10u128.pow(u32::try_from(digits.len()).ok()?);
        total = total
            .checked_add(whole.checked_mul(*scale)?)?
            .checked_add(part.checked_mul(*scale)? / divisor)?;
        rest = next;
    }
    Some(total)
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.0.as_nanos();
        if nanoseconds == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [("ns", 1u128), ("µs", 1_000), ("ms", 1_000_000)] {
            if nanoseconds < scale * 1000 {
                return write!(f, "{}{unit}", decimal(nanoseconds, scale));
            }
        }
        let seconds = self.0.as_secs();
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        let below_a_minute = u128::from(seconds % 60) * 1_000_000_000 + u128::from(self.0.subsec_nanos());
        write!(f, "{}s", decimal(below_a_minute, 1_000_000_000))
    }
}

/// `value / scale` with as many decimals as are needed and no trailing zero.
fn decimal(value: u128, scale: u128) -> String {
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for GoDuration {
    type Error = DurationError;

    fn try_from(text: String) -> Result<Self, DurationError> {
        Self::parse(&text)
    }
}

impl From<GoDuration> for String {
    fn from(duration: GoDuration) -> Self {
        duration.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_prints_as_go_does() {
        for (text, printed) in [
            ("720h", "720h0m0s"),
            ("1h30m", "1h30m0s"),
            ("1.5h", "1h30m0s"),
            ("90m", "1h30m0s"),
            ("45s", "45s"),
            ("0", "0s"),
            ("0s", "0s"),
            ("300ms", "300ms"),
            ("1.5ms", "1.5ms"),
            ("1us", "1µs"),
            ("1m0.25s", "1m0.25s"),
            ("+5m", "5m0s"),
            (".5s", "500ms"),
        ] {
            assert_eq!(GoDuration::parse(text).unwrap().to_string(), printed, "{text}");
        }
        for bad in [
            "",
            "-1h",
            "1",
            "h",
            "1d",
            "1h ",
            "1..5h",
            ".h",
            "9999999999h",
            "one",
        ] {
            assert!(GoDuration::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_is_a_round_trip(nanoseconds in 0u64..=i64::MAX as u64) {
            let duration = GoDuration(Duration::from_nanos(nanoseconds));
            prop_assert_eq!(GoDuration::parse(&duration.to_string()).unwrap(), duration);
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,20}") {
            let _ = GoDuration::parse(&text);
        }
    }
}
