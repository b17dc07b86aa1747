//! `restores list|describe|logs|delete`.

use clap::{Args, Subcommand};

/// Look at restores and delete their records
#[derive(Debug, Clone, Args)]
pub(crate) struct Restores {
    #[command(subcommand)]
    pub(crate) command: RestoresCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RestoresCommand {
    /// List restores
    List,
    /// Show all about a restore
    Describe {
        /// Name of the restore.
        name: String,
    },
    /// Print the log of a restore
    Logs {
        /// Name of the restore.
        name: String,
    },
    /// Delete the record of a restore; what it brought back stays
    Delete {
        /// Name of the restore.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}
