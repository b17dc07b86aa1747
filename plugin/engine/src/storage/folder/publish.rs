//! From a hidden temporary file to a visible key, atomically.
//!
//! In comes the path that a key will have, out goes a file to write into; publishing makes it visible whole or says
//! that somebody else was there. The random part of the hidden name comes from the temporary-file crate, which
//! also renames without replacing where the file system can, and links where it cannot. File systems that can do
//! neither (FAT) get an exclusive copy: still one winner, but a reader may see it grow.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::super::bucket::{Etag, Put, PutOutcome};
use super::entries;

/// How often folders are made again when a concurrent deletion removes them under our hands.
const ATTEMPTS: usize = 16;

/// A file that is not visible yet. Dropping it removes it.
pub(super) struct Partial {
    path: TempPath,
    target: PathBuf,
    root: PathBuf,
    /// Folders that have new names in them and were not flushed.
    unflushed: Vec<PathBuf>,
}

impl Partial {
    /// Makes the folders that `target` needs, and a hidden file beside it. The new folders are flushed now, or `deferred`.
    pub(super) fn create(root: &Path, target: &Path, deferred: bool) -> io::Result<(Self, fs::File)> {
        let folder = target.parent().unwrap_or(root);
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let mut unflushed = Vec::new();
        for _ in 0..ATTEMPTS {
            make_folders(root, folder, &mut unflushed)?;
            if !deferred {
                for folder in unflushed.drain(..) {
                    sync_folder(&folder)?;
                }
            }
            let made = tempfile::Builder::new()
                .prefix(&entries::partial_prefix(target))
                .suffix(entries::PARTIAL)
                .rand_bytes(entries::RANDOM)
                .tempfile_in(folder);
            match made {
                Ok(made) => {
                    let (file, path) = made.into_parts();
                    let partial = Self {
                        path,
                        target: target.to_owned(),
                        root: root.to_owned(),
                        unflushed,
                    };
                    return Ok((partial, file));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Whether something is there under the target's name at this moment.
    pub(super) async fn is_taken(&self) -> bool {
        tokio::fs::try_exists(&self.target).await.unwrap_or(false)
    }

    /// Folders whose names are new, the target's own included.
    pub(super) fn folders_to_flush(&self) -> Vec<PathBuf> {
        let mut folders = self.unflushed.clone();
        folders.push(self.target.parent().unwrap_or(&self.root).to_owned());
        folders
    }

    /// Makes the file visible under the conditions of `put`. Unless it is deferred, its bytes are on the disk already, and
    /// its name is afterwards.
    pub(super) fn publish(self, put: &Put) -> io::Result<PutOutcome> {
        let Self {
            path, target, root, ..
        } = self;
        let metadata = fs::metadata(&path)?;
        // A rename keeps inode and times. Looking again afterwards could meet the file of the next writer.
        let etag = entries::etag(&metadata);
        let outcome = if let Some(expected) = &put.if_match {
            swap(path, &target, expected, etag)?
        } else if put.if_absent {
            link(path, &target, etag)?
        } else {
            path.persist(&target).map_err(|error| error.error)?;
            Some(etag)
        };
        match outcome {
            Some(etag) => {
                if !put.deferred {
                    sync_folder(target.parent().unwrap_or(&root))?;
                }
                Ok(PutOutcome::Stored { etag })
            }
            None if put.if_match.is_some() => Ok(PutOutcome::Changed),
            None => Ok(PutOutcome::AlreadyThere),
        }
    }

    /// Removes the file, and the folders that were made for it alone.
    pub(super) fn discard(self) {
        let Self {
            path, target, root, ..
        } = self;
        drop(path);
        entries::remove_empty_parents(&root, &target);
    }
}

/// The mark of what is stored, or `None` if something is there already.
fn link(path: TempPath, target: &Path, etag: Etag) -> io::Result<Option<Etag>> {
    match path.persist_noclobber(target) {
        Ok(()) => Ok(Some(etag)),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(refused) if cannot_link(&refused.error) => copy_exclusively(&refused.path, target),
        Err(refused) => Err(refused.error),
    }
}

/// FAT answers EPERM to a hard link, network file systems ENOTSUP.
fn cannot_link(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    )
}

fn copy_exclusively(from: &Path, target: &Path) -> io::Result<Option<Etag>> {
    let mut options = fs::OpenOptions::new();
    let mut file = match options.write(true).create_new(true).mode(0o600).open(target) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        Err(error) => return Err(error),
    };
    let copied = fs::File::open(from).and_then(|mut from| io::copy(&mut from, &mut file));
    match copied
        .and_then(|_| file.sync_all())
        .and_then(|()| file.metadata())
    {
        Ok(metadata) => Ok(Some(entries::etag(&metadata))),
        Err(error) => {
            // It is ours, made exclusively above; half a file must not stay visible.
            let _ = fs::remove_file(target);
            Err(error)
        }
    }
}

/// Renames over the target if it still is what the caller saw. The lock on the file that is there keeps two
/// swappers apart: the second finds another file under the path when it gets the lock.
fn swap(path: TempPath, target: &Path, expected: &Etag, etag: Etag) -> io::Result<Option<Etag>> {
    let present = match fs::File::open(target) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match present.lock() {
        Ok(()) => {}
        // Without locks the comparison alone is left; better than refusing to renew a claim.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(error) => return Err(error),
    }
    match fs::metadata(target) {
        Ok(metadata) if entries::etag(&metadata) == *expected => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    path.persist(target).map_err(|error| error.error)?;
    Ok(Some(etag))
}

/// Makes the missing folders between `root` and `folder`; the folders that hold their names are to be flushed.
fn make_folders(root: &Path, folder: &Path, unflushed: &mut Vec<PathBuf>) -> io::Result<()> {
    if folder.is_dir() || folder == root {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(root);
    make_folders(root, parent, unflushed)?;
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            unflushed.push(parent.to_owned());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        // Somebody removed the parent between the two lines; the caller's loop begins again.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(io::Error::from(io::ErrorKind::NotADirectory))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        // Removed meanwhile, or a file system that cannot flush folders: nothing is left to be done for it.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}
