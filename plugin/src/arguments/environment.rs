//! What the plugin takes from its environment, read once at the start.
//!
//! In come variables of the process, out goes a plain struct that tests can fill by hand. Variables of the AWS and the
//! Kubernetes client are read by those.

use std::path::PathBuf;

use backup_engine::{location::config, restore::default_records_folder};
use jiff::Timestamp;

/// Facts about the process that a request depends on.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    /// The user's file of locations; `None` where neither `XDG_CONFIG_HOME` nor `HOME` is set.
    pub(crate) locations_file: Option<PathBuf>,
    /// Where records of restores are kept if their location cannot be written to.
    pub(crate) records_folder: Option<PathBuf>,
    /// The folder from which relative paths are meant.
    pub(crate) working_folder: PathBuf,
    /// The user of this machine, for decisions that others read.
    pub(crate) user: Option<String>,
    /// When the command was given.
    pub(crate) now: Timestamp,
}

impl Environment {
    /// Reads the process.
    pub(crate) fn read() -> Self {
        let config_home = std::env::var_os("XDG_CONFIG_HOME");
        let state_home = std::env::var_os("XDG_STATE_HOME");
        let home = std::env::var_os("HOME");
        Self {
            locations_file: config::default_path(config_home.as_deref(), home.as_deref()),
            records_folder: default_records_folder(state_home.as_deref(), home.as_deref()),
            working_folder: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            user: ["USER", "LOGNAME"]
                .into_iter()
                .find_map(|name| std::env::var(name).ok())
                .filter(|user| !user.is_empty()),
            now: backup_engine::clock::now(),
        }
    }
}
