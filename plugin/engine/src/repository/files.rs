//! Where a repository's files are: the few operations that it needs, apart from what else a location can do.
//!
//! In come names relative to the repository (`config`, `keys/ID`, `data/AB/ID`), out come bytes. A [`BucketFiles`] does it
//! with a location; a mover in a pod does it through the connection to whoever started it, where it cannot reach the
//! location itself.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;

use crate::storage::{Bucket, Put, PutOutcome, StorageError};

/// Longest file that is read whole, in bytes: an index of a very large repository.
const WHOLE: u64 = 1 << 30;

/// What the place said, in words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct FilesError(pub String);

impl From<StorageError> for FilesError {
    fn from(error: StorageError) -> Self {
        Self(error.to_string())
    }
}

/// A file without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Name relative to the repository.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was written, by the place's clock.
    pub modified: Option<Timestamp>,
}

/// A place for a repository's files.
#[async_trait]
pub trait Files: Send + Sync {
    /// The place for messages; never holds a credential.
    fn describe(&self) -> String;

    /// Every file below a folder (`data/`, `locks/`), in no order.
    async fn list(&self, folder: &str) -> Result<Vec<File>, FilesError>;

    /// A whole file; `None` if there is none.
    async fn read(&self, name: &str) -> Result<Option<Bytes>, FilesError>;

    /// Exactly `length` bytes from `offset`.
    async fn read_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, FilesError>;

    /// Stores a file, whole or not at all. With `if_absent`, whether it is ours that is stored.
    async fn write(&self, name: &str, body: Bytes, if_absent: bool) -> Result<bool, FilesError>;

    /// Removes a file; done already if there is none.
    async fn remove(&self, name: &str) -> Result<(), FilesError>;
}

/// A folder of a location.
pub struct BucketFiles {
    bucket: Arc<dyn Bucket>,
    folder: String,
}

impl BucketFiles {
    /// The repository of a namespace: `restic/NAMESPACE/` below the prefix, where Velero has it too.
    pub fn of_namespace(bucket: Arc<dyn Bucket>, namespace: &str) -> Self {
        Self {
            bucket,
            folder: format!("restic/{namespace}/"),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }
}

#[async_trait]
impl Files for BucketFiles {
    fn describe(&self) -> String {
        format!("{}/{}", self.bucket.describe(), self.folder.trim_end_matches('/'))
    }

    async fn list(&self, folder: &str) -> Result<Vec<File>, FilesError> {
        let found = self.bucket.list_all(&self.key(folder)).await?;
        Ok(found
            .into_iter()
            .filter_map(|info| {
                Some(File {
                    name: info.key.strip_prefix(&self.folder)?.to_owned(),
                    size: info.size,
                    modified: info.modified,
                })
            })
            .collect())
    }

    async fn read(&self, name: &str) -> Result<Option<Bytes>, FilesError> {
        Ok(self
            .bucket
            .get(&self.key(name), WHOLE)
            .await?
            .map(|(bytes, _)| bytes))
    }

    async fn read_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, FilesError> {
        Ok(self.bucket.get_range(&self.key(name), offset, length).await?)
    }

    async fn write(&self, name: &str, body: Bytes, if_absent: bool) -> Result<bool, FilesError> {
        let put = if if_absent {
            Put::if_absent()
        } else {
            Put::default()
        };
        match self.bucket.put(&self.key(name), body, put).await? {
            PutOutcome::Stored { .. } => Ok(true),
            PutOutcome::AlreadyThere | PutOutcome::Changed => Ok(false),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), FilesError> {
        Ok(self.bucket.delete(&self.key(name)).await?)
    }
}
