//! Bodies from S3 that are whole or an error.
//!
//! In comes a key and a range, out come its bytes in order. A body that ends early, fails or falls silent is taken
//! up where it ended with a ranged read of the same state (`If-Match`), a bounded number of times without progress.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};

use super::super::bucket::Etag;
use super::super::error::{At, StorageError, chain};
use super::S3;
use super::error::{Answer, sort};

/// The bytes `next..end` of one state of an object.
pub(super) struct Body {
    bucket: S3,
    key: String,
    at: At,
    begin: u64,
    next: u64,
    end: u64,
    pub(super) etag: Etag,
    current: Option<ByteStream>,
    failures: u32,
    /// Bytes that came since the last failure.
    progress: u64,
}

/// What must come between two failures so that they do not count as being in a row: a server that yields a few bytes
/// at a time would else be asked for ever.
const PROGRESS: u64 = 64 * 1024;

/// Which part of an object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    All,
    Range { offset: u64, length: u64 },
}

impl Body {
    /// Asks for a body; `None` if there is no such key.
    pub(super) async fn open(bucket: &S3, key: &str, part: Part) -> Result<Option<Self>, StorageError> {
        let at = bucket.at("read", key);
        let request = bucket.get_object(key);
        let request = match part {
            Part::All => request,
            Part::Range { offset, length } => request.range(range(offset, offset.saturating_add(length))),
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let answer = Answer::of(&error);
                return match (part, answer.status) {
                    _ if answer.is_missing_key() => Ok(None),
                    (Part::Range { length, .. }, 416) => Err(StorageError::Cut {
                        at,
                        expected: length,
                        received: 0,
                    }),
                    _ => Err(sort(at, &error)),
                };
            }
        };
        let announced = answer
            .content_length()
            .and_then(|length| u64::try_from(length).ok());
        let Some(announced) = announced else {
            return Err(StorageError::Other {
                at,
                detail: "the server announces no length".into(),
            });
        };
        let begin = match part {
            Part::All => 0,
            Part::Range { offset, length } if announced == length => offset,
            Part::Range { length, .. } if announced < length => {
                return Err(StorageError::Cut {
                    at,
                    expected: length,
                    received: announced,
                });
            }
            Part::Range { .. } => {
                return Err(StorageError::Unsupported {
                    at,
                    detail: "ranges are ignored".into(),
                });
            }
        };
        let etag = Etag::new(answer.e_tag().unwrap_or_default());
        Ok(Some(Self {
            bucket: bucket.clone(),
            key: key.to_owned(),
            at,
            begin,
            next: begin,
            end: begin + announced,
            etag,
            current: Some(answer.body),
            failures: 0,
            progress: 0,
        }))
    }

    /// How many bytes will come.
    pub(super) fn length(&self) -> u64 {
        self.end - self.begin
    }

    /// The next bytes, `None` at the announced end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, StorageError> {
        loop {
            if self.next == self.end {
                return Ok(None);
            }
            let mut body = match self.current.take() {
                Some(body) => body,
                None => self.reopen().await?,
            };
            let failure = match tokio::time::timeout(self.bucket.tuning().stall, body.next()).await {
                Ok(Some(Ok(bytes))) if bytes.len() as u64 > self.end - self.next => {
                    return Err(self.other("more bytes than announced"));
                }
                Ok(Some(Ok(bytes))) => {
                    self.next += bytes.len() as u64;
                    self.progress += bytes.len() as u64;
                    self.current = Some(body);
                    return Ok(Some(bytes));
                }
                Ok(None) => self.cut(),
                Ok(Some(Err(error))) => {
                    tracing::debug!(at = %self.at, error = %chain(&error), "body failed");
                    self.cut()
                }
                Err(_) => StorageError::Stalled {
                    at: self.at.clone(),
                    detail: "the body stopped coming".into(),
                },
            };
            self.failures = if self.progress < PROGRESS {
                self.failures + 1
            } else {
                1
            };
            self.progress = 0;
            if self.failures >= self.bucket.tuning().attempts {
                return Err(failure);
            }
            tracing::debug!(at = %self.at, next = self.next, "reading on after a broken body");
            tokio::time::sleep(self.pause()).await;
        }
    }

    fn pause(&self) -> Duration {
        self.bucket.tuning().backoff * 2_u32.saturating_pow(self.failures.saturating_sub(1).min(6))
    }

    fn cut(&self) -> StorageError {
        StorageError::Cut {
            at: self.at.clone(),
            expected: self.length(),
            received: self.next - self.begin,
        }
    }

    fn other(&self, detail: &str) -> StorageError {
        StorageError::Other {
            at: self.at.clone(),
            detail: detail.into(),
        }
    }

    async fn reopen(&self) -> Result<ByteStream, StorageError> {
        let request = self
            .bucket
            .get_object(&self.key)
            .range(range(self.next, self.end));
        let known = Some(self.etag.as_str()).filter(|etag| !etag.is_empty());
        let answer = match request.set_if_match(known.map(ToOwned::to_owned)).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let answer = Answer::of(&error);
                if answer.is_precondition_failed() || answer.is_missing_key() || answer.status == 416 {
                    return Err(StorageError::ChangedWhileReading { at: self.at.clone() });
                }
                return Err(sort(self.at.clone(), &error));
            }
        };
        // A store that ignores If-Match must not splice two states together.
        if answer.e_tag().unwrap_or_default() != self.etag.as_str() {
            return Err(StorageError::ChangedWhileReading { at: self.at.clone() });
        }
        if answer
            .content_length()
            .and_then(|length| u64::try_from(length).ok())
            != Some(self.end - self.next)
        {
            return Err(self.other("the server answers a range with another length"));
        }
        Ok(answer.body)
    }

    /// The bytes as a stream that ends after the first error.
    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Bytes, StorageError>> {
        futures::stream::try_unfold(self, |mut body| async move {
            Ok(body.chunk().await?.map(|bytes| (bytes, body)))
        })
        .boxed()
    }

    /// All of it in memory.
    pub(super) async fn collect(self) -> Result<Bytes, StorageError> {
        let mut whole = BytesMut::with_capacity(usize::try_from(self.length()).unwrap_or_default());
        let mut stream = self.into_stream();
        while let Some(bytes) = stream.try_next().await? {
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.freeze())
    }
}

/// The header of a range whose end is exclusive.
fn range(begin: u64, end: u64) -> String {
    format!("bytes={begin}-{}", end.saturating_sub(1))
}
