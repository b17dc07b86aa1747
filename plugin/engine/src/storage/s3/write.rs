//! Writes to S3 under conditions, retried without losing our own success.
//!
//! The trap: a put-if-absent whose answer is lost is tried again, finds our own object and is refused. So conditional
//! writes go through a client without retries; each carries a random mark in the object's metadata, and a
//! refusal that follows an unclear attempt is settled by looking whose mark the object bears.

use std::time::Duration;

use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumAlgorithm, ObjectLockMode, ServerSideEncryption};
use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::super::bucket::{Etag, Put, PutOutcome};
use super::super::error::{At, StorageError};
use super::S3;
use super::error::{Answer, sort};
use crate::location::s3::{Checksum, Encryption, LockMode};

/// Metadata key of the mark.
pub(super) const WRITER: &str = "kubectl-backup-writer";

/// What one attempt of a conditional write ended with.
pub(super) enum Attempt {
    /// Done.
    Stored(Etag),
    /// The condition does not hold, or the upload that was to be completed is no more.
    Refused,
    /// Nobody's doing: try again. If the attempt may have been carried out, the next refusal may be our own.
    Again { error: StorageError, may_be_done: bool },
    /// Final.
    Failed(StorageError),
}

impl Attempt {
    /// Sorts a failed attempt.
    pub(super) fn failed(answer: &Answer, error: StorageError, put: &Put) -> Self {
        let nothing_to_match = put.if_match.is_some() && answer.is_missing_key();
        if answer.is_precondition_failed() || nothing_to_match {
            Self::Refused
        } else if answer.is_conflict() {
            Self::Again {
                error,
                may_be_done: false,
            }
        } else if error.is_transient() {
            Self::Again {
                error,
                may_be_done: true,
            }
        } else {
            Self::Failed(error)
        }
    }
}

impl S3 {
    /// Repeats `attempt` until it is clear how the write ended.
    pub(super) async fn settle<F>(
        &self,
        key: &str,
        put: &Put,
        writer: Uuid,
        attempt: impl Fn() -> F,
    ) -> Result<PutOutcome, StorageError>
    where
        F: Future<Output = Attempt>,
    {
        let mut may_be_done = false;
        let mut tried = 0;
        loop {
            tried += 1;
            let failure = match attempt().await {
                Attempt::Stored(etag) => return Ok(PutOutcome::Stored { etag }),
                Attempt::Refused => return self.refused(key, put, may_be_done.then_some(writer)).await,
                Attempt::Failed(error) if may_be_done => {
                    // An upload that an earlier attempt completed is gone; stores answer that in several ways.
                    let ours = self.written_by(key, writer).await.ok().flatten();
                    return ours.map(|etag| PutOutcome::Stored { etag }).ok_or(error);
                }
                Attempt::Failed(error) => return Err(error),
                Attempt::Again {
                    error,
                    may_be_done: maybe,
                } => {
                    may_be_done |= maybe;
                    error
                }
            };
            if tried >= self.tuning().attempts {
                return Err(failure);
            }
            tracing::debug!(error = %failure, tried, "repeating a conditional write");
            tokio::time::sleep(self.pause(tried)).await;
        }
    }

    async fn refused(&self, key: &str, put: &Put, ours: Option<Uuid>) -> Result<PutOutcome, StorageError> {
        if let Some(writer) = ours
            && let Some(etag) = self.written_by(key, writer).await?
        {
            return Ok(PutOutcome::Stored { etag });
        }
        Ok(if put.if_match.is_some() {
            PutOutcome::Changed
        } else {
            PutOutcome::AlreadyThere
        })
    }

    /// The mark of what is stored, if this writer stored it.
    pub(super) async fn written_by(&self, key: &str, writer: Uuid) -> Result<Option<Etag>, StorageError> {
        let head = self
            .clients()
            .retrying
            .head_object()
            .bucket(self.bucket_name())
            .key(self.full_key(key));
        match head.send().await {
            Ok(answer) => {
                let mark = answer.metadata().and_then(|metadata| metadata.get(WRITER));
                let ours = mark.is_some_and(|mark| *mark == writer.to_string());
                Ok(ours.then(|| Etag::new(answer.e_tag().unwrap_or_default())))
            }
            Err(error) if Answer::of(&error).is_missing_key() => Ok(None),
            Err(error) => Err(sort(self.at("look up", key), &error)),
        }
    }

    /// Stores a body that is in memory, in one request.
    pub(super) async fn put_whole(
        &self,
        key: &str,
        body: Bytes,
        put: &Put,
    ) -> Result<PutOutcome, StorageError> {
        let bytes = body.len() as u64;
        let overridden = || self.overridden(put, bytes);
        let at = || self.at("write", key);
        if !put.if_absent && put.if_match.is_none() {
            let request = self.put_request(&self.clients().retrying, key, &body, put, None);
            let answer = request.customize().config_override(overridden()).send().await;
            let answer = answer.map_err(|error| sort(at(), &error))?;
            return Ok(PutOutcome::Stored {
                etag: Etag::new(answer.e_tag().unwrap_or_default()),
            });
        }
        let writer = Uuid::new_v4();
        self.settle(key, put, writer, || async {
            let request = self.put_request(&self.clients().once, key, &body, put, Some(writer));
            match request.customize().config_override(overridden()).send().await {
                Ok(answer) => Attempt::Stored(Etag::new(answer.e_tag().unwrap_or_default())),
                Err(error) => Attempt::failed(&Answer::of(&error), sort(at(), &error), put),
            }
        })
        .await
    }

