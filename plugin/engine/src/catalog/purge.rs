//! The one way by which stored files are removed for good.
//!
//! In comes a folder of one backup or one restore, or for the disposal of a whole cluster a folder and what in it is meant;
//! out goes what was removed and what was not, key by key. Keys first, so that nothing is visible any more; then older
//! versions, delete markers and unfinished uploads where the store has them. A version that a lock keeps stays hidden: the
//! delete marker over it is left. One key may be named to go last of all, with its versions: as long as anything is left,
//! it says whose that is.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use velero_model::{
    api::storage_work::Locked,
    layout::{BACKUPS, RESTORES},
};

use super::error::CatalogError;
use crate::storage::{At, Bucket, ObjectVersion, StorageError, delete_all};

/// Deletions at once.
const IN_FLIGHT: usize = 8;

/// What a purge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Keys removed.
    pub keys: u64,
    /// Bytes under those keys.
    pub bytes: u64,
    /// Older versions and delete markers removed.
    pub versions: u64,
    /// Delete markers among them.
    pub delete_markers: u64,
    /// Unfinished uploads removed.
    pub uploads: u64,
    /// What an object lock keeps, as sentences.
    pub locked: Vec<String>,
    /// What could not be removed for another reason, as sentences.
    pub failures: Vec<String>,
    /// What could not be looked for, as sentences.
    pub warnings: Vec<String>,
    /// What an object lock keeps, and until when.
    pub locks: Vec<Locked>,
    /// Whether something failed because a right is missing.
    pub is_denied: bool,
}

impl Purged {
    /// Whether nothing that was found is left.
    pub fn is_complete(&self) -> bool {
        self.locked.is_empty() && self.failures.is_empty()
    }

    /// Adds up two purges.
    pub(super) fn append(&mut self, other: Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.versions += other.versions;
        self.delete_markers += other.delete_markers;
        self.uploads += other.uploads;
        self.locked.extend(other.locked);
        self.failures.extend(other.failures);
        self.warnings.extend(other.warnings);
        self.locks.extend(other.locks);
        self.is_denied |= other.is_denied;
    }

    pub(super) fn refuse(&mut self, error: &StorageError) {
        match error {
            StorageError::Locked { at, until } => {
                self.locked.push(error.to_string());
                self.locks.push(Locked {
                    key: at.key.clone(),
                    until: *until,
                });
            }
            _ => {
                self.failures.push(error.to_string());
                self.is_denied |= matches!(error, StorageError::AccessDenied { .. });
            }
        }
    }
}

/// Removes everything below a folder of `backups/` or `restores/`, except the key `last`, which goes at the very end
/// and only when nothing failed before.
///
/// # Errors
/// When the folder cannot be listed, or the location is read-only. Single refusals are in the result.
pub async fn purge(
    bucket: &Arc<dyn Bucket>,
    folder: &str,
    last: Option<&str>,
) -> Result<Purged, CatalogError> {
    let inside = [BACKUPS, RESTORES]
        .iter()
        .any(|root| folder.starts_with(root) && folder.len() > root.len() + 1);
    if !inside || !folder.ends_with('/') {
        return Err(StorageError::BadKey {
            at: At::new("delete", folder, &bucket.describe()),
            reason: "it is no folder of a backup or restore",
        }
        .into());
    }
    clear(bucket, folder, &|_| true, last).await
}

/// Removes what lies below a prefix and `belongs`, the key `last` at the very end and only when nothing failed before.
///
/// # Errors
/// As [`purge`].
pub(super) async fn clear(
    bucket: &Arc<dyn Bucket>,
    prefix: &str,
    belongs: &(dyn Fn(&str) -> bool + Sync),
    last: Option<&str>,
) -> Result<Purged, CatalogError> {
    if bucket.read_only() {
        let at = At::new("delete", prefix, &bucket.describe());
        return Err(StorageError::ReadOnly { at }.into());
    }
    let is_last = |key: &str| last == Some(key);
    let mut purged = Purged::default();
    let mut keys = Vec::new();
    let mut last_size = None;
    let mut found = bucket.list(prefix);
    while let Some(info) = found.try_next().await? {
        if !belongs(&info.key) {
            continue;
        }
        if is_last(&info.key) {
            last_size = Some(info.size);
        } else {
            purged.bytes += info.size;
            keys.push(info.key);
        }
    }
    remove_keys(bucket, keys, &mut purged).await;
    let versions = versions(bucket, prefix, &mut purged).await;
    let versions = versions.into_iter().filter(|version| belongs(&version.key));
    let (of_last, versions): (Vec<_>, Vec<_>) = versions.partition(|version| is_last(&version.key));
    remove_versions(bucket, versions, &mut purged).await;
    remove_uploads(bucket, prefix, belongs, &mut purged).await;
    if let Some(last) = last
        && purged.is_complete()
    {
        remove_last(bucket, last, last_size, of_last, &mut purged).await;
    }
    Ok(purged)
}

/// The last key goes without a delete marker where there are versions, so that there is no moment in which something of
/// it is there and nobody sees it.
async fn remove_last(
    bucket: &Arc<dyn Bucket>,
    last: &str,
    size: Option<u64>,
    versions: Vec<ObjectVersion>,
    purged: &mut Purged,
) {
    let (current, older): (Vec<_>, Vec<_>) = versions
        .into_iter()
        .partition(|version| version.is_latest && !version.is_delete_marker);
    remove_versions(bucket, older, purged).await;
    if !purged.is_complete() {
        return;
    }
    if current.is_empty() {
        if size.is_some() {
            remove_keys(bucket, vec![last.to_owned()], purged).await;
        }
    } else {
        remove_each(bucket, current, purged).await;
        purged.keys += u64::from(purged.is_complete());
    }
    if purged.is_complete() {
        purged.bytes += size.unwrap_or_default();
    }
}

