//! A folder as a location, with a bucket's layout: a key is a path below it.
//!
//! A file is written under a hidden name beside its target (`.NAME.RANDOM.partial`), flushed to the disk, then
//! renamed onto it: over what is there, or only if nothing is there (`folder/publish.rs`). A deferred one is renamed first
//! and flushed beside others (`folder/deferred.rs`). Folders are made when a key needs them and removed when their last key goes, so that a folder without keys does not show, as in S3.
//! Files are readable by their owner alone, because backups hold Secrets. The folder itself must exist: making it
//! would hide a disk that is not mounted.

mod deferred;
mod entries;
mod publish;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::bucket::{
    Bucket, Etag, ObjectInfo, ObjectStream, ObjectVersion, OpenUpload, Put, PutOutcome, Upload,
};
use super::error::{At, StorageError};
use deferred::Deferred;
use publish::Partial;

/// Chunk of a streamed body.
const CHUNK: usize = 256 * 1024;

/// A folder as a location.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Arc<Root>,
}

/// Where the folder is, and how to speak of it.
#[derive(Debug)]
struct Root {
    path: PathBuf,
    location: String,
    read_only: bool,
    deferred: Deferred,
}

impl Folder {
    /// Names a folder; nothing is touched yet.
    pub fn new(path: impl Into<PathBuf>, read_only: bool) -> Self {
        let path = path.into();
        let location = format!("file://{}", path.display());
        Self {
            root: Arc::new(Root {
                path,
                location,
                read_only,
                deferred: Deferred::default(),
            }),
        }
    }
}

impl Root {
    fn at(&self, operation: &'static str, key: &str) -> At {
        At::new(operation, key, &self.location)
    }

    /// The path of a key, or why it has none.
    fn path_of(&self, operation: &'static str, key: &str) -> Result<PathBuf, StorageError> {
        match entries::unusable(key) {
            Some(reason) => Err(StorageError::BadKey {
                at: self.at(operation, key),
                reason,
            }),
            None => Ok(self.path.join(key)),
        }
    }

    fn writable(&self, operation: &'static str, key: &str) -> Result<PathBuf, StorageError> {
        if self.read_only {
            return Err(StorageError::ReadOnly {
                at: self.at(operation, key),
            });
        }
        self.path_of(operation, key)
    }

    /// A missing file is no error as long as the folder itself is there.
    fn check_present(&self, at: At) -> Result<(), StorageError> {
        if self.path.is_dir() {
            Ok(())
        } else {
            Err(StorageError::NoSuchBucket { at })
        }
    }

    fn sort(&self, at: At, error: &io::Error) -> StorageError {
        let detail = error.to_string();
        match error.kind() {
            io::ErrorKind::NotFound if !self.path.is_dir() => StorageError::NoSuchBucket { at },
            io::ErrorKind::NotFound => StorageError::NoSuchKey { at },
            io::ErrorKind::PermissionDenied => {
                let needs = "write and search permission on the folder".to_owned();
                StorageError::AccessDenied { at, needs, detail }
            }
            io::ErrorKind::ReadOnlyFilesystem => StorageError::ReadOnly { at },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::Full { at, detail },
            io::ErrorKind::InvalidFilename => StorageError::BadKey {
                at,
                reason: "a part of it is too long",
            },
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => StorageError::BadKey {
                at,
                reason: "it is a file and a folder at once",
            },
            _ => StorageError::Other { at, detail },
        }
    }
}

/// Runs file system work where it may block.
async fn blocking<T: Send + 'static>(
    at: At,
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::Other {
            at,
            detail: error.to_string(),
        }),
    }
}

/// Opens a regular file; `None` if there is none under this path.
fn open_file(path: &Path) -> io::Result<Option<(fs::File, fs::Metadata)>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    Ok(metadata.is_file().then_some((file, metadata)))
}

impl Folder {
    async fn open(&self, key: &str) -> Result<Option<(tokio::fs::File, u64, Etag)>, StorageError> {
        let root = Arc::clone(&self.root);
        let at = root.at("read", key);
        let path = root.path_of("read", key)?;
        let found = blocking(at.clone(), move || match open_file(&path) {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) => root.check_present(at).map(|()| None),
            Err(error) => Err(root.sort(at, &error)),
        });
        Ok(found.await?.map(|(file, metadata)| {
            (
                tokio::fs::File::from_std(file),
                metadata.len(),
                entries::etag(&metadata),
            )
        }))
    }
}

