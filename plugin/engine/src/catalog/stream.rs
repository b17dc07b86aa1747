//! Bytes of stored files between the async world and the threads that inflate and parse.
//!
//! In comes a stream of chunks from a bucket; out goes a blocking reader for a worker thread ([`with_reader`]), the
//! inflated bytes of a gzip file ([`inflated`]), or the same chunks with their digest checked at the end ([`checked`]).
//! A few chunks are in flight, never more. A stream that ends early is an error everywhere, never an end of file.

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use velero_model::{archive, archive::ArchiveError, archive::ItemPath, digests::hex};

use super::error::CatalogError;
use crate::{
    progress::Progress,
    storage::{Bucket, ObjectInfo},
};

/// Chunks between a bucket and a worker thread.
const CHUNKS: usize = 4;

/// Chunk of inflated bytes.
const INFLATED_CHUNK: usize = 64 << 10;

/// Chunks of one stored file.
pub(super) type Chunks = BoxStream<'static, Result<Bytes, CatalogError>>;

/// Opens a stored file whose size is known from a listing.
pub(super) async fn chunks(bucket: &Arc<dyn Bucket>, key: &str) -> Result<(u64, Chunks), CatalogError> {
    let stream = bucket
        .stream(key)
        .await?
        .ok_or_else(|| CatalogError::Vanished { key: key.to_owned() })?;
    Ok((stream.size, stream.bytes.map_err(CatalogError::from).boxed()))
}

/// The same chunks; the stream ends with [`CatalogError::Digest`] when size or SHA-256 are not the expected ones.
pub(super) fn checked(chunks: Chunks, key: &str, size: u64, sha256: Option<String>) -> Chunks {
    let expected = Arc::new((key.to_owned(), size, sha256));
    stream::try_unfold(
        (chunks, Sha256::new(), 0_u64),
        move |(mut chunks, mut hasher, seen)| {
            let expected = Arc::clone(&expected);
            async move {
                let (key, size, sha256) = &*expected;
                let damaged = |detail: String| CatalogError::Digest {
                    key: key.clone(),
                    detail,
                };
                if let Some(chunk) = chunks.try_next().await? {
                    let seen = seen + chunk.len() as u64;
                    if seen > *size {
                        return Err(damaged(format!("it has more than {size} bytes")));
                    }
                    if sha256.is_some() {
                        hasher.update(&chunk);
                    }
                    return Ok(Some((chunk, (chunks, hasher, seen))));
                }
                if seen != *size {
                    return Err(damaged(format!("it has {seen} bytes and should have {size}")));
                }
                match sha256 {
                    Some(sha256) if *sha256 != hex(&hasher.finalize()) => Err(damaged(
                        "its SHA-256 is not the one in the digests file".to_owned(),
                    )),
                    _ => Ok(None),
                }
            }
        },
    )
    .boxed()
}

/// Reads a checked stream to its end.
pub(super) async fn drain(
    mut chunks: Chunks,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<(), CatalogError> {
    while let Some(chunk) = until(cancel, chunks.try_next()).await? {
        progress.add_bytes(chunk.len() as u64);
    }
    Ok(())
}

/// Waits for `future` unless the run is interrupted.
pub(super) async fn until<T>(
    cancel: &CancellationToken,
    future: impl Future<Output = Result<T, CatalogError>>,
) -> Result<T, CatalogError> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(CatalogError::Interrupted),
        result = future => result,
    }
}

/// Runs `work` on a thread for blocking work.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, CatalogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(CatalogError::Worker(error.to_string())),
    }
}

/// Runs `work` on a thread while chunks are handed to it as a blocking reader.
///
/// A fault of the stream wins over what `work` makes of the cut input.
pub(super) async fn with_reader<T: Send + 'static>(
    size: u64,
    mut chunks: Chunks,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
    work: impl FnOnce(ChannelReader) -> Result<T, CatalogError> + Send + 'static,
) -> Result<T, CatalogError> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let reader = ChannelReader {
        receiver,
        current: Bytes::new(),
        left: size,
    };
    let worker = tokio::task::spawn_blocking(move || work(reader));
    let pump = async move {
        while let Some(chunk) = until(cancel, chunks.try_next()).await? {
            progress.add_bytes(chunk.len() as u64);
            if sender.send(chunk).await.is_err() {
                break;
            }
        }
        Ok::<(), CatalogError>(())
    };
    // The pump drops its sender at its end, so the worker ends too, and only then is anything returned.
    let pumped = pump.await;
    let result = worker
        .await
        .map_err(|error| CatalogError::Worker(error.to_string()));
    pumped?;
    result?
}

/// A blocking reader over chunks that arrive from elsewhere.
#[derive(Debug)]
pub(super) struct ChannelReader {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
    left: u64,
}

