//! The one way by which stored files are removed for good.
//!
//! In comes a folder of one backup or one restore; out goes what was removed and what was not, key by key. Keys first,
//! so that nothing is visible any more; then older versions, delete markers and unfinished uploads where the store has
//! them. A version that a lock keeps stays hidden: the delete marker over it is left.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use velero_model::layout::{BACKUPS, RESTORES};

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
    /// Unfinished uploads removed.
    pub uploads: u64,
    /// What an object lock keeps, as sentences.
    pub locked: Vec<String>,
    /// What could not be removed for another reason, as sentences.
    pub failures: Vec<String>,
    /// What could not be looked for, as sentences.
    pub warnings: Vec<String>,
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
        self.uploads += other.uploads;
        self.locked.extend(other.locked);
        self.failures.extend(other.failures);
        self.warnings.extend(other.warnings);
    }

    fn refuse(&mut self, error: &StorageError) {
        match error {
            StorageError::Locked { .. } => self.locked.push(error.to_string()),
            _ => self.failures.push(error.to_string()),
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
    let at = || At::new("delete", folder, &bucket.describe());
    let inside = [BACKUPS, RESTORES]
        .iter()
        .any(|root| folder.starts_with(root) && folder.len() > root.len() + 1);
    if !inside || !folder.ends_with('/') {
        return Err(StorageError::BadKey {
            at: at(),
            reason: "it is no folder of a backup or restore",
        }
        .into());
    }
    if bucket.read_only() {
        return Err(StorageError::ReadOnly { at: at() }.into());
    }
    let mut purged = Purged::default();
    let mut keys = Vec::new();
    let mut has_last = false;
    let mut found = bucket.list(folder);
    while let Some(info) = found.try_next().await? {
        purged.bytes += info.size;
        if last == Some(info.key.as_str()) {
            has_last = true;
        } else {
            keys.push(info.key);
        }
    }
    remove_keys(bucket, keys, &mut purged).await;
    if let Some(last) = last
        && has_last
        && purged.is_complete()
    {
        remove_keys(bucket, vec![last.to_owned()], &mut purged).await;
    }
    remove_versions(bucket, folder, &mut purged).await;
    remove_uploads(bucket, folder, &mut purged).await;
    Ok(purged)
}

async fn remove_keys(bucket: &Arc<dyn Bucket>, keys: Vec<String>, purged: &mut Purged) {
    let count = keys.len() as u64;
    let errors = delete_all(&**bucket, keys).await;
    purged.keys += count.saturating_sub(errors.len() as u64);
    for error in &errors {
        purged.refuse(error);
    }
}

async fn remove_versions(bucket: &Arc<dyn Bucket>, folder: &str, purged: &mut Purged) {
    let versions = match bucket.list_versions(folder).await {
        Ok(versions) => versions,
        Err(StorageError::Unsupported { .. }) => return,
        Err(error) => {
            purged
                .warnings
                .push(format!("older versions may remain: {error}"));
            return;
        }
    };
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
            (version.key, result)
        })
        .buffer_unordered(IN_FLIGHT);
    let mut kept = BTreeSet::new();
    while let Some((key, result)) = results.next().await {
        match result {
            Ok(()) => purged.versions += 1,
            Err(error) => {
                purged.refuse(&error);
                kept.insert(key);
            }
        }
    }
    kept
}

async fn remove_uploads(bucket: &Arc<dyn Bucket>, folder: &str, purged: &mut Purged) {
    let uploads = match bucket.list_uploads(folder).await {
        Ok(uploads) => uploads,
        Err(StorageError::Unsupported { .. }) => return,
        Err(error) => {
            purged
                .warnings
                .push(format!("unfinished uploads may remain: {error}"));
            return;
        }
    };
    for upload in uploads {
        match bucket.abort_upload(&upload).await {
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
