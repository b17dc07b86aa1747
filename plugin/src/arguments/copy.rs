//! `copy NAME --to LOCATION`.

use clap::Args;

/// Copy a backup to another location
///
/// Every byte is checked on the way; the copy becomes visible when it is complete.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kubectl backup copy nightly --to s3://site-b/backups?region=eu-west-1")]
pub(crate) struct Copy {
    /// Name of the backup.
    #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
    pub(crate) names: Vec<String>,

    /// Where to copy it: a name or a URL, as for --location.
    #[arg(long, value_name = "LOCATION", add = crate::completion::locations())]
    pub(crate) to: String,
}
