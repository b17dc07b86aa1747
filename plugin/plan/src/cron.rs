//! Times of schedules: cron expressions as robfig/cron takes them, which CronJobs and Veleros up to 1.17 are built on.
//!
//! In comes an expression (five fields, `@daily`, `@every 6h`, either behind `CRON_TZ=ZONE `); out goes a [`Cron`], or an
//! error with the field and the reason, and from it the next times. Grammar and times are those of `ParseStandard` and
//! `Next` of robfig/cron 3.0.1 to the letter, oddities included, and a differential test holds them to it: `*/2` counts as
//! a restricted field, a time that a zone skips is left out, one that it has twice comes twice where the hour is `*` and once
//! elsewhere, and an expression that finds nothing within five years never fires. No crate for cron does that, and a guard
//! around one would be as long as this.
//!
//! An expression without a zone is meant in UTC: that is what the clock of Velero's image says, and what CronJobs of ours
//! are told. Velero 1.18.3 and later read by another library; [`Cron::is_read_differently`] names the expressions whose
//! times differ there.

mod field;
mod next;

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use thiserror::Error;
use velero_model::duration::GoDuration;

use self::field::Fields;

/// An expression with its zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// The zone as it was written; `None`: UTC.
    zone_name: Option<String>,
    zone: TimeZone,
    /// The expression without its zone.
    expression: String,
    when: When,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    Fields(Fields),
    /// Seconds from one time to the next.
    Every(u64),
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CronError {
    /// Nothing there.
    #[error("the schedule is empty; write five fields such as `0 1 * * *`, or @daily, or @every 6h")]
    Empty,
    /// A zone without an expression behind it.
    #[error("`{0}` is a time zone and no schedule; write CRON_TZ=ZONE, a blank and the schedule")]
    ZoneOnly(String),
    /// A zone that is not known.
    #[error("time zone `{0}` is not known; write an IANA name such as Europe/Berlin, in that very case")]
    Zone(String),
    /// Too few or too many fields.
    #[error(
        "`{text}` has {found} fields, not five; write minute, hour, day of month, month and day of week, such as `0 1 * * *`"
    )]
    Fields {
        /// The expression.
        text: String,
        /// How many there are.
        found: usize,
    },
    /// A field that makes no sense.
    #[error("{field} `{text}`: {problem}")]
    Field {
        /// `minute`.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// `@sometimes`.
    #[error(
        "`{0}` is not known; known are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually and @every 6h"
    )]
    Descriptor(String),
    /// `@every` without a duration.
    #[error("`{0}` has no duration; write hours, minutes and seconds such as @every 6h or @every 1h30m")]
    Every(String),
}

/// An interval that a CronJob cannot keep.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a CronJob cannot run @every {every}; the nearest that it can is `{nearest}` (every {instead})")]
pub struct NotACronJob {
    /// What was asked for.
    pub every: GoDuration,
    /// Five fields.
    pub nearest: String,
    /// How often those run.
    pub instead: GoDuration,
}

