//! All backups of a location, as `list` shows them.
//!
//! One recursive list of `backups/` tells sizes and which folders have a marker; markers, notes and claims are then read
//! several at a time. A marker that cannot be believed is named and hides nothing else.

use std::sync::Arc;

use futures::{StreamExt, stream};
use velero_model::{
    backup::Backup, claim::Claim, layout::BackupKeys, name::BackupName, note::Effective, outcome::Outcome,
    source::Source,
};

use super::{
    error::CatalogError,
    folder::{self, Folder, State},
    open::{inflate_file, read_marker},
};
use crate::{clock, storage::Bucket};

/// Folders that are read at once.
const IN_FLIGHT: usize = 16;

/// What a location holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// Visible backups, by name.
    pub backups: Vec<Listed>,
    /// Markers that cannot be believed, and markers without an archive.
    pub unreadable: Vec<Unreadable>,
    /// Runs at work.
    pub running: Vec<Running>,
    /// What deletions that were cut off have left.
    pub half_deleted: Vec<HalfDeleted>,
}

/// One visible backup.
#[derive(Debug, Clone)]
pub struct Listed {
    /// The Backup object.
    pub backup: Backup,
    /// What was decided about it later.
    pub notes: Effective,
    /// Bytes of all its files.
    pub size: u64,
    /// Whether every file that it should have is there.
    pub is_whole: bool,
}

/// A backup that is there and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name.
    pub name: BackupName,
    /// Why.
    pub reason: String,
}

/// A backup that is being written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its name.
    pub name: BackupName,
    /// Whose it is.
    pub claim: Claim,
}

/// Files of a backup of ours whose marker is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HalfDeleted {
    /// Its name.
    pub name: BackupName,
    /// Where it came from.
    pub source: Source,
}

enum Read {
    Listed(Box<Listed>),
    Unreadable(Unreadable),
    Running(Running),
    HalfDeleted(HalfDeleted),
    Nothing,
}

/// Lists every backup of a location.
///
/// # Errors
/// When the location cannot be listed or read; a single bad backup is no error.
pub async fn list(bucket: &Arc<dyn Bucket>) -> Result<Listing, CatalogError> {
    let folders = folder::scan(bucket).await?;
    let mut reads = stream::iter(folders)
        .map(|(name, folder)| async move { read(bucket, name, folder).await })
        .buffered(IN_FLIGHT);
    let mut listing = Listing::default();
    while let Some(read) = reads.next().await {
        match read? {
            Read::Listed(listed) => listing.backups.push(*listed),
            Read::Unreadable(unreadable) => listing.unreadable.push(unreadable),
            Read::Running(running) => listing.running.push(running),
            Read::HalfDeleted(half_deleted) => listing.half_deleted.push(half_deleted),
            Read::Nothing => {}
        }
    }
    Ok(listing)
}

async fn read(bucket: &Arc<dyn Bucket>, name: BackupName, folder: Folder) -> Result<Read, CatalogError> {
    match folder::state(bucket, &name, &folder, clock::now()).await? {
        State::Complete => {}
        State::Running(claim) => return Ok(Read::Running(Running { name, claim })),
        State::Young | State::Dead(_) if folder.is_half_deleted() => return half_deleted(bucket, name).await,
        State::Absent | State::Young | State::Dead(_) => return Ok(Read::Nothing),
    }
    let backup = match read_marker(bucket, &name).await {
        Ok(Some((backup, _))) => backup,
        // Deleted since the listing.
        Ok(None) => return Ok(Read::Nothing),
        Err(error) if error.is_damage() => {
            return Ok(Read::Unreadable(Unreadable {
                name,
                reason: error.to_string(),
            }));
        }
        Err(error) => return Err(error),
    };
    if !folder.archive && backup.status.phase.is_restorable() {
        let key = BackupKeys(&name).tarball();
        let reason = CatalogError::NoArchive {
            name: name.clone(),
            key,
        }
        .to_string();
        return Ok(Read::Unreadable(Unreadable { name, reason }));
    }
    let notes = folder::notes(bucket, &folder.notes).await?;
    let is_ours = !backup.source().run_id.is_empty();
    Ok(Read::Listed(Box::new(Listed {
        is_whole: !is_ours || folder.has_own_files(),
        backup,
        notes,
        size: folder.bytes,
    })))
}

/// The account of the run goes last of all, so that it can be told whose the rest is.
async fn half_deleted(bucket: &Arc<dyn Bucket>, name: BackupName) -> Result<Read, CatalogError> {
    let Some(file) = bucket.head(&BackupKeys(&name).outcome()).await? else {
        return Ok(Read::Nothing);
    };
    let source = match inflate_file(bucket, &file).await {
        Ok(json) => {
            serde_json::from_slice::<Outcome>(&json)
                .unwrap_or_default()
                .source
        }
        Err(error) if error.is_damage() => Source::default(),
        Err(error) => return Err(error),
    };
    Ok(Read::HalfDeleted(HalfDeleted { name, source }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::fixture::Fixture, storage::Put};

    #[tokio::test]
    async fn every_folder_is_listed_as_what_it_is() {
        let fixture = Fixture::new();
        fixture.ours("good", 5).await;
        fixture.velero("foreign", 3).await;
        fixture.hold("good", "audit").await;
        fixture.claim("busy", 5).await;
        fixture.claim("dead", 500).await;
        fixture.put("backups/damaged/velero-backup.json", "{").await;
        fixture.put("backups/.tmp/x", "x").await;
        fixture.put("backups/loose", "x").await;
        fixture.ours("hollow", 1).await;
        fixture
            .bucket()
            .delete("backups/hollow/hollow.tar.gz")
            .await
            .unwrap();
        let listing = list(&fixture.bucket()).await.unwrap();
        let names: Vec<_> = listing
            .backups
            .iter()
            .map(|listed| listed.backup.metadata.name.as_str())
            .collect();
        assert_eq!(names, ["foreign", "good"]);
        assert_eq!(listing.backups[1].notes.hold, Some(Some("audit".into())));
        let files = fixture.bucket().list_all("backups/good/").await.unwrap();
        assert_eq!(
            listing.backups[1].size,
            files.iter().map(|file| file.size).sum::<u64>()
        );
        let unreadable: Vec<_> = listing
            .unreadable
            .iter()
            .map(|found| found.name.as_str())
            .collect();
        assert_eq!(unreadable, ["damaged", "hollow"]);
        assert_eq!(listing.running.len(), 1);
        assert_eq!(listing.running[0].name.as_str(), "busy");
        assert!(listing.half_deleted.is_empty());
        assert!(listing.backups.iter().all(|listed| listed.is_whole));
    }

    #[tokio::test]
    async fn a_failed_backup_without_an_archive_is_listed() {
        let fixture = Fixture::new();
        let marker = r#"{"apiVersion":"velero.io/v1","kind":"Backup","metadata":{"name":"f"},"status":{"phase":"Failed"}}"#;
        let body = marker.into();
        assert!(
            fixture
                .bucket()
                .put("backups/f/velero-backup.json", body, Put::default())
                .await
                .unwrap()
                .is_stored()
        );
        assert_eq!(list(&fixture.bucket()).await.unwrap().backups.len(), 1);
    }
}
