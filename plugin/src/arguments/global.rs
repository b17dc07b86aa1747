//! Flags that every command has: kubectl's own, and where backups are.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum, ValueHint};

const CONNECTION: &str = "Cluster connection (as for kubectl)";
const COMMON: &str = "Options of every command";

/// kubectl's flags and the location.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Where backups are: a name from `location list`, or a URL such as s3://BUCKET/PREFIX?endpoint=URL or file:///FOLDER.
    #[arg(
        long,
        global = true,
        value_name = "NAME|URL",
        env = "KUBECTL_BACKUP_LOCATION",
        hide_env_values = true,
        help_heading = COMMON,
        add = crate::completion::locations()
    )]
    pub(crate) location: Option<String>,

    /// Print the result in this form instead of the usual table.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", help_heading = COMMON)]
    pub(crate) output: Option<OutputFormat>,

    /// Take only this namespace; short for --include-namespaces.
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAMESPACE",
        value_delimiter = ',',
        conflicts_with = "all_namespaces",
        help_heading = COMMON
    )]
    pub(crate) namespace: Vec<String>,

    /// Take all namespaces, which is the default.
    #[arg(short = 'A', long, global = true, help_heading = COMMON)]
    pub(crate) all_namespaces: bool,

    /// Take only what has these labels, such as app=shop,tier in (web,db).
    #[arg(short = 'l', long, global = true, value_name = "LABELS", help_heading = COMMON)]
    pub(crate) selector: Option<String>,

    /// Print what would be done and do nothing.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "none|client|server",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "client",
        hide_possible_values = true,
        help_heading = COMMON
    )]
    pub(crate) dry_run: Option<DryRun>,

    /// Answer every question with yes.
    #[arg(short, long, global = true, help_heading = COMMON)]
    pub(crate) yes: bool,

    /// Wait for the end; with =false Velero's work, and Jobs in the cluster, go on without this program.
    #[arg(
        long,
        global = true,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_short_help = true,
        help_heading = COMMON
    )]
    pub(crate) wait: Option<bool>,

    /// Stop cleanly and exit with code 6 when the command takes longer than this, such as 90s or 1h.
    #[arg(long, global = true, value_name = "DURATION", hide_short_help = true, help_heading = COMMON)]
    pub(crate) timeout: Option<String>,

    /// Who does the work: direct is this program, velero a Velero in the cluster, auto chooses.
    #[arg(long, global = true, value_enum, value_name = "ENGINE", hide_short_help = true, help_heading = COMMON)]
    pub(crate) engine: Option<EngineWord>,

    /// Namespace of Velero's objects, for engine velero and for locations that are BackupStorageLocations.
    #[arg(
        long,
        global = true,
        value_name = "NAMESPACE",
        default_value = "velero",
        hide_short_help = true,
        help_heading = COMMON
    )]
    pub(crate) velero_namespace: String,

    /// Show the values of Secrets instead of their lengths.
    #[arg(long, global = true, hide_short_help = true, help_heading = COMMON)]
    pub(crate) show_secrets: bool,

    /// Say more on stderr about what is being done; twice for even more.
    #[arg(short, global = true, action = ArgAction::Count, hide_short_help = true, help_heading = COMMON)]
    pub(crate) verbose: u8,

    /// Kubeconfig file to use.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        hide_short_help = true,
        help_heading = CONNECTION
    )]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true, help_heading = CONNECTION)]
    pub(crate) context: Option<String>,

    /// Cluster of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true, help_heading = CONNECTION)]
    pub(crate) cluster: Option<String>,

    /// User of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true, help_heading = CONNECTION)]
    pub(crate) user: Option<String>,

    /// User name to act as.
    #[arg(long = "as", global = true, value_name = "USER", hide_short_help = true, help_heading = CONNECTION)]
    pub(crate) impersonate: Option<String>,

    /// Group to act as; may be given several times.
    #[arg(long = "as-group", global = true, value_name = "GROUP", hide_short_help = true, help_heading = CONNECTION)]
    pub(crate) impersonate_groups: Vec<String>,

    /// Longest wait for the answer to one API request, such as 30s; 0 waits without end.
    #[arg(long, global = true, value_name = "DURATION", hide_short_help = true, help_heading = CONNECTION)]
    pub(crate) request_timeout: Option<String>,
}

/// `-o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

/// `--dry-run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    None,
    Client,
    Server,
}

/// `--engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum EngineWord {
    /// Velero where it runs and has the location as its own, else direct.
    #[default]
    Auto,
    /// This program reads and writes the cluster and the storage itself.
    Direct,
    /// Velero in the cluster, through its API objects.
    Velero,
}
