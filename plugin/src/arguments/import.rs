//! `import FILE`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Bring a file written by `download` into a location
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  kubectl backup import /media/stick/nightly.tar --location site-b")]
pub(crate) struct Import {
    /// File to read.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
}
