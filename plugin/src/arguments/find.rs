//! `find KIND/NAME`.

use clap::Args;

/// Find the backups that hold an object, newest first
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kubectl backup find secret/login -n shop")]
pub(crate) struct Find {
    /// The object.
    #[arg(value_name = "KIND/NAME")]
    pub(crate) object: String,
}
