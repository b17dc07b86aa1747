//! `retention plan|apply|set`, and the flags that say how many backups are kept.

use clap::{Args, Subcommand};

const KEEP: &str = "How many are kept";

/// Show and remove the backups that are not to be kept any longer
///
/// Without counts, what has expired goes. With counts, what none of them keeps goes too, unless its expiry is still to come.
/// The last restorable backup of a schedule, backups on hold and runs at work are never removed.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup retention plan                                   what would go, and why
  kubectl backup retention plan --schedule nightly --keep-daily 7 --keep-monthly 12
  kubectl backup retention apply --yes                            remove it
  kubectl backup retention set nightly-20261122010000 --ttl 8760h

Counts are about schedules; a backup made by hand goes by its time alone. Without counts on the command line those hold that
the newest backup of each schedule carries.")]
pub(crate) struct Retention {
    #[command(subcommand)]
    pub(crate) command: RetentionCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RetentionCommand {
    /// Show which backups would go, which stay, and why
    Plan(RetentionFlags),
    /// Remove the backups that `plan` shows
    Apply {
        #[command(flatten)]
        flags: RetentionFlags,

        /// Remove backups although their volume data can only be deleted by Velero and stays behind.
        #[arg(long)]
        leave_volume_data: bool,
    },
    /// Change when backups expire
    Set {
        /// Name of the backup.
        #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
        names: Vec<String>,

        /// How long it is kept from its begin, such as 720h; 0 for ever.
        #[arg(
            long,
            value_name = "DURATION",
            conflicts_with = "expires",
            required_unless_present = "expires"
        )]
        ttl: Option<String>,

        /// When it expires: a time such as 2027-01-31T00:00:00Z, or never.
        #[arg(long, value_name = "TIME|never")]
        expires: Option<String>,
    },
}

/// Which backups are looked at, and how many of them are kept.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RetentionFlags {
    /// Look only at backups of this schedule.
    #[arg(long, value_name = "SCHEDULE")]
    pub(crate) schedule: Option<String>,

    #[command(flatten)]
    pub(crate) keep: KeepFlags,

    /// Remove what no count keeps although its expiry is still to come.
    #[arg(long)]
    pub(crate) before_expiry: bool,

    /// Look at backups of this cluster (name or UID) instead of the one that is connected.
    #[arg(long, value_name = "NAME|UID", conflicts_with = "all_clusters")]
    pub(crate) source_cluster: Option<String>,

    /// Look at backups of every cluster that shares the location, also where the cluster is not known.
    #[arg(long)]
    pub(crate) all_clusters: bool,
}

/// Counts of a schedule's backups.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct KeepFlags {
    /// Keep this many of the newest.
    #[arg(long, value_name = "NUMBER", help_heading = KEEP)]
    pub(crate) keep_last: Option<u32>,

    /// Keep one of each of this many hours.
    #[arg(long, value_name = "NUMBER", help_heading = KEEP)]
    pub(crate) keep_hourly: Option<u32>,

    /// Keep one of each of this many days.
    #[arg(long, value_name = "NUMBER", help_heading = KEEP)]
    pub(crate) keep_daily: Option<u32>,

    /// Keep one of each of this many weeks.
    #[arg(long, value_name = "NUMBER", help_heading = KEEP)]
    pub(crate) keep_weekly: Option<u32>,

    /// Keep one of each of this many months.
    #[arg(long, value_name = "NUMBER", help_heading = KEEP)]
    pub(crate) keep_monthly: Option<u32>,

    /// Keep one of each of this many years.
    #[arg(long, value_name = "NUMBER", help_heading = KEEP)]
    pub(crate) keep_yearly: Option<u32>,

    /// Time zone in which hours, days, weeks, months and years begin, such as Europe/Berlin; UTC by default.
    #[arg(long, value_name = "ZONE", help_heading = KEEP)]
    pub(crate) keep_zone: Option<String>,
}
