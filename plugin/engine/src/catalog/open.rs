//! One backup, opened: its marker, notes and files, and its side files on demand.
//!
//! In comes a name; out goes [`OpenBackup`], which holds the listing of the folder and no open connection. Side files
//! that are missing are `None` or empty, as Velero's reader treats them; damaged ones are errors that name the key.

use std::sync::Arc;

use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use velero_model::{
    backup::Backup,
    digests::Digests,
    layout::BackupKeys,
    name::BackupName,
    note::Effective,
    outcome::Outcome,
    resource_list::ResourceList,
    results::Results,
    volume::{self, VolumeInfo},
};

use super::{
    error::CatalogError,
    folder::{self, Folder, State},
    objects::Objects,
    stream::{Chunks, inflated},
};
use crate::{
    clock,
    progress::Progress,
    storage::{Bucket, ObjectInfo, StorageError},
};

/// Largest marker.
const MARKER_MAX: u64 = 16 << 20;

/// Largest digests file: some 150 bytes a member of 1 MiB.
const DIGESTS_MAX: u64 = 64 << 20;

/// Most that a side file which is read whole may inflate to.
const SIDE_MAX: u64 = 512 << 20;

/// Most that a log may inflate to; it is only passed on.
const LOG_MAX: u64 = 64 << 30;

/// Inflated text in chunks.
pub type InflatedStream = futures::stream::BoxStream<'static, Result<bytes::Bytes, CatalogError>>;

/// A visible backup.
#[derive(Clone)]
pub struct OpenBackup {
    bucket: Arc<dyn Bucket>,
    name: BackupName,
    backup: Backup,
    notes: Effective,
    files: Vec<ObjectInfo>,
}

