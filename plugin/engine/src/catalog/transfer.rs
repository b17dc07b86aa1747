//! A whole backup from one place into a location: the common part of copying and importing.
//!
//! In come files with the digests that they must have; out goes a backup that was not visible before its last byte was
//! compared. The name is claimed for the time of the writing, every key is put only if absent, notes come before the
//! marker so that a hold is in force from the first moment, and the marker comes last. Whatever goes wrong, what was
//! written is removed again.

use std::sync::Arc;

use futures::{TryStreamExt, future::BoxFuture};
use tokio_util::sync::CancellationToken;
use velero_model::{
    digests::Digests,
    layout::{BackupKeys, MARKER},
    name::BackupName,
};

use super::{
    error::CatalogError,
    folder::{self, Folder, State},
    litter::clear_dead_run,
    open::{OpenBackup, collect},
    stream::{Chunks, checked, chunks, until},
    volume_data::volume_data,
};
use crate::{
    claim::HeldClaim,
    clock,
    progress::Progress,
    storage::{At, Bucket, Put, StorageError, delete_all},
};

/// Files up to this size are put in one call.
const SMALL: u64 = 4 << 20;

/// What a copy or an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopySummary {
    /// Name of the backup.
    pub name: BackupName,
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Whether every file was compared with its digest. Backups that Velero wrote have none: their sizes were compared.
    pub verified: bool,
    /// Volume data that lies elsewhere and did not come along.
    pub volume_data_left: Vec<String>,
}

/// One file of a backup that is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Name without the folder.
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: Option<String>,
}

/// Where the bytes of a file come from.
pub(super) type Reader<'a> = dyn Fn(&File) -> BoxFuture<'a, Result<Chunks, CatalogError>> + Send + Sync + 'a;

/// Copies a backup into another location.
///
/// # Errors
/// When the name is taken there, when a digest of the source does not match, on interruption, and on storage faults.
pub async fn copy(
    from: &OpenBackup,
    to: &Arc<dyn Bucket>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<CopySummary, CatalogError> {
    let digests = from.digests().await?;
    let verified = digests.is_some();
    let present: Vec<(String, u64)> = from
        .files()
        .iter()
        .map(|file| (file.key.clone(), file.size))
        .collect();
    let files = files(from.name(), &present, digests.as_ref())?;
    let folder = from.keys().folder();
    let read = |file: &File| -> BoxFuture<'_, Result<Chunks, CatalogError>> {
        let key = format!("{folder}{}", file.name);
        Box::pin(async move { Ok(chunks(from.bucket(), &key).await?.1) })
    };
    let volume_data_left = volume_data(from).await?;
    publish(to, from.name(), &files, &read, progress, cancel).await?;
    let bytes = files.iter().map(|file| file.size).sum();
    let count = files.len() as u64;
    Ok(CopySummary {
        name: from.name().clone(),
        files: count,
        bytes,
        verified,
        volume_data_left,
    })
}

/// The files to write, in order, the marker last. In a backup with digests what they do not name stays behind, claims
/// always do.
pub(super) fn files(
    name: &BackupName,
    present: &[(String, u64)],
    digests: Option<&Digests>,
) -> Result<Vec<File>, CatalogError> {
    let keys = BackupKeys(name);
    let folder = keys.folder();
    let missing = |key: &str| {
        let detail = "it is missing".to_owned();
        Err(CatalogError::Digest {
            key: key.to_owned(),
            detail,
        })
    };
    if let Some(digests) = digests
        && let Some(file) = digests.files.keys().find(|file| {
            let key = format!("{folder}{file}");
            !present.iter().any(|(present, _)| *present == key)
        })
    {
        return missing(&format!("{folder}{file}"));
    }
    for key in [keys.marker(), keys.tarball()] {
        if !present.iter().any(|(present, _)| *present == key) {
            return missing(&key);
        }
    }
    let mut files: Vec<File> = present
        .iter()
        .filter(|(key, _)| *key != keys.claim())
        .filter_map(|(key, size)| {
            let file = key.strip_prefix(&folder)?;
            let digest = digests.and_then(|digests| digests.files.get(file));
            let wanted = digests.is_none() || digest.is_some() || *key == keys.digests() || keys.is_note(key);
            // The expected size is the digest's, so that a file of another length is found when it is read.
            let size = digest.map_or(*size, |digest| digest.size);
            let sha256 = digest.map(|digest| digest.sha256.clone());
            wanted.then(|| File {
                name: file.to_owned(),
                size,
                sha256,
            })
        })
        .collect();
    files.sort_by_key(|file| file.name == MARKER);
    Ok(files)
}

