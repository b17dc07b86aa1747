//! What is stored about restores: our records, and the files that Velero's restores leave as well.
//!
//! A restore without our record is listed by name alone: which backup it came from is known only to the cluster.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use velero_model::{
    claim::Claim,
    layout::{RESTORES, RestoreKeys},
    name::BackupName,
    phase::Phase,
    resource_list::ResourceList,
    restore_record::RestoreRecord,
    results::Results,
};

use super::{
    error::CatalogError,
    open::{InflatedStream, inflate_file},
    purge::{Purged, purge},
    stream::inflated,
};
use crate::{
    claim::{self, is_dead},
    clock,
    storage::{At, Bucket, StorageError},
};

/// Records that are read at once.
const IN_FLIGHT: usize = 16;

/// Largest record.
const RECORD_MAX: u64 = 16 << 20;

/// Most that a log may inflate to.
const LOG_MAX: u64 = 64 << 30;

/// One stored restore.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedRestore {
    /// Its name.
    pub name: BackupName,
    /// Our record; `None` for Velero's restores and for records that cannot be read.
    pub record: Option<RestoreRecord>,
    /// The run that is doing it at this moment.
    pub running: Option<Claim>,
}

impl ListedRestore {
    /// Whether it broke off without a word: its record says that it is in progress, and nobody is behind it.
    pub fn is_interrupted(&self) -> bool {
        self.running.is_none()
            && self
                .record
                .as_ref()
                .is_some_and(|record| record.phase == Phase::InProgress)
    }
}

/// Every restore that has files in a location, by name.
///
/// # Errors
/// When the location cannot be listed or read.
pub async fn restores(bucket: &Arc<dyn Bucket>) -> Result<Vec<ListedRestore>, CatalogError> {
    let names: Vec<BackupName> = bucket
        .list_folders(RESTORES)
        .await?
        .iter()
        .filter_map(|name| BackupName::parse(name).ok())
        .collect();
    stream::iter(names)
        .map(|name| async move {
            let record = read_record(bucket, &name).await?;
            let running = running(bucket, &name, record.as_ref()).await?;
            Ok(ListedRestore {
                name,
                record,
                running,
            })
        })
        .buffered(IN_FLIGHT)
        .try_collect()
        .await
}

