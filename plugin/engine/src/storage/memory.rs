//! A location in memory, for tests of everything above storage.
//!
//! It keeps the contract of [`Bucket`] exactly and adds nothing, so that a rule that passes here fails elsewhere only
//! because of the world. Nothing survives the value.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt};

use super::bucket::{
    Bucket, Etag, ObjectInfo, ObjectStream, ObjectVersion, OpenUpload, Put, PutOutcome, Upload,
};
use super::error::{At, StorageError};

/// Chunk of a streamed body: small, so that readers meet chunk borders in tests.
const CHUNK: usize = 64 * 1024;

/// Keys and bytes in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, Etag)>,
    writes: u64,
    uploads: BTreeMap<u64, String>,
    read_only: bool,
}

impl Memory {
    /// An empty location.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every write is refused, as by a location declared read-only.
    pub fn set_read_only(&self) {
        self.state().read_only = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(operation: &'static str, key: &str) -> At {
        At::new(operation, key, "memory://")
    }

    fn writable(&self, operation: &'static str, key: &str) -> Result<(), StorageError> {
        let at = Self::at(operation, key);
        if key.is_empty() {
            return Err(StorageError::BadKey {
                at,
                reason: "it is empty",
            });
        }
        if self.state().read_only {
            Err(StorageError::ReadOnly { at })
        } else {
            Ok(())
        }
    }
}

impl State {
    fn store(&mut self, key: &str, body: Bytes, put: &Put) -> PutOutcome {
        let present = self.objects.get(key).map(|(_, etag)| etag);
        if put.if_absent && present.is_some() {
            return PutOutcome::AlreadyThere;
        }
        if put.if_match.is_some() && present != put.if_match.as_ref() {
            return PutOutcome::Changed;
        }
        self.writes += 1;
        let etag = Etag::new(format!("\"{}\"", self.writes));
        self.objects.insert(key.to_owned(), (body, etag.clone()));
        PutOutcome::Stored { etag }
    }
}

fn info(key: &str, body: &Bytes, etag: &Etag) -> ObjectInfo {
    ObjectInfo {
        key: key.to_owned(),
        size: body.len() as u64,
        modified: None,
        etag: etag.clone(),
    }
}

#[async_trait]
impl Bucket for Memory {
    fn describe(&self) -> String {
        "memory://".to_owned()
    }

    fn read_only(&self) -> bool {
        self.state().read_only
    }

    async fn put(&self, key: &str, body: Bytes, put: Put) -> Result<PutOutcome, StorageError> {
        self.writable("write", key)?;
        Ok(self.state().store(key, body, &put))
    }

    async fn upload(&self, key: &str, put: Put) -> Result<Box<dyn Upload>, StorageError> {
        self.writable("write", key)?;
        let mut state = self.state();
        state.writes += 1;
        let id = state.writes;
        state.uploads.insert(id, key.to_owned());
        let upload = MemoryUpload {
            memory: self.clone(),
            key: key.to_owned(),
            put,
            id,
            body: BytesMut::new(),
        };
        Ok(Box::new(upload))
    }

    async fn settle(&self) -> Result<(), StorageError> {
        Ok(())
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<(Bytes, Etag)>, StorageError> {
        let found = self.state().objects.get(key).cloned();
        match found {
            Some((body, _)) if body.len() as u64 > limit => Err(StorageError::TooLarge {
                at: Self::at("read", key),
                size: body.len() as u64,
                limit,
            }),
            other => Ok(other),
        }
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        let at = Self::at("read", key);
        let Some((body, _)) = self.state().objects.get(key).cloned() else {
            return Err(StorageError::NoSuchKey { at });
        };
        let size = body.len() as u64;
        match offset.checked_add(length) {
            Some(end) if end <= size => {
                let range =
                    usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
                Ok(body.slice(range))
            }
            _ => Err(StorageError::Cut {
                at,
                expected: length,
                received: size.saturating_sub(offset).min(length),
            }),
        }
    }

    async fn stream(&self, key: &str) -> Result<Option<ObjectStream>, StorageError> {
        let found = self.state().objects.get(key).cloned();
        Ok(found.map(|(body, etag)| {
            let size = body.len() as u64;
            let chunks = (0..body.len()).step_by(CHUNK).map(move |start| {
                let end = (start + CHUNK).min(body.len());
                Ok(body.slice(start..end))
            });
            let chunks: Vec<_> = chunks.collect();
            ObjectStream {
                size,
                etag,
                bytes: futures::stream::iter(chunks).boxed(),
            }
        }))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StorageError> {
        Ok(self
            .state()
            .objects
            .get(key)
            .map(|(body, etag)| info(key, body, etag)))
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StorageError>> {
        let state = self.state();
        let found: Vec<_> = state
            .objects
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, (body, etag))| Ok(info(key, body, etag)))
            .collect();
        futures::stream::iter(found).boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let state = self.state();
        let below = state
            .objects
            .keys()
            .filter_map(|key| key.strip_prefix(prefix)?.split_once('/'));
        let mut names: Vec<String> = below.map(|(name, _)| name.to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.writable("delete", key)?;
        self.state().objects.remove(key);
        Ok(())
    }

    async fn list_versions(&self, _prefix: &str) -> Result<Vec<ObjectVersion>, StorageError> {
        Ok(Vec::new())
    }

    async fn delete_version(&self, key: &str, _version: &str) -> Result<(), StorageError> {
        let at = Self::at("delete a version of", key);
        Err(StorageError::Unsupported {
            at,
            detail: "memory keeps no versions".into(),
        })
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StorageError> {
        let state = self.state();
        let open = state.uploads.iter().filter(|(_, key)| key.starts_with(prefix));
        Ok(open
            .map(|(id, key)| OpenUpload {
                key: key.clone(),
                id: id.to_string(),
                started: None,
            })
            .collect())
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        self.writable("abort the upload of", &upload.key)?;
        self.state().uploads.retain(|id, _| id.to_string() != upload.id);
        Ok(())
    }
}

struct MemoryUpload {
    memory: Memory,
    key: String,
    put: Put,
    id: u64,
    body: BytesMut,
}

impl Drop for MemoryUpload {
    fn drop(&mut self) {
        self.memory.state().uploads.remove(&self.id);
    }
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.body.extend_from_slice(&bytes);
        Ok(())
    }

    async fn complete(mut self: Box<Self>) -> Result<PutOutcome, StorageError> {
        self.memory.writable("write", &self.key)?;
        let body = std::mem::take(&mut self.body).freeze();
        let outcome = self.memory.state().store(&self.key, body, &self.put);
        Ok(outcome)
    }

    async fn abort(self: Box<Self>) -> Result<(), StorageError> {
        Ok(())
    }
}
