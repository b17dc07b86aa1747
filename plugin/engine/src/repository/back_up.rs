//! A folder becomes a snapshot.
//!
//! In come a folder, the tags of the snapshot and which snapshot it follows; out goes what was stored and what was not read
//! as it was. Files that are as they were in the snapshot before (size, times, inode) are not read again.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustic_core::{BackupOptions, ParentOptions, SnapshotOptions};
use velero_model::mover::Stored;

use super::{
    Repository, RepositoryError, Root, Tags,
    source::{Account, Watched},
};

/// Host that snapshots are of, as Velero has it: a volume moves between hosts and stays the same.
const HOST: &str = "velero";

/// Where the volume's folder lies in a snapshot: nowhere but at its root.
const AT: &str = "/";

/// Tags by which a volume is known again: those of the newest snapshot that has the same.
const SAME: [&str; 3] = ["ns", "pvc-uid", "volume"];

/// What is read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The volume's folder.
    pub folder: &'a Path,
    /// Tags of its snapshot.
    pub tags: &'a Tags,
}

impl Repository {
    /// Reads a folder into a snapshot. Whoever calls holds a lock.
    ///
    /// # Errors
    /// When the folder cannot be read at all, or anything could not be stored; then there is no snapshot. Single files that
    /// could not be read are in the result.
    pub fn back_up(self, source: Source<'_>) -> Result<Stored, RepositoryError> {
        let what = || format!("read {}", source.folder.display());
        let folder = |error: std::io::Error| RepositoryError::Folder {
            what: what(),
            reason: error.to_string(),
        };
        let about = fs::metadata(source.folder).map_err(folder)?;
        // Of a folder that may not be listed nothing would be said but that it is empty.
        fs::read_dir(source.folder).map_err(folder)?;
        let root = Root {
            mode: about.mode() & 0o7777,
            uid: about.uid(),
            gid: about.gid(),
        };
        let parent = self.snapshots()?.into_iter().rev().find(|before| {
            let same = |key: &str| before.tags.get(key) == source.tags.get(key);
            SAME.into_iter().all(same)
        });
        let tags: Vec<String> = source
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let Self {
            rustic,
            files,
            faults,
            ..
        } = self;
        let fail = |error: Box<rustic_core::RusticError>| RepositoryError::of(&files, &faults, &error);
        let rustic = rustic.to_indexed_ids().map_err(fail)?;
        let mut snapshot = SnapshotOptions::default()
            .host(HOST.to_owned())
            .description(serde_json::to_string(&root).unwrap_or_default())
            .to_snapshot()
            .map_err(fail)?;
        for tag in tags {
            snapshot.tags.add(tag);
        }
        let parents: Vec<String> = parent.into_iter().map(|found| found.id).collect();
        let options = BackupOptions::default().as_path(PathBuf::from(AT)).parent_opts(
            ParentOptions::default()
                // Without one rustic_core would look for one by its own rules.
                .force(parents.is_empty())
                .parents(parents),
        );
        let account = Account::default();
        let watched = Watched::new(source.folder, account.clone()).map_err(fail)?;
        let made = rustic
            .archive(&options, &watched, snapshot, &[source.folder.to_path_buf()])
            .map_err(fail)?;
        if let Some(reason) = faults.first() {
            return Err(RepositoryError::Files {
                place: files.describe(),
                reason,
            });
        }
        let summary = made.summary.unwrap_or_default();
        Ok(Stored {
            snapshot: made.id.to_hex().as_str().to_owned(),
            files: summary.total_files_processed,
            folders: summary.total_dirs_processed,
            bytes: summary.total_bytes_processed,
            read: summary.data_added_files,
            added: summary.data_added_packed,
            unchanged: summary.files_unmodified,
            trouble: account.take(),
        })
    }
}
