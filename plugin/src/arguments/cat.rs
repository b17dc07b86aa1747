//! `cat NAME KIND/NAME`.

use clap::Args;

/// Print one object of a backup
///
/// Fetches only the few bytes that hold the object. Values of Secrets are shown as their lengths unless --show-secrets
/// is given.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup cat nightly deployment/web -n shop
  kubectl backup cat nightly secret/login -n shop --show-secrets -o json")]
pub(crate) struct Cat {
    /// Name of the backup.
    #[arg(value_name = "BACKUP", add = crate::completion::backups())]
    pub(crate) name: String,

    /// The object.
    #[arg(value_name = "KIND/NAME")]
    pub(crate) object: String,
}