/// Writes a whole backup, or nothing.
pub(super) async fn publish(
    to: &Arc<dyn Bucket>,
    name: &BackupName,
    files: &[File],
    read: &Reader<'_>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<(), CatalogError> {
    let keys = BackupKeys(name);
    if to.read_only() {
        return Err(StorageError::ReadOnly {
            at: At::new("write", &keys.folder(), &to.describe()),
        }
        .into());
    }
    progress.set_total_bytes(files.iter().map(|file| file.size).sum());
    make_room(to, name).await?;
    let unfinished = || CatalogError::Unfinished {
        name: name.clone(),
        location: to.describe(),
    };
    let claim = HeldClaim::acquire(to, keys.claim())
        .await?
        .ok_or_else(unfinished)?;
    let mut written = Vec::new();
    let result = write_all(to, name, files, read, &claim, &mut written, progress, cancel).await;
    // A name that somebody took over is cleaned by them; what lies there now may be theirs.
    if result.is_err() && !claim.is_lost() {
        withdraw(to, &keys.marker(), written).await;
    }
    let released = claim.release(to).await;
    result.and(released.map_err(Into::into))
}

/// Removes what was written, or may have been. What cannot be removed is found by the next repair; as long as the
/// marker is among that, everything stays, because the backup may be whole.
async fn withdraw(to: &Arc<dyn Bucket>, marker: &str, mut written: Vec<String>) {
    if written.last().is_some_and(|key| key == marker) && to.delete(marker).await.is_err() {
        return;
    }
    written.retain(|key| key != marker);
    let _ = delete_all(&**to, written).await;
}

async fn make_room(to: &Arc<dyn Bucket>, name: &BackupName) -> Result<(), CatalogError> {
    let files = to.list_all(&BackupKeys(name).folder()).await?;
    let location = to.describe();
    match folder::state(to, name, &Folder::of(name, &files), clock::now()).await? {
        State::Absent => Ok(()),
        State::Complete => Err(CatalogError::Exists {
            name: name.clone(),
            location,
        }),
        State::Running(claim) => Err(CatalogError::Running {
            name: name.clone(),
            claim: Box::new(claim),
        }),
        State::Young => Err(CatalogError::Unfinished {
            name: name.clone(),
            location,
        }),
        State::Dead(_) => match clear_dead_run(to, name).await? {
            Some(purged) if purged.is_complete() => Ok(()),
            _ => Err(CatalogError::Unfinished {
                name: name.clone(),
                location,
            }),
        },
    }
}

