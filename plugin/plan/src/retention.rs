//! Which backups go, which stay, and by which rule.
//!
//! In come [`Candidate`]s (what is known about each backup of a location), a [`Policy`] and the time; out comes one
//! [`Verdict`] for each. Backups are judged in groups of one cluster and one schedule; those that no schedule made are a
//! group of their own. The rules, in words:
//!
//! - Holds, runs at work and object locks are never touched.
//! - The last restorable backup of a schedule on a cluster stays: the newest Completed one whose files are all there, else
//!   the newest PartiallyFailed one, else the newest with an archive. For backups without a schedule this holds where no
//!   schedule of their cluster has a restorable one.
//! - Without counts, what has expired goes.
//! - With counts, what no count keeps goes too, if it has expired or has no expiry; a backup whose expiry is still to come
//!   was promised that time, unless the policy says otherwise. What a count keeps stays although it has expired.
//! - Counts are about schedules. A backup made by hand goes by its time alone.
//!
//! Later code may rely on: the result depends on nothing but the three arguments, not even on their order; and of two
//! policies with counts, the one that keeps more never removes more.

mod count;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use velero_model::{
    backup::Backup,
    keep::Keep,
    note::Effective,
    phase::Phase,
    source::{LOCKED_UNTIL, Source, VELERO_SCHEDULE},
    time,
};

use self::count::Counted;

/// What is known about one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Where it belongs.
    pub group: Group,
    /// State.
    pub phase: Phase,
    /// Whether every file that it should have is there.
    pub is_whole: bool,
    /// When it was begun, as far as known.
    pub created: Option<Timestamp>,
    /// When it expires; never if not given.
    pub expiration: Option<Timestamp>,
    /// Whether it is on hold, and why.
    pub hold: Option<Option<String>>,
    /// Until when an object lock keeps it, as far as that is known.
    pub locked_until: Option<Timestamp>,
    /// The counts that it carries.
    pub keep: Option<Keep>,
}

/// Backups that are judged together.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// UID of the cluster; empty where it is not known.
    pub cluster: String,
    /// The schedule; `None` for backups made by hand.
    pub schedule: Option<String>,
}

/// What is asked for beyond what the backups carry themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Counts for every schedule; `None` takes those that the newest backup of each schedule carries.
    pub keep: Option<Keep>,
    /// Whether what no count keeps goes although its expiry is still to come.
    pub before_expiry: bool,
}

/// What becomes of one backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// Where it belongs.
    pub group: Group,
    /// When it was begun.
    pub created: Option<Timestamp>,
    /// When it expires.
    pub expiration: Option<Timestamp>,
    /// What becomes of it.
    pub decision: Decision,
}

/// Stay or go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It stays, by every one of these rules; never empty.
    Keep(Vec<Kept>),
    /// It goes.
    Remove(Removed),
}

/// A rule that keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A hold, and its reason.
    Hold(Option<String>),
    /// Somebody is at work on it.
    AtWork(Phase),
    /// An object lock.
    Locked(Timestamp),
    /// The last restorable one of its group.
    LastRestorable,
    /// One of the newest.
    Last,
    /// The one of a period: the rule (`daily`) and the period (`2026-11-22`).
    Period(&'static str, String),
    /// When it was made is not known, so that it cannot be counted.
    Ageless,
    /// Its time has not come.
    NotExpired(Timestamp),
    /// It never expires, and nothing is counted.
    NoExpiry,
}

/// A rule that removes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// Its time is over.
    Expired(Timestamp),
    /// No count keeps it; and its expiry if that is still to come.
    NotCounted(Option<Timestamp>),
}

/// Zones of counts that are not known here, as a zone by its name.
///
/// # Errors
/// The name.
pub fn zone_of(keep: &Keep) -> Result<TimeZone, String> {
    keep.zone.as_ref().map_or(Ok(TimeZone::UTC), |name| {
        TimeZone::get(name).map_err(|_| name.clone())
    })
}

impl Candidate {
    /// What a Backup object and the notes beside it say.
    pub fn of(backup: &Backup, notes: &Effective, is_whole: bool) -> Self {
        let source = backup.source();
        Self {
            name: backup.metadata.name.clone(),
            group: Group::of(backup, &source),
            phase: backup.status.phase.clone(),
            is_whole,
            created: backup.created(),
            expiration: notes.expiration.unwrap_or(backup.status.expiration),
            hold: notes.hold.clone(),
            locked_until: backup
                .metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(LOCKED_UNTIL)?.parse().ok()),
            keep: Keep::from_annotations(backup.metadata.annotations.as_ref()),
        }
    }

    /// How much it is worth as a way back: restorable and whole, and when it was made. `None`: nothing can be restored.
    fn worth(&self) -> Option<(bool, bool, Option<Timestamp>, &str)> {
        self.phase.is_restorable().then_some((
            self.is_whole,
            self.phase == Phase::Completed,
            self.created,
            self.name.as_str(),
        ))
    }

    fn is_at_work(&self) -> bool {
        matches!(self.phase, Phase::InProgress | Phase::Other(_))
    }
}

impl Group {
    fn of(backup: &Backup, source: &Source) -> Self {
        Self {
            cluster: source.cluster_uid.clone(),
            schedule: source
                .schedule
                .clone()
                .or_else(|| backup.label(VELERO_SCHEDULE).map(str::to_owned)),
        }
    }
}

