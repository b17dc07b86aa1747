//! `delete NAME...`.

use clap::Args;

/// Delete backups for good
///
/// Asks for the name on a terminal; elsewhere --yes is needed. Records of restores from the backup are deleted with it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Delete {
    /// Name of the backup.
    #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
    pub(crate) names: Vec<String>,

    /// Delete it although a hold protects it.
    #[arg(long)]
    pub(crate) force: bool,

    /// Delete it although its volume data can only be deleted by Velero and stays behind.
    #[arg(long)]
    pub(crate) leave_volume_data: bool,
}
