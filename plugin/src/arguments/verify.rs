//! `verify NAME`.

use clap::Args;

use super::mover::PasswordFlag;

/// Check every byte of a backup
///
/// Reads the whole backup: every digest, every part of the archive, every object, and whether index and account agree.
/// Ends with exit code 1 when something is damaged.
#[derive(Debug, Clone, Args)]
pub(crate) struct Verify {
    /// Name of the backup.
    #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
    pub(crate) names: Vec<String>,

    /// Read the data of volumes back too, or about so much of it: 10%.
    #[arg(long, value_name = "PERCENT%", num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    pub(crate) read_data: Option<String>,

    #[command(flatten)]
    pub(crate) password: PasswordFlag,
}