impl BufRead for ChannelReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() && self.left > 0 {
            let cut = || io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than announced");
            self.current = self.receiver.blocking_recv().ok_or_else(cut)?;
            self.left = self.left.saturating_sub(self.current.len() as u64);
        }
        Ok(&self.current)
    }

    fn consume(&mut self, amount: usize) {
        drop(self.current.split_to(amount.min(self.current.len())));
    }
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..length), available.get(..length)) {
            to.copy_from_slice(from);
        }
        self.consume(length);
        Ok(length)
    }
}

/// The inflated bytes of a stored gzip file, chunk by chunk; `limit` ends a bomb.
pub(super) fn inflated(bucket: Arc<dyn Bucket>, file: &ObjectInfo, limit: u64) -> Chunks {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, CatalogError>>(CHUNKS);
    let key = file.key.clone();
    tokio::spawn(async move {
        let failed = sender.clone();
        let run = async {
            let (size, chunks) = chunks(&bucket, &key).await?;
            let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
            let named = key.clone();
            with_reader(size, chunks, &progress, &cancel, move |reader| {
                inflate_into(reader, &named, limit, &sender)
            })
            .await
        };
        if let Err(error) = run.await {
            // Nobody listens any more: the reader has gone, which is its right.
            let _ = failed.send(Err(error)).await;
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
    .boxed()
}

fn inflate_into(
    reader: ChannelReader,
    key: &str,
    limit: u64,
    sender: &mpsc::Sender<Result<Bytes, CatalogError>>,
) -> Result<(), CatalogError> {
    let damaged = |detail: String| CatalogError::File {
        key: key.to_owned(),
        detail,
    };
    let mut decoder = MultiGzDecoder::new(reader);
    let mut total = 0;
    loop {
        let mut chunk = Vec::with_capacity(INFLATED_CHUNK);
        let read = decoder
            .by_ref()
            .take(INFLATED_CHUNK as u64)
            .read_to_end(&mut chunk)
            .map_err(|error| damaged(error.to_string()))?;
        total += read as u64;
        if total > limit {
            return Err(damaged(format!("it inflates to more than {limit} bytes")));
        }
        if read == 0 || sender.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
    }
}

/// Goes through the archive `key` as [`archive::walk`] does, with errors that name it.
pub(super) fn walk_archive(
    reader: ChannelReader,
    key: &str,
    with_versions: bool,
    mut visit: impl FnMut(ItemPath, &[u8]) -> Result<bool, CatalogError>,
) -> Result<u64, CatalogError> {
    enum Stop {
        Archive(ArchiveError),
        Visit(CatalogError),
    }
    impl From<ArchiveError> for Stop {
        fn from(error: ArchiveError) -> Self {
            Self::Archive(error)
        }
    }
    let limits = archive::Limits::default();
    let result = archive::walk(reader, limits, with_versions, |item, data| {
        visit(item, data).map_err(Stop::Visit)
    });
    result.map_err(|stop| match stop {
        Stop::Archive(source) => CatalogError::Archive {
            key: key.to_owned(),
            source,
        },
        Stop::Visit(error) => error,
    })
}

#[cfg(test)]
mod tests {
    use velero_model::digests::sha256;

    use super::*;

    fn of(parts: &[&'static str]) -> Chunks {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| Ok(Bytes::from_static(part.as_bytes())))
            .collect();
        stream::iter(parts).boxed()
    }

    #[tokio::test]
    async fn a_checked_stream_ends_with_an_error_when_a_byte_differs() {
        let collect = |chunks: Chunks| chunks.try_collect::<Vec<_>>();
        let right = Some(sha256(b"abcd"));
        assert_eq!(
            collect(checked(of(&["ab", "cd"]), "k", 4, right.clone()))
                .await
                .unwrap()
                .len(),
            2
        );
        for (parts, size) in [(&["ab", "ce"], 4), (&["ab", "c"], 4), (&["ab", "cdX"], 4)] {
            let error = collect(checked(of(parts), "k", size, right.clone()))
                .await
                .unwrap_err();
            assert!(matches!(error, CatalogError::Digest { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_worker_never_takes_a_cut_stream_for_an_end() {
        let (progress, cancel) = (Arc::new(Progress::default()), CancellationToken::new());
        let read = |mut reader: ChannelReader| {
            let mut text = String::new();
            reader.read_to_string(&mut text).map_err(CatalogError::Spool)?;
            Ok(text)
        };
        assert_eq!(
            with_reader(4, of(&["ab", "cd"]), &progress, &cancel, read)
                .await
                .unwrap(),
            "abcd"
        );
        assert!(
            with_reader(5, of(&["ab", "cd"]), &progress, &cancel, read)
                .await
                .is_err()
        );
        cancel.cancel();
        let error = with_reader(4, of(&["ab", "cd"]), &progress, &cancel, read)
            .await
            .unwrap_err();
        assert!(matches!(error, CatalogError::Interrupted));
    }
}
