//! The files beside the archive, and last of all the marker that makes the backup visible.
//!
//! In comes what was written and accounted for; out go index, Velero's side files, outcome, digests and, only if nothing
//! of that name is there, `velero-backup.json`. Each key is put once. Nothing is visible before the last put.

use std::{
    io::{self, BufWriter, Write},
    mem,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use velero_model::{
    backup::Backup,
    digests::{Digests, FileDigest, hex},
    index,
    layout::BackupKeys,
    outcome::Outcome,
    resource::ApiKind,
    resource_list,
    results::Results,
};

use super::{BackupError, pack::Written};
use crate::{
    spool::{Batch, SortedSpool},
    storage::{Bucket, Put, PutOutcome},
};

/// Bytes that a streaming writer hands over at once.
const CHUNK: usize = 256 << 10;

/// Bytes of lines that go from the thread that merges to the one that compresses at once.
const BATCH: usize = 64 << 10;

/// Level of compression of Velero's list: nothing else can be done while the last of it is written.
const LIST_LEVEL: u32 = 3;

/// Batches between the two.
const BATCHES: usize = 2;

/// What a backup says of itself.
#[derive(Clone, Copy)]
pub(super) struct Account<'a> {
    pub(super) log: &'a str,
    pub(super) results: &'a Results,
    pub(super) outcome: &'a Outcome,
    pub(super) pod_volume_backups: &'a [serde_json::Value],
    pub(super) volume_infos: &'a [serde_json::Value],
}

/// Puts the files of one backup and remembers their digests.
pub(super) struct Publisher<'a> {
    bucket: &'a Arc<dyn Bucket>,
    keys: BackupKeys<'a>,
    put: Put,
    digests: Digests,
    /// Bytes of all files.
    pub(super) stored_bytes: u64,
}

impl<'a> Publisher<'a> {
    /// `put` says whether files are locked and that they wait for the disk together; that they must be absent is added here.
    pub(super) fn new(bucket: &'a Arc<dyn Bucket>, keys: BackupKeys<'a>, put: Put) -> Self {
        Self {
            bucket,
            keys,
            put: Put {
                if_absent: true,
                ..put
            },
            digests: Digests::default(),
            stored_bytes: 0,
        }
    }

    fn remember(&mut self, key: &str, digest: FileDigest) {
        self.stored_bytes += digest.size;
        let file = key.rsplit('/').next().unwrap_or(key).to_owned();
        self.digests.files.insert(file, digest);
    }

    /// Notes the archive and puts the files beside it, all at once.
    pub(super) async fn side_files(
        &mut self,
        written: Written,
        kinds: Vec<ApiKind>,
        account: Account<'_>,
    ) -> Result<(), BackupError> {
        self.remember(&self.keys.tarball(), written.digest);
        self.digests.members = written.members;
        let small = self.small_files(account)?;
        for (key, body) in &small {
            self.remember(key, FileDigest::of(body));
        }
        let this = &*self;
        let puts = small.into_iter().map(|(key, body)| async move {
            stored(&key, &this.bucket.put(&key, body, this.put.clone()).await?)
        });
        let puts = futures::future::try_join_all(puts.collect::<Vec<_>>());
        let (lists, _) = tokio::try_join!(this.lists(written.spool, kinds), puts)?;
        for (key, digest) in lists {
            self.remember(&key, digest);
        }
        Ok(())
    }