// All of these are one piece of work's; a struct would only name them a second time.
#[allow(clippy::too_many_arguments)]
async fn write_all(
    to: &Arc<dyn Bucket>,
    name: &BackupName,
    files: &[File],
    read: &Reader<'_>,
    claim: &HeldClaim,
    written: &mut Vec<String>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<(), CatalogError> {
    let folder = BackupKeys(name).folder();
    for file in files {
        let key = format!("{folder}{}", file.name);
        progress.set_step(&format!("writing {}", file.name));
        if claim.is_lost() {
            return Err(CatalogError::ClaimLost { name: name.clone() });
        }
        let chunks = checked(read(file).await?, &key, file.size, file.sha256.clone());
        // Noted before the attempt: an attempt that is cut off may have stored the key all the same.
        written.push(key.clone());
        if !until(cancel, write(to, &key, file.size, chunks, progress)).await? {
            written.pop();
            let detail = "somebody else wrote this key at the same time".to_owned();
            return Err(StorageError::Other {
                at: At::new("write", &key, &to.describe()),
                detail,
            }
            .into());
        }
    }
    Ok(())
}

/// Writes one file; `false` when somebody else's is there.
async fn write(
    to: &Arc<dyn Bucket>,
    key: &str,
    size: u64,
    mut chunks: Chunks,
    progress: &Arc<Progress>,
) -> Result<bool, CatalogError> {
    let stored = if size <= SMALL {
        let bytes = collect(chunks).await?;
        progress.add_bytes(size);
        to.put(key, bytes.into(), Put::if_absent()).await?
    } else {
        let mut upload = to.upload(key, Put::if_absent().expecting(size)).await?;
        loop {
            match chunks.try_next().await {
                Ok(Some(chunk)) => {
                    progress.add_bytes(chunk.len() as u64);
                    upload.write(chunk).await?;
                }
                Ok(None) => break upload.complete().await?,
                Err(error) => {
                    // The damaged source is what matters; an upload that cannot be aborted is litter for the repair.
                    let _ = upload.abort().await;
                    return Err(error);
                }
            }
        }
    };
    Ok(stored.is_stored())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{
        fixture::{Fixture, gz_json, name},
        open, verify,
    };

    async fn transfer(from: &Fixture, to: &Fixture, of: &str) -> Result<CopySummary, CatalogError> {
        let open = open(&from.bucket(), &name(of)).await.unwrap();
        copy(&open, &to.bucket(), &Arc::default(), &CancellationToken::new()).await
    }

    #[tokio::test]
    async fn a_copy_is_the_same_backup() {
        for is_ours in [true, false] {
            let (from, to) = (Fixture::new(), Fixture::new());
            if is_ours {
                // Large enough for an upload in parts.
                from.ours("b", 20_000).await;
            } else {
                from.velero("b", 20).await;
            }
            from.hold("b", "audit").await;
            to.claim("b", 500).await;
            let summary = transfer(&from, &to, "b").await.unwrap();
            assert_eq!(summary.verified, is_ours);
            let keys = from.keys("").await;
            assert_eq!(to.keys("").await, keys);
            assert_eq!(summary.files, keys.len() as u64);
            for key in keys {
                assert_eq!(from.bytes(&key).await, to.bytes(&key).await, "{key}");
            }
            let copied = open(&to.bucket(), &name("b")).await.unwrap();
            assert!(copied.notes().hold.is_some());
            let report = verify(&copied, &Arc::default(), &CancellationToken::new())
                .await
                .unwrap();
            assert!(report.is_sound());
            assert!(matches!(
                transfer(&from, &to, "b").await,
                Err(CatalogError::Exists { .. })
            ));
        }
    }

    #[tokio::test]
    async fn a_damaged_source_leaves_nothing_behind() {
        let from = Fixture::new();
        from.ours("b", 20).await;
        for key in from.keys("").await {
            let whole = from.bytes(&key).await;
            if key.ends_with("velero-backup.json") {
                continue;
            }
            let mut damaged = whole.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 1;
            for bytes in [damaged, whole[..whole.len() - 1].to_vec()] {
                from.put(&key, bytes).await;
                let to = Fixture::new();
                let error = transfer(&from, &to, "b").await.unwrap_err();
                assert!(error.is_damage(), "{key}: {error}");
                assert!(to.keys("").await.is_empty(), "{key}");
            }
            from.put(&key, whole).await;
        }
    }

    #[tokio::test]
    async fn a_taken_name_is_refused_and_an_interrupted_copy_cleans_up() {
        let from = Fixture::new();
        from.ours("b", 20).await;
        let to = Fixture::new();
        to.claim("b", 5).await;
        assert!(matches!(
            transfer(&from, &to, "b").await,
            Err(CatalogError::Running { .. })
        ));
        assert_eq!(to.keys("").await.len(), 2);
        let to = Fixture::new();
        let open = open(&from.bucket(), &name("b")).await.unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let error = copy(&open, &to.bucket(), &Arc::default(), &cancel)
            .await
            .unwrap_err();
        assert!(matches!(error, CatalogError::Interrupted), "{error}");
        assert!(to.keys("").await.is_empty());
        to.observed.memory().set_read_only();
        assert!(matches!(
            transfer(&from, &to, "b").await,
            Err(CatalogError::Storage(_))
        ));
    }

    #[tokio::test]
    async fn strangers_stay_behind_and_missing_volume_data_is_said() {
        let (from, to) = (Fixture::new(), Fixture::new());
        from.ours("b", 5).await;
        from.put("backups/b/stranger", "x").await;
        assert!(transfer(&from, &to, "b").await.is_ok());
        assert!(!to.keys("").await.contains(&"backups/b/stranger".to_owned()));
        from.velero("v", 5).await;
        let pod_volumes = serde_json::json!([{"spec": {"volume": "v"}, "status": {"snapshotID": "s"}}]);
        from.put("backups/v/v-podvolumebackups.json.gz", gz_json(&pod_volumes))
            .await;
        assert_eq!(transfer(&from, &to, "v").await.unwrap().volume_data_left.len(), 1);
    }
}
