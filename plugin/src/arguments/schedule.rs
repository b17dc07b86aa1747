//! `schedule create|list|describe|pause|resume|run|delete`.

use clap::{Args, Subcommand};

use super::{create::BackupFlags, mover::VolumeFlags, pods::PodFlags, retention::KeepFlags};

/// Make backups again and again
///
/// Where a Velero has the location as its own, a schedule is a Schedule object of Velero's. Elsewhere it is a CronJob in
/// namespace kubectl-backup that runs this program under a ServiceAccount of its own.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup schedule create nightly --schedule '0 1 * * *' --keep-daily 7 --keep-monthly 12
  kubectl backup schedule create shop --schedule 'CRON_TZ=Europe/Berlin 30 22 * * mon-fri' -n shop --ttl 720h
  kubectl backup schedule list
  kubectl backup schedule run nightly
  kubectl backup restore --from-schedule nightly")]
pub(crate) struct Schedule {
    #[command(subcommand)]
    pub(crate) command: ScheduleCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Set up a schedule
    Create(Box<ScheduleCreate>),
    /// List schedules: when they run next, and how they are doing
    #[command(visible_alias = "get")]
    List,
    /// Show all about a schedule
    Describe {
        /// Name of the schedule.
        name: String,
    },
    /// Suspend a schedule
    Pause {
        /// Name of the schedule.
        name: String,
    },
    /// Let a suspended schedule run again
    Resume {
        /// Name of the schedule.
        name: String,
    },
    /// Make a backup of a schedule now
    Run {
        /// Name of the schedule.
        name: String,
    },
    /// Remove a schedule; its backups stay
    Delete {
        /// Name of the schedule.
        name: String,
    },
}

/// A schedule to set up.
#[derive(Debug, Clone, Args)]
pub(crate) struct ScheduleCreate {
    /// Name of the schedule; its backups are called NAME-<time>.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// When: five fields such as '0 1 * * *', @daily, @every 6h; behind CRON_TZ=ZONE in that time zone, else in UTC.
    #[arg(long, value_name = "CRON")]
    pub(crate) schedule: String,

    #[command(flatten)]
    pub(crate) backup: BackupFlags,

    #[command(flatten)]
    pub(crate) keep: KeepFlags,

    /// Set it up suspended.
    #[arg(long)]
    pub(crate) paused: bool,

    /// Begin each run later, by a time below this that is the same in every run and another in every cluster.
    #[arg(long, value_name = "DURATION")]
    pub(crate) jitter: Option<String>,

    /// Stop a run that takes longer than this.
    #[arg(long, value_name = "DURATION", default_value = "6h")]
    pub(crate) deadline: String,

    #[command(flatten)]
    pub(crate) volumes: VolumeFlags,

    #[command(flatten)]
    pub(crate) pods: PodFlags,
}
