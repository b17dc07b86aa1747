//! rustic_core's view of a repository's files, and a memory of what went wrong with them.
//!
//! While it archives, rustic_core logs a write that failed and goes on without the file concerned. Here the first fault
//! stays, and whoever asked for a snapshot looks at it before it believes in the snapshot.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::{Bytes, BytesMut};
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::files::{Files, FilesError};

/// Bytes of packs that are read and not used up at one time: rustic_core reads with twenty threads, a pack each.
const IN_FLIGHT: u32 = 48 << 20;

/// What went wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    first: Mutex<Option<String>>,
    beaten: Mutex<bool>,
    given_up: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    /// The first thing that the place refused.
    pub(super) fn first(&self) -> Option<String> {
        locked(&self.first).clone()
    }

    /// Whether somebody else has made the repository first.
    pub(super) fn was_beaten(&self) -> bool {
        *locked(&self.beaten)
    }

    /// Whatever is read from now on fails at once: nobody can use it any more.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn record(&self, error: &FilesError) {
        locked(&self.first).get_or_insert_with(|| error.to_string());
    }
}

/// The files behind rustic_core's two traits.
pub(super) struct Backend {
    files: Arc<dyn Files>,
    handle: Handle,
    faults: Arc<Faults>,
    in_flight: Arc<Semaphore>,
}

/// Bytes that were read and are not used up yet.
struct Held {
    bytes: Bytes,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl Backend {
    pub(super) fn new(files: Arc<dyn Files>, handle: Handle, faults: Arc<Faults>) -> Self {
        Self {
            files,
            handle,
            faults,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT as usize)),
        }
    }

    fn wait<T>(&self, work: impl Future<Output = Result<T, FilesError>>) -> RusticResult<T> {
        self.handle.block_on(work).map_err(|error| {
            self.faults.record(&error);
            RusticError::with_source(ErrorKind::Backend, "the repository's place failed", error)
        })
    }
}

/// The name of a file, by restic's layout `default`.
fn name(kind: FileType, id: &Id) -> String {
    match kind {
        FileType::Config => "config".to_owned(),
        FileType::Pack => {
            let hex = id.to_hex();
            let hex = hex.as_str();
            format!("data/{}/{hex}", hex.get(..2).unwrap_or_default())
        }
        other => format!("{}/{}", other.dirname(), id.to_hex().as_str()),
    }
}

impl ReadBackend for Backend {
    fn location(&self) -> String {
        self.files.describe()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        let size = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
        if kind == FileType::Config {
            let found = self.wait(self.files.read("config"))?;
            return Ok(found
                .map(|bytes| (Id::default(), size(bytes.len() as u64)))
                .into_iter()
                .collect());
        }
        let found = self.wait(self.files.list(&format!("{}/", kind.dirname())))?;
        Ok(found
            .iter()
            .filter_map(|file| {
                // Anything else is somebody's litter.
                let id = file.name.rsplit('/').next()?.parse().ok()?;
                Some((id, size(file.size)))
            })
            .collect())
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        let name = name(kind, id);
        // That one is missing is no fault of the place: somebody may have asked for what never was.
        self.wait(self.files.read(&name))?.ok_or_else(|| {
            RusticError::new(ErrorKind::Backend, "file `{name}` of the repository is missing")
                .attach_context("name", name)
        })
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        _cacheable: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        if self.faults.given_up.load(Ordering::Relaxed) {
            return Err(RusticError::new(ErrorKind::Backend, "the work was given up"));
        }
        let name = name(kind, id);
        let wanted = length.min(IN_FLIGHT);
        let read = async {
            let permit = Arc::clone(&self.in_flight).acquire_many_owned(wanted).await;
            let bytes = self
                .files
                .read_range(&name, u64::from(offset), u64::from(length))
                .await?;
            // Never closed; and given back when whoever has asked has no more use for the bytes.
            let held = permit.ok();
            Ok(Bytes::from_owner(Held { bytes, _permit: held }))
        };
        self.wait(read)
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        name(kind, id)
    }
}

impl WriteBackend for Backend {
    fn write_bytes(&self, kind: FileType, id: &Id, _cacheable: bool, content: BytesList) -> RusticResult<()> {
        // Nothing comes of it any more, and every further write would be tried as long as the first.
        if self.faults.first().is_some() {
            return Err(RusticError::new(
                ErrorKind::Backend,
                "an earlier write has failed",
            ));
        }
        let name = name(kind, id);
        let body = match <[Bytes; 1]>::try_from(content.into_vec()) {
            Ok([one]) => one,
            Err(parts) => {
                let mut body = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
                for part in parts {
                    body.extend_from_slice(&part);
                }
                body.freeze()
            }
        };
        // Everything else is named after its content.
        let is_config = kind == FileType::Config;
        let is_ours = self.wait(self.files.write(&name, body, is_config))?;
        if is_config && !is_ours {
            *locked(&self.faults.beaten) = true;
            return Err(RusticError::new(
                ErrorKind::Repository,
                "somebody else has made this repository",
            ));
        }
        Ok(())
    }

    fn remove(&self, kind: FileType, id: &Id, _cacheable: bool) -> RusticResult<()> {
        let name = name(kind, id);
        self.wait(self.files.remove(&name))
    }
}
