//! What is stored about restores: our records, and the files that Velero's restores leave as well.
//!
//! A restore without our record is listed by name alone: which backup it came from is known only to the cluster.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use velero_model::{
    layout::{RESTORES, RestoreKeys},
    name::BackupName,
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
use crate::storage::{At, Bucket, StorageError};

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
            Ok(ListedRestore { name, record })
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
/// When there is nothing, or the location cannot be listed.
pub async fn delete_restore(bucket: &Arc<dyn Bucket>, name: &BackupName) -> Result<Purged, CatalogError> {
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
}