async fn read_record(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<Option<RestoreRecord>, CatalogError> {
    match bucket.get(&RestoreKeys(name).record(), RECORD_MAX).await {
        Ok(found) => Ok(found.and_then(|(bytes, _)| serde_json::from_slice(&bytes).ok())),
        Err(StorageError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whose claim is on a restore, if it is one in progress.
async fn running(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
    record: Option<&RestoreRecord>,
) -> Result<Option<Claim>, CatalogError> {
    if record.is_none_or(|record| record.phase != Phase::InProgress) {
        return Ok(None);
    }
    let claim = claim::read(bucket, &RestoreKeys(name).claim()).await?;
    Ok(claim.filter(|claim| !is_dead(claim, clock::now())))
}

/// The log of a restore as inflated text; `None` when there is none.
///
/// # Errors
/// Storage faults; damage comes in the stream.
pub async fn restore_logs(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<Option<InflatedStream>, CatalogError> {
    let file = bucket.head(&RestoreKeys(name).logs()).await?;
    Ok(file.map(|file| inflated(Arc::clone(bucket), &file, LOG_MAX)))
}

/// Errors and warnings of a restore; `None` when there are none stored.
///
/// # Errors
/// When they are there and cannot be read.
pub async fn restore_results(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<Option<Results>, CatalogError> {
    json(bucket, &RestoreKeys(name).results()).await
}

/// Names of restored objects by kind, each with what was done to it; `None` when there is no such list.
///
/// # Errors
/// When it is there and cannot be read.
pub async fn restore_resource_list(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<Option<ResourceList>, CatalogError> {
    json(bucket, &RestoreKeys(name).resource_list()).await
}

async fn json<T: DeserializeOwned>(bucket: &Arc<dyn Bucket>, key: &str) -> Result<Option<T>, CatalogError> {
    let Some(file) = bucket.head(key).await? else {
        return Ok(None);
    };
    let json = inflate_file(bucket, &file).await?;
    serde_json::from_slice(&json)
        .map(Some)
        .map_err(|error| CatalogError::File {
            key: file.key,
            detail: error.to_string(),
        })
}

/// Deletes what is stored about a restore; the restored objects are not touched.
///
/// # Errors
/// [`CatalogError::RestoreRunning`]; when there is nothing, or the location cannot be listed.
pub async fn delete_restore(bucket: &Arc<dyn Bucket>, name: &BackupName) -> Result<Purged, CatalogError> {
    let record = read_record(bucket, name).await?;
    if let Some(claim) = running(bucket, name, record.as_ref()).await? {
        return Err(CatalogError::RestoreRunning {
            name: name.clone(),
            claim: Box::new(claim),
        });
    }
    let folder = RestoreKeys(name).folder();
    // The record goes last: as long as a file is left, it is known whose it is.
    let purged = purge(bucket, &folder, Some(&RestoreKeys(name).record())).await?;
    if purged.keys == 0 && purged.is_complete() {
        let at = At::new("delete", &folder, &bucket.describe());
        return Err(StorageError::NoSuchKey { at }.into());
    }
    Ok(purged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{
        fixture::{Fixture, gz_json, name},
        open::collect,
    };
    use crate::claim::new_claim;

    #[tokio::test]
    async fn restores_are_listed_read_and_deleted() {
        let fixture = Fixture::new();
        let bucket = fixture.bucket();
        fixture
            .put(
                "restores/r1/restore-r1.json",
                r#"{"version":1,"name":"r1","backup":"b"}"#,
            )
            .await;
        fixture
            .put("restores/r1/restore-r1-logs.gz", gz_json(&"line".into()))
            .await;
        let results = serde_json::json!({"errors": {"velero": ["e"]}});
        fixture
            .put("restores/r1/restore-r1-results.gz", gz_json(&results))
            .await;
        fixture.put("restores/r2/restore-r2.json", "{").await;
        let listed = restores(&bucket).await.unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[0].record.as_ref().unwrap().backup, "b");
        assert_eq!(listed[1].record, None);
        let log = collect(restore_logs(&bucket, &name("r1")).await.unwrap().unwrap())
            .await
            .unwrap();
        assert_eq!(log, b"\"line\"");
        assert_eq!(
            restore_results(&bucket, &name("r1"))
                .await
                .unwrap()
                .unwrap()
                .errors
                .len(),
            1
        );
        assert!(restore_logs(&bucket, &name("r2")).await.unwrap().is_none());
        assert_eq!(delete_restore(&bucket, &name("r1")).await.unwrap().keys, 3);
        assert_eq!(fixture.keys("").await, ["restores/r2/restore-r2.json"]);
        assert!(delete_restore(&bucket, &name("r1")).await.is_err());
    }

    #[tokio::test]
    async fn a_restore_in_progress_is_one_as_long_as_its_claim_lives() {
        let fixture = Fixture::new();
        let bucket = fixture.bucket();
        let record = r#"{"version":1,"name":"r","backup":"b","phase":"InProgress"}"#;
        fixture.put("restores/r/restore-r.json", record).await;
        let claim = new_claim();
        let body = serde_json::to_vec(&claim).unwrap();
        fixture.put("restores/r/restore-r-claim.json", body).await;
        let listed = restores(&bucket).await.unwrap();
        assert_eq!(listed[0].running.as_ref().unwrap().run_id, claim.run_id);
        assert!(!listed[0].is_interrupted());
        assert!(matches!(
            delete_restore(&bucket, &name("r")).await,
            Err(CatalogError::RestoreRunning { .. })
        ));
        let mut dead = claim;
        dead.heartbeat -= jiff::SignedDuration::from_mins(5);
        let body = serde_json::to_vec(&dead).unwrap();
        fixture.put("restores/r/restore-r-claim.json", body).await;
        assert!(restores(&bucket).await.unwrap()[0].is_interrupted());
        assert_eq!(delete_restore(&bucket, &name("r")).await.unwrap().keys, 2);
    }
}
