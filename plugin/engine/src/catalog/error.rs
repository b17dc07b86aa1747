//! What can go wrong with stored backups, each with the backup or key named and the next step.
//!
//! Faults of storage pass through unchanged. Damage is told apart from absence, and both from refusals, so that the
//! command line can choose its exit code by the variant alone.

use std::{io, path::PathBuf};

use backup_plan::resource_names::UnknownResource;
use velero_model::{
    archive::ArchiveError, backup::BackupError, claim::Claim, index::IndexError, member::MemberError,
    name::BackupName, time,
};

use crate::storage::StorageError;

/// Why something could not be done with a stored backup.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// No visible backup of this name.
    #[error("there is no backup `{name}` in {location}{}", not_found_hint(*.leftovers))]
    NotFound {
        /// The name.
        name: BackupName,
        /// The location.
        location: String,
        /// Whether its folder holds files all the same.
        leftovers: bool,
    },
    /// A run is writing it at this moment.
    #[error(
        "backup `{name}` is being written by {} (run {}, last sign of life {}); wait for it to end",
        .claim.host, .claim.run_id, time::format(.claim.heartbeat)
    )]
    Running {
        /// The name.
        name: BackupName,
        /// Whose it is.
        claim: Box<Claim>,
    },
    /// A run is doing this restore at this moment.
    #[error(
        "restore `{name}` is being done by {} (run {}, last sign of life {}); wait for it to end",
        .claim.host, .claim.run_id, time::format(.claim.heartbeat)
    )]
    RestoreRunning {
        /// The name.
        name: BackupName,
        /// Whose it is.
        claim: Box<Claim>,
    },
    /// A backup of this name is there already.
    #[error("there is a backup `{name}` in {location} already; delete it first or choose another name")]
    Exists {
        /// The name.
        name: BackupName,
        /// The location.
        location: String,
    },
    /// The folder holds young files without a marker: perhaps somebody is writing.
    #[error(
        "{location} holds files of an unfinished backup `{name}`; if nobody is writing it, repeat this in ten \
         minutes, or run `kubectl backup location check --repair` then"
    )]
    Unfinished {
        /// The name.
        name: BackupName,
        /// The location.
        location: String,
    },
    /// Our claim was taken over by somebody else while we were writing.
    #[error("another run took over backup `{name}` while this one was writing it; nothing was published")]
    ClaimLost {
        /// The name.
        name: BackupName,
    },
    /// A hold forbids the deletion.
    #[error(
        "backup `{name}` is on hold{}; `kubectl backup release {name}` ends the hold",
        .reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    Held {
        /// The name.
        name: BackupName,
        /// The reason that was given.
        reason: Option<String>,
    },
    /// An object lock keeps it.
    #[error(
        "backup `{name}` in {location} is kept by an object lock, so nothing of it was deleted; try again when the lock has \
         run out ({reason})"
    )]
    Locked {
        /// The name.
        name: BackupName,
        /// The location.
        location: String,
        /// What the store said.
        reason: String,
    },
    /// It has volume data that only Velero can delete.
    #[error(
        "backup `{name}` has volume data that only Velero can delete ({}); delete it with Velero, or give \
         --leave-volume-data to leave that data where it is",
        first_of(.volumes)
    )]
    VolumeData {
        /// The name.
        name: BackupName,
        /// What there is.
        volumes: Vec<String>,
    },
    /// The marker cannot be believed.
    #[error(transparent)]
    Marker(#[from] BackupError),
    /// The marker is there and the archive is not.
    #[error("backup `{name}` is incomplete: {key} is missing; nothing can be restored from it")]
    NoArchive {
        /// The name.
        name: BackupName,
        /// The archive's key.
        key: String,
    },
    /// A file disappeared between the listing and the reading.
    #[error("{key} disappeared while it was being read; the backup is probably being deleted")]
    Vanished {
        /// The key.
        key: String,
    },
    /// A file of the backup cannot be read as what it should be.
    #[error("{key} is damaged: {detail}; `kubectl backup verify` says what else is")]
    File {
        /// The key.
        key: String,
        /// What is wrong.
        detail: String,
    },
    /// A file differs from what was written.
    #[error("{key} is damaged: {detail}; take another copy of this backup, or an older one")]
    Digest {
        /// The key.
        key: String,
        /// Which digest or size differs.
        detail: String,
    },
    /// The index cannot be used.
    #[error("{key}: {source}; `kubectl backup verify` says what else is damaged")]
    Index {
        /// The key.
        key: String,
        /// What is wrong.
        source: IndexError,
    },
    /// The archive cannot be used.
    #[error("{key}: {source}")]
    Archive {
        /// The key.
        key: String,
        /// What is wrong.
        source: ArchiveError,
    },
    /// One gzip member of the archive cannot be used.
    #[error("{key}, member at byte {offset}: {source}; `kubectl backup verify` says what else is damaged")]
    Member {
        /// The key.
        key: String,
        /// First byte of the member.
        offset: u64,
        /// What is wrong.
        source: MemberError,
    },
    /// An object in the archive is not the one that its index entry or path names.
    #[error("{object} in backup `{name}`: {problem}; it is not used")]
    Object {
        /// The backup.
        name: BackupName,
        /// `pods shop/web`.
        object: String,
        /// What is wrong.
        problem: String,
    },
    /// A word names no kind of the backup.
    #[error(transparent)]
    Kind(#[from] UnknownResource),
    /// A file to import is no exported backup.
    #[error("{path} cannot be imported: {problem}")]
    Import {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A local file cannot be read or written.
    #[error("cannot {operation} {path}: {source}")]
    Local {
        /// `write`, `read`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The temporary file cannot be used.
    #[error("the temporary file cannot be used ({0}); free space there, or set TMPDIR to a larger disk")]
    Spool(#[source] io::Error),
    /// Storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A worker thread ended without an answer; only a defect or a shutdown does that.
    #[error("a worker thread ended without an answer: {0}; please report this")]
    Worker(String),
    /// Ended on request.
    #[error("interrupted")]
    Interrupted,
}

fn not_found_hint(leftovers: bool) -> &'static str {
    if leftovers {
        ", only leftovers of a run that did not finish; `kubectl backup location check --repair` removes them"
    } else {
        "; `kubectl backup list` shows what is there"
    }
}

fn first_of(volumes: &[String]) -> String {
    match volumes {
        [] => "unknown".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    }
}

impl CatalogError {
    /// Whether stored bytes are not what was written: a reason to report damage and to go on, where a storage fault
    /// would be a reason to stop.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Marker(_)
                | Self::NoArchive { .. }
                | Self::Vanished { .. }
                | Self::File { .. }
                | Self::Digest { .. }
                | Self::Index { .. }
                | Self::Archive { .. }
                | Self::Member { .. }
                | Self::Object { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_backup_and_the_next_step() {
        let name = BackupName::parse("b").unwrap();
        let volumes = vec!["shop/data (kopia)".to_owned(), "shop/logs (kopia)".to_owned()];
        let text = CatalogError::VolumeData {
            name: name.clone(),
            volumes,
        }
        .to_string();
        assert!(text.contains("`b`") && text.contains("and 1 more") && text.contains("--leave-volume-data"));
        let location = "file:///x".to_owned();
        let text = CatalogError::NotFound {
            name,
            location,
            leftovers: true,
        }
        .to_string();
        assert!(text.contains("--repair"), "{text}");
    }
}
