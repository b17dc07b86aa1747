//! `list`.

use clap::{Args, ValueEnum};

/// List backups
#[derive(Debug, Clone, Args)]
#[command(
    visible_alias = "get",
    after_help = "\
Examples:
  kubectl backup list --sort-by size
  kubectl backup list -l velero.io/schedule-name=nightly -o wide"
)]
pub(crate) struct List {
    /// Show only these backups.
    #[arg(value_name = "NAME", add = crate::completion::backups())]
    pub(crate) names: Vec<String>,

    /// Order of the list: created (newest first), name, size or objects (largest first).
    #[arg(
        long,
        value_enum,
        value_name = "COLUMN",
        default_value = "created",
        hide_possible_values = true
    )]
    pub(crate) sort_by: SortBy,
}

/// Columns by which backups are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum SortBy {
    #[default]
    Created,
    Name,
    Size,
    Objects,
}