impl std::fmt::Debug for OpenBackup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenBackup")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Reads and checks a marker; `None` when there is none. Its bytes come along, for their digest.
pub(super) async fn read_marker(
    bucket: &Arc<dyn Bucket>,
    name: &BackupName,
) -> Result<Option<(Backup, bytes::Bytes)>, CatalogError> {
    let key = BackupKeys(name).marker();
    match bucket.get(&key, MARKER_MAX).await {
        Ok(Some((bytes, _))) => Ok(Some((Backup::parse(&bytes, name, &key)?, bytes))),
        Ok(None) => Ok(None),
        Err(StorageError::TooLarge { size, .. }) => Err(CatalogError::File {
            key,
            detail: format!("it has {size} bytes"),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Opens a backup.
///
/// # Errors
/// [`CatalogError::NotFound`], [`CatalogError::Running`], an unbelievable marker, or storage faults.
pub async fn open(bucket: &Arc<dyn Bucket>, name: &BackupName) -> Result<OpenBackup, CatalogError> {
    let files = bucket.list_all(&BackupKeys(name).folder()).await?;
    let folder = Folder::of(name, &files);
    let missing = |leftovers| CatalogError::NotFound {
        name: name.clone(),
        location: bucket.describe(),
        leftovers,
    };
    match folder::state(bucket, name, &folder, clock::now()).await? {
        State::Complete => {}
        State::Running(claim) => {
            return Err(CatalogError::Running {
                name: name.clone(),
                claim: Box::new(claim),
            });
        }
        State::Absent => return Err(missing(false)),
        State::Young | State::Dead(_) => return Err(missing(true)),
    }
    let (backup, _) = read_marker(bucket, name).await?.ok_or_else(|| missing(false))?;
    let notes = folder::notes(bucket, &folder.notes).await?;
    Ok(OpenBackup {
        bucket: Arc::clone(bucket),
        name: name.clone(),
        backup,
        notes,
        files,
    })
}

impl OpenBackup {
    /// Its name.
    pub fn name(&self) -> &BackupName {
        &self.name
    }

    /// The Backup object.
    pub fn backup(&self) -> &Backup {
        &self.backup
    }

    /// What was decided about it later.
    pub fn notes(&self) -> &Effective {
        &self.notes
    }

    /// Every file in its folder, sorted by key.
    pub fn files(&self) -> &[ObjectInfo] {
        &self.files
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Whether our index and digests are there.
    pub fn is_ours(&self) -> bool {
        self.has(&self.keys().index()) && self.has(&self.keys().digests())
    }

    /// Whether this tool wrote it, whatever is left of our files.
    pub fn was_written_by_us(&self) -> bool {
        let keys = self.keys();
        !self.backup.source().run_id.is_empty()
            || [keys.index(), keys.digests(), keys.outcome()]
                .iter()
                .any(|key| self.has(key))
    }

    /// The location it lies in.
    pub fn bucket(&self) -> &Arc<dyn Bucket> {
        &self.bucket
    }

    /// Keys of its files.
    pub fn keys(&self) -> BackupKeys<'_> {
        BackupKeys(&self.name)
    }

    /// A file by its key.
    pub fn file(&self, key: &str) -> Option<&ObjectInfo> {
        self.files
            .binary_search_by(|file| file.key.as_str().cmp(key))
            .ok()
            .and_then(|at| self.files.get(at))
    }

    fn has(&self, key: &str) -> bool {
        self.file(key).is_some()
    }

    /// The archive, or the error that says it is missing.
    pub(super) fn archive(&self) -> Result<&ObjectInfo, CatalogError> {
        let key = self.keys().tarball();
        self.file(&key).ok_or(CatalogError::NoArchive {
            name: self.name.clone(),
            key,
        })
    }

    /// The account of the run; `None` for backups that Velero wrote.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub async fn outcome(&self) -> Result<Option<Outcome>, CatalogError> {
        self.json(&self.keys().outcome()).await
    }

    /// Errors and warnings.
    ///
    /// # Errors
    /// As [`Self::outcome`].
    pub async fn results(&self) -> Result<Option<Results>, CatalogError> {
        self.json(&self.keys().results()).await
    }

    /// Names by kind, as the writer claimed them; the archive is what counts.
    ///
    /// # Errors
    /// As [`Self::outcome`].
    pub async fn resource_list(&self) -> Result<Option<ResourceList>, CatalogError> {
        self.json(&self.keys().resource_list()).await
    }

    /// What became of the volumes; empty when nothing was recorded.
    ///
    /// # Errors
    /// As [`Self::outcome`].
    pub async fn volume_infos(&self) -> Result<Vec<VolumeInfo>, CatalogError> {
        let key = self.keys().volume_info();
        let Some(json) = self.inflate(&key).await? else {
            return Ok(Vec::new());
        };
        volume::parse_list(&json).map_err(|error| CatalogError::File {
            key,
            detail: error.to_string(),
        })
    }

    /// The log as inflated text, chunk by chunk; `None` when there is none.
    pub fn logs(&self) -> Option<InflatedStream> {
        let file = self.file(&self.keys().logs())?;
        Some(inflated(Arc::clone(&self.bucket), file, LOG_MAX))
    }

    /// The digests, their seal checked; `None` for backups that Velero wrote.
    ///
    /// # Errors
    /// When they are there and cannot be believed.
    pub async fn digests(&self) -> Result<Option<Digests>, CatalogError> {
        let key = self.keys().digests();
        if !self.has(&key) {
            return Ok(None);
        }
        let Some((bytes, _)) = self.bucket.get(&key, DIGESTS_MAX).await? else {
            return Err(CatalogError::Vanished { key });
        };
        let digests = Digests::parse(&bytes).map_err(|error| CatalogError::File {
            key,
            detail: error.to_string(),
        })?;
        Ok(Some(digests))
    }

    /// The objects: through our index, or, where there is none, by one pass over the archive into a temporary file.
    ///
    /// # Errors
    /// When index or archive cannot be read.
    pub async fn objects(
        &self,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Objects, CatalogError> {
        if self.has(&self.keys().index()) {
            Objects::indexed(self).await
        } else {
            self.objects_from_archive(progress, cancel).await
        }
    }

    /// The objects by one pass over the archive, whether there is an index or not: the way around a damaged one.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn objects_from_archive(
        &self,
        progress: &Arc<Progress>,
        cancel: &CancellationToken,
    ) -> Result<Objects, CatalogError> {
        Objects::rebuilt(self, progress, cancel).await
    }

    async fn json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, CatalogError> {
        let Some(json) = self.inflate(key).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&json).map_err(|error| CatalogError::File {
            key: key.to_owned(),
            detail: error.to_string(),
        })
    }

    /// A gzip file whole; `None` when it is not there.
    async fn inflate(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        let Some(file) = self.file(key) else {
            return Ok(None);
        };
        inflate_file(&self.bucket, file).await.map(Some)
    }
}

/// A gzip side file whole.
pub(super) async fn inflate_file(
    bucket: &Arc<dyn Bucket>,
    file: &ObjectInfo,
) -> Result<Vec<u8>, CatalogError> {
    collect(inflated(Arc::clone(bucket), file, SIDE_MAX)).await
}

/// All chunks as one.
pub(super) async fn collect(mut chunks: Chunks) -> Result<Vec<u8>, CatalogError> {
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::fixture::{Fixture, name};

    #[tokio::test]
    async fn our_backup_gives_its_side_files() {
        let fixture = Fixture::new();
        fixture.ours("b", 7).await;
        let open = open(&fixture.bucket(), &name("b")).await.unwrap();
        assert!(open.is_ours() && open.was_written_by_us());
        assert_eq!(open.outcome().await.unwrap().unwrap().stored(), 7);
        assert_eq!(
            open.resource_list()
                .await
                .unwrap()
                .unwrap()
                .values()
                .flatten()
                .count(),
            7
        );
        assert!(open.results().await.unwrap().unwrap().errors.is_empty());
        let log = String::from_utf8(collect(open.logs().unwrap()).await.unwrap()).unwrap();
        assert!(log.contains("level=info"), "{log}");
        assert!(open.digests().await.unwrap().is_some());
    }

    #[tokio::test]
    async fn veleros_missing_and_null_files_are_empty() {
        let fixture = Fixture::new();
        fixture.velero("b", 2).await;
        let open = open(&fixture.bucket(), &name("b")).await.unwrap();
        assert!(!open.is_ours() && !open.was_written_by_us());
        assert_eq!(open.outcome().await.unwrap(), None);
        assert_eq!(open.volume_infos().await.unwrap(), []);
        assert_eq!(open.results().await.unwrap(), None);
        assert!(open.logs().is_none());
    }

    #[tokio::test]
    async fn what_is_not_a_backup_is_said_to_be_what_it_is() {
        let fixture = Fixture::new();
        fixture.claim("busy", 5).await;
        fixture.claim("dead", 500).await;
        let opened = async |of| open(&fixture.bucket(), &name(of)).await.unwrap_err();
        assert!(matches!(
            opened("nothing").await,
            CatalogError::NotFound { leftovers: false, .. }
        ));
        assert!(matches!(
            opened("dead").await,
            CatalogError::NotFound { leftovers: true, .. }
        ));
        assert!(matches!(opened("busy").await, CatalogError::Running { .. }));
    }

    #[tokio::test]
    async fn a_damaged_side_file_is_named() {
        let fixture = Fixture::new();
        fixture.ours("b", 2).await;
        fixture.put("backups/b/b-outcome.json.gz", "no gzip").await;
        let open = open(&fixture.bucket(), &name("b")).await.unwrap();
        let error = open.outcome().await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("backups/b/b-outcome.json.gz is damaged"),
            "{error}"
        );
    }
}
