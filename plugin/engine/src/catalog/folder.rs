//! What a folder below `backups/` amounts to: a backup, a run at work, or litter.
//!
//! In come keys as a listing gives them; out goes [`Folder`], a few numbers whatever the folder holds, and from it and
//! the claim in it a [`State`]. Nothing is deleted on the word of a listing alone: a folder without a marker counts as
//! litter only when its claim is stale, or when there is none and nothing in it is young.

use std::{collections::BTreeMap, sync::Arc};

use futures::TryStreamExt;
use jiff::Timestamp;
use velero_model::{
    claim::Claim,
    layout::{BACKUPS, BackupKeys},
    name::BackupName,
    note::{self, Effective, Note},
};

use super::error::CatalogError;
use crate::{
    claim::{self, is_dead},
    storage::{Bucket, ObjectInfo, StorageError},
};

/// Seconds without a write after which files without marker and claim are litter.
pub(super) const YOUNG_SECONDS: i64 = 600;

/// Largest note.
const SMALL: u64 = 64 << 10;

/// Summary of one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Folder {
    pub(super) bytes: u64,
    pub(super) keys: u64,
    pub(super) marker: bool,
    pub(super) archive: bool,
    pub(super) claim: bool,
    pub(super) outcome: bool,
    /// Index and digests.
    own_files: u8,
    pub(super) notes: Vec<String>,
    /// Newest change; `None` when the store does not tell for some key, so that the age is not known.
    newest: Option<Timestamp>,
    ageless: bool,
}

/// What a folder amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing there.
    Absent,
    /// The marker is there.
    Complete,
    /// No marker yet; its run lives.
    Running(Claim),
    /// No marker and no claim, but written to a short time ago: perhaps Velero's.
    Young,
    /// No marker, and nobody at work.
    Dead(Option<Claim>),
}

impl Folder {
    /// Adds a key that lies in the folder.
    pub(super) fn add(&mut self, keys: BackupKeys<'_>, info: &ObjectInfo) {
        self.bytes += info.size;
        self.keys += 1;
        self.marker |= info.key == keys.marker();
        self.archive |= info.key == keys.tarball();
        self.claim |= info.key == keys.claim();
        self.outcome |= info.key == keys.outcome();
        self.own_files += u8::from(info.key == keys.index() || info.key == keys.digests());
        if keys.is_note(&info.key) {
            self.notes.push(info.key.clone());
        }
        self.ageless |= info.modified.is_none();
        self.newest = self.newest.max(info.modified);
    }

    /// The folder of one backup, from all keys in it.
    pub(super) fn of(name: &BackupName, files: &[ObjectInfo]) -> Self {
        let mut folder = Self::default();
        for info in files {
            folder.add(BackupKeys(name), info);
        }
        folder
    }

    /// Whether the files that a run of ours puts beside the archive are there.
    pub(super) fn has_own_files(&self) -> bool {
        self.outcome && self.own_files == 2
    }

    /// Whether it is what a deletion of a backup of ours left that was cut off. A run that was killed before its marker
    /// leaves its claim.
    pub(super) fn is_half_deleted(&self) -> bool {
        !self.marker && !self.claim && self.outcome
    }

    fn is_young(&self, now: Timestamp) -> bool {
        self.ageless
            || self
                .newest
                .is_some_and(|newest| now.as_second().saturating_sub(newest.as_second()) <= YOUNG_SECONDS)
    }

    /// What the folder amounts to, given the claim in it if it has a readable one.
    pub(super) fn state(&self, claim: Option<Claim>, now: Timestamp) -> State {
        match claim {
            _ if self.keys == 0 => State::Absent,
            _ if self.marker => State::Complete,
            Some(claim) if is_dead(&claim, now) => State::Dead(Some(claim)),
            Some(claim) => State::Running(claim),
            None if self.is_young(now) => State::Young,
            None => State::Dead(None),
        }
    }
}

/// Every folder below `backups/` that a backup can have, from one recursive list.
pub(super) async fn scan(bucket: &Arc<dyn Bucket>) -> Result<BTreeMap<BackupName, Folder>, CatalogError> {
    let mut folders: BTreeMap<BackupName, Folder> = BTreeMap::new();
    let mut keys = bucket.list(BACKUPS);
    while let Some(info) = keys.try_next().await? {
        let name = info
            .key
            .strip_prefix(BACKUPS)
            .and_then(|rest| rest.split_once('/'))
            .map(|(name, _)| name);
        if let Some(Ok(name)) = name.map(BackupName::parse) {
            let keys = BackupKeys(&name);
            match folders.get_mut(&name) {
                Some(folder) => folder.add(keys, &info),
                None => {
                    let mut folder = Folder::default();
                    folder.add(keys, &info);
                    folders.insert(name, folder);
                }
            }
        }
    }
    Ok(folders)
}

