//! Deleting one backup, with everything that belongs to it.
//!
//! In comes a name; out goes an account of what is gone and what is left. Holds and volume data that only Velero can
//! delete are refused before anything is touched. The marker goes first, so that a deletion that is cut off anywhere
//! leaves a backup that nobody sees; repeating the command finishes it.

use std::sync::Arc;

use serde_json::Value;
use velero_model::{layout::BackupKeys, name::BackupName, volume};

use super::{
    claim_snapshots::key_of,
    error::CatalogError,
    folder::{self, Folder, State},
    open::inflate_file,
    purge::{Purged, clear, purge},
    restores, volume_data,
};
use crate::{
    clock,
    storage::{At, Bucket, StorageError},
};

/// What a deletion may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct DeleteOptions {
    /// Delete although volume data remains that only Velero can delete.
    pub leave_volume_data: bool,
    /// Delete although a hold is in force.
    pub force: bool,
}

/// What a deletion did.
#[derive(Debug, Clone, Default)]
pub struct DeleteSummary {
    /// Name of the backup.
    pub name: String,
    /// Files of the backup and of its restores.
    pub purged: Purged,
    /// Restores of this backup whose records were deleted.
    pub restores: Vec<BackupName>,
    /// Restores without our record: Velero's, whose backup is not known, are left.
    pub restores_left: Vec<BackupName>,
    /// Volume data that remains.
    pub volume_data_left: Vec<String>,
}

impl DeleteSummary {
    /// Whether nothing that was found is left, volume data aside.
    pub fn is_complete(&self) -> bool {
        self.purged.is_complete()
    }
}

/// Deletes a backup.
///
/// # Errors
/// [`CatalogError::NotFound`], [`CatalogError::Running`], [`CatalogError::Held`], [`CatalogError::Locked`],
/// [`CatalogError::VolumeData`], and storage faults up to the deletion of the marker. What is refused after that stands in the summary.
pub async fn delete(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    options: &DeleteOptions,
) -> Result<DeleteSummary, CatalogError> {
    let keys = BackupKeys(name);
    if bucket.read_only() {
        return Err(StorageError::ReadOnly {
            at: At::new("delete", &keys.folder(), &bucket.describe()),
        }
        .into());
    }
    let files = bucket.list_all(&keys.folder()).await?;
    let folder = Folder::of(name, &files);
    let location = bucket.describe();
    match folder::state(bucket, name, &folder, clock::now()).await? {
        // Dead: a deletion that was cut off, or a dead run; both are finished here.
        State::Complete | State::Dead(_) => {}
        State::Young if folder.is_half_deleted() => {}
        State::Running(claim) => {
            return Err(CatalogError::Running {
                name: name.clone(),
                claim: Box::new(claim),
            });
        }
        State::Absent => {
            return Err(CatalogError::NotFound {
                name: name.clone(),
                location,
                leftovers: false,
            });
        }
        State::Young => {
            return Err(CatalogError::Unfinished {
                name: name.clone(),
                location,
            });
        }
    }
    let notes = folder::notes(bucket, &folder.notes).await?;
    if let (Some(reason), false) = (notes.hold, options.force) {
        return Err(CatalogError::Held {
            name: name.clone(),
            reason,
        });
    }
    let volumes = volume_data::veleros(bucket, name, &files).await?;
    if !volumes.is_empty() && !options.leave_volume_data {
        return Err(CatalogError::VolumeData {
            name: name.clone(),
            volumes,
        });
    }
    let mut summary = DeleteSummary {
        name: name.to_string(),
        volume_data_left: volumes,
        ..DeleteSummary::default()
    };
    if folder.marker {
        refuse_locked(bucket, name).await?;
        // Where claims stay behind, what is left without a marker would look like a run at work.
        let first = folder.claim.then(|| keys.claim());
        for key in first.into_iter().chain([keys.marker()]) {
            bucket.delete(&key).await?;
            summary.purged.keys += 1;
            summary.purged.bytes += files
                .iter()
                .filter(|file| file.key == key)
                .map(|file| file.size)
                .sum::<u64>();
        }
    }
    remove_files(bucket, name, &mut summary).await;
    Ok(summary)
}

