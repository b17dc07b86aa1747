//! What can go wrong with a repository, in words for whoever has to mend it.
//!
//! rustic_core's errors come with advice of many lines and a request to report them there; here the first line and its cause
//! are taken, and what the place of the files has said goes before both.

use std::sync::Arc;

use super::{backend::Faults, files::Files};

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// There is none.
    #[error("there is no repository at {place}")]
    NotThere {
        /// Where.
        place: String,
    },
    /// The password opens none of its keys.
    #[error(
        "the repository at {place} is not opened by this password; give the one that was printed when it was made \
         (--repository-password-file), or restore the Secret that held it"
    )]
    WrongPassword {
        /// Where.
        place: String,
    },
    /// Somebody else works with it in a way that excludes this.
    #[error("the repository at {place} is locked by {holder} since {since}; wait for that to end")]
    Locked {
        /// Where.
        place: String,
        /// Who, as host and process.
        holder: String,
        /// Since when.
        since: String,
    },
    /// A snapshot that is not there, or not alone under that id.
    #[error("there is no snapshot {id} in the repository at {place}")]
    NoSnapshot {
        /// Its id.
        id: String,
        /// Where.
        place: String,
    },
    /// A folder that cannot be read or written at all.
    #[error("{what}: {reason}")]
    Folder {
        /// What was attempted.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The place of the files refused something.
    #[error("repository {place}: {reason}")]
    Files {
        /// Where.
        place: String,
        /// In the place's words.
        reason: String,
    },
    /// Anything else that rustic_core says.
    #[error("repository {place}: {reason}")]
    Format {
        /// Where.
        place: String,
        /// Its first line.
        reason: String,
    },
}

impl RepositoryError {
    /// The error behind one of rustic_core's: what the files said, if they said something.
    pub(super) fn of(files: &Arc<dyn Files>, faults: &Faults, error: &rustic_core::RusticError) -> Self {
        let place = files.describe();
        match faults.first() {
            Some(reason) => Self::Files { place, reason },
            None => Self::Format {
                place,
                reason: words(error),
            },
        }
    }
}

/// One line of an error of rustic_core's.
pub(super) fn words(error: &rustic_core::RusticError) -> String {
    let text = error.display_log();
    text.lines().next().unwrap_or_default().trim().to_owned()
}
