//! A limit for the bytes that go up.
//!
//! [`Limited`] wraps any [`Bucket`] and makes writers wait before their bytes are handed on; reads pass. The wait
//! lies outside the S3 client, so that no request ever looks stalled because of the limit.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::bucket::{
    Bucket, Etag, ObjectInfo, ObjectStream, ObjectVersion, OpenUpload, Put, PutOutcome, Upload,
};
use super::error::StorageError;

/// Bytes per second, shared by all writers of one location.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    /// When the bytes promised so far will have gone out.
    free_at: Mutex<Instant>,
}

impl Pace {
    /// Waits until everything promised earlier has had its time, then promises `bytes` more.
    async fn wait(&self, bytes: usize) {
        let begin = {
            let mut free_at = self.free_at.lock().await;
            let begin = (*free_at).max(Instant::now());
            let micros = (bytes as u64).saturating_mul(1_000_000) / self.bytes_per_second.max(1);
            *free_at = begin + Duration::from_micros(micros);
            begin
        };
        tokio::time::sleep_until(begin).await;
    }
}

/// A bucket whose writers share a limit.
pub struct Limited {
    inner: Arc<dyn Bucket>,
    pace: Arc<Pace>,
}

impl Limited {
    /// Limits the writers of `inner` to so many bytes a second.
    pub fn new(inner: Arc<dyn Bucket>, bytes_per_second: u64) -> Self {
        let pace = Pace {
            bytes_per_second,
            free_at: Mutex::new(Instant::now()),
        };
        Self {
            inner,
            pace: Arc::new(pace),
        }
    }
}

#[async_trait]
impl Bucket for Limited {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn read_only(&self) -> bool {
        self.inner.read_only()
    }

    async fn put(&self, key: &str, body: Bytes, put: Put) -> Result<PutOutcome, StorageError> {
        self.pace.wait(body.len()).await;
        self.inner.put(key, body, put).await
    }

    async fn upload(&self, key: &str, put: Put) -> Result<Box<dyn Upload>, StorageError> {
        let inner = self.inner.upload(key, put).await?;
        Ok(Box::new(LimitedUpload {
            inner,
            pace: Arc::clone(&self.pace),
        }))
    }

    async fn settle(&self) -> Result<(), StorageError> {
        self.inner.settle().await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<(Bytes, Etag)>, StorageError> {
        self.inner.get(key, limit).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.inner.get_range(key, offset, length).await
    }

    async fn stream(&self, key: &str) -> Result<Option<ObjectStream>, StorageError> {
        self.inner.stream(key).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StorageError> {
        self.inner.head(key).await
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StorageError>> {
        self.inner.list(prefix)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.inner.list_folders(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.inner.delete(key).await
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StorageError> {
        self.inner.list_versions(prefix).await
    }

    async fn delete_version(&self, key: &str, version: &str) -> Result<(), StorageError> {
        self.inner.delete_version(key, version).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StorageError> {
        self.inner.list_uploads(prefix).await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        self.inner.abort_upload(upload).await
    }
}

struct LimitedUpload {
    inner: Box<dyn Upload>,
    pace: Arc<Pace>,
}

#[async_trait]
impl Upload for LimitedUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        self.pace.wait(bytes.len()).await;
        self.inner.write(bytes).await
    }

    async fn complete(self: Box<Self>) -> Result<PutOutcome, StorageError> {
        self.inner.complete().await
    }

    async fn abort(self: Box<Self>) -> Result<(), StorageError> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    #[tokio::test]
    async fn writers_together_keep_the_limit() {
        let limited = Limited::new(Arc::new(Memory::new()), 1_000_000);
        let begin = Instant::now();
        let writes = (0..4).map(|n| {
            let limited = &limited;
            async move {
                limited
                    .put(&format!("k{n}"), Bytes::from(vec![0; 100_000]), Put::default())
                    .await
            }
        });
        let outcomes = futures::future::try_join_all(writes).await.unwrap();
        assert!(outcomes.iter().all(PutOutcome::is_stored));
        // The first goes at once; each of the other three waits for the 0.1 s of the one before it.
        assert!(
            begin.elapsed() >= Duration::from_millis(290),
            "{:?}",
            begin.elapsed()
        );
    }
}
