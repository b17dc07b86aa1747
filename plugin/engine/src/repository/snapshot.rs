//! What a snapshot says of itself: whose volume it is, by the tags that Velero gives, and what its root was like.
//!
//! The root of a snapshot is the volume's folder. restic keeps no node for it, so that its owner and mode, which a database
//! may insist on, stand in the description.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Repository, RepositoryError, error::words};

/// Tags as `key=value`, the form that Velero writes and looks for.
pub type Tags = BTreeMap<String, String>;

/// Owner and mode of the volume's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// When it was begun.
    pub time: jiff::Timestamp,
    /// What it was tagged with; a tag without `=` has an empty value.
    pub tags: Tags,
    /// What the volume's folder was like, where that is known.
    pub root: Option<Root>,
}

impl Repository {
    /// Every snapshot, oldest first.
    ///
    /// # Errors
    /// When the place cannot be read, or one of them.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, RepositoryError> {
        let mut found: Vec<Snapshot> = self
            .rustic
            .get_all_snapshots()
            .map_err(|error| self.fail(&error))?
            .iter()
            .map(read)
            .collect();
        found.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        Ok(found)
    }

    pub(super) fn find(&self, id: &str) -> Result<rustic_core::repofile::SnapshotFile, RepositoryError> {
        self.rustic
            .get_snapshot_from_str(id, |_| true)
            .map_err(|error| match self.faults.first() {
                Some(_) => self.fail(&error),
                None => {
                    tracing::debug!(error = words(&error), "no snapshot");
                    RepositoryError::NoSnapshot {
                        id: id.to_owned(),
                        place: self.place(),
                    }
                }
            })
    }
}

pub(super) fn read(snapshot: &rustic_core::repofile::SnapshotFile) -> Snapshot {
    Snapshot {
        id: snapshot.id.to_hex().as_str().to_owned(),
        time: snapshot.time.timestamp(),
        tags: snapshot
            .tags
            .iter()
            .map(|tag| {
                let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
                (key.to_owned(), value.to_owned())
            })
            .collect(),
        root: snapshot
            .description
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok()),
    }
}