/// Judges every backup: sorted by group, the newest first.
///
/// # Errors
/// The name of a zone that is not known.
pub fn decide(candidates: &[Candidate], policy: &Policy, now: Timestamp) -> Result<Vec<Verdict>, String> {
    let mut groups: BTreeMap<&Group, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        groups.entry(&candidate.group).or_default().push(candidate);
    }
    let has_restorable_schedule: BTreeSet<&str> = groups
        .iter()
        .filter(|(group, members)| {
            group.schedule.is_some() && members.iter().any(|member| member.worth().is_some())
        })
        .map(|(group, _)| group.cluster.as_str())
        .collect();
    let mut verdicts = Vec::with_capacity(candidates.len());
    for (group, mut members) in groups {
        members.sort_by_key(|member| std::cmp::Reverse((member.created, member.name.as_str())));
        let is_protected =
            group.schedule.is_some() || !has_restorable_schedule.contains(group.cluster.as_str());
        let counted = match counts(group, &members, policy) {
            Some(keep) => Some(count::count(&members, &keep, &zone_of(&keep)?)),
            None => None,
        };
        let last = last_restorable(&members).filter(|_| is_protected);
        verdicts.extend(members.into_iter().map(|member| Verdict {
            name: member.name.clone(),
            group: group.clone(),
            created: member.created,
            expiration: member.expiration,
            decision: judge(member, last, counted.as_ref(), policy, now),
        }));
    }
    Ok(verdicts)
}

/// The counts for a group, whose newest come first.
fn counts(group: &Group, members: &[&Candidate], policy: &Policy) -> Option<Keep> {
    group.schedule.as_ref()?;
    match &policy.keep {
        Some(keep) => Some(keep.clone()),
        None => members.first()?.keep.clone(),
    }
    .filter(|keep| !keep.is_empty())
}

/// The name of the one that is never removed.
fn last_restorable<'a>(members: &[&'a Candidate]) -> Option<&'a str> {
    members
        .iter()
        .filter_map(|member| member.worth())
        .max()
        .map(|(.., name)| name)
}

fn judge(
    member: &Candidate,
    last: Option<&str>,
    counted: Option<&Counted>,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    let mut kept = Vec::new();
    if let Some(reason) = &member.hold {
        kept.push(Kept::Hold(reason.clone()));
    }
    if member.is_at_work() {
        kept.push(Kept::AtWork(member.phase.clone()));
    }
    if let Some(until) = member.locked_until.filter(|until| *until > now) {
        kept.push(Kept::Locked(until));
    }
    if last == Some(member.name.as_str()) {
        kept.push(Kept::LastRestorable);
    }
    let to_come = member.expiration.filter(|expiration| *expiration > now);
    match counted {
        Some(counted) => {
            kept.extend(counted.rules(&member.name).iter().cloned());
            if member.created.is_none() && member.phase.is_restorable() {
                kept.push(Kept::Ageless);
            }
            if !policy.before_expiry {
                kept.extend(to_come.map(Kept::NotExpired));
            }
        }
        None => match (member.expiration, to_come) {
            (None, _) => kept.push(Kept::NoExpiry),
            (_, Some(expiration)) => kept.push(Kept::NotExpired(expiration)),
            (Some(_), None) => {}
        },
    }
    match (kept.is_empty(), member.expiration) {
        (false, _) => Decision::Keep(kept),
        (true, Some(expiration)) if expiration <= now => Decision::Remove(Removed::Expired(expiration)),
        (true, _) => Decision::Remove(Removed::NotCounted(to_come)),
    }
}

impl Decision {
    /// Whether it goes.
    pub fn is_remove(&self) -> bool {
        matches!(self, Self::Remove(_))
    }

    /// Why, for a person.
    pub fn reason(&self) -> String {
        match self {
            Self::Keep(rules) => rules.iter().map(Kept::words).collect::<Vec<_>>().join(", "),
            Self::Remove(removed) => removed.words(),
        }
    }

    /// Ids of the rules, for scripts.
    pub fn rules(&self) -> Vec<&'static str> {
        match self {
            Self::Keep(rules) => rules.iter().map(Kept::id).collect(),
            Self::Remove(removed) => vec![removed.id()],
        }
    }
}

impl Kept {
    fn id(&self) -> &'static str {
        match self {
            Self::Hold(_) => "hold",
            Self::AtWork(_) => "at-work",
            Self::Locked(_) => "object-lock",
            Self::LastRestorable => "last-restorable",
            Self::Last => "keep-last",
            Self::Period("hourly", _) => "keep-hourly",
            Self::Period("daily", _) => "keep-daily",
            Self::Period("weekly", _) => "keep-weekly",
            Self::Period("monthly", _) => "keep-monthly",
            Self::Period(..) => "keep-yearly",
            Self::Ageless => "ageless",
            Self::NotExpired(_) => "not-expired",
            Self::NoExpiry => "no-expiry",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Hold(None) => "on hold".to_owned(),
            Self::Hold(Some(reason)) => format!("on hold ({reason})"),
            Self::AtWork(phase) => format!("at work ({phase})"),
            Self::Locked(until) => format!("locked until {}", time::format(*until)),
            Self::LastRestorable => "last restorable one".to_owned(),
            Self::Last => "keep-last".to_owned(),
            Self::Period(_, period) => format!("{} {period}", self.id()),
            Self::Ageless => "when it was made is not known".to_owned(),
            Self::NotExpired(at) => format!("expires {}", time::format(*at)),
            Self::NoExpiry => "never expires".to_owned(),
        }
    }
}

impl Removed {
    fn id(&self) -> &'static str {
        match self {
            Self::Expired(_) => "expired",
            Self::NotCounted(_) => "not-kept",
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Expired(at) => format!("expired {}", time::format(*at)),
            Self::NotCounted(None) => "no rule keeps it".to_owned(),
            Self::NotCounted(Some(at)) => {
                format!("no rule keeps it, although it expires {}", time::format(*at))
            }
        }
    }
}

#[cfg(test)]
mod tests;