#[async_trait]
impl Bucket for Folder {
    fn describe(&self) -> String {
        self.root.location.clone()
    }

    fn read_only(&self) -> bool {
        self.root.read_only
    }

    async fn put(&self, key: &str, body: Bytes, put: Put) -> Result<PutOutcome, StorageError> {
        let mut upload = self.start(key, put).await?;
        upload.append(body).await?;
        upload.finish().await
    }

    async fn upload(&self, key: &str, put: Put) -> Result<Box<dyn Upload>, StorageError> {
        Ok(Box::new(self.start(key, put).await?))
    }

    async fn settle(&self) -> Result<(), StorageError> {
        let at = self.root.at("flush", "");
        let settled = self.root.deferred.settle().await;
        settled.map_err(|error| self.root.sort(at, &error))
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<(Bytes, Etag)>, StorageError> {
        let Some((file, size, etag)) = self.open(key).await? else {
            return Ok(None);
        };
        let at = self.root.at("read", key);
        if size > limit {
            return Err(StorageError::TooLarge { at, size, limit });
        }
        Ok(Some((self.read_exactly(file, at, size).await?, etag)))
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        let at = self.root.at("read", key);
        let Some((mut file, size, _)) = self.open(key).await? else {
            return Err(StorageError::NoSuchKey { at });
        };
        if offset.checked_add(length).is_none_or(|end| end > size) {
            let received = size.saturating_sub(offset).min(length);
            return Err(StorageError::Cut {
                at,
                expected: length,
                received,
            });
        }
        file.seek(io::SeekFrom::Start(offset))
            .await
            .map_err(|error| self.root.sort(at.clone(), &error))?;
        self.read_exactly(file, at, length).await
    }

    async fn stream(&self, key: &str) -> Result<Option<ObjectStream>, StorageError> {
        let Some((file, size, etag)) = self.open(key).await? else {
            return Ok(None);
        };
        let at = self.root.at("read", key);
        let root = Arc::clone(&self.root);
        let bytes = stream::try_unfold((file, size), move |(mut file, left)| {
            let (at, root) = (at.clone(), Arc::clone(&root));
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let chunk = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                let mut buffer = BytesMut::with_capacity(chunk);
                let mut limited = (&mut file).take(chunk as u64);
                let read = limited
                    .read_buf(&mut buffer)
                    .await
                    .map_err(|error| root.sort(at.clone(), &error))?;
                if read == 0 {
                    return Err(StorageError::Cut {
                        at,
                        expected: size,
                        received: size - left,
                    });
                }
                Ok(Some((buffer.freeze(), (file, left - read as u64))))
            }
        });
        Ok(Some(ObjectStream {
            size,
            etag,
            bytes: bytes.boxed(),
        }))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StorageError> {
        let (root, key) = (Arc::clone(&self.root), key.to_owned());
        let at = root.at("look up", &key);
        let path = root.path_of("look up", &key)?;
        blocking(at.clone(), move || match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(entries::info(key, &metadata))),
            Ok(_) => Ok(None),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                root.check_present(at).map(|()| None)
            }
            Err(error) => Err(root.sort(at, &error)),
        })
        .await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StorageError>> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        let at = root.at("list", &prefix);
        let listed = blocking(at.clone(), move || {
            root.check_present(at.clone())?;
            let mut found = Vec::new();
            entries::walk(&root.path, &prefix, &mut |file| {
                if !file.is_partial {
                    found.push(entries::info(file.key, &file.metadata));
                }
                true
            })
            .map_err(|error| root.sort(at, &error))?;
            found.sort_unstable_by(|a: &ObjectInfo, b| a.key.cmp(&b.key));
            Ok(found)
        });
        stream::once(listed)
            .map_ok(|found| stream::iter(found.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        let at = root.at("list", &prefix);
        blocking(at.clone(), move || {
            root.check_present(at.clone())?;
            entries::folders(&root.path, &prefix).map_err(|error| root.sort(at, &error))
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        let root = Arc::clone(&self.root);
        let at = root.at("delete", key);
        let path = root.writable("delete", key)?;
        blocking(at.clone(), move || match fs::remove_file(&path) {
            Ok(()) => {
                entries::remove_empty_parents(&root.path, &path);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
                ) =>
            {
                root.check_present(at)
            }
            Err(error) => Err(root.sort(at, &error)),
        })
        .await
    }

    async fn list_versions(&self, _prefix: &str) -> Result<Vec<ObjectVersion>, StorageError> {
        Ok(Vec::new())
    }

    async fn delete_version(&self, key: &str, _version: &str) -> Result<(), StorageError> {
        let at = self.root.at("delete a version of", key);
        Err(StorageError::Unsupported {
            at,
            detail: "a folder keeps no versions".into(),
        })
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StorageError> {
        let (root, prefix) = (Arc::clone(&self.root), prefix.to_owned());
        let at = root.at("list uploads in", &prefix);
        blocking(at.clone(), move || {
            root.check_present(at.clone())?;
            let mut found = Vec::new();
            // A hidden file lies beside the key that it is for.
            let beside = prefix.rfind('/').map_or("", |slash| &prefix[..=slash]);
            entries::walk(&root.path, beside, &mut |file| {
                if file.is_partial {
                    found
                        .extend(entries::open_upload(&file).filter(|upload| upload.key.starts_with(&prefix)));
                }
                true
            })
            .map_err(|error| root.sort(at, &error))?;
            Ok(found)
        })
        .await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        let root = Arc::clone(&self.root);
        let at = root.at("abort the upload of", &upload.key);
        root.writable("abort the upload of", &upload.key)?;
        // The id is the path of the temporary file; anything else is refused, so that an id from elsewhere cannot
        // make this delete a key.
        if !entries::is_partial_key(&upload.id) {
            return Err(StorageError::BadKey {
                at,
                reason: "it names no unfinished upload",
            });
        }
        let path = root.path.join(&upload.id);
        blocking(at.clone(), move || match fs::remove_file(&path) {
            Ok(()) => {
                entries::remove_empty_parents(&root.path, &path);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(root.sort(at, &error)),
        })
        .await
    }
}

impl Folder {
    async fn read_exactly(&self, file: tokio::fs::File, at: At, length: u64) -> Result<Bytes, StorageError> {
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let mut limited = file.take(length);
        limited
            .read_to_end(&mut body)
            .await
            .map_err(|error| self.root.sort(at.clone(), &error))?;
        if (body.len() as u64) < length {
            return Err(StorageError::Cut {
                at,
                expected: length,
                received: body.len() as u64,
            });
        }
        Ok(Bytes::from(body))
    }

    async fn start(&self, key: &str, put: Put) -> Result<FolderUpload, StorageError> {
        let root = Arc::clone(&self.root);
        let at = root.at("write", key);
        let path = root.writable("write", key)?;
        if put.lock_until.is_some() {
            let detail = "a folder has no object lock".to_owned();
            return Err(StorageError::Unsupported { at, detail });
        }
        let (error_at, deferred) = (at.clone(), put.deferred);
        let (partial, file) = blocking(at, move || {
            root.check_present(error_at.clone())?;
            Partial::create(&root.path, &path, deferred).map_err(|error| root.sort(error_at, &error))
        })
        .await?;
        let at = self.root.at("write", key);
        let file = tokio::fs::File::from_std(file);
        Ok(FolderUpload {
            root: Arc::clone(&self.root),
            at,
            put,
            partial,
            file,
        })
    }
}

struct FolderUpload {
    root: Arc<Root>,
    at: At,
    put: Put,
    partial: Partial,
    file: tokio::fs::File,
}

impl FolderUpload {
    async fn append(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.file
            .write_all(&bytes)
            .await
            .map_err(|error| self.root.sort(self.at.clone(), &error))
    }

    async fn finish(mut self) -> Result<PutOutcome, StorageError> {
        let sort = |error: &io::Error| self.root.sort(self.at.clone(), error);
        self.file.flush().await.map_err(|error| sort(&error))?;
        // Not worth a wait for the disk where somebody was first; publishing looks once more, and that counts.
        let is_late = self.put.if_absent && self.partial.is_taken().await;
        if !self.put.deferred && !is_late {
            self.file.sync_all().await.map_err(|error| sort(&error))?;
        }
        let (root, at, put, partial) = (self.root, self.at, self.put, self.partial);
        if put.deferred {
            root.deferred
                .begin(self.file.into_std().await, partial.folders_to_flush());
        }
        blocking(at.clone(), move || {
            partial.publish(&put).map_err(|error| root.sort(at, &error))
        })
        .await
    }
}

#[async_trait]
impl Upload for FolderUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.append(bytes).await
    }

    async fn complete(self: Box<Self>) -> Result<PutOutcome, StorageError> {
        self.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<(), StorageError> {
        let (at, partial) = (self.at, self.partial);
        blocking(at, move || {
            partial.discard();
            Ok(())
        })
        .await
    }
}
