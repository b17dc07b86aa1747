//! A bucket of an S3 server as a location.
//!
//! Each method is one or a few calls of the AWS SDK: `client` builds the client, `credentials` says where its keys come
//! from, `read` makes bodies whole, `write` settles conditional writes, `upload` does multipart, `list` the pages,
//! `error` sorts what goes wrong. Keys get the location's prefix on the way in and lose it on the way out.

mod client;
mod credentials;
mod error;
mod list;
mod read;
mod upload;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use bytes::Bytes;
use futures::stream::BoxStream;

use super::bucket::{
    Bucket, Etag, ObjectInfo, ObjectStream, ObjectVersion, OpenUpload, Put, PutOutcome, Upload,
};
use super::error::{At, StorageError};
use crate::location::s3::S3Location;
use client::Clients;
use error::{Answer, sort};
use read::{Body, Part};

/// Longest key that S3 takes, prefix included.
const MAX_KEY: usize = 1024;

/// How patient a client is, and how large its pieces are. Tests shorten it.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// Time to connect.
    pub connect: Duration,
    /// Time for one attempt of a call, its upload time not counted.
    pub attempt: Duration,
    /// Silence allowed within a body.
    pub stall: Duration,
    /// Attempts of one call, and broken bodies in a row.
    pub attempts: u32,
    /// First pause between attempts; it doubles.
    pub backoff: Duration,
    /// Bytes a second of the slowest line that a part must still get over.
    pub slowest: u64,
    /// Least size of a part.
    pub part_size: u64,
    /// Keys on one page of a list; the server's own by default.
    pub page_size: Option<i32>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            attempt: Duration::from_secs(45),
            stall: Duration::from_secs(20),
            attempts: 5,
            backoff: Duration::from_millis(500),
            slowest: 64 * 1024,
            part_size: 8 * 1024 * 1024,
            page_size: None,
        }
    }
}

/// A bucket of an S3 server, below a prefix.
#[derive(Debug, Clone)]
pub struct S3 {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clients: Clients,
    location: S3Location,
    prefix: String,
    tuning: Tuning,
    seen: AtomicBool,
}

impl S3 {
    /// Prepares a client for a location. The store is not asked yet.
    pub async fn open(location: &S3Location, tuning: Tuning) -> Result<Self, StorageError> {
        let (clients, location) = client::build(location, &tuning).await?;
        let prefix = match location.prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        let inner = Inner {
            clients,
            location,
            prefix,
            tuning,
            seen: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A location with the endpoint that the AWS configuration gives it, if it has none of its own.
    pub async fn effective(location: &S3Location) -> S3Location {
        client::effective(location).await
    }

    fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    fn location(&self) -> &S3Location {
        &self.inner.location
    }

    fn tuning(&self) -> &Tuning {
        &self.inner.tuning
    }

    fn bucket_name(&self) -> &str {
        &self.inner.location.bucket
    }

    fn prefix(&self) -> &str {
        &self.inner.prefix
    }

    fn full_key(&self, key: &str) -> String {
        format!("{}{key}", self.inner.prefix)
    }

    fn at(&self, operation: &'static str, key: &str) -> At {
        At::new(operation, key, &self.inner.location.describe())
    }

    fn get_object(&self, key: &str) -> GetObjectFluentBuilder {
        self.clients()
            .retrying
            .get_object()
            .bucket(self.bucket_name())
            .key(self.full_key(key))
    }

    fn usable(&self, operation: &'static str, key: &str) -> Result<(), StorageError> {
        let reason = if key.is_empty() {
            "it is empty"
        } else if self.prefix().len() + key.len() > MAX_KEY {
            "with the prefix it is longer than 1024 bytes"
        } else {
            return Ok(());
        };
        Err(StorageError::BadKey {
            at: self.at(operation, key),
            reason,
        })
    }

    fn writable(&self, operation: &'static str, key: &str) -> Result<(), StorageError> {
        if self.inner.location.read_only {
            return Err(StorageError::ReadOnly {
                at: self.at(operation, key),
            });
        }
        self.usable(operation, key)
    }

    /// Deletes a key, or one version of it; done already if it is not there.
    async fn remove(
        &self,
        operation: &'static str,
        key: &str,
        version: Option<&str>,
    ) -> Result<(), StorageError> {
        self.writable(operation, key)?;
        let request = self
            .clients()
            .retrying
            .delete_object()
            .bucket(self.bucket_name())
            .key(self.full_key(key))
            .set_version_id(version.map(ToOwned::to_owned));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if Answer::of(&error).is_missing_key() => Ok(()),
            Err(error) => {
                let refused = sort(self.at(operation, key), &error);
                Err(write::lock_or(self, key, version, refused).await)
            }
        }
    }
}

#[async_trait]
impl Bucket for S3 {
    fn describe(&self) -> String {
        self.inner.location.describe()
    }

