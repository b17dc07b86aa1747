//! `version`.

use clap::Args;

/// Print the versions of this program and of the cluster
#[derive(Debug, Clone, Args)]
pub(crate) struct Version {
    /// Do not ask the cluster.
    #[arg(long)]
    pub(crate) client: bool,
}
