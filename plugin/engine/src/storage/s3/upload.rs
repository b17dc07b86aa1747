//! A multipart upload whose length nobody knows beforehand.
//!
//! Bytes are gathered into parts of one size (some stores insist on it); at most two parts are in flight while the
//! next one fills. What fits into one part goes up in a single request. The condition is checked by the store when
//! the upload is completed. On every error, and on drop, the upload is aborted, so that no parts are paid for.

use async_trait::async_trait;
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::bucket::{Etag, Put, PutOutcome, Upload};
use super::super::error::StorageError;
use super::S3;
use super::error::{Answer, sort};
use super::write::{Attempt, WRITER};

/// Most parts that S3 takes.
const MAX_PARTS: u64 = 10_000;

/// A part size that leaves room above the expected size, which is an estimate.
const PARTS_AIMED_AT: u64 = 8_000;

const MIB: u64 = 1024 * 1024;

/// Parts in flight while the next one fills.
const IN_FLIGHT: usize = 2;

/// An upload to S3.
pub(super) struct S3Upload {
    bucket: S3,
    key: String,
    put: Put,
    part_size: usize,
    buffer: BytesMut,
    writer: Uuid,
    open: Option<String>,
    in_flight: JoinSet<Result<CompletedPart, StorageError>>,
    parts: Vec<CompletedPart>,
    started: u64,
}

/// All parts of an upload have this size; it cannot change once the first has gone.
fn part_size(least: u64, expected: Option<u64>) -> u64 {
    let wanted = expected.unwrap_or(0).div_ceil(PARTS_AIMED_AT);
    if wanted <= least {
        least
    } else {
        wanted.div_ceil(MIB) * MIB
    }
}

impl S3Upload {
    pub(super) fn new(bucket: S3, key: &str, put: Put) -> Self {
        let part_size = part_size(bucket.tuning().part_size, put.expected_size);
        Self {
            key: key.to_owned(),
            part_size: usize::try_from(part_size).unwrap_or(usize::MAX),
            buffer: BytesMut::new(),
            writer: Uuid::new_v4(),
            open: None,
            in_flight: JoinSet::new(),
            parts: Vec::new(),
            started: 0,
            bucket,
            put,
        }
    }

    async fn append(&mut self, mut bytes: Bytes) -> Result<(), StorageError> {
        while !bytes.is_empty() {
            let room = self.part_size - self.buffer.len();
            let taken = bytes.split_to(room.min(bytes.len()));
            self.buffer.extend_from_slice(&taken);
            if self.buffer.len() == self.part_size {
                let part = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(self.part_size));
                self.send(part.freeze()).await?;
            }
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<String, StorageError> {
        if let Some(id) = &self.open {
            return Ok(id.clone());
        }
        let settings = self.bucket.settings(&self.put);
        let (mode, until) = settings.lock.unzip();
        let request = self.bucket.clients().retrying.create_multipart_upload();
        let answer = request
            .bucket(self.bucket.bucket_name())
            .key(self.bucket.full_key(&self.key))
            .metadata(WRITER, self.writer.to_string())
            .set_checksum_algorithm(settings.checksum)
            .set_server_side_encryption(settings.encryption)
            .set_ssekms_key_id(settings.kms_key)
            .set_tagging(settings.tagging)
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(until)
            .send()
            .await
            .map_err(|error| sort(self.bucket.at("write", &self.key), &error))?;
        let id = answer.upload_id().unwrap_or_default().to_owned();
        if id.is_empty() {
            let at = self.bucket.at("write", &self.key);
            return Err(StorageError::Other {
                at,
                detail: "the server names no upload".into(),
            });
        }
        self.open = Some(id.clone());
        Ok(id)
    }

    /// Sends a part off, after waiting for an earlier one if two are under way.
    async fn send(&mut self, body: Bytes) -> Result<(), StorageError> {
        if self.started == MAX_PARTS {
            let at = self.bucket.at("write", &self.key);
            return Err(StorageError::TooManyParts {
                at,
                limit: MAX_PARTS * self.part_size as u64,
            });
        }
        let id = self.open().await?;
        while self.in_flight.len() >= IN_FLIGHT {
            self.collect_one().await?;
        }
        self.started += 1;
        let number = i32::try_from(self.started).unwrap_or(i32::MAX);
        let (bucket, key) = (self.bucket.clone(), self.key.clone());
        let checksum = self.bucket.settings(&self.put).checksum;
        let overridden = self.bucket.overridden(&self.put, body.len() as u64);
        self.in_flight
            .spawn(async move { upload_part(&bucket, &key, id, number, body, checksum, overridden).await });
        Ok(())
    }

    async fn collect_one(&mut self) -> Result<(), StorageError> {
        match self.in_flight.join_next().await {
            None => Ok(()),
            Some(Ok(part)) => {
                self.parts.push(part?);
                Ok(())
            }
            Some(Err(error)) => {
                let at = self.bucket.at("write", &self.key);
                Err(StorageError::Other {
                    at,
                    detail: error.to_string(),
                })
            }
        }
    }

    async fn finish(&mut self) -> Result<PutOutcome, StorageError> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.open.is_none() {
            return self.bucket.put_whole(&self.key, rest, &self.put).await;
        }
        if !rest.is_empty() {
            self.send(rest).await?;
        }
        while !self.in_flight.is_empty() {
            self.collect_one().await?;
        }
        let id = self.open().await?;
        self.parts
            .sort_unstable_by_key(|part| part.part_number().unwrap_or_default());
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(std::mem::take(&mut self.parts)))
            .build();
        let outcome = self
            .bucket
            .settle(&self.key, &self.put, self.writer, || {
                complete(&self.bucket, &self.key, &id, &parts, &self.put)
            })
            .await?;
        if outcome.is_stored() {
            self.open = None;
        } else {
            self.discard().await?;
        }
        Ok(outcome)
    }

    async fn discard(&mut self) -> Result<(), StorageError> {
        // A part that arrives after the abort would stay behind, so none may be under way any more.
        self.in_flight.shutdown().await;
        match self.open.take() {
            Some(id) => abort(&self.bucket, &self.key, &id).await,
            None => Ok(()),
        }
    }

    /// Cleans up after an error and keeps the error; litter that stays is found by `list_uploads`.
    async fn give_up(&mut self, error: StorageError) -> StorageError {
        if let Err(left) = self.discard().await {
            tracing::debug!(error = %left, "could not abort a failed upload");
        }
        error
    }
}

