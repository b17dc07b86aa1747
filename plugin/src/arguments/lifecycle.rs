//! `enable`, `upgrade` and `disable`.

use clap::{Args, ValueEnum};

use super::pods::PodFlags;

/// A part that can be had by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ComponentWord {
    /// The admission suite: volumes opted in by policy, clusters guarded.
    Admission,
    /// The exporter of Prometheus metrics.
    Metrics,
    /// An hourly run that removes the location's expired backups.
    Retention,
    /// Velero's agents on the nodes, which back up volumes; with --engine velero.
    NodeAgent,
}

/// What becomes of the backups when the parts go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StorageWord {
    /// They stay where they are.
    #[value(name = "Retain", alias = "retain")]
    Retain,
    /// This cluster's backups are deleted for good; those of others stay.
    #[value(name = "Delete", alias = "delete")]
    Delete,
}

/// Install what runs in the cluster: admission suite, metrics, retention, Velero
///
/// What is there already is brought up to date, what is missing is added; running it again finishes what was cut off.
/// Everything of ours lives in namespace kubectl-backup. Backups and restores need none of it.
///
/// With --engine velero it installs Velero and its node agents too, and --location becomes a BackupStorageLocation. A Velero
/// that Helm, OADP or another tool looks after stays theirs: it gets the location and nothing else is touched.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup enable --location 's3://backups/prod?region=eu-central-1'
  kubectl backup enable --components admission,metrics
  kubectl backup enable --image-registry registry.local/tools --image-pull-secret pull
  kubectl backup enable --location main --dry-run=client -o yaml | kubectl apply --server-side -f -
  kubectl backup enable --engine velero --location main --image-registry registry.local/tools

Without --location there is no retention. With --engine velero, Velero expires backups and has metrics of its own, so that
retention and metrics are left out unless --components names them.")]
pub(crate) struct Enable {
    /// Parts to install, separated by commas; all by default.
    #[arg(long, value_name = "PART", value_delimiter = ',', value_enum)]
    pub(crate) components: Vec<ComponentWord>,

    #[command(flatten)]
    pub(crate) image: RegistryFlag,

    #[command(flatten)]
    pub(crate) pods: PodFlags,

    #[command(flatten)]
    pub(crate) velero: VeleroFlags,
}

/// What Velero is installed with.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Velero")]
pub(crate) struct VeleroFlags {
    /// Image of Velero's server and agents; by default velero/velero of the version that goes with this program.
    #[arg(long, value_name = "IMAGE", conflicts_with = "image_registry")]
    pub(crate) velero_image: Option<String>,

    /// Image with Velero's AWS plugin; by default velero/velero-plugin-for-aws.
    #[arg(long, value_name = "IMAGE", conflicts_with = "image_registry")]
    pub(crate) velero_plugin_image: Option<String>,

    /// The kubelet's folder on the nodes, where it is not /var/lib/kubelet.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) kubelet_root_dir: Option<String>,

    /// Annotation of Velero's ServiceAccount, for roles that a cloud gives by it. Repeatable.
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(crate) sa_annotations: Vec<String>,

    /// Look after a Velero that `velero install` has put there: its flags and images become those of this program.
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// Where the image comes from.
#[derive(Debug, Clone, Args)]
pub(crate) struct RegistryFlag {
    /// Registry, with its path, that has the images: kubectl-backup, and velero and velero-plugin-for-aws where they are meant.
    #[arg(long, value_name = "REGISTRY", conflicts_with = "image")]
    pub(crate) image_registry: Option<String>,
}

/// Bring what runs in the cluster to this version
///
/// Definitions first, then the parts that are there, then the pods of schedules; Velero too, where enable has installed it.
/// What is ahead is left alone, and a minor version is never left out. Running it again finishes what was cut off.
#[derive(Debug, Clone, Args)]
pub(crate) struct Upgrade {
    /// Image for all pods; by default that of this version from the registry in use.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
}

/// Remove what runs in the cluster, and choose what becomes of the backups
///
/// Schedules go too, and a Velero that enable has installed. Refused while clusters are protected: their choice would be
/// carried out by nobody. Namespace kubectl-backup goes with all that is in it. Running it again finishes what was cut off.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup disable --backup-storage Retain --yes
  kubectl backup disable --backup-storage Delete        asks for the name of the cluster first")]
pub(crate) struct Disable {
    /// What becomes of this cluster's backups in the locations that lie in the cluster.
    #[arg(long, value_name = "Retain|Delete", value_enum)]
    pub(crate) backup_storage: Option<StorageWord>,
}
