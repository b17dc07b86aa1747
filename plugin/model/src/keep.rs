//! How many backups of a schedule are kept, by count: the newest ones, and one of each of the last hours, days, weeks,
//! months and years.
//!
//! The counts travel with the backups: an annotation on the Backup object holds them in the form `last=3,daily=7`, so that
//! whoever cleans a location up later, from whatever machine, knows what the owner of the schedule wanted.

use std::{collections::BTreeMap, fmt, str::FromStr};

use thiserror::Error;

/// Annotation of a Backup, or of the Schedule that makes it, with the counts.
pub const KEEP: &str = "kubectl-backup.io/keep";

/// Counts; 0 is no rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keep {
    /// The newest ones.
    pub last: u32,
    /// One of each of the last hours that have one.
    pub hourly: u32,
    /// One of each of the last days that have one.
    pub daily: u32,
    /// One of each of the last ISO weeks that have one.
    pub weekly: u32,
    /// One of each of the last months that have one.
    pub monthly: u32,
    /// One of each of the last years that have one.
    pub yearly: u32,
    /// IANA name of the zone in which hours and days begin; UTC if not given.
    pub zone: Option<String>,
}

/// Why a text holds no counts.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` says nothing about how many backups to keep; write RULE=NUMBER with last, hourly, daily, weekly, monthly or yearly, such as last=3,daily=7"
)]
pub struct KeepError(String);

impl Keep {
    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count == 0)
    }

    /// The rules by name, in the order in which they are written.
    pub fn counts(&self) -> [(&'static str, u32); 6] {
        [
            ("last", self.last),
            ("hourly", self.hourly),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("yearly", self.yearly),
        ]
    }

    /// The counts that a Backup carries; `None` where it carries none, or none that can be read.
    pub fn from_annotations(annotations: Option<&BTreeMap<String, String>>) -> Option<Self> {
        let keep: Self = annotations?.get(KEEP)?.parse().ok()?;
        Some(keep).filter(|keep| !keep.is_empty())
    }

    fn set(&mut self, rule: &str, value: &str) -> Option<()> {
        if rule == "zone" {
            self.zone = Some(value.to_owned()).filter(|zone| !zone.is_empty());
            return Some(());
        }
        let count = value.parse().ok()?;
        *match rule {
            "last" => &mut self.last,
            "hourly" => &mut self.hourly,
            "daily" => &mut self.daily,
            "weekly" => &mut self.weekly,
            "monthly" => &mut self.monthly,
            "yearly" => &mut self.yearly,
            _ => return None,
        } = count;
        Some(())
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (rule, count) in self.counts().into_iter().filter(|(_, count)| *count > 0) {
            write!(f, "{comma}{rule}={count}")?;
            comma = ",";
        }
        match &self.zone {
            Some(zone) => write!(f, "{comma}zone={zone}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Keep {
    type Err = KeepError;

    fn from_str(text: &str) -> Result<Self, KeepError> {
        let refuse = || KeepError(text.chars().take(100).collect());
        let mut keep = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (rule, value) = word.split_once('=').ok_or_else(refuse)?;
            keep.set(rule.trim(), value.trim()).ok_or_else(refuse)?;
        }
        Ok(keep)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_form_is_fixed() {
        let keep = Keep {
            last: 3,
            weekly: 4,
            zone: Some("Europe/Berlin".into()),
            ..Keep::default()
        };
        assert_eq!(keep.to_string(), "last=3,weekly=4,zone=Europe/Berlin");
        assert_eq!(keep.to_string().parse(), Ok(keep));
        assert_eq!("".parse(), Ok(Keep::default()));
        for bad in ["last", "last=", "last=-1", "often=3", "last=3 daily=2"] {
            assert!(bad.parse::<Keep>().is_err(), "{bad}");
        }
    }

    #[test]
    fn annotations_that_say_nothing_are_no_rule() {
        let annotations = |text: &str| BTreeMap::from([(KEEP.to_owned(), text.to_owned())]);
        let of = |text| Keep::from_annotations(Some(&annotations(text)));
        assert_eq!(of("daily=7").map(|keep| keep.daily), Some(7));
        assert_eq!((of("daily=0"), of("daily"), of("")), (None, None, None));
        assert_eq!(Keep::from_annotations(None), None);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,30}") {
            let _ = text.parse::<Keep>();
        }
    }
}