async fn upload_part(
    bucket: &S3,
    key: &str,
    id: String,
    number: i32,
    body: Bytes,
    checksum: Option<ChecksumAlgorithm>,
    overridden: aws_sdk_s3::config::Builder,
) -> Result<CompletedPart, StorageError> {
    let request = bucket
        .clients()
        .retrying
        .upload_part()
        .bucket(bucket.bucket_name())
        .key(bucket.full_key(key))
        .upload_id(id)
        .part_number(number)
        .set_checksum_algorithm(checksum)
        .body(ByteStream::from(body))
        .customize()
        .config_override(overridden);
    let answer = request
        .send()
        .await
        .map_err(|error| sort(bucket.at("write", key), &error))?;
    Ok(completed(number, &answer))
}

/// What S3 wants to hear again about a part.
fn completed(number: i32, answer: &UploadPartOutput) -> CompletedPart {
    let own = |text: Option<&str>| text.map(ToOwned::to_owned);
    CompletedPart::builder()
        .part_number(number)
        .set_e_tag(own(answer.e_tag()))
        .set_checksum_crc32(own(answer.checksum_crc32()))
        .set_checksum_crc32_c(own(answer.checksum_crc32_c()))
        .set_checksum_crc64_nvme(own(answer.checksum_crc64_nvme()))
        .set_checksum_sha1(own(answer.checksum_sha1()))
        .set_checksum_sha256(own(answer.checksum_sha256()))
        .build()
}

async fn complete(bucket: &S3, key: &str, id: &str, parts: &CompletedMultipartUpload, put: &Put) -> Attempt {
    let request = bucket
        .clients()
        .once
        .complete_multipart_upload()
        .bucket(bucket.bucket_name())
        .key(bucket.full_key(key))
        .upload_id(id)
        .multipart_upload(parts.clone())
        .set_if_none_match(put.if_absent.then(|| "*".to_owned()))
        .set_if_match(put.if_match.as_ref().map(|etag| etag.as_str().to_owned()));
    let error = match request.send().await {
        Ok(answer) => return Attempt::Stored(Etag::new(answer.e_tag().unwrap_or_default())),
        Err(error) => error,
    };
    let answer = Answer::of(&error);
    let sorted = sort(bucket.at("write", key), &error);
    Attempt::failed(&answer, sorted, put)
}

/// Removes an unfinished upload; done already if it is not there.
pub(super) async fn abort(bucket: &S3, key: &str, id: &str) -> Result<(), StorageError> {
    let request = bucket.clients().retrying.abort_multipart_upload();
    match request
        .bucket(bucket.bucket_name())
        .key(bucket.full_key(key))
        .upload_id(id)
        .send()
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if Answer::of(&error).code == "NoSuchUpload" => Ok(()),
        Err(error) => Err(sort(bucket.at("abort the upload of", key), &error)),
    }
}

#[async_trait]
impl Upload for S3Upload {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        match self.append(bytes).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    async fn complete(mut self: Box<Self>) -> Result<PutOutcome, StorageError> {
        match self.finish().await {
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    async fn abort(mut self: Box<Self>) -> Result<(), StorageError> {
        self.discard().await
    }
}

impl Drop for S3Upload {
    fn drop(&mut self) {
        let Some(id) = self.open.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (bucket, key) = (self.bucket.clone(), std::mem::take(&mut self.key));
        let mut in_flight = std::mem::take(&mut self.in_flight);
        runtime.spawn(async move {
            in_flight.shutdown().await;
            if let Err(error) = abort(&bucket, &key, &id).await {
                tracing::debug!(%error, "could not abort a dropped upload");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_expected_size_and_always_suffice() {
        let least = 8 * MIB;
        assert_eq!(part_size(least, None), least);
        assert_eq!(part_size(least, Some(60 * 1024 * MIB)), least);
        for gib in [70, 200, 1024, 5 * 1024] {
            let expected = gib * 1024 * MIB;
            let size = part_size(least, Some(expected));
            assert!(size.is_multiple_of(MIB) && size > least, "{gib} GiB: {size}");
            assert!(size * MAX_PARTS >= expected + expected / 5, "{gib} GiB: {size}");
        }
    }
}