/// The claim in a folder; `None` when there is none or it cannot be read.
pub(super) async fn claim(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<Option<Claim>, CatalogError> {
    Ok(claim::read(bucket, &BackupKeys(name).claim()).await?)
}

/// What a folder amounts to at the moment, its claim read if it has one.
pub(super) async fn state(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    folder: &Folder,
    now: Timestamp,
) -> Result<State, CatalogError> {
    let claim = if folder.claim && !folder.marker {
        claim(bucket, name).await?
    } else {
        None
    };
    Ok(folder.state(claim, now))
}

/// When the newest readable note was made.
pub(super) async fn newest_note(
    bucket: &Arc<dyn Bucket>,
    keys: &[String],
) -> Result<Option<Timestamp>, CatalogError> {
    let mut newest = None;
    for key in keys {
        let read = match bucket.get(key, SMALL).await {
            Ok(read) => read,
            Err(StorageError::TooLarge { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let note: Option<Note> = read.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok());
        newest = newest.max(note.map(|note| note.time));
    }
    Ok(newest)
}

/// Folds the notes of a backup. One that cannot be read counts as a hold: it may have been one.
pub(super) async fn notes(bucket: &Arc<dyn Bucket>, keys: &[String]) -> Result<Effective, CatalogError> {
    let mut notes: Vec<Note> = Vec::with_capacity(keys.len());
    let mut unreadable = None;
    for key in keys {
        match bucket.get(key, SMALL).await {
            Ok(Some((bytes, _))) => match serde_json::from_slice(&bytes) {
                Ok(note) => notes.push(note),
                Err(_) => unreadable = Some(key),
            },
            Ok(None) => {}
            Err(StorageError::TooLarge { .. }) => unreadable = Some(key),
            Err(error) => return Err(error.into()),
        }
    }
    let mut effective = note::effective(&notes);
    if let (None, Some(key)) = (&effective.hold, unreadable) {
        effective.hold = Some(Some(format!("the note {key} cannot be read and may be a hold")));
    }
    Ok(effective)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Etag, Put, memory::Memory};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn claim(heartbeat: i64) -> Claim {
        Claim {
            version: 1,
            run_id: "r".into(),
            host: "h".into(),
            tool_version: "0".into(),
            started: at(0),
            heartbeat: at(heartbeat),
            process: None,
        }
    }

    fn folder(files: &[(&str, Option<i64>)]) -> Folder {
        let files: Vec<ObjectInfo> = files
            .iter()
            .map(|(file, modified)| ObjectInfo {
                key: format!("backups/b/{file}"),
                size: 1,
                modified: modified.map(at),
                etag: Etag::new("e"),
            })
            .collect();
        Folder::of(&BackupName::parse("b").unwrap(), &files)
    }

    #[test]
    fn a_folder_is_litter_only_when_nobody_can_be_at_work() {
        let now = at(10_000);
        let old = Some(9_000);
        let young = Some(9_500);
        for (files, found, expected) in [
            (&[][..], None, State::Absent),
            (&[("velero-backup.json", old)], Some(claim(0)), State::Complete),
            (
                &[("b.tar.gz", old)],
                Some(claim(9_990)),
                State::Running(claim(9_990)),
            ),
            (
                &[("b.tar.gz", young)],
                Some(claim(9_000)),
                State::Dead(Some(claim(9_000))),
            ),
            (&[("b.tar.gz", young)], None, State::Young),
            (&[("b.tar.gz", old), ("b-logs.gz", young)], None, State::Young),
            (&[("b.tar.gz", old), ("b-logs.gz", None)], None, State::Young),
            (&[("b.tar.gz", old)], None, State::Dead(None)),
        ] {
            assert_eq!(folder(files).state(found, now), expected, "{files:?}");
        }
    }

    #[tokio::test]
    async fn an_unreadable_note_counts_as_a_hold() {
        let bucket: Arc<dyn Bucket> = Arc::new(Memory::new());
        let release = br#"{"version":1,"id":"1","time":"2026-01-01T00:00:00Z","decision":"release"}"#;
        let _ = bucket
            .put("n1", release.as_slice().into(), Put::default())
            .await
            .unwrap();
        let keys = ["n1".to_owned(), "n2".to_owned()];
        assert_eq!(notes(&bucket, &keys).await.unwrap().hold, None);
        let _ = bucket.put("n2", "{".into(), Put::default()).await.unwrap();
        let hold = notes(&bucket, &keys).await.unwrap().hold.unwrap().unwrap();
        assert!(hold.contains("n2"), "{hold}");
    }
}
