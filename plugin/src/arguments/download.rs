//! `download NAME [FILE]`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Store a backup as one portable file
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kubectl backup download nightly /media/stick/nightly.tar")]
pub(crate) struct Download {
    /// Name of the backup.
    #[arg(value_name = "NAME", add = crate::completion::backups())]
    pub(crate) name: String,

    /// File to write, or a folder to write NAME.tar into; NAME.tar here by default.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}
