//! `logs NAME`.

use clap::Args;

/// Print the log of a backup
#[derive(Debug, Clone, Args)]
pub(crate) struct Logs {
    /// Name of the backup.
    #[arg(value_name = "NAME", add = crate::completion::backups())]
    pub(crate) name: String,
}
