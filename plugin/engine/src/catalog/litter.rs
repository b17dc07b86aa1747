//! What dead runs left behind, and its removal.
//!
//! In comes a location; out go folders without a marker that nobody is writing, claims that a run did not live to
//! remove, and uploads that nobody will finish. Removal takes the folder's claim over first, by a conditional write:
//! whoever comes alive or begins in that moment keeps the folder, and is left alone. A marker without an archive is
//! never touched here; a listing names it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use velero_model::{
    claim::Claim,
    layout::{BACKUPS, BackupKeys},
    name::BackupName,
};

use super::{
    error::CatalogError,
    folder::{self, Folder, State},
    purge::{Purged, purge},
};
use crate::{
    claim, clock,
    storage::{Bucket, OpenUpload, Put, StorageError},
};

/// Seconds after which an upload of nobody's is litter: large archives may upload for hours.
const UPLOAD_SECONDS: i64 = 24 * 3600;

/// Leftovers under one backup's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Litter {
    /// The name.
    pub name: BackupName,
    /// Keys that are left over.
    pub keys: Vec<String>,
    /// Bytes under those keys.
    pub bytes: u64,
    /// Uploads that are left over.
    pub uploads: Vec<OpenUpload>,
    /// The dead run's claim, if it can be read.
    pub claim: Option<Claim>,
}

/// What a repair did.
#[derive(Debug, Clone, Default)]
pub struct RepairSummary {
    /// What was removed.
    pub removed: Vec<Litter>,
    /// Names that somebody began to write meanwhile.
    pub left_alone: Vec<BackupName>,
    /// Keys, versions and uploads, and what was refused.
    pub purged: Purged,
}

