//! What Velero knows of a backup or a restore, fetched through its API into a temporary folder with a bucket's layout.
//!
//! For whoever may not, or cannot, read the bucket. In come a name and the files that are wanted; out goes a
//! [`Bucket`] that holds the object as its marker and those files, so that everything which reads backups reads this one
//! too. Files that do not exist are simply not there. The folder goes away with [`Fetched`].

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use velero_model::{
    api_object::{BackupStorageLocation, DownloadTargetKind as File, Run},
    layout::{BackupKeys, RestoreKeys},
    name::BackupName,
};

use super::{Kind, Velero, VeleroError, download::Download};
use crate::storage::{Bucket, Put, folder::Folder};

/// A backup or restore as far as it was fetched.
pub struct Fetched {
    bucket: Arc<dyn Bucket>,
    run: Run,
    _folder: tempfile::TempDir,
}

impl Fetched {
    /// The files.
    pub fn bucket(&self) -> &Arc<dyn Bucket> {
        &self.bucket
    }

    /// The object, as far as it tells how the work is getting on.
    pub fn run(&self) -> &Run {
        &self.run
    }
}

/// Fetches a Backup object and some of its files; `None` when there is no such object. A backup that is not over has no
/// files yet.
///
/// # Errors
/// [`VeleroError::Download`] when Velero hands a file out that cannot be read from here.
pub async fn backup(
    velero: &Velero,
    location: &BackupStorageLocation,
    name: &BackupName,
    files: &[File],
    cancel: &CancellationToken,
) -> Result<Option<Fetched>, VeleroError> {
    let Some(object) = velero.raw(Kind::Backup, name.as_str()).await? else {
        return Ok(None);
    };
    let fetched = empty(velero, Kind::Backup, name, &object)?;
    let marker = BackupKeys(name).marker();
    // The folder is new and ours alone.
    let _ = fetched.bucket.put(&marker, object, Put::default()).await?;
    if matches!(
        fetched.run.status.phase.as_str(),
        "Completed" | "PartiallyFailed" | "Failed"
    ) {
        download(velero, location, name, files, &fetched, cancel).await?;
    }
    Ok(Some(fetched))
}

/// Fetches files of a Restore; `None` when there is no such object.
///
/// # Errors
/// As [`backup`].
pub async fn restore(
    velero: &Velero,
    location: &BackupStorageLocation,
    name: &BackupName,
    files: &[File],
    cancel: &CancellationToken,
) -> Result<Option<Fetched>, VeleroError> {
    let Some(object) = velero.raw(Kind::Restore, name.as_str()).await? else {
        return Ok(None);
    };
    let fetched = empty(velero, Kind::Restore, name, &object)?;
    if fetched.run.status.is_over() && fetched.run.status.phase != "FailedValidation" {
        download(velero, location, name, files, &fetched, cancel).await?;
    }
    Ok(Some(fetched))
}

fn empty(velero: &Velero, kind: Kind, name: &BackupName, object: &[u8]) -> Result<Fetched, VeleroError> {
    let run: Run = serde_json::from_slice(object).map_err(|source| VeleroError::Object {
        what: velero.what(kind, name.as_str()),
        source,
    })?;
    let folder = tempfile::Builder::new()
        .prefix("kubectl-backup-")
        .tempdir()
        .map_err(VeleroError::Temporary)?;
    Ok(Fetched {
        bucket: Arc::new(Folder::new(folder.path(), false)),
        run,
        _folder: folder,
    })
}

async fn download(
    velero: &Velero,
    location: &BackupStorageLocation,
    name: &BackupName,
    files: &[File],
    fetched: &Fetched,
    cancel: &CancellationToken,
) -> Result<(), VeleroError> {
    let download = Download {
        velero,
        location,
        cancel,
    };
    for file in files {
        let key = key(name, *file);
        download
            .store(fetched.bucket.as_ref(), &key, *file, name.as_str())
            .await?;
    }
    Ok(())
}

fn key(name: &BackupName, file: File) -> String {
    let (backup, restore) = (BackupKeys(name), RestoreKeys(name));
    match file {
        File::BackupLog => backup.logs(),
        File::BackupContents => backup.tarball(),
        File::BackupResults => backup.results(),
        File::BackupResourceList => backup.resource_list(),
        File::BackupVolumeInfos => backup.volume_info(),
        File::RestoreLog => restore.logs(),
        File::RestoreResults => restore.results(),
        File::RestoreResourceList => restore.resource_list(),
    }
}