async fn remove_keys(bucket: &Arc<dyn Bucket>, keys: Vec<String>, purged: &mut Purged) {
    let count = keys.len() as u64;
    let errors = delete_all(&**bucket, keys).await;
    purged.keys += count.saturating_sub(errors.len() as u64);
    for error in &errors {
        purged.refuse(error);
    }
}

async fn versions(bucket: &Arc<dyn Bucket>, prefix: &str, purged: &mut Purged) -> Vec<ObjectVersion> {
    match bucket.list_versions(prefix).await {
        Ok(versions) => versions,
        Err(StorageError::Unsupported { .. }) => Vec::new(),
        Err(error) => {
            purged
                .warnings
                .push(format!("older versions may remain: {error}"));
            Vec::new()
        }
    }
}

async fn remove_versions(bucket: &Arc<dyn Bucket>, versions: Vec<ObjectVersion>, purged: &mut Purged) {
    // A key that is still visible because its deletion was refused keeps its versions too.
    let (markers, versions): (Vec<_>, Vec<_>) =
        versions.into_iter().partition(|version| version.is_delete_marker);
    let kept = remove_each(bucket, versions, purged).await;
    let bare = markers
        .into_iter()
        .filter(|marker| !kept.contains(&marker.key))
        .collect();
    remove_each(bucket, bare, purged).await;
}

/// Removes versions, several at a time, and says which keys still have one.
async fn remove_each(
    bucket: &Arc<dyn Bucket>,
    versions: Vec<ObjectVersion>,
    purged: &mut Purged,
) -> BTreeSet<String> {
    let mut results = stream::iter(versions)
        .map(|version| async move {
            let result = bucket.delete_version(&version.key, &version.version).await;
            (version, result)
        })
        .buffer_unordered(IN_FLIGHT);
    let mut kept = BTreeSet::new();
    while let Some((version, result)) = results.next().await {
        match result {
            Ok(()) => {
                purged.versions += 1;
                purged.delete_markers += u64::from(version.is_delete_marker);
            }
            Err(error) => {
                purged.refuse(&error);
                kept.insert(version.key);
            }
        }
    }
    kept
}

async fn remove_uploads(
    bucket: &Arc<dyn Bucket>,
    prefix: &str,
    belongs: &(dyn Fn(&str) -> bool + Sync),
    purged: &mut Purged,
) {
    let uploads = match bucket.list_uploads(prefix).await {
        Ok(uploads) => uploads,
        Err(StorageError::Unsupported { .. }) => return,
        Err(error) => {
            purged
                .warnings
                .push(format!("unfinished uploads may remain: {error}"));
            return;
        }
    };
    for upload in uploads.iter().filter(|upload| belongs(&upload.key)) {
        match bucket.abort_upload(upload).await {
            Ok(()) => purged.uploads += 1,
            Err(error) => purged.refuse(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog::fixture::Fixture, storage::Put};

    #[tokio::test]
    async fn only_folders_of_one_backup_or_restore_are_purged() {
        let fixture = Fixture::new();
        fixture.put("backups/b/x", "1").await;
        for folder in [
            "",
            "backups/",
            "backups//",
            "restores/",
            "kopia/x/",
            "backups/b",
            "metadata/x/",
        ] {
            assert!(purge(&fixture.bucket(), folder, None).await.is_err(), "{folder}");
        }
        assert_eq!(fixture.keys("").await.len(), 1);
        fixture.observed.memory().set_read_only();
        assert!(purge(&fixture.bucket(), "backups/b/", None).await.is_err());
    }

    #[tokio::test]
    async fn versions_and_uploads_go_and_locked_ones_stay_hidden() {
        let fixture = Fixture::new();
        fixture.put("backups/b/x", "12").await;
        let upload = fixture
            .bucket()
            .upload("backups/b/y", Put::default())
            .await
            .unwrap();
        for (key, version, is_marker, is_locked) in [
            ("x", "v1", false, false),
            ("x", "m1", true, false),
            ("z", "v1", false, true),
            ("z", "m1", true, false),
        ] {
            let key = format!("backups/b/{key}");
            fixture
                .observed
                .versions
                .lock()
                .unwrap()
                .push((key, version.to_owned(), is_marker, is_locked));
        }
        let purged = purge(&fixture.bucket(), "backups/b/", None).await.unwrap();
        assert_eq!(
            (purged.keys, purged.bytes, purged.versions, purged.uploads),
            (1, 2, 2, 1)
        );
        assert_eq!(purged.locked.len(), 1);
        assert!(!purged.is_complete());
        let left: Vec<String> = fixture
            .observed
            .versions
            .lock()
            .unwrap()
            .iter()
            .map(|(_, v, ..)| v.clone())
            .collect();
        assert_eq!(left, ["v1", "m1"]);
        drop(upload);
    }

    #[tokio::test]
    async fn the_last_key_stays_when_another_could_not_be_removed() {
        let fixture = Fixture::new();
        fixture.put("backups/b/x", "1").await;
        fixture.put("backups/b/last", "1").await;
        fixture
            .observed
            .denied
            .lock()
            .unwrap()
            .push("backups/b/x".to_owned());
        let purged = purge(&fixture.bucket(), "backups/b/", Some("backups/b/last"))
            .await
            .unwrap();
        assert_eq!(purged.failures.len(), 1);
        assert_eq!(fixture.keys("").await.len(), 2);
        fixture.observed.denied.lock().unwrap().clear();
        assert!(
            purge(&fixture.bucket(), "backups/b/", Some("backups/b/last"))
                .await
                .unwrap()
                .is_complete()
        );
        assert_eq!(fixture.keys("").await.len(), 0);
    }
}