    fn put_request(
        &self,
        client: &aws_sdk_s3::Client,
        key: &str,
        body: &Bytes,
        put: &Put,
        writer: Option<Uuid>,
    ) -> PutObjectFluentBuilder {
        let settings = self.settings(put);
        let request = client
            .put_object()
            .bucket(self.bucket_name())
            .key(self.full_key(key))
            .body(ByteStream::from(body.clone()))
            .set_if_none_match(put.if_absent.then(|| "*".to_owned()))
            .set_if_match(put.if_match.as_ref().map(|etag| etag.as_str().to_owned()))
            .set_checksum_algorithm(settings.checksum)
            .set_server_side_encryption(settings.encryption)
            .set_ssekms_key_id(settings.kms_key)
            .set_tagging(settings.tagging)
            .set_object_lock_mode(settings.lock.map(|(mode, _)| mode))
            .set_object_lock_retain_until_date(put.lock_until.map(date));
        match writer {
            Some(writer) => request.metadata(WRITER, writer.to_string()),
            None => request,
        }
    }

    /// Settings of one call that carries bytes up. The SDK computes a checksum only if told so here, even where a call
    /// names an algorithm.
    pub(super) fn overridden(&self, put: &Put, bytes: u64) -> aws_sdk_s3::config::Builder {
        let checksums = match self.checksum(put) {
            Some(_) => RequestChecksumCalculation::WhenSupported,
            None => RequestChecksumCalculation::WhenRequired,
        };
        aws_sdk_s3::config::Builder::new()
            .timeout_config(super::client::timeouts(self.tuning(), bytes))
            .request_checksum_calculation(checksums)
    }

    /// What the location and the lock ask of each new object.
    pub(super) fn settings(&self, put: &Put) -> ObjectSettings {
        let location = self.location();
        let (encryption, kms_key) = match &location.encryption {
            Encryption::BucketDefault => (None, None),
            Encryption::Aes256 => (Some(ServerSideEncryption::Aes256), None),
            Encryption::Kms { key } => (Some(ServerSideEncryption::AwsKms), key.clone()),
        };
        let mode = match location.lock_mode {
            LockMode::Governance => ObjectLockMode::Governance,
            LockMode::Compliance => ObjectLockMode::Compliance,
        };
        ObjectSettings {
            checksum: self.checksum(put),
            encryption,
            kms_key,
            tagging: location.tagging.clone(),
            lock: put.lock_until.map(|until| (mode, date(until))),
        }
    }

    /// AWS gets the algorithm that its own tools send; other stores get none unless the location names one or a lock
    /// makes it compulsory.
    fn checksum(&self, put: &Put) -> Option<ChecksumAlgorithm> {
        match &self.location().checksum {
            Checksum::Algorithm(name) => Some(ChecksumAlgorithm::from(name.as_str())),
            Checksum::Auto if self.location().is_aws() => Some(ChecksumAlgorithm::Crc32),
            Checksum::Auto | Checksum::Off if put.lock_until.is_some() => Some(ChecksumAlgorithm::Crc32C),
            Checksum::Auto | Checksum::Off => None,
        }
    }

    pub(super) fn pause(&self, tried: u32) -> Duration {
        self.tuning().backoff * 2_u32.saturating_pow(tried.saturating_sub(1).min(5))
    }
}

/// Settings of a new object, in the SDK's types.
pub(super) struct ObjectSettings {
    pub(super) checksum: Option<ChecksumAlgorithm>,
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) kms_key: Option<String>,
    pub(super) tagging: Option<String>,
    pub(super) lock: Option<(ObjectLockMode, DateTime)>,
}

/// S3 takes whole seconds; rounded up, so that a lock is never shorter than asked for.
fn date(time: Timestamp) -> DateTime {
    let more = i64::from(time.subsec_nanosecond() > 0);
    DateTime::from_secs(time.as_second() + more)
}

/// A time of the SDK in ours.
pub(super) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// A refusal to delete that comes from a lock or may come from one: asks the object until when it is locked.
pub(super) async fn lock_or(
    bucket: &S3,
    key: &str,
    version: Option<&str>,
    refused: StorageError,
) -> StorageError {
    let (StorageError::AccessDenied { at, .. } | StorageError::Locked { at, until: None }) = &refused else {
        return refused;
    };
    let at: At = at.clone();
    let head = bucket
        .clients()
        .retrying
        .head_object()
        .bucket(bucket.bucket_name())
        .key(bucket.full_key(key));
    let Ok(answer) = head.set_version_id(version.map(ToOwned::to_owned)).send().await else {
        return refused;
    };
    let until = answer.object_lock_retain_until_date().and_then(timestamp);
    let held = answer
        .object_lock_legal_hold_status()
        .is_some_and(|status| status.as_str() == "ON");
    if until.is_some() || held {
        StorageError::Locked { at, until }
    } else {
        refused
    }
}
