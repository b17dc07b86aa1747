//! The contract of a location: what each operation on keys owes, whatever is behind it.
//!
//! In come keys relative to the location's prefix and bytes, out come bytes and facts. The rules that hold for
//! every implementation, and that one suite of cases checks on each of them:
//!
//! - **Whole or not at all.** A key becomes visible with all its bytes or not at all. A writer that fails, is
//!   aborted, dropped or killed leaves no visible key, at most litter that `list_uploads` finds.
//! - **Put if absent has one winner.** Of any number of concurrent writers with [`Put::if_absent`] one gets
//!   [`PutOutcome::Stored`], the others [`PutOutcome::AlreadyThere`], and the winner's bytes stay. A retry inside
//!   the implementation never turns our own success into `AlreadyThere`. Only stores that honour conditional
//!   writes can promise this; [`super::probe::conditional_writes_work`] finds out.
//! - **A short read is an error.** No method returns fewer bytes than were asked for or announced.
//! - **A missing key is not an error** for `get`, `stream`, `head` (they say `None`) and `delete` (it is done
//!   already). A missing bucket or folder always is.
//! - **Retries are inside.** Transient faults are retried with growing pauses; what comes out is final.
//! - **Lists are complete** over all pages. `list_all` and `list_folders` are sorted by bytes; `list` comes in the
//!   store's own order, which is the same on all but odd stores.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::error::StorageError;

/// The store's mark of one state of an object: equal marks, equal bytes. Only compared, never taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Etag(String);

impl Etag {
    /// The mark as the store wrote it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The mark as the store wrote it, quotes included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a key is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// Store only if nothing is there under this key.
    pub if_absent: bool,
    /// Store only if this is what is there.
    pub if_match: Option<Etag>,
    /// Object lock until this time. A folder has no locks and refuses it.
    pub lock_until: Option<Timestamp>,
    /// About how many bytes will come; lets an upload choose its part size, which must not change midway.
    pub expected_size: Option<u64>,
    /// Stored at once, but sure to outlive a power cut only after [`Bucket::settle`]: many files then wait for the disk
    /// together. For files that mean nothing before another one is put.
    pub deferred: bool,
}

impl Put {
    /// Store only if nothing is there.
    pub fn if_absent() -> Self {
        Self {
            if_absent: true,
            ..Self::default()
        }
    }

    /// Store only over this very state.
    pub fn if_match(etag: Etag) -> Self {
        Self {
            if_match: Some(etag),
            ..Self::default()
        }
    }

    /// The same with an object lock.
    pub fn locked_until(self, lock_until: Option<Timestamp>) -> Self {
        Self { lock_until, ..self }
    }

    /// The same, durable only after [`Bucket::settle`].
    pub fn deferred(self) -> Self {
        Self {
            deferred: true,
            ..self
        }
    }

    /// The same with a size to expect.
    pub fn expecting(self, size: u64) -> Self {
        Self {
            expected_size: Some(size),
            ..self
        }
    }
}

/// How a conditional write ended.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutOutcome {
    /// The bytes are stored, visible and durable; with [`Put::deferred`] durable after [`Bucket::settle`].
    Stored {
        /// Their mark.
        etag: Etag,
    },
    /// [`Put::if_absent`]: somebody else's object is there; ours is not stored.
    AlreadyThere,
    /// [`Put::if_match`]: something else, or nothing, is there; ours is not stored.
    Changed,
}

impl PutOutcome {
    /// Whether our bytes are what is stored.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored { .. })
    }
}

/// One stored object, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Key relative to the location's prefix.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// Last change, by the store's clock.
    pub modified: Option<Timestamp>,
    /// Mark of this state.
    pub etag: Etag,
}

/// The bytes of one object, in order.
pub struct ObjectStream {
    /// Announced length; the stream yields exactly this many bytes or an error.
    pub size: u64,
    /// Mark of the state that is being read.
    pub etag: Etag,
    /// The bytes. After an error nothing more comes.
    pub bytes: BoxStream<'static, Result<Bytes, StorageError>>,
}

impl fmt::Debug for ObjectStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStream")
            .field("size", &self.size)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