/// Finishes a deletion that was cut off: the marker is gone, and no run has a claim on the name. Unlike [`delete`] it does
/// not ask for how long the files have been lying there.
///
/// # Errors
/// [`CatalogError::Unfinished`] when that is not what lies there, and storage faults before the first deletion.
pub async fn resume_deletion(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<DeleteSummary, CatalogError> {
    let files = bucket.list_all(&BackupKeys(name).folder()).await?;
    if !Folder::of(name, &files).is_half_deleted() {
        return Err(CatalogError::Unfinished {
            name: name.clone(),
            location: bucket.describe(),
        });
    }
    let mut summary = DeleteSummary {
        name: name.to_string(),
        ..DeleteSummary::default()
    };
    remove_files(bucket, name, &mut summary).await;
    Ok(summary)
}

/// Restores and files. The account of the run goes last: it says whose the rest is, should this be cut off.
async fn remove_files(bucket: &Arc<dyn Bucket>, name: &BackupName, summary: &mut DeleteSummary) {
    remove_restores(bucket, name, summary).await;
    // While their record is still there: whoever finishes this later finds them by it.
    if let Err(error) = forget_snapshots(bucket, name, summary).await {
        summary.purged.failures.push(format!(
            "snapshots of volumes remain, and with them the rest: {error}"
        ));
        return;
    }
    let keys = BackupKeys(name);
    match purge(bucket, &keys.folder(), Some(&keys.outcome())).await {
        Ok(purged) => summary.purged.append(purged),
        Err(error) => summary.purged.failures.push(error.to_string()),
    }
}

/// The snapshots of volumes that the backup records; what they alone needed is freed when the location is maintained.
async fn forget_snapshots(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    summary: &mut DeleteSummary,
) -> Result<(), CatalogError> {
    let key = BackupKeys(name).pod_volume_backups();
    let Some(info) = bucket.head(&key).await? else {
        return Ok(());
    };
    let list: Vec<Value> = match inflate_file(bucket, &info).await {
        // One that cannot be read was refused or accepted before.
        Ok(json) => volume::parse_list(&json).unwrap_or_default(),
        Err(error) if error.is_damage() => Vec::new(),
        Err(error) => return Err(error),
    };
    for key in list.iter().filter_map(key_of) {
        let purged = clear(bucket, &key, &|found| found == key, None).await?;
        summary.purged.append(purged);
    }
    Ok(())
}

/// In a bucket with versions the marker's own version goes first: where a lock keeps it, nothing is touched, because a
/// backup that is only hidden would be found by nobody when the lock has run out.
async fn refuse_locked(bucket: &Arc<dyn Bucket>, name: &BackupName) -> Result<(), CatalogError> {
    let marker = BackupKeys(name).marker();
    // Who may not list versions may still delete; the purge says then what it could not do.
    let versions = bucket.list_versions(&marker).await.unwrap_or_default();
    let Some(current) = versions
        .iter()
        .find(|version| version.is_latest && version.key == marker)
    else {
        return Ok(());
    };
    match bucket.delete_version(&marker, &current.version).await {
        Err(error @ StorageError::Locked { .. }) => Err(CatalogError::Locked {
            name: name.clone(),
            location: bucket.describe(),
            reason: error.to_string(),
        }),
        _ => Ok(()),
    }
}

async fn remove_restores(bucket: &Arc<dyn Bucket>, name: &BackupName, summary: &mut DeleteSummary) {
    let listed = match restores::restores(bucket).await {
        Ok(listed) => listed,
        Err(error) => {
            summary
                .purged
                .failures
                .push(format!("restores of this backup may remain: {error}"));
            return;
        }
    };
    for restore in listed {
        match &restore.record {
            None => summary.restores_left.push(restore.name),
            Some(record) if record.backup != name.as_str() => {}
            Some(_) => match restores::delete_restore(bucket, &restore.name).await {
                Ok(purged) => {
                    summary.purged.append(purged);
                    summary.restores.push(restore.name);
                }
                Err(error) => summary.purged.failures.push(error.to_string()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::fixture::{Fixture, gz_json, name};

    async fn remove(fixture: &Fixture, of: &str) -> Result<DeleteSummary, CatalogError> {
        delete(&fixture.bucket(), &name(of), &DeleteOptions::default()).await
    }

    #[tokio::test]
    async fn a_backup_goes_with_its_restores_and_nothing_else() {
        let fixture = Fixture::new();
        fixture.ours("b", 5).await;
        fixture.velero("b2", 5).await;
        let other = fixture.keys("backups/b2/").await;
        fixture
            .put(
                "restores/r1/restore-r1.json",
                r#"{"version":1,"name":"r1","backup":"b"}"#,
            )
            .await;
        fixture.put("restores/r1/restore-r1-logs.gz", "x").await;
        fixture
            .put(
                "restores/r2/restore-r2.json",
                r#"{"version":1,"name":"r2","backup":"b2"}"#,
            )
            .await;
        fixture.put("restores/r3/restore-r3-logs.gz", "x").await;
        let summary = remove(&fixture, "b").await.unwrap();
        assert!(summary.is_complete());
        assert_eq!(summary.restores, [name("r1")]);
        assert_eq!(summary.restores_left, [name("r3")]);
        let left = fixture.keys("").await;
        let restores = [
            "restores/r2/restore-r2.json".to_owned(),
            "restores/r3/restore-r3-logs.gz".to_owned(),
        ];
        assert_eq!(left, [other, restores.to_vec()].concat());
        assert!(matches!(
            remove(&fixture, "b").await,
            Err(CatalogError::NotFound { .. })
        ));
    }

    #[tokio::test]
    async fn snapshots_of_volumes_go_with_their_backup() {
        let fixture = Fixture::new();
        fixture.ours("b", 5).await;
        let id = "ab".repeat(32);
        let record = json!([{
            "spec": { "pod": { "namespace": "shop" }, "uploaderType": "restic" }, "status": { "snapshotID": id },
        }]);
        fixture
            .put("backups/b/b-podvolumebackups.json.gz", gz_json(&record))
            .await;
        for key in [
            "config",
            "data/cd/cd01",
            &format!("snapshots/{id}"),
            "snapshots/ef",
        ] {
            fixture.put(&format!("restic/shop/{key}"), "x").await;
        }
        let summary = remove(&fixture, "b").await.unwrap();
        assert!(summary.is_complete() && summary.volume_data_left.is_empty());
        assert_eq!(
            fixture.keys("").await,
            [
                "restic/shop/config",
                "restic/shop/data/cd/cd01",
                "restic/shop/snapshots/ef"
            ]
        );
    }

    #[tokio::test]
    async fn holds_and_foreign_volume_data_are_refused_before_anything_is_touched() {
        let fixture = Fixture::new();
        fixture.ours("b", 5).await;
        fixture.hold("b", "audit").await;
        let pod_volumes = json!([{"spec": {"volume": "v"}, "status": {"snapshotID": "s"}}]);
        fixture
            .put("backups/b/b-podvolumebackups.json.gz", gz_json(&pod_volumes))
            .await;
        let before = fixture.keys("").await;
        assert!(matches!(
            remove(&fixture, "b").await,
            Err(CatalogError::Held { .. })
        ));
        let mut options = DeleteOptions {
            force: true,
            ..DeleteOptions::default()
        };
        let refused = delete(&fixture.bucket(), &name("b"), &options).await;
        assert!(matches!(refused, Err(CatalogError::VolumeData { .. })));
        assert_eq!(fixture.keys("").await, before);
        options.leave_volume_data = true;
        let summary = delete(&fixture.bucket(), &name("b"), &options).await.unwrap();
        assert_eq!(summary.volume_data_left.len(), 1);
        assert_eq!(fixture.keys("").await.len(), 0);
    }

    #[tokio::test]
    async fn runs_at_work_are_left_alone() {
        let fixture = Fixture::new();
        fixture.claim("busy", 5).await;
        fixture.put("backups/young/young.tar.gz", "x").await;
        fixture.age("backups/young/young.tar.gz", 5);
        assert!(matches!(
            remove(&fixture, "busy").await,
            Err(CatalogError::Running { .. })
        ));
        assert!(matches!(
            remove(&fixture, "young").await,
            Err(CatalogError::Unfinished { .. })
        ));
        assert_eq!(fixture.keys("").await.len(), 3);
    }

    #[tokio::test]
    async fn a_deletion_that_is_refused_midway_hides_the_backup_and_can_be_repeated() {
        let fixture = Fixture::new();
        fixture.ours("b", 5).await;
        fixture
            .observed
            .denied
            .lock()
            .unwrap()
            .push("backups/b/b.tar.gz".to_owned());
        let summary = remove(&fixture, "b").await.unwrap();
        assert_eq!(summary.purged.failures.len(), 1);
        let left = ["backups/b/b-outcome.json.gz", "backups/b/b.tar.gz"];
        assert_eq!(fixture.keys("").await, left);
        fixture.observed.denied.lock().unwrap().clear();
        let listing = crate::catalog::list(&fixture.bucket()).await.unwrap();
        assert_eq!(listing.half_deleted.len(), 1);
        assert!(
            resume_deletion(&fixture.bucket(), &name("b"))
                .await
                .unwrap()
                .is_complete()
        );
        assert_eq!(fixture.keys("").await.len(), 0);
    }

    #[tokio::test]
    async fn a_claim_that_stayed_goes_before_the_marker_so_that_the_rest_is_no_run_at_work() {
        let fixture = Fixture::new();
        fixture.ours("b", 5).await;
        fixture.claim("b", 5).await;
        *fixture.observed.denied.lock().unwrap() = vec!["backups/b/velero-backup.json".to_owned()];
        assert!(remove(&fixture, "b").await.is_err());
        let keys = fixture.keys("").await;
        assert!(keys.iter().any(|key| key.ends_with("velero-backup.json")));
        assert!(!keys.iter().any(|key| key.ends_with("claim.json")));
        fixture.observed.denied.lock().unwrap().clear();
        assert!(remove(&fixture, "b").await.unwrap().is_complete());
        assert_eq!(fixture.keys("").await.len(), 0);
    }

    #[tokio::test]
    async fn only_a_deletion_that_was_cut_off_is_resumed() {
        let fixture = Fixture::new();
        fixture.ours("whole", 5).await;
        fixture.claim("busy", 5).await;
        fixture.put("backups/busy/busy-outcome.json.gz", "x").await;
        let before = fixture.keys("").await;
        for of in ["whole", "busy", "gone"] {
            assert!(
                resume_deletion(&fixture.bucket(), &name(of)).await.is_err(),
                "{of}"
            );
        }
        assert_eq!(fixture.keys("").await, before);
    }

    #[tokio::test]
    async fn a_marker_that_cannot_be_deleted_leaves_everything() {
        let fixture = Fixture::new();
        fixture.ours("b", 5).await;
        let before = fixture.keys("").await;
        fixture
            .observed
            .denied
            .lock()
            .unwrap()
            .push("backups/b/velero-backup.json".to_owned());
        assert!(matches!(
            remove(&fixture, "b").await,
            Err(CatalogError::Storage(_))
        ));
        assert_eq!(fixture.keys("").await, before);
    }

    #[tokio::test]
    async fn a_damaged_marker_does_not_keep_a_backup_alive() {
        let fixture = Fixture::new();
        fixture.ours("b", 5).await;
        fixture.put("backups/b/velero-backup.json", "{").await;
        assert!(remove(&fixture, "b").await.unwrap().is_complete());
    }
}
