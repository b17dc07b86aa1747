//! What the plugin takes from its environment, read once at the start.
//!
//! In come variables of the process, out goes a plain struct that tests can fill by hand. Variables of the AWS and the
//! Kubernetes client are read by those.

use std::path::PathBuf;

use backup_engine::{location::config, restore::default_records_folder};
use jiff::Timestamp;

use crate::request::Credentials;

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
    /// Keys of a bucket that may be given on to pods.
    pub(crate) keys: Credentials,
    /// The command line, for pods that are given it.
    pub(crate) words: Vec<String>,
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
            keys: keys(),
            words: std::env::args_os()
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            now: backup_engine::clock::now(),
        }
    }
}

/// The AWS variables as the text of a credentials file, unless they are missing or expire.
fn keys() -> Credentials {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(_), Some(_)) if variable("AWS_SESSION_TOKEN").is_some() => Credentials::Passing,
        (Some(id), Some(secret)) => Credentials::Text(format!(
            "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
        )),
        _ => Credentials::Unknown,
    }
}
