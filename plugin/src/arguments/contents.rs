//! `contents NAME [KIND[/NAME]]`.

use clap::Args;

/// List the objects in a backup
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup contents nightly                        every object
  kubectl backup contents nightly --kinds                how many of each kind
  kubectl backup contents nightly secrets -n shop -l app=web")]
pub(crate) struct Contents {
    /// Name of the backup.
    #[arg(value_name = "BACKUP", add = crate::completion::backups())]
    pub(crate) name: String,

    /// Show only this kind, or only objects of this kind and name.
    #[arg(value_name = "KIND[/NAME]")]
    pub(crate) object: Option<String>,

    /// Count the objects of each kind instead of listing them.
    #[arg(long, conflicts_with_all = ["object", "namespace", "selector"])]
    pub(crate) kinds: bool,
}