impl Cron {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`CronError`] where robfig/cron refuses it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.is_empty() {
            return Err(CronError::Empty);
        }
        let (zone_name, zone, expression) = split_zone(text)?;
        let when = if expression.starts_with('@') {
            descriptor(expression)?
        } else {
            When::Fields(Fields::parse(expression)?)
        };
        Ok(Self {
            zone_name: zone_name.map(str::to_owned),
            zone,
            expression: expression.split_whitespace().collect::<Vec<_>>().join(" "),
            when,
        })
    }

    /// The next time after this one; `None` if there is none within five years.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Fields(fields) => next::next(fields, &self.zone, after),
            When::Every(seconds) => {
                let floor = floor(after);
                Timestamp::from_second(floor.checked_add(i64::try_from(*seconds).ok()?)?).ok()
            }
        }
    }

    /// The next times after this one.
    pub fn upcoming(&self, after: Timestamp, number: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(after), |time| self.next(*time))
            .take(number)
            .collect()
    }

    /// The zone in which it is meant.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Name of that zone for the `timeZone` of a CronJob.
    pub fn zone_name(&self) -> &str {
        match self.zone_name.as_deref() {
            None | Some("" | "Local") => "Etc/UTC",
            Some(name) => name,
        }
    }

    /// The interval of an `@every`.
    pub fn every(&self) -> Option<Duration> {
        match &self.when {
            When::Every(seconds) => Some(Duration::from_secs(*seconds)),
            When::Fields(_) => None,
        }
    }

    /// Why Velero 1.18.3 and later fire at other times than this says, if they do.
    pub fn is_read_differently(&self) -> Option<&'static str> {
        match &self.when {
            When::Fields(fields) if fields.has_both_days() => Some(
                "it restricts both day of month and day of week: Veleros up to 1.17 and CronJobs run when either matches, \
                 Velero 1.18.3 when both do",
            ),
            _ => None,
        }
    }

    /// The `schedule` of a CronJob, whose zone is a field of its own.
    ///
    /// # Errors
    /// [`NotACronJob`]: an interval that is no even part of an hour or a day.
    pub fn for_cron_job(&self) -> Result<String, NotACronJob> {
        match &self.when {
            When::Fields(_) => Ok(self.expression.clone()),
            When::Every(seconds) => {
                let (nearest, instead) = nearest_fields(*seconds);
                if instead == *seconds {
                    return Ok(nearest);
                }
                Err(NotACronJob {
                    every: GoDuration(Duration::from_secs(*seconds)),
                    nearest,
                    instead: GoDuration(Duration::from_secs(instead)),
                })
            }
        }
    }
}

impl std::fmt::Display for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.zone_name {
            Some(zone) => write!(f, "CRON_TZ={zone} {}", self.expression),
            None => f.write_str(&self.expression),
        }
    }
}

/// Whole seconds, rounded down.
fn floor(time: Timestamp) -> i64 {
    time.as_millisecond().div_euclid(1000)
}

fn split_zone(text: &str) -> Result<(Option<&str>, TimeZone, &str), CronError> {
    let Some(rest) = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) else {
        return Ok((None, TimeZone::UTC, text));
    };
    // robfig/cron falls over here, which Velero catches and refuses.
    let Some((name, expression)) = rest.split_once(' ') else {
        return Err(CronError::ZoneOnly(text.to_owned()));
    };
    let zone = zone(name).ok_or_else(|| CronError::Zone(name.to_owned()))?;
    Ok((Some(name), zone, expression.trim()))
}

/// A zone as Go finds it: by its file's name, in that very case.
fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "" | "UTC" | "Local" => Some(TimeZone::UTC),
        _ => TimeZone::get(name)
            .ok()
            .filter(|zone| zone.iana_name() == Some(name)),
    }
}

fn descriptor(text: &str) -> Result<When, CronError> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => {
            let Some(duration) = text.strip_prefix("@every ") else {
                return Err(CronError::Descriptor(text.to_owned()));
            };
            // Go knows negative durations, and takes whatever is below a second for one.
            let positive = duration
                .strip_prefix('-')
                .filter(|rest| !rest.starts_with(['+', '-']));
            let parsed = GoDuration::parse(positive.unwrap_or(duration))
                .map_err(|_| CronError::Every(text.to_owned()))?;
            let seconds = if positive.is_some() {
                1
            } else {
                parsed.0.as_secs().max(1)
            };
            return Ok(When::Every(seconds));
        }
    };
    Ok(When::Fields(Fields::parse(fields)?))
}

/// Five fields that run as nearly as often as this, and how many seconds lie between two times.
fn nearest_fields(seconds: u64) -> (String, u64) {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let minutes = (1..=30)
        .filter(|minutes| 60 % minutes == 0)
        .map(|n| (n * MINUTE, n));
    let hours = (1..=12).filter(|hours| 24 % hours == 0).map(|n| (n * HOUR, n));
    let of_minutes = minutes.map(|(length, n)| (length, format!("*/{n} * * * *")));
    let of_hours = hours.map(|(length, n)| (length, format!("0 */{n} * * *")));
    let others = [(DAY, "0 0 * * *".to_owned()), (7 * DAY, "0 0 * * 0".to_owned())];
    of_minutes
        .chain(of_hours)
        .chain(others)
        .min_by_key(|(length, _)| (length.abs_diff(seconds), *length))
        .map_or_else(
            || ("0 0 * * *".to_owned(), DAY),
            |(length, fields)| (fields, length),
        )
}

#[cfg(test)]
mod tests;
