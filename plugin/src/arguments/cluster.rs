//! `cluster protect|status|retain|delete-storage|unprotect|recover`.

use clap::{Args, Subcommand, ValueEnum};

use super::pods::CredentialFlags;

/// Guard the backups of whole clusters, and choose what becomes of them
///
/// For clusters of Cluster API and Tanzu, seen from their management cluster, where the admission suite of this project
/// is installed: a cluster that is guarded cannot be deleted before somebody has chosen whether its backups are kept or
/// deleted.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup cluster protect prod -n team-a --location main
  kubectl backup cluster status -A
  kubectl backup cluster retain prod -n team-a --for 90d
  kubectl backup cluster delete-storage prod -n team-a --expires-after 24h
  kubectl backup cluster recover s3://backups/team-a/prod --plan

The namespace of the context is meant where -n is not given.")]
pub(crate) struct Cluster {
    #[command(subcommand)]
    pub(crate) command: ClusterCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Hold a cluster until somebody has chosen what becomes of its backups in --location
    Protect {
        #[command(flatten)]
        target: Target,
    },
    /// Show what is at stake, what has been chosen by whom, and what a deletion would be answered
    Status {
        /// Name of the cluster; all of the namespace if not given.
        name: Option<String>,
        /// Kind of the cluster.
        #[arg(long, value_enum, value_name = "KIND", hide_possible_values = true)]
        kind: Option<KindWord>,
    },
    /// Choose that the backups are kept when the cluster is deleted
    Retain {
        #[command(flatten)]
        target: Target,
        /// Keep them this long after the cluster is gone, such as 90d or 2160h; for ever if not given.
        #[arg(long = "for", value_name = "DURATION")]
        retain_for: Option<String>,
        #[command(flatten)]
        choice: Choice,
    },
    /// Choose that the backups are deleted when the cluster is deleted
    ///
    /// Asks for the name on a terminal; elsewhere --yes is needed.
    DeleteStorage {
        #[command(flatten)]
        target: Target,
        /// Let the cluster go although object locks keep backups; they are listed with their dates, and stay.
        #[arg(long)]
        release_when_locked: bool,
        #[command(flatten)]
        choice: Choice,
    },
    /// Bring a cluster back from backups that outlived it, by its recovery ticket
    ///
    /// The ticket and the plan of the restore are shown first. The storage is attached read-only, under the cluster's name. Without --plan it asks on a terminal; elsewhere --yes is
    /// needed. The schedules of the lost cluster are shown with the commands that make them anew, paused.
    Recover {
        /// A recovery ticket as a file, or the location where one lies: a URL or a name.
        #[arg(value_name = "TICKET|LOCATION")]
        from: String,
        /// Of several clusters in the location this one, as NAME or NAMESPACE/NAME.
        #[arg(value_name = "CLUSTER")]
        which: Option<String>,
        /// Backup to restore; the newest restorable one by default.
        #[arg(long, value_name = "NAME")]
        backup: Option<String>,
        /// Name of the attached location; the lost cluster's name by default.
        #[arg(long, value_name = "NAME")]
        attach_as: Option<String>,
        /// Show ticket and plan of the restore; change nothing.
        #[arg(long)]
        plan: bool,
        /// Attach the storage and restore nothing.
        #[arg(long, conflicts_with = "plan")]
        attach_only: bool,
        #[command(flatten)]
        credentials: CredentialFlags,
    },
    /// Do what was chosen, as the Job of the admission suite
    #[command(hide = true)]
    CarryOut {
        /// Name of the order.
        name: String,
    },
    /// Guard a cluster no longer; its backups stay where they are
    ///
    /// Asks for the name on a terminal; elsewhere --yes is needed.
    Unprotect {
        #[command(flatten)]
        target: Target,
    },
}

/// One cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Name of the cluster.
    pub(crate) name: String,
    /// Kind of the cluster, cluster or tanzukubernetescluster; needed where both have the name.
    #[arg(long, value_enum, value_name = "KIND", hide_possible_values = true)]
    pub(crate) kind: Option<KindWord>,
}

/// What holds for either choice.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Take a last backup before the cluster goes.
    #[arg(long)]
    pub(crate) final_backup: bool,
    /// Let the choice expire if the cluster is not deleted within this time, such as 24h.
    #[arg(long, value_name = "DURATION")]
    pub(crate) expires_after: Option<String>,
}

/// `--kind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindWord {
    /// Of Cluster API.
    #[value(alias = "clusters", alias = "Cluster")]
    Cluster,
    /// Of Tanzu.
    #[value(
        name = "tanzukubernetescluster",
        alias = "tanzukubernetesclusters",
        alias = "TanzuKubernetesCluster",
        alias = "tkc"
    )]
    TanzuKubernetesCluster,
}
