//! `create [NAME]`.

use clap::Args;

use super::{mover::VolumeFlags, pods::InClusterFlags, retention::KeepFlags, scope::ScopeFlags};

/// Back up the cluster, namespaces or labelled objects
///
/// Takes every object that can be brought back, cluster-scoped ones included, unless flags say otherwise, and says what
/// was left out and why. A name is made up from the time if none is given.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup create                                  everything
  kubectl backup create nightly -n shop --ttl 720h       one namespace, kept for 30 days
  kubectl backup create web -l tier=web --dry-run        what would be taken, and what not
  kubectl backup create --in-cluster                     the same work done by a pod, followed from here")]
pub(crate) struct Create {
    /// Name of the backup; backup-<time> by default.
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    #[command(flatten)]
    pub(crate) backup: BackupFlags,

    /// Count it as a backup of this schedule; it is called SCHEDULE-<time> by default.
    #[arg(long, value_name = "SCHEDULE")]
    pub(crate) for_schedule: Option<String>,

    #[command(flatten)]
    pub(crate) keep: KeepFlags,

    /// Remove afterwards what its schedule does not keep any longer; needs --for-schedule and --yes.
    #[arg(long, requires = "for_schedule")]
    pub(crate) apply_retention: bool,

    /// Begin later, by a time below this that is the same for a schedule every time and another in every cluster.
    #[arg(long, value_name = "DURATION", requires = "for_schedule")]
    pub(crate) jitter: Option<String>,

    #[command(flatten)]
    pub(crate) volumes: VolumeFlags,

    #[command(flatten)]
    pub(crate) in_cluster: InClusterFlags,
}

/// What is backed up, and how: the same flags for one backup and for a schedule.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupFlags {
    #[command(flatten)]
    pub(crate) scope: ScopeFlags,

    /// Objects to take first among their kind, such as 'pods=shop/db-0,shop/db-1;persistentvolumes=pv1'.
    #[arg(long, value_name = "OBJECTS")]
    pub(crate) ordered_resources: Option<String>,

    /// How long the backup is kept, such as 720h; 30 days by default, 0 for ever.
    #[arg(long, value_name = "DURATION")]
    pub(crate) ttl: Option<String>,

    /// Labels for the backup, such as team=shop,tier=gold.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(crate) labels: Vec<String>,

    /// Annotations for the backup.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(crate) annotations: Vec<String>,

    /// Lock every stored file against deletion until this time (RFC 3339) or for this long, such as 720h.
    #[arg(long, value_name = "TIME|DURATION")]
    pub(crate) lock_until: Option<String>,

    /// Most requests to the API server per second; no limit by default.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) requests_per_second: Option<String>,

    /// Most bytes to write to storage per second, such as 10Mi; no limit by default.
    #[arg(long, value_name = "BYTES")]
    pub(crate) upload_bandwidth: Option<String>,
}