/// One version of an object in a bucket that keeps versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    /// Key relative to the location's prefix.
    pub key: String,
    /// The store's name of this version.
    pub version: String,
    /// Whether it is what a plain read sees.
    pub is_latest: bool,
    /// Whether it only marks a deletion.
    pub is_delete_marker: bool,
    /// Length in bytes, 0 for a delete marker.
    pub size: u64,
    /// When it was written.
    pub modified: Option<Timestamp>,
}

/// An upload that was started and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    /// The key that it would become.
    pub key: String,
    /// The store's name of this upload.
    pub id: String,
    /// When it was started (a folder: last written to).
    pub started: Option<Timestamp>,
}

/// A place for keys and bytes. What holds for all of it stands at the head of this module.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// The location for messages: `s3://bucket/prefix` or `file:///folder`. Never holds a credential.
    fn describe(&self) -> String;

    /// Whether the location is declared read-only; every write is then refused without a call.
    fn read_only(&self) -> bool;

    /// Stores a body that is in memory.
    async fn put(&self, key: &str, body: Bytes, put: Put) -> Result<PutOutcome, StorageError>;

    /// Starts an upload of unknown length. Memory: the part being filled and at most two in flight.
    async fn upload(&self, key: &str, put: Put) -> Result<Box<dyn Upload>, StorageError>;

    /// Waits until everything that was put with [`Put::deferred`] is durable. Where that did not succeed, none of it may be
    /// relied on.
    async fn settle(&self) -> Result<(), StorageError>;

    /// The whole body, refused with [`StorageError::TooLarge`] before reading if it is longer than `limit`.
    async fn get(&self, key: &str, limit: u64) -> Result<Option<(Bytes, Etag)>, StorageError>;

    /// Exactly `length` bytes from `offset`. A missing key or a shorter object is an error.
    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, StorageError>;

    /// The body in order. A body that is cut is taken up again where it ended, on the same state of the object;
    /// if that does not help, the stream ends with an error.
    async fn stream(&self, key: &str) -> Result<Option<ObjectStream>, StorageError>;

    /// What is known about a key without reading it.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StorageError>;

    /// Every key that starts with `prefix`, over all pages, as they come.
    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StorageError>>;

    /// The same, collected and sorted. For places whose size is known to be small, such as one backup's folder.
    async fn list_all(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StorageError> {
        let mut found: Vec<ObjectInfo> = self.list(prefix).try_collect().await?;
        found.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// The names directly below a folder (`""` or a prefix that ends in `/`) that hold at least one key, sorted,
    /// without slashes.
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StorageError>;

    /// Removes a key; done already if it is not there. In a bucket with versions this hides it only.
    async fn delete(&self, key: &str) -> Result<(), StorageError>;

    /// All versions and delete markers under a prefix. Empty where the store keeps none.
    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StorageError>;

    /// Removes one version for good; [`StorageError::Locked`] if a lock forbids it.
    async fn delete_version(&self, key: &str, version: &str) -> Result<(), StorageError>;

    /// Uploads under a prefix that were never finished: litter of killed runs, or somebody at work now.
    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StorageError>;

    /// Removes an unfinished upload; done already if it is not there.
    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError>;
}

/// An upload in progress. Dropping it aborts it as well as can be done without waiting.
#[async_trait]
pub trait Upload: Send {
    /// Appends bytes. Waits while two parts are in flight. After an error the upload is aborted already.
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError>;

    /// Makes the key visible with everything written, under the conditions given at the start.
    async fn complete(self: Box<Self>) -> Result<PutOutcome, StorageError>;

    /// Leaves nothing behind.
    async fn abort(self: Box<Self>) -> Result<(), StorageError>;
}

/// How many deletions are in flight at once.
const DELETES_IN_FLIGHT: usize = 8;

/// Removes keys one by one, several at a time: stores differ too much about batch deletion. Every key is tried;
/// what could not be removed comes back.
pub async fn delete_all(bucket: &dyn Bucket, keys: Vec<String>) -> Vec<StorageError> {
    futures::stream::iter(
        keys.into_iter()
            .map(|key| async move { bucket.delete(&key).await.err() }),
    )
    .buffer_unordered(DELETES_IN_FLIGHT)
    .filter_map(futures::future::ready)
    .collect()
    .await
}
