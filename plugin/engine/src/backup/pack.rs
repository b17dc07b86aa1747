//! Objects into the archive: filled members are deflated on all cores and written in the order in which they are done.
//!
//! In come objects from several lists at once, each list with a [`Packer`] of its own; out goes the tarball in the
//! bucket, its digests, and the place of every object, spooled for the index. In memory are the members being filled,
//! two being deflated and the parts in flight, whatever the size of the cluster.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinHandle, spawn_blocking},
};
use velero_model::{
    archive::ItemPath,
    digests::{FileDigest, MemberDigest, hex, sha256},
    index::Lines,
    item::{Head, splice},
    member::{self, MemberBuilder},
    resource::ApiKind,
};

use crate::{
    progress::Progress,
    spool::SortedSpool,
    storage::{StorageError, Upload},
};

/// Members that are deflated at once.
const DEFLATING: usize = 2;

/// Deflated members that wait to be written.
const WAITING: usize = 2;

/// Level of compression: measured on API objects, higher ones cost more time than they save bytes.
const LEVEL: u32 = 3;

/// A deflated member with the index lines of the objects in it; the writer knows its place in the archive.
struct Packed {
    bytes: Vec<u8>,
    inflated: u64,
    sha256: String,
    lines: Lines,
}

type Deflating = JoinHandle<std::io::Result<Packed>>;

/// Makes packers that feed one archive.
#[derive(Clone)]
pub(super) struct Archive {
    members: mpsc::Sender<Deflating>,
    deflating: Arc<Semaphore>,
    modified: u64,
}

/// Fills members with the objects of one list after another.
pub(super) struct Packer {
    archive: Archive,
    member: MemberBuilder,
    lines: Lines,
}

/// The archive can take no more objects because writing it failed; the writer has the reason.
#[derive(Debug)]
pub(super) struct Closed;

/// What was written.
pub(super) struct Written {
    pub(super) digest: FileDigest,
    pub(super) members: Vec<MemberDigest>,
    pub(super) spool: SortedSpool,
}

/// Why the archive could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the temporary folder cannot be used")]
    Spool(#[from] std::io::Error),
}

/// Opens an archive; `modified` (seconds since 1970) is the time of all its entries. The writer ends when all packers
/// are gone.
pub(super) fn archive(
    modified: u64,
    upload: Box<dyn Upload>,
    progress: Arc<Progress>,
) -> (Archive, JoinHandle<Result<Written, PackError>>) {
    let (members, receiver) = mpsc::channel(WAITING);
    let writer = tokio::spawn(write(upload, receiver, progress));
    (
        Archive {
            members,
            deflating: Arc::new(Semaphore::new(DEFLATING)),
            modified,
        },
        writer,
    )
}

impl Archive {
    /// A packer for one worker.
    pub(super) fn packer(&self) -> Packer {
        Packer {
            archive: self.clone(),
            member: MemberBuilder::new(self.modified),
            lines: Lines::default(),
        }
    }
}

impl Packer {
    /// Adds one object.
    ///
    /// # Errors
    /// A sentence, when its name is no legal path.
    pub(super) fn push(
        &mut self,
        kind: &ApiKind,
        resource_group: &str,
        head: &Head<'_>,
        raw: &[u8],
    ) -> Result<(), String> {
        let metadata = &head.metadata;
        if metadata.name.is_empty() {
            return Err("the object has no name".into());
        }
        let path = ItemPath::format(resource_group, metadata.namespace.as_deref(), &metadata.name);
        let api_version = kind.api_version();
        let place = self
            .member
            .append_with(&path, |out| splice(raw, head, &api_version, &kind.kind, out))
            .map_err(|error| error.to_string())?;
        self.lines
            .push(resource_group, head, place)
            .map_err(|error| error.to_string())
    }

    /// Hands a full member on. Waits while too many are on their way.
    ///
    /// # Errors
    /// [`Closed`] when the archive cannot be written any more.
    pub(super) async fn flush_if_full(&mut self) -> Result<(), Closed> {
        if self.member.is_full() {
            self.flush().await
        } else {
            Ok(())
        }
    }

    /// Hands on what is left.
    ///
    /// # Errors
    /// As [`Packer::flush_if_full`].
    pub(super) async fn flush(&mut self) -> Result<(), Closed> {
        if self.member.is_empty() {
            return Ok(());
        }
        let tar = self.member.take();
        let lines = std::mem::take(&mut self.lines);
        let permit = Arc::clone(&self.archive.deflating)
            .acquire_owned()
            .await
            .map_err(|_| Closed)?;
        let deflating = spawn_blocking(move || {
            let bytes = member::deflate(&tar, LEVEL)?;
            drop(permit);
            Ok(Packed {
                inflated: tar.len() as u64,
                sha256: sha256(&bytes),
                bytes,
                lines,
            })
        });
        self.archive.members.send(deflating).await.map_err(|_| Closed)
    }
}

async fn write(
    mut upload: Box<dyn Upload>,
    mut receiver: mpsc::Receiver<Deflating>,
    progress: Arc<Progress>,
) -> Result<Written, PackError> {
    let mut hash = Sha256::new();
    let mut offset = 0;
    let mut members = Vec::new();
    let mut spool = SortedSpool::new();
    let mut append = async |packed: Packed| -> Result<(), PackError> {
        let length = packed.bytes.len() as u64;
        hash.update(&packed.bytes);
        members.push(MemberDigest {
            offset,
            length,
            inflated: packed.inflated,
            sha256: packed.sha256,
        });
        packed
            .lines
            .placed(offset, length, |key, line| spool.push_line(key, line))?;
        offset += length;
        progress.add_bytes(length);
        Ok(upload.write(Bytes::from(packed.bytes)).await?)
    };
    let mut result = Ok(());
    while result.is_ok()
        && let Some(deflating) = receiver.recv().await
    {
        result = match deflating.await {
            Ok(Ok(packed)) => append(packed).await,
            Ok(Err(error)) => Err(error.into()),
            Err(stopped) => Err(std::io::Error::other(stopped).into()),
        };
    }
    if result.is_ok() {
        let bytes = member::trailer()?;
        let trailer = Packed {
            inflated: 1024,
            sha256: sha256(&bytes),
            bytes,
            lines: Lines::default(),
        };
        result = append(trailer).await;
    }
    if let Err(error) = result {
        // The first error counts; a failing abort leaves litter that `location check` finds.
        let _ = upload.abort().await;
        return Err(error);
    }
    let digest = FileDigest {
        size: offset,
        sha256: hex(&hash.finalize()),
    };
    if !upload.complete().await?.is_stored() {
        let error = std::io::Error::other("another run has put an archive of the same name in the meantime");
        return Err(error.into());
    }
    Ok(Written {
        digest,
        members,
        spool,
    })
}
