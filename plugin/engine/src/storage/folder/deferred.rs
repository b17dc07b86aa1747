//! Files that wait for the disk together.
//!
//! In come files that were written and are about to get their names, each with the folders that hold new names; their
//! flushing begins at once, beside whatever else is done. Settling waits for all of them, then flushes the folders: what
//! is put afterwards is never on the disk without them.

use std::{
    collections::BTreeSet,
    fs::File,
    io, mem,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tokio::task::{JoinHandle, spawn_blocking};

use super::publish::sync_folder;

/// What was begun and not settled.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    files: Vec<JoinHandle<io::Result<()>>>,
    folders: BTreeSet<PathBuf>,
}

impl Deferred {
    /// Begins to flush a file.
    pub(super) fn begin(&self, file: File, folders: Vec<PathBuf>) {
        let flushing = spawn_blocking(move || file.sync_all());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.files.push(flushing);
        waiting.folders.extend(folders);
    }

    /// Waits for the files, then flushes the folders.
    ///
    /// # Errors
    /// The first one that the disk gave.
    pub(super) async fn settle(&self) -> io::Result<()> {
        let waiting = mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut settled = Ok(());
        for file in waiting.files {
            settled = settled.and(
                file.await
                    .unwrap_or_else(|stopped| Err(io::Error::other(stopped))),
            );
        }
        settled?;
        let folders = waiting.folders;
        let flushed = spawn_blocking(move || folders.iter().try_for_each(|folder| sync_folder(folder)));
        flushed.await.map_err(io::Error::other)?
    }
}
