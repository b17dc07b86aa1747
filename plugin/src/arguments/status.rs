//! `status` and `doctor`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Show how the cluster's backups are, and what needs a person
///
/// Versions, parts, locations, schedules, volumes without protection, choices that wait.
/// Exit code 1 where something needs a person, 3 where nothing was found wrong but not everything could be looked at.
#[derive(Debug, Clone, Args)]
pub(crate) struct Status {}

/// Write a support bundle without secrets: conditions, events, logs, locations checked
#[derive(Debug, Clone, Args)]
pub(crate) struct Doctor {
    /// File to write; kubectl-backup-support-<time>.tar.gz in this folder by default.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
}
