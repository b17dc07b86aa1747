//! `location add|list|check|default|remove`.

use clap::{Args, Subcommand};

use super::mover::PasswordFlag;

/// Name and check the places where backups are
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  kubectl backup location add main 's3://backups/prod?region=eu-west-1'
  kubectl backup location add minio 's3://backups?endpoint=https://minio.example.org:9000'
  kubectl backup location check main

Credentials are never part of a location: they come from AWS_PROFILE, the AWS_ variables or the machine's role.")]
pub(crate) struct Location {
    #[command(subcommand)]
    pub(crate) command: LocationCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LocationCommand {
    /// Give a location a name; the first one becomes the default
    Add {
        /// Name to give it.
        name: String,
        /// URL of the bucket or folder.
        url: String,
        /// Make it the default.
        #[arg(long)]
        default: bool,
    },
    /// List the named locations
    List,
    /// Prove with real calls what a location can do, and find what killed runs left
    Check {
        /// Name or URL; the default location if not given.
        #[arg(value_name = "NAME|URL", add = crate::completion::locations())]
        location: Option<String>,
        /// Remove what killed runs left.
        #[arg(long)]
        repair: bool,
    },
    /// Free what no snapshot of a volume needs any more; --dry-run counts it
    Maintain {
        /// Name or URL; the default location if not given.
        #[arg(value_name = "NAME|URL", add = crate::completion::locations())]
        location: Option<String>,

        #[command(flatten)]
        password: PasswordFlag,
    },
    /// Show or choose the default location
    Default {
        /// Name of the new default.
        #[arg(add = crate::completion::locations())]
        name: Option<String>,
    },
    /// Forget a name; the backups stay
    Remove {
        /// Name to forget.
        #[arg(add = crate::completion::locations())]
        name: String,
    },
}
