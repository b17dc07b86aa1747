//! `hold`, `release` and `retention` as meant.

use backup_plan::retention::{Policy, zone_of};
use jiff::Timestamp;
use velero_model::{duration::GoDuration, keep::Keep, name::BackupName, note::Decision};

use super::{Command, Place, RequestError, fields};
use crate::arguments::{
    environment::Environment,
    hold::{Hold, Release},
    retention::{KeepFlags, RetentionCommand, RetentionFlags},
};

/// Which backups are judged, and by which rules.
#[derive(Debug, Clone)]
pub(crate) struct Retention {
    pub(crate) place: Place,
    pub(crate) schedule: Option<String>,
    pub(crate) policy: Policy,
    pub(crate) clusters: Clusters,
}

/// Whose backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Clusters {
    /// Those of the cluster that is connected.
    Own,
    /// Those of a cluster by name or UID.
    Named(String),
    All,
}

/// A decision about backups.
#[derive(Debug, Clone)]
pub(crate) struct Decide {
    pub(crate) place: Place,
    pub(crate) names: Vec<BackupName>,
    pub(crate) author: Option<String>,
    pub(crate) decision: Wanted,
}

/// What is decided.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Decision(Decision),
    /// Kept this long from its begin; for ever if not given.
    Ttl(Option<GoDuration>),
}

pub(super) fn hold(typed: &Hold, place: Place, environment: &Environment) -> Result<Command, RequestError> {
    let decision = Decision::Hold {
        reason: typed.reason.clone().filter(|reason| !reason.trim().is_empty()),
    };
    decide(&typed.names, Wanted::Decision(decision), place, environment)
}

pub(super) fn release(
    typed: &Release,
    place: Place,
    environment: &Environment,
) -> Result<Command, RequestError> {
    decide(
        &typed.names,
        Wanted::Decision(Decision::Release),
        place,
        environment,
    )
}

fn decide(
    names: &[String],
    decision: Wanted,
    place: Place,
    environment: &Environment,
) -> Result<Command, RequestError> {
    Ok(Command::Decide(Box::new(Decide {
        place,
        names: fields::names(names)?,
        author: environment.user.clone(),
        decision,
    })))
}

pub(super) fn retention(
    typed: RetentionCommand,
    place: Place,
    environment: &Environment,
    is_dry_run: bool,
) -> Result<Command, RequestError> {
    Ok(match typed {
        RetentionCommand::Plan(flags) => Command::PlanRetention(Box::new(parse(flags, place)?)),
        RetentionCommand::Apply { flags, .. } if is_dry_run => {
            Command::PlanRetention(Box::new(parse(flags, place)?))
        }
        RetentionCommand::Apply {
            flags,
            leave_volume_data,
        } => Command::ApplyRetention {
            retention: Box::new(parse(flags, place)?),
            leave_volume_data,
        },
        RetentionCommand::Set { names, ttl, expires } => {
            let wanted = match (ttl, expires) {
                (Some(ttl), _) => {
                    Wanted::Ttl(Some(fields::duration("--ttl", &ttl)?).filter(|ttl| !ttl.0.is_zero()))
                }
                (None, expires) => Wanted::Decision(Decision::Expire {
                    expiration: expiration(expires.as_deref().unwrap_or_default())?,
                }),
            };
            decide(&names, wanted, place, environment)?
        }
    })
}

fn expiration(text: &str) -> Result<Option<Timestamp>, RequestError> {
    if text == "never" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        RequestError::flag(
            "--expires",
            text,
            "write a time such as 2027-01-31T00:00:00Z, or never",
        )
    })
}

fn parse(flags: RetentionFlags, place: Place) -> Result<Retention, RequestError> {
    let keep = keep(flags.keep)?;
    if flags.before_expiry && keep.is_none() {
        return Err(RequestError::flag(
            "--before-expiry",
            "",
            "it needs a count, such as --keep-last 7",
        ));
    }
    let clusters = match flags.source_cluster {
        Some(cluster) if cluster.is_empty() => {
            return Err(RequestError::flag(
                "--source-cluster",
                "",
                "write a name or a UID",
            ));
        }
        Some(cluster) => Clusters::Named(cluster),
        None if flags.all_clusters => Clusters::All,
        None => Clusters::Own,
    };
    Ok(Retention {
        place,
        schedule: flags.schedule,
        policy: Policy {
            keep,
            before_expiry: flags.before_expiry,
        },
        clusters,
    })
}

/// The counts that were typed, in a zone that this machine knows; `None` where none was.
pub(super) fn keep(flags: KeepFlags) -> Result<Option<Keep>, RequestError> {
    let Some(keep) = counts(flags)? else {
        return Ok(None);
    };
    zone_of(&keep).map_err(|zone| {
        RequestError::flag(
            "--keep-zone",
            &zone,
            "this machine's database of time zones does not know it; write a name such as Europe/Berlin",
        )
    })?;
    Ok(Some(keep))
}

/// The same for somebody who only passes them on: the image of a pod may have no database of time zones.
pub(super) fn counts(flags: KeepFlags) -> Result<Option<Keep>, RequestError> {
    let counts = [
        flags.keep_last,
        flags.keep_hourly,
        flags.keep_daily,
        flags.keep_weekly,
        flags.keep_monthly,
        flags.keep_yearly,
    ];
    if counts.iter().all(Option::is_none) {
        return match flags.keep_zone {
            Some(zone) => Err(RequestError::flag(
                "--keep-zone",
                &zone,
                "it needs a count, such as --keep-daily 7",
            )),
            None => Ok(None),
        };
    }
    let [last, hourly, daily, weekly, monthly, yearly] = counts.map(Option::unwrap_or_default);
    let keep = Keep {
        last,
        hourly,
        daily,
        weekly,
        monthly,
        yearly,
        zone: flags.keep_zone,
    };
    Ok(Some(keep))
}
