//! `describe NAME`.

use clap::Args;

/// Show all about a backup
#[derive(Debug, Clone, Args)]
pub(crate) struct Describe {
    /// Name of the backup.
    #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
    pub(crate) names: Vec<String>,

    /// List the names of all objects too.
    #[arg(long)]
    pub(crate) details: bool,
}
