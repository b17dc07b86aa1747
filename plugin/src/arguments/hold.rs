//! `hold NAME...` and `release NAME...`.

use clap::Args;

/// Protect backups from every removal until they are released
///
/// The decision is kept beside the backup and holds for everybody who uses the location, Velero included where it runs.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup hold nightly-20261122010000 --reason 'case 4711'
  kubectl backup release nightly-20261122010000")]
pub(crate) struct Hold {
    /// Name of the backup.
    #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
    pub(crate) names: Vec<String>,

    /// Why, for whoever wants to delete it.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// End the hold on backups
///
/// A backup whose time is over goes with the next `retention apply`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Release {
    /// Name of the backup.
    #[arg(value_name = "NAME", required = true, add = crate::completion::backups())]
    pub(crate) names: Vec<String>,
}