    fn read_only(&self) -> bool {
        self.inner.location.read_only
    }

    async fn put(&self, key: &str, body: Bytes, put: Put) -> Result<PutOutcome, StorageError> {
        self.writable("write", key)?;
        if body.len() as u64 <= self.tuning().part_size {
            return self.put_whole(key, body, &put).await;
        }
        let put = Put {
            expected_size: Some(body.len() as u64),
            ..put
        };
        let mut upload: Box<dyn Upload> = Box::new(upload::S3Upload::new(self.clone(), key, put));
        upload.write(body).await?;
        upload.complete().await
    }

    async fn upload(&self, key: &str, put: Put) -> Result<Box<dyn Upload>, StorageError> {
        self.writable("write", key)?;
        Ok(Box::new(upload::S3Upload::new(self.clone(), key, put)))
    }

    async fn settle(&self) -> Result<(), StorageError> {
        // A store answers when it has the bytes.
        Ok(())
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<(Bytes, Etag)>, StorageError> {
        self.usable("read", key)?;
        let Some(body) = Body::open(self, key, Part::All).await? else {
            return Ok(None);
        };
        if body.length() > limit {
            return Err(StorageError::TooLarge {
                at: self.at("read", key),
                size: body.length(),
                limit,
            });
        }
        let etag = body.etag.clone();
        Ok(Some((body.collect().await?, etag)))
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.usable("read", key)?;
        let at = self.at("read", key);
        if length == 0 {
            // S3 has no empty range; the answer is empty all the same if the key is long enough.
            let Some(info) = self.head(key).await? else {
                return Err(StorageError::NoSuchKey { at });
            };
            let within = offset <= info.size;
            return if within {
                Ok(Bytes::new())
            } else {
                Err(StorageError::Cut {
                    at,
                    expected: 0,
                    received: 0,
                })
            };
        }
        match Body::open(self, key, Part::Range { offset, length }).await? {
            Some(body) => body.collect().await,
            None => Err(StorageError::NoSuchKey { at }),
        }
    }

    async fn stream(&self, key: &str) -> Result<Option<ObjectStream>, StorageError> {
        self.usable("read", key)?;
        let body = Body::open(self, key, Part::All).await?;
        Ok(body.map(|body| ObjectStream {
            size: body.length(),
            etag: body.etag.clone(),
            bytes: body.into_stream(),
        }))
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, StorageError> {
        self.usable("look up", key)?;
        let at = self.at("look up", key);
        let request = self
            .clients()
            .retrying
            .head_object()
            .bucket(self.bucket_name())
            .key(self.full_key(key));
        match request.send().await {
            Ok(answer) => {
                self.inner.seen.store(true, Ordering::Relaxed);
                Ok(Some(ObjectInfo {
                    key: key.to_owned(),
                    size: answer
                        .content_length()
                        .and_then(|size| u64::try_from(size).ok())
                        .unwrap_or_default(),
                    modified: answer.last_modified().and_then(write::timestamp),
                    etag: Etag::new(answer.e_tag().unwrap_or_default()),
                }))
            }
            Err(error) if Answer::of(&error).is_missing_key() => {
                if !self.inner.seen.load(Ordering::Relaxed) {
                    list::bucket_is_there(self, at).await?;
                    self.inner.seen.store(true, Ordering::Relaxed);
                }
                Ok(None)
            }
            Err(error) => Err(sort(at, &error)),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<ObjectInfo, StorageError>> {
        self.list_objects(prefix)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        self.list_prefixes(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), StorageError> {
        self.remove("delete", key, None).await
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectVersion>, StorageError> {
        self.versions(prefix).await
    }

    async fn delete_version(&self, key: &str, version: &str) -> Result<(), StorageError> {
        self.remove("delete a version of", key, Some(version)).await
    }

    async fn list_uploads(&self, prefix: &str) -> Result<Vec<OpenUpload>, StorageError> {
        self.uploads(prefix).await
    }

    async fn abort_upload(&self, upload: &OpenUpload) -> Result<(), StorageError> {
        self.writable("abort the upload of", &upload.key)?;
        upload::abort(self, &upload.key, &upload.id).await
    }
}
