//! `diff BACKUP [OTHER] [KIND/NAME...]`.

use clap::Args;

use super::scope::ScopeFlags;

/// Compare a backup with another one, or with the live cluster
///
/// Shows every object that is on one side only or differs, field by field; nothing is changed. Without OTHER the cluster is
/// looked at as far as the backup's own scope goes. Not compared, unless --show-all is given: resourceVersion, generation,
/// managedFields and status, the labels of a restore and what controllers count; uid, creation time and whatever else a
/// cluster gives to a new object, where one was deleted and made anew; events and leases.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup diff nightly                        what has changed in the cluster since
  kubectl backup diff nightly -n shop                ... in one namespace
  kubectl backup diff monday tuesday                 what has changed from one backup to the next
  kubectl backup diff nightly secret/login -n shop   one object
  kubectl backup diff nightly --exit-code -o name    for scripts: 1 when something differs")]
pub(crate) struct Diff {
    /// Name of the backup.
    #[arg(value_name = "BACKUP", add = crate::completion::backups())]
    pub(crate) backup: String,

    /// Name of the backup to compare it with; the live cluster by default.
    #[arg(value_name = "OTHER", add = crate::completion::backups())]
    pub(crate) other: Option<String>,

    /// Compare only these objects.
    #[arg(value_name = "KIND/NAME")]
    pub(crate) objects: Vec<String>,

    #[command(flatten)]
    pub(crate) scope: ScopeFlags,

    /// Compare every field of every kind, also those that servers and controllers change by themselves.
    #[arg(long)]
    pub(crate) show_all: bool,

    /// Exit with code 1 when something differs.
    #[arg(long)]
    pub(crate) exit_code: bool,

    /// Where OTHER is, if not in the same place: a name or a URL, as for --location.
    #[arg(long, value_name = "LOCATION", add = crate::completion::locations())]
    pub(crate) other_location: Option<String>,
}
