//! A volume's files as rustic_core reads them, with an account of what could not be read as it was.
//!
//! rustic_core walks a folder and goes on where something fails, with a line in its log. Here each entry and each reader is
//! watched: what vanished between the walk and the reading, what changed its length meanwhile and what could not be read is
//! counted, the first of each by name.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustic_core::{
    Excludes, LocalSource, LocalSourceFilterOptions, LocalSourceSaveOptions, ReadSource, ReadSourceEntry,
    ReadSourceOpen, RusticResult,
};
use velero_model::mover::Trouble;

use super::error::words;

/// Names that are kept of each kind of trouble.
const NAMED: usize = 20;

/// The account.
#[derive(Debug, Clone, Default)]
pub(super) struct Account(Arc<Mutex<Trouble>>);

impl Account {
    pub(super) fn take(&self) -> Trouble {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, kind: Kind, what: impl FnOnce() -> String) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let list = match kind {
            Kind::Unread => &mut trouble.unread,
            Kind::Vanished => &mut trouble.vanished,
            Kind::Changed => &mut trouble.changed,
        };
        list.count += 1;
        if list.first.len() < NAMED {
            list.first.push(what());
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Unread,
    Vanished,
    Changed,
}

/// The files of a folder.
#[derive(Debug)]
pub(super) struct Watched {
    inner: LocalSource,
    account: Account,
    root: Arc<Path>,
}

impl Watched {
    pub(super) fn new(folder: &Path, account: Account) -> RusticResult<Self> {
        // A volume's file system may be mounted over by nothing else inside a mover, and outside one it is the folder asked for.
        let options = LocalSourceFilterOptions::default().one_file_system(true);
        let inner = LocalSource::new(
            LocalSourceSaveOptions::default(),
            &Excludes::default(),
            &options,
            &[folder],
        )?;
        Ok(Self {
            inner,
            account,
            root: folder.into(),
        })
    }
}

impl ReadSource for Watched {
    type Open = WatchedOpen;
    type Iter = Walk;

    fn size(&self) -> RusticResult<Option<u64>> {
        self.inner.size()
    }

    fn entries(&self) -> Self::Iter {
        Walk {
            inner: self.inner.entries(),
            account: self.account.clone(),
            root: Arc::clone(&self.root),
        }
    }
}

/// The walk through them.
pub(super) struct Walk {
    inner: <LocalSource as ReadSource>::Iter,
    account: Account,
    root: Arc<Path>,
}

impl Iterator for Walk {
    type Item = RusticResult<ReadSourceEntry<WatchedOpen>>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.inner.next()?;
        Some(match entry {
            Ok(ReadSourceEntry { path, node, .. }) => {
                let shown = path.strip_prefix(&self.root).unwrap_or(&path).to_path_buf();
                let open = WatchedOpen {
                    path: path.clone(),
                    shown: shown.to_string_lossy().into_owned(),
                    size: node.meta.size,
                    account: self.account.clone(),
                };
                Ok(ReadSourceEntry {
                    path,
                    node,
                    open: Some(open),
                })
            }
            Err(error) => {
                let text = words(&error);
                let kind = if text.contains("os error 2)") {
                    Kind::Vanished
                } else {
                    Kind::Unread
                };
                self.account.note(kind, || text);
                Err(error)
            }
        })
    }
}

/// A file that is not opened yet.
pub(super) struct WatchedOpen {
    path: std::path::PathBuf,
    shown: String,
    size: u64,
    account: Account,
}

impl ReadSourceOpen for WatchedOpen {
    type Reader = WatchedFile;

    fn open(self) -> RusticResult<WatchedFile> {
        match fs::File::open(&self.path) {
            Ok(file) => Ok(WatchedFile {
                file,
                shown: self.shown,
                announced: self.size,
                read: 0,
                is_over: false,
                account: self.account,
            }),
            Err(error) => {
                let kind = if error.kind() == io::ErrorKind::NotFound {
                    Kind::Vanished
                } else {
                    Kind::Unread
                };
                self.account.note(kind, || format!("{}: {error}", self.shown));
                Err(rustic_core::RusticError::with_source(
                    rustic_core::ErrorKind::InputOutput,
                    "a file cannot be opened",
                    error,
                ))
            }
        }
    }
}

/// A file that is being read.
pub(super) struct WatchedFile {
    file: fs::File,
    shown: String,
    announced: u64,
    read: u64,
    is_over: bool,
    account: Account,
}

impl Read for WatchedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Ok(0) if !buffer.is_empty() => {
                if !self.is_over && self.read != self.announced {
                    self.account.note(Kind::Changed, || {
                        format!(
                            "{}: {} bytes instead of {}",
                            self.shown, self.read, self.announced
                        )
                    });
                }
                self.is_over = true;
                Ok(0)
            }
            Ok(read) => {
                self.read += read as u64;
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.account
                    .note(Kind::Unread, || format!("{}: {error}", self.shown));
                Err(error)
            }
        }
    }
}
