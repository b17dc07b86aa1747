//! The next time that fields name, as `SpecSchedule.Next` of robfig/cron finds it.
//!
//! The search goes up field by field and begins anew whenever a field wraps around. It works on seconds since 1970 and
//! asks the zone for the clock at each step, as the original does with Go's times; a clock time that a zone does not have,
//! or has twice, is resolved as Go resolves it.

use jiff::{Timestamp, Zoned, civil, tz::TimeZone};

use super::{field::Fields, floor};

/// Years after which the search gives up.
const YEARS: i16 = 5;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// The next time after `after`; `None` when there is none within five years.
pub(super) fn next(fields: &Fields, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    // The original tries every minute of five years.
    if fields.minute.is_empty() || fields.hour.is_empty() {
        return None;
    }
    let mut at = Clock::new(floor(after).checked_add(1)?, zone)?;
    let last_year = at.now.year().checked_add(YEARS)?;
    let mut moved = false;
    'wrap: loop {
        if at.now.year() > last_year {
            return None;
        }
        while !fields.month.has(at.now.month()) {
            if !moved {
                moved = true;
                at.set(at.now.date().first_of_month(), 0)?;
            }
            at.add_month()?;
            if at.now.month() == 1 {
                continue 'wrap;
            }
        }
        while !fields.day_matches(at.now.day(), at.now.weekday().to_sunday_zero_offset()) {
            if !moved {
                moved = true;
                at.set(at.now.date(), 0)?;
            }
            at.add_day()?;
            // Midnight may be missing, or the clock may have been set back over it.
            let hour = i64::from(at.now.hour());
            if hour > 12 {
                at.advance((24 - hour) * HOUR)?;
            } else if hour != 0 {
                at.advance(-hour * HOUR)?;
            }
            if at.now.day() == 1 {
                continue 'wrap;
            }
        }
        while !fields.hour.has(at.now.hour()) {
            if !moved {
                moved = true;
                at.set(at.now.date(), at.now.hour())?;
            }
            at.advance(HOUR)?;
            if at.now.hour() == 0 {
                continue 'wrap;
            }
        }
        while !fields.minute.has(at.now.minute()) {
            if !moved {
                moved = true;
                at.truncate()?;
            }
            at.advance(MINUTE)?;
            if at.now.minute() == 0 {
                continue 'wrap;
            }
        }
        // The only second is 0.
        while at.now.second() != 0 {
            moved = true;
            at.advance(1)?;
            if at.now.second() == 0 {
                continue 'wrap;
            }
        }
        return Timestamp::from_second(at.second).ok();
    }
}

/// A time and what a clock in the zone shows then.
struct Clock<'z> {
    second: i64,
    zone: &'z TimeZone,
    now: civil::DateTime,
}

impl<'z> Clock<'z> {
    fn new(second: i64, zone: &'z TimeZone) -> Option<Self> {
        let now = clock(second, zone)?.datetime();
        Some(Self { second, zone, now })
    }

    fn jump(&mut self, second: i64) -> Option<()> {
        *self = Self::new(second, self.zone)?;
        Some(())
    }

    fn advance(&mut self, seconds: i64) -> Option<()> {
        self.jump(self.second.checked_add(seconds)?)
    }

    fn truncate(&mut self) -> Option<()> {
        self.jump(self.second.div_euclid(MINUTE) * MINUTE)
    }

    /// To this hour of a day, on the clock.
    fn set(&mut self, date: civil::Date, hour: i8) -> Option<()> {
        self.set_to(date.at(hour, 0, 0, 0))
    }

    fn add_day(&mut self) -> Option<()> {
        let date = self.now.date().tomorrow().ok()?;
        self.set_to(date.to_datetime(self.now.time()))
    }

    /// Where midnight of the first is missing, the clock may stand on the last of the month before: days that the next month
    /// does not have run over into the one after it.
    fn add_month(&mut self) -> Option<()> {
        let date = self.now.date();
        let first = date.last_of_month().tomorrow().ok()?;
        let days = jiff::Span::new().try_days(i64::from(date.day()) - 1).ok()?;
        self.set_to(first.checked_add(days).ok()?.to_datetime(self.now.time()))
    }

    /// Go's `time.Date`: the offset at the clock time taken for UTC, and where that does not hold at the time it leads to,
    /// the offset there.
    fn set_to(&mut self, wanted: civil::DateTime) -> Option<()> {
        let naive = wanted.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
        let first = offset(naive, self.zone)?;
        if first == 0 {
            return self.jump(naive);
        }
        let second = offset(naive - first, self.zone)?;
        self.jump(naive - second)
    }
}

fn clock(second: i64, zone: &TimeZone) -> Option<Zoned> {
    Some(Timestamp::from_second(second).ok()?.to_zoned(zone.clone()))
}

/// Seconds east of UTC at a time.
fn offset(second: i64, zone: &TimeZone) -> Option<i64> {
    let at = Timestamp::from_second(second).ok()?;
    Some(i64::from(zone.to_offset(at).seconds()))
}