/// Finds what dead runs left behind, by name.
///
/// # Errors
/// When the location cannot be listed or read.
pub async fn litter(bucket: &Arc<dyn Bucket>) -> Result<Vec<Litter>, CatalogError> {
    let now = clock::now();
    let mut uploads = open_uploads(bucket).await?;
    let mut found = Vec::new();
    for (name, folder) in folder::scan(bucket).await? {
        let uploads = uploads.remove(&name).unwrap_or_default();
        found.extend(litter_of(bucket, &name, &folder, uploads, now).await?);
    }
    // What is left belongs to folders without a single key.
    for (name, uploads) in uploads {
        let uploads = abandoned(uploads, now);
        if !uploads.is_empty() {
            found.push(Litter {
                name,
                keys: Vec::new(),
                bytes: 0,
                uploads,
                claim: None,
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

async fn litter_of(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    folder: &Folder,
    uploads: Vec<OpenUpload>,
    now: Timestamp,
) -> Result<Option<Litter>, CatalogError> {
    let mut litter = Litter {
        name: name.clone(),
        keys: Vec::new(),
        bytes: 0,
        uploads: Vec::new(),
        claim: None,
    };
    match folder::state(bucket, name, folder, now).await? {
        State::Dead(claim) => {
            let files = bucket.list_all(&BackupKeys(name).folder()).await?;
            litter.keys = files.into_iter().map(|file| file.key).collect();
            litter.bytes = folder.bytes;
            litter.uploads = uploads;
            litter.claim = claim;
        }
        State::Complete => {
            litter.uploads = abandoned(uploads, now);
            if folder.claim {
                litter.claim = folder::claim(bucket, name)
                    .await?
                    .filter(|claim| claim::is_dead(claim, now));
            }
            if litter.claim.is_some() {
                litter.keys.push(BackupKeys(name).claim());
            }
        }
        State::Absent | State::Running(_) | State::Young => {}
    }
    Ok((!litter.keys.is_empty() || !litter.uploads.is_empty()).then_some(litter))
}

/// Unfinished uploads by the backup that they belong to.
async fn open_uploads(
    bucket: &Arc<dyn Bucket>,
) -> Result<BTreeMap<BackupName, Vec<OpenUpload>>, CatalogError> {
    let uploads = match bucket.list_uploads(BACKUPS).await {
        Ok(uploads) => uploads,
        Err(StorageError::Unsupported { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let mut by_name: BTreeMap<BackupName, Vec<OpenUpload>> = BTreeMap::new();
    for upload in uploads {
        let name = upload
            .key
            .strip_prefix(BACKUPS)
            .and_then(|rest| rest.split('/').next());
        if let Some(Ok(name)) = name.map(BackupName::parse) {
            by_name.entry(name).or_default().push(upload);
        }
    }
    Ok(by_name)
}

fn abandoned(uploads: Vec<OpenUpload>, now: Timestamp) -> Vec<OpenUpload> {
    let is_old = |started: Timestamp| now.as_second().saturating_sub(started.as_second()) > UPLOAD_SECONDS;
    uploads
        .into_iter()
        .filter(|upload| upload.started.is_some_and(is_old))
        .collect()
}

/// Removes everything that [`litter`] finds.
///
/// # Errors
/// When the location cannot be listed or written; single refusals are in the summary.
pub async fn repair(bucket: &Arc<dyn Bucket>) -> Result<RepairSummary, CatalogError> {
    let mut summary = RepairSummary::default();
    for litter in litter(bucket).await? {
        let is_folder =
            !litter.keys.is_empty() && bucket.head(&BackupKeys(&litter.name).marker()).await?.is_none();
        if is_folder {
            match clear_dead_run(bucket, &litter.name).await? {
                Some(purged) => summary.purged.append(purged),
                None => {
                    summary.left_alone.push(litter.name);
                    continue;
                }
            }
        } else {
            remove_around(bucket, &litter, &mut summary.purged).await;
        }
        summary.removed.push(litter);
    }
    Ok(summary)
}

/// Leftovers around a backup that is there: a stale claim, abandoned uploads.
async fn remove_around(bucket: &Arc<dyn Bucket>, litter: &Litter, purged: &mut Purged) {
    for key in &litter.keys {
        match bucket.delete(key).await {
            Ok(()) => purged.keys += 1,
            Err(error) => purged.failures.push(error.to_string()),
        }
    }
    for upload in &litter.uploads {
        match bucket.abort_upload(upload).await {
            Ok(()) => purged.uploads += 1,
            Err(error) => purged.failures.push(error.to_string()),
        }
    }
}

/// Removes a dead run's folder, so that its name is free. `None` when there is a backup or somebody at work, or when
/// somebody was faster.
///
/// # Errors
/// When the location cannot be listed or written; single refusals are in the result.
pub async fn clear_dead_run(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<Option<Purged>, CatalogError> {
    let keys = BackupKeys(name);
    let files = bucket.list_all(&keys.folder()).await?;
    let present = files
        .iter()
        .find(|file| file.key == keys.claim())
        .map(|file| file.etag.clone());
    let State::Dead(_) = folder::state(bucket, name, &Folder::of(name, &files), clock::now()).await? else {
        return Ok(None);
    };
    // The mark comes from before the claim was read: if the dead run came alive in between, the write fails.
    let condition = present.map_or_else(Put::if_absent, Put::if_match);
    if claim::put(bucket, &keys.claim(), &claim::new_claim(), condition)
        .await?
        .is_none()
    {
        return Ok(None);
    }
    if bucket.head(&keys.marker()).await?.is_some() {
        bucket.delete(&keys.claim()).await?;
        return Ok(None);
    }
    purge(bucket, &keys.folder(), Some(&keys.claim())).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::{Fixture, name};

    async fn messy() -> Fixture {
        let fixture = Fixture::new();
        fixture.ours("good", 3).await;
        fixture.claim("busy", 5).await;
        fixture.claim("dead", 500).await;
        fixture.put("backups/old/old.tar.gz", "x").await;
        fixture.put("backups/young/young.tar.gz", "x").await;
        fixture.age("backups/young/young.tar.gz", 60);
        fixture.ours("hollow", 3).await;
        fixture
            .bucket()
            .delete("backups/hollow/hollow.tar.gz")
            .await
            .unwrap();
        fixture
    }

    #[tokio::test]
    async fn only_what_nobody_writes_is_litter() {
        let fixture = messy().await;
        let found = litter(&fixture.bucket()).await.unwrap();
        let names: Vec<_> = found.iter().map(|litter| litter.name.as_str()).collect();
        assert_eq!(names, ["dead", "old"]);
        assert_eq!(found[0].claim.as_ref().unwrap().host, "host");
        assert_eq!(
            found[0].keys,
            ["backups/dead/dead-claim.json", "backups/dead/dead.tar.gz"]
        );
    }

    #[tokio::test]
    async fn repair_removes_litter_and_nothing_else() {
        let fixture = messy().await;
        let before = fixture.keys("").await;
        let summary = repair(&fixture.bucket()).await.unwrap();
        assert_eq!(summary.removed.len(), 2);
        assert!(summary.purged.is_complete());
        let expected: Vec<_> = before
            .into_iter()
            .filter(|key| !key.contains("/dead/") && !key.contains("/old/"))
            .collect();
        assert_eq!(fixture.keys("").await, expected);
        assert!(repair(&fixture.bucket()).await.unwrap().removed.is_empty());
    }

    #[tokio::test]
    async fn a_stale_claim_beside_a_backup_goes_alone() {
        let fixture = Fixture::new();
        fixture.claim("b", 500).await;
        fixture.ours("b", 3).await;
        let count = fixture.keys("").await.len();
        assert_eq!(repair(&fixture.bucket()).await.unwrap().removed.len(), 1);
        let left = fixture.keys("").await;
        assert_eq!(left.len(), count - 1);
        assert!(!left.contains(&"backups/b/b-claim.json".to_owned()));
        fixture.claim("live", 5).await;
        fixture.ours("live", 3).await;
        assert!(litter(&fixture.bucket()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn uploads_of_nobody_are_litter_after_a_day() {
        let fixture = Fixture::new();
        fixture.ours("b", 3).await;
        let bucket = fixture.bucket();
        let _open = [
            bucket.upload("backups/b/b.tar.gz", Put::default()).await.unwrap(),
            bucket
                .upload("backups/new/new.tar.gz", Put::default())
                .await
                .unwrap(),
        ];
        assert!(litter(&bucket).await.unwrap().is_empty());
        fixture.age("backups/b/b.tar.gz", UPLOAD_SECONDS + 60);
        fixture.age("backups/new/new.tar.gz", UPLOAD_SECONDS + 60);
        assert_eq!(litter(&bucket).await.unwrap().len(), 2);
        assert_eq!(repair(&bucket).await.unwrap().purged.uploads, 2);
        assert!(litter(&bucket).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_that_is_taken_is_not_cleared() {
        let fixture = messy().await;
        for of in ["good", "busy", "young", "nothing"] {
            assert!(
                clear_dead_run(&fixture.bucket(), &name(of))
                    .await
                    .unwrap()
                    .is_none(),
                "{of}"
            );
        }
        assert!(
            clear_dead_run(&fixture.bucket(), &name("dead"))
                .await
                .unwrap()
                .unwrap()
                .is_complete()
        );
        assert!(fixture.keys("backups/dead/").await.is_empty());
    }
}
