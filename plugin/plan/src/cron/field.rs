//! The five fields: which minutes, hours, days and months they name, as bits.
//!
//! The grammar is robfig/cron's: a list of `*`, `?`, numbers, names and ranges, each with a step. What looks like an
//! oversight there is kept (`5/15` runs to the end, `*-x` is `*`, a field of commas names nothing), because schedules that
//! Velero or a CronJob takes must mean the same here.

use super::CronError;

/// Set where a `*` or `?` without a step stands: the field does not restrict.
const STAR: u64 = 1 << 63;

/// All five.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) minute: Field,
    pub(super) hour: Field,
    day_of_month: Field,
    pub(super) month: Field,
    day_of_week: Field,
}

/// The numbers that a field names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field(u64);

struct Bounds {
    name: &'static str,
    min: u64,
    max: u64,
    /// Names of numbers from `min` on.
    names: &'static [&'static str],
}

const MINUTE: Bounds = Bounds {
    name: "minute",
    min: 0,
    max: 59,
    names: &[],
};
const HOUR: Bounds = Bounds {
    name: "hour",
    min: 0,
    max: 23,
    names: &[],
};
const DAY_OF_MONTH: Bounds = Bounds {
    name: "day of month",
    min: 1,
    max: 31,
    names: &[],
};
const MONTH: Bounds = Bounds {
    name: "month",
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const DAY_OF_WEEK: Bounds = Bounds {
    name: "day of week",
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Fields {
    pub(super) fn parse(text: &str) -> Result<Self, CronError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day_of_month, month, day_of_week] = words.as_slice() else {
            return Err(CronError::Fields {
                text: text.to_owned(),
                found: words.len(),
            });
        };
        Ok(Self {
            minute: Field::parse(minute, &MINUTE)?,
            hour: Field::parse(hour, &HOUR)?,
            day_of_month: Field::parse(day_of_month, &DAY_OF_MONTH)?,
            month: Field::parse(month, &MONTH)?,
            day_of_week: Field::parse(day_of_week, &DAY_OF_WEEK)?,
        })
    }

    /// Either day field suffices where both are restricted. Sunday is 0.
    pub(super) fn day_matches(&self, day: i8, weekday: i8) -> bool {
        let (in_month, in_week) = (self.day_of_month.has(day), self.day_of_week.has(weekday));
        if self.has_both_days() {
            in_month || in_week
        } else {
            in_month && in_week
        }
    }

    pub(super) fn has_both_days(&self) -> bool {
        !self.day_of_month.is_star() && !self.day_of_week.is_star()
    }
}

impl Field {
    fn parse(text: &str, bounds: &Bounds) -> Result<Self, CronError> {
        let mut bits = 0;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            bits |= part_bits(part, bounds).map_err(|problem| CronError::Field {
                field: bounds.name,
                text: part.to_owned(),
                problem,
            })?;
        }
        Ok(Self(bits))
    }

    pub(super) fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.0 & (1 << number) != 0)
    }

    fn is_star(self) -> bool {
        self.0 & STAR != 0
    }

    /// Whether no number is named at all.
    pub(super) fn is_empty(self) -> bool {
        self.0 & !STAR == 0
    }
}

fn part_bits(part: &str, bounds: &Bounds) -> Result<u64, String> {
    let slashes: Vec<&str> = part.split('/').collect();
    let hyphens: Vec<&str> = slashes.first().copied().unwrap_or_default().split('-').collect();
    let first = hyphens.first().copied().unwrap_or_default();
    let (start, mut end, mut star) = if matches!(first, "*" | "?") {
        (bounds.min, bounds.max, STAR)
    } else {
        let start = number_or_name(first, bounds)?;
        match hyphens.as_slice() {
            [_] => (start, start, 0),
            [_, last] => (start, number_or_name(last, bounds)?, 0),
            _ => return Err("a range has one hyphen, such as 1-5".to_owned()),
        }
    };
    let step = match slashes.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if hyphens.len() == 1 {
                end = bounds.max;
            }
            if step > 1 {
                star = 0;
            }
            step
        }
        _ => return Err("a step has one slash, such as */15".to_owned()),
    };
    if start < bounds.min {
        return Err(format!("{start} is below {}", bounds.min));
    }
    if end > bounds.max {
        return Err(format!("{end} is above {}", bounds.max));
    }
    if start > end {
        return Err(format!("the range begins with {start} after its end {end}"));
    }
    if step == 0 {
        return Err("the step is 0".to_owned());
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    Ok((start..=end)
        .step_by(step)
        .fold(star, |bits, number| bits | 1 << number))
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u64, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(position) => Ok(bounds.min + position as u64),
        None => number(text),
    }
}

/// As Go's Atoi: an optional sign and digits, up to what 64 bits hold.
fn number(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let value = Some(digits)
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|_| text.parse::<i64>().ok());
    match value {
        Some(value) => u64::try_from(value).map_err(|_| format!("{value} is negative")),
        None => Err(format!("{text:?} is no number")),
    }
}
