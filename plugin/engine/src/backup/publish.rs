//! The files beside the archive, and last of all the marker that makes the backup visible.
//!
//! In comes what was written and accounted for; out go index, Velero's side files, outcome, digests and, only if nothing
//! of that name is there, `velero-backup.json`. Each key is put once. Nothing is visible before the last put.

use std::{io, io::Write, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::spawn_blocking};
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
    spool::SortedSpool,
    storage::{Bucket, Put, PutOutcome},
};

/// Bytes that a streaming writer hands over at once.
const CHUNK: usize = 256 << 10;

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
    /// `put` says whether files are locked; that they must be absent is added here.
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

    /// Notes the archive and writes the files that list every object: our index and Velero's resource list.
    pub(super) async fn lists(&mut self, written: Written, kinds: Vec<ApiKind>) -> Result<(), BackupError> {
        self.remember(&self.keys.tarball(), written.digest);
        self.digests.members = written.members;
        let (index, index_chunks) = ChunkWriter::new();
        let (list, list_chunks) = ChunkWriter::new();
        let writing = spawn_blocking(move || write_lists(written.spool, kinds, index, list));
        let (index_key, list_key) = (self.keys.index(), self.keys.resource_list());
        let (index, list) = tokio::join!(
            self.stream(&index_key, index_chunks),
            self.stream(&list_key, list_chunks)
        );
        // A failed upload closes its channel; then the writer's error is only an echo.
        let (index, list) = (index?, list?);
        writing
            .await
            .map_err(|stopped| BackupError::Spool(io::Error::other(stopped)))??;
        self.remember(&index_key, index);
        self.remember(&list_key, list);
        Ok(())
    }

    async fn stream(&self, key: &str, mut chunks: mpsc::Receiver<Bytes>) -> Result<FileDigest, BackupError> {
        let mut upload = self.bucket.upload(key, self.put.clone()).await?;
        let mut hash = Sha256::new();
        let mut size = 0;
        while let Some(chunk) = chunks.recv().await {
            hash.update(&chunk);
            size += chunk.len() as u64;
            upload.write(chunk).await?;
        }
        stored(key, &upload.complete().await?)?;
        Ok(FileDigest {
            size,
            sha256: hex(&hash.finalize()),
        })
    }

    /// Velero's small files and our outcome, all at once.
    pub(super) async fn side_files(
        &mut self,
        log: &str,
        results: &Results,
        outcome: &Outcome,
    ) -> Result<(), BackupError> {
        let results = serde_json::to_vec(results).map_err(BackupError::Document)?;
        let outcome = serde_json::to_vec(outcome).map_err(BackupError::Document)?;
        let files = [
            (self.keys.logs(), log.as_bytes()),
            (self.keys.results(), &results),
            (self.keys.outcome(), &outcome),
            (self.keys.pod_volume_backups(), b"[]"),
            (self.keys.volume_snapshots(), b"[]"),
            (self.keys.item_operations(), b"[]"),
            (self.keys.volume_info(), b"[]"),
        ];
        let (bucket, put) = (self.bucket, self.put.clone());
        let mut puts = Vec::new();
        for (key, content) in files {
            let body = Bytes::from(gzip(content).map_err(BackupError::Spool)?);
            self.remember(&key, FileDigest::of(&body));
            let put = put.clone();
            puts.push(async move { stored(&key, &bucket.put(&key, body, put).await?) });
        }
        futures::future::try_join_all(puts).await?;
        Ok(())
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
        match self.bucket.put(&marker_key, marker, self.put.clone()).await? {
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

fn write_lists(
    spool: SortedSpool,
    kinds: Vec<ApiKind>,
    index: ChunkWriter,
    list: ChunkWriter,
) -> Result<(), BackupError> {
    let mut by_word: Vec<(String, String)> = kinds
        .iter()
        .map(|kind| (kind.resource_group(), kind.list_key()))
        .collect();
    by_word.sort();
    let mut index = index::Writer::new(index, kinds);
    let mut list =
        resource_list::Writer::new(GzEncoder::new(list, Compression::new(6))).map_err(BackupError::Spool)?;
    for entry in spool.finish().map_err(BackupError::Spool)? {
        let entry = entry.map_err(BackupError::Spool)?;
        index.push(&entry).map_err(BackupError::Index)?;
        let position = by_word.binary_search_by(|(word, _)| word.as_str().cmp(&entry.resource_group));
        let key = position
            .ok()
            .and_then(|position| by_word.get(position))
            .map_or(entry.resource_group.as_str(), |(_, key)| key);
        list.push(key, entry.namespace.as_deref(), &entry.name)
            .map_err(BackupError::Spool)?;
    }
    index
        .finish()
        .map_err(BackupError::Index)?
        .0
        .close()
        .map_err(BackupError::Spool)?;
    let encoder = list.finish().map_err(BackupError::Spool)?;
    encoder
        .finish()
        .and_then(ChunkWriter::close)
        .map_err(BackupError::Spool)
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
        let chunk = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK)));
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