    /// The files that list every object: our index and Velero's resource list.
    async fn lists(
        &self,
        spool: SortedSpool,
        kinds: Vec<ApiKind>,
    ) -> Result<[(String, FileDigest); 2], BackupError> {
        let (index, index_chunks) = ChunkWriter::new();
        let (list, list_chunks) = ChunkWriter::new();
        let (sender, receiver) = sync_channel(BATCHES);
        let words = kinds.clone();
        let index_writer = spawn_blocking(move || write_index(&receiver, kinds, index));
        let list_writer =
            spawn_blocking(move || write_list(spool, &words, list, &sender).map_err(BackupError::Spool));
        let (index_key, list_key) = (self.keys.index(), self.keys.resource_list());
        let (index, list) = tokio::join!(
            self.stream(&index_key, index_chunks, index_writer),
            self.stream(&list_key, list_chunks, list_writer)
        );
        match (index, list) {
            (Ok(index), Ok(list)) => Ok([(index_key, index), (list_key, list)]),
            // A writer whose other end is gone only echoes the other one's error.
            (Err(BackupError::Spool(echo)), Err(error)) if echo.kind() == io::ErrorKind::BrokenPipe => {
                Err(error)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// Puts what `writer` writes; nothing, when it fails.
    async fn stream(
        &self,
        key: &str,
        mut chunks: mpsc::Receiver<Bytes>,
        writer: JoinHandle<Result<(), BackupError>>,
    ) -> Result<FileDigest, BackupError> {
        let mut upload = self.bucket.upload(key, self.put.clone()).await?;
        let mut hash = Sha256::new();
        let mut size = 0;
        while let Some(chunk) = chunks.recv().await {
            hash.update(&chunk);
            size += chunk.len() as u64;
            upload.write(chunk).await?;
        }
        let written = writer
            .await
            .map_err(|stopped| BackupError::Spool(io::Error::other(stopped)));
        if let Err(error) = written.flatten() {
            // The first error counts; what a failing abort leaves is found by `location check`.
            let _ = upload.abort().await;
            return Err(error);
        }
        stored(key, &upload.complete().await?)?;
        Ok(FileDigest {
            size,
            sha256: hex(&hash.finalize()),
        })
    }

    /// Velero's small files and our outcome, compressed.
    fn small_files(&self, account: Account<'_>) -> Result<Vec<(String, Bytes)>, BackupError> {
        let results = serde_json::to_vec(account.results).map_err(BackupError::Document)?;
        let outcome = serde_json::to_vec(account.outcome).map_err(BackupError::Document)?;
        let pod_volume_backups =
            serde_json::to_vec(account.pod_volume_backups).map_err(BackupError::Document)?;
        let volume_infos = serde_json::to_vec(account.volume_infos).map_err(BackupError::Document)?;
        let files = [
            (self.keys.logs(), account.log.as_bytes()),
            (self.keys.results(), &results),
            (self.keys.outcome(), &outcome),
            (self.keys.pod_volume_backups(), &pod_volume_backups),
            (self.keys.volume_snapshots(), b"[]"),
            (self.keys.item_operations(), b"[]"),
            (self.keys.volume_info(), &volume_infos),
        ];
        let compressed = files.into_iter().map(|(key, content)| {
            let body = gzip(content).map_err(BackupError::Spool)?;
            Ok((key, Bytes::from(body)))
        });
        compressed.collect()
    }

    /// The digests, sealed, then the marker.
    pub(super) async fn finish(mut self, backup: &Backup) -> Result<u64, BackupError> {
        let marker_key = self.keys.marker();
        let marker = Bytes::from(backup.to_bytes().map_err(BackupError::Document)?);
        self.remember(&marker_key, FileDigest::of(&marker));
        let digests = Bytes::from(self.digests.seal().map_err(BackupError::Document)?);
        let total = self.stored_bytes + digests.len() as u64;
        let digests_key = self.keys.digests();
        stored(
            &digests_key,
            &self.bucket.put(&digests_key, digests, self.put.clone()).await?,
        )?;
        // The marker must never be on the disk without what it stands for.
        self.bucket.settle().await?;
        let put = Put {
            deferred: false,
            ..self.put
        };
        match self.bucket.put(&marker_key, marker, put).await? {
            PutOutcome::Stored { .. } => Ok(total),
            PutOutcome::AlreadyThere | PutOutcome::Changed => Err(BackupError::Exists {
                name: self.keys.0.clone(),
                location: self.bucket.describe(),
            }),
        }
    }
}

fn stored(key: &str, outcome: &PutOutcome) -> Result<(), BackupError> {
    if outcome.is_stored() {
        Ok(())
    } else {
        Err(BackupError::InTheWay { key: key.to_owned() })
    }
}

/// Compresses a small file.
pub(crate) fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(content)?;
    encoder.finish()
}

/// Writes Velero's list while the spool is merged, and hands every line on to the index, which another thread compresses.
fn write_list(
    spool: SortedSpool,
    kinds: &[ApiKind],
    list: ChunkWriter,
    lines: &SyncSender<Option<Batch>>,
) -> io::Result<()> {
    let mut by_word: Vec<(String, String)> = kinds
        .iter()
        .map(|kind| (kind.resource_group(), kind.list_key()))
        .collect();
    by_word.sort();
    // Names come in a few bytes at a time; compressing each of them alone would take longer than all the rest.
    let list = BufWriter::with_capacity(BATCH, GzEncoder::new(list, Compression::new(LIST_LEVEL)));
    let mut list = resource_list::Writer::new(list)?;
    let mut batch = Batch::default();
    let mut sorted = spool.finish_lines()?;
    while let Some((key, line)) = sorted.next()? {
        let (resource_group, namespace, name) = key;
        let position = by_word.binary_search_by(|(word, _)| word.as_str().cmp(resource_group));
        let list_key = position
            .ok()
            .and_then(|position| by_word.get(position))
            .map_or(resource_group, |(_, key)| key);
        list.push(list_key, Some(namespace).filter(|name| !name.is_empty()), name)?;
        batch.push(key, line)?;
        if batch.size() >= BATCH {
            hand_on(lines, Some(mem::take(&mut batch)))?;
        }
    }
    hand_on(lines, Some(batch))?;
    hand_on(lines, None)?;
    list.finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .finish()?
        .close()
}

fn hand_on(lines: &SyncSender<Option<Batch>>, batch: Option<Batch>) -> io::Result<()> {
    lines.send(batch).map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Writes our index from lines that come sorted, up to a `None`: without it they are cut short.
fn write_index(
    lines: &Receiver<Option<Batch>>,
    kinds: Vec<ApiKind>,
    index: ChunkWriter,
) -> Result<(), BackupError> {
    let mut index = index::Writer::new(index, kinds);
    let broken = |_| BackupError::Spool(io::ErrorKind::BrokenPipe.into());
    while let Some(batch) = lines.recv().map_err(broken)? {
        for line in batch.iter() {
            let (key, line) = line.map_err(BackupError::Spool)?;
            index.push_line(key, line).map_err(BackupError::Index)?;
        }
    }
    let (index, _) = index.finish().map_err(BackupError::Index)?;
    index.close().map_err(BackupError::Spool)
}

/// A blocking writer whose bytes come out of a channel, in pieces, with back-pressure.
pub(crate) struct ChunkWriter {
    buffer: Vec<u8>,
    chunks: mpsc::Sender<Bytes>,
}

impl ChunkWriter {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Bytes>) {
        let (chunks, receiver) = mpsc::channel(2);
        (
            Self {
                buffer: Vec::with_capacity(CHUNK),
                chunks,
            },
            receiver,
        )
    }

    fn send(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
        self.chunks
            .blocking_send(chunk)
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends what is left.
    pub(crate) fn close(mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            self.send()
        }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
