//! Counting: the newest N, and one of each of the newest N hours, days, weeks, months, years.
//!
//! In come the backups of one group; out go, for each that is counted, the rules that count it. Only restorable backups
//! count: a schedule that fails every night must not push its good backups out. Of a period the best one is kept: a whole
//! one before one with a file missing, a Completed one before a PartiallyFailed one, then the newest. Periods without a
//! backup are passed over, so that a cluster that slept for a month keeps as many.

use std::collections::BTreeMap;

use jiff::{Zoned, tz::TimeZone};
use velero_model::keep::Keep;

use super::{Candidate, Kept};

/// Which rules count which backup.
#[derive(Debug, Default)]
pub(super) struct Counted {
    rules: BTreeMap<String, Vec<Kept>>,
}

impl Counted {
    pub(super) fn rules(&self, name: &str) -> &[Kept] {
        self.rules.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn add(&mut self, name: &str, rule: Kept) {
        self.rules.entry(name.to_owned()).or_default().push(rule);
    }
}

/// Counts the members of a group.
pub(super) fn count(members: &[&Candidate], keep: &Keep, zone: &TimeZone) -> Counted {
    let mut restorable: Vec<(&Candidate, Zoned)> = members
        .iter()
        .filter(|member| member.worth().is_some())
        .filter_map(|member| Some((*member, member.created?.to_zoned(zone.clone()))))
        .collect();
    restorable.sort_by_key(|(member, _)| std::cmp::Reverse((member.created, member.name.as_str())));
    let mut counted = Counted::default();
    for (member, _) in restorable.iter().take(as_size(keep.last)) {
        counted.add(&member.name, Kept::Last);
    }
    for (rule, number) in keep.counts().into_iter().skip(1) {
        for (period, member) in newest_of_periods(&restorable, rule, as_size(number)) {
            counted.add(&member.name, Kept::Period(rule, period));
        }
    }
    counted
}

fn as_size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The best backup of each of the newest periods.
fn newest_of_periods<'a>(
    newest_first: &[(&'a Candidate, Zoned)],
    rule: &str,
    number: usize,
) -> Vec<(String, &'a Candidate)> {
    let mut periods: Vec<(String, &Candidate)> = Vec::new();
    for (member, at) in newest_first {
        let period = period(rule, at);
        if let Some((_, best)) = periods.iter_mut().find(|(known, _)| *known == period) {
            if member.worth() > best.worth() {
                *best = member;
            }
        } else if periods.len() < number {
            periods.push((period, member));
        } else {
            // Older periods only follow.
            break;
        }
    }
    periods
}

/// The name of a period. An hour that a zone has twice is two hours, so it carries its offset.
fn period(rule: &str, at: &Zoned) -> String {
    match rule {
        "hourly" => at.strftime("%Y-%m-%dT%H%:z").to_string(),
        "daily" => at.strftime("%Y-%m-%d").to_string(),
        "weekly" => at.strftime("%G-W%V").to_string(),
        "monthly" => at.strftime("%Y-%m").to_string(),
        _ => at.strftime("%Y").to_string(),
    }
}
