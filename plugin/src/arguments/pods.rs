//! Flags of commands that run this program in pods.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// What pods of ours are made with.
#[derive(Debug, Clone, Args)]
pub(crate) struct PodFlags {
    /// Image with this program, for pods; by default localhost/kubectl-backup of this version.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// Secret with credentials to pull that image: in namespace kubectl-backup, for movers in that of each claim.
    #[arg(long, value_name = "NAME")]
    pub(crate) image_pull_secret: Option<String>,

    #[command(flatten)]
    pub(crate) credentials: CredentialFlags,
}

/// What a location in the cluster has to log in with.
#[derive(Debug, Clone, Args)]
pub(crate) struct CredentialFlags {
    /// AWS credentials file for the pods; by default AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of this shell.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "no_credentials")]
    pub(crate) credentials_file: Option<PathBuf>,

    /// Give the pods no credentials: their node or ServiceAccount has a role in the cloud.
    #[arg(long)]
    pub(crate) no_credentials: bool,
}

/// Flags of a command that may run in the cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct InClusterFlags {
    /// Run it as a Job in the cluster and follow it; Ctrl-C stops it and takes it away.
    #[arg(long)]
    pub(crate) in_cluster: bool,

    #[command(flatten)]
    pub(crate) pods: PodFlags,
}
