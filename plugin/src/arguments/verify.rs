//! `verify NAME`.

use clap::Args;

/// Check every byte of a backup
///
/// Reads the whole backup: every digest, every part of the archive, every object, and whether index and account agree.
/// Ends with exit code 1 when something is damaged.
#[derive(Debug, Clone, Args)]
pub(crate) struct Verify {
    /// Name of the backup.
    #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
    pub(crate) names: Vec<String>,
}
