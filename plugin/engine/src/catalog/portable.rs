//! One backup as one file, for places that no network reaches.
//!
//! The file is an uncompressed tar of the backup's keys, the marker last: anybody can unpack it into a folder location.
//! A download appears under its name only when it is whole and every digest matched. An import believes nothing: paths,
//! entry types, names and digests are checked before the first byte is written, and again while writing.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use velero_model::{
    backup::Backup,
    digests::{Digests, DigestsError},
    layout::{BACKUPS, BackupKeys},
    name::BackupName,
};

use super::{
    error::CatalogError,
    open::OpenBackup,
    stream::{Chunks, blocking, checked, chunks, with_reader},
    transfer::{CopySummary, File, files, publish},
    volume_data::volume_data,
};
use crate::{progress::Progress, storage::Bucket};

/// Largest file that is read whole before an import: marker and digests.
const WHOLE_MAX: u64 = 64 << 20;

/// Most files that a backup's folder has.
const FILES_MAX: usize = 10_000;

/// Chunk that is read from a local file.
const CHUNK: u64 = 256 << 10;

/// Writes a backup into one file; given a folder, into `<name>.tar` in it. Says which file it was.
///
/// # Errors
/// When the file exists, when a digest does not match, on interruption, and on faults of storage and disk.
pub async fn download(
    open: &OpenBackup,
    target: &Path,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<(PathBuf, CopySummary), CatalogError> {
    let path = if target.is_dir() {
        target.join(format!("{}.tar", open.name()))
    } else {
        target.to_owned()
    };
    let digests = open.digests().await?;
    let present: Vec<(String, u64)> = open
        .files()
        .iter()
        .map(|file| (file.key.clone(), file.size))
        .collect();
    let files = files(open.name(), &present, digests.as_ref())?;
    let volume_data_left = volume_data(open).await?;
    let failed = {
        let path = path.clone();
        move |source: io::Error| CatalogError::Local {
            operation: "write",
            path: path.clone(),
            source,
        }
    };
    if path.exists() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
        .to_owned();
    let file = tempfile::Builder::new()
        .prefix(".kubectl-backup-")
        .tempfile_in(folder)
        .map_err(&failed)?;
    progress.set_total_bytes(files.iter().map(|file| file.size).sum());
    let mut tar = tar::Builder::new(file);
    for file in &files {
        progress.set_step(&format!("writing {}", file.name));
        tar = append(open, tar, file, failed.clone(), progress, cancel).await?;
    }
    let finished = path.clone();
    blocking(move || {
        let mut file = tar.into_inner().map_err(&failed)?;
        file.flush()
            .and_then(|()| file.as_file().sync_all())
            .map_err(&failed)?;
        file.persist_noclobber(finished)
            .map_err(|error| failed(error.error))?;
        Ok(())
    })
    .await?;
    let summary = CopySummary {
        name: open.name().clone(),
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.size).sum(),
        verified: digests.is_some(),
        volume_data_left,
    };
    Ok((path, summary))
}

type TarFile = tar::Builder<tempfile::NamedTempFile>;

async fn append(
    open: &OpenBackup,
    mut tar: TarFile,
    file: &File,
    failed: impl Fn(io::Error) -> CatalogError + Send + 'static,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<TarFile, CatalogError> {
    let key = format!("{}{}", open.keys().folder(), file.name);
    let (_, bytes) = chunks(open.bucket(), &key).await?;
    let bytes = checked(bytes, &key, file.size, file.sha256.clone());
    let size = file.size;
    let modified = open
        .backup()
        .created()
        .and_then(|time| u64::try_from(time.as_second()).ok())
        .unwrap_or_default();
    with_reader(size, bytes, progress, cancel, move |reader| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(modified);
        tar.append_data(&mut header, key, reader.take(size))
            .map_err(failed)?;
        Ok(tar)
    })
    .await
}

/// Puts the backup of one downloaded file into a location.
///
/// # Errors
/// When the file is no whole backup, when a digest does not match, when the name is taken, and on faults of storage.
pub async fn import(
    file: &Path,
    to: &Arc<dyn Bucket>,
    progress: &Arc<Progress>,
    cancel: &CancellationToken,
) -> Result<CopySummary, CatalogError> {
    let path = file.to_owned();
    let exported = blocking(move || Exported::open(path)).await?;
    let files = files(&exported.name, &exported.present(), exported.digests.as_ref())?;
    let read = |file: &File| -> BoxFuture<'_, Result<Chunks, CatalogError>> {
        let place = exported.places.get(&file.name).copied();
        let path = exported.path.clone();
        Box::pin(async move { Ok(local(path, place.unwrap_or_default())) })
    };
    publish(to, &exported.name, &files, &read, progress, cancel).await?;
    let summary = CopySummary {
        name: exported.name.clone(),
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.size).sum(),
        verified: exported.digests.is_some(),
        volume_data_left: Vec::new(),
    };
    Ok(summary)
}

/// A downloaded file, looked through once.
struct Exported {
    path: PathBuf,
    name: BackupName,
    /// Offset and size by file name.
    places: BTreeMap<String, (u64, u64)>,
    digests: Option<Digests>,
}

impl Exported {
    fn open(path: PathBuf) -> Result<Self, CatalogError> {
        let unreadable = |source| CatalogError::Local {
            operation: "read",
            path: path.clone(),
            source,
        };
        let refuse = |problem: String| CatalogError::Import {
            path: path.clone(),
            problem,
        };
        let file = fs::File::open(&path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        let mut name = None;
        let mut places = BTreeMap::new();
        let mut archive = tar::Archive::new(io::BufReader::new(file));
        let damaged = |error: io::Error| refuse(format!("it is no whole tar file ({error})"));
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let key = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (owner, file) =
                split(&key).ok_or_else(|| refuse(format!("it holds `{key}`, no file of a backup")))?;
            if !entry.header().entry_type().is_file() {
                return Err(refuse(format!("`{key}` in it is no plain file")));
            }
            if *name.get_or_insert_with(|| owner.clone()) != owner {
                return Err(refuse("it holds files of more than one backup".to_owned()));
            }
            let place = (entry.raw_file_position(), entry.size());
            if place.0.checked_add(place.1).is_none_or(|end| end > length) {
                return Err(refuse(format!("it is cut in `{key}`")));
            }
            if places.insert(file, place).is_some() || places.len() > FILES_MAX {
                return Err(refuse(format!(
                    "`{key}` is in it twice, or it holds too many files"
                )));
            }
        }
        let name = name.ok_or_else(|| refuse("it is empty".to_owned()))?;
        let mut exported = Self {
            path,
            name,
            places,
            digests: None,
        };
        exported.check()?;
        Ok(exported)
    }

    /// The marker must be that of the folder, the digests must carry their seal.
    fn check(&mut self) -> Result<(), CatalogError> {
        let name = self.name.clone();
        let keys = BackupKeys(&name);
        let marker = self.whole(&keys.marker())?;
        let missing = |key: String| CatalogError::Import {
            path: self.path.clone(),
            problem: format!("{key} is missing"),
        };
        Backup::parse(
            &marker.ok_or_else(|| missing(keys.marker()))?,
            &name,
            &keys.marker(),
        )?;
        if let Some(bytes) = self.whole(&keys.digests())? {
            let digests = Digests::parse(&bytes);
            let wrong = |error: DigestsError| CatalogError::File {
                key: keys.digests(),
                detail: error.to_string(),
            };
            self.digests = Some(digests.map_err(wrong)?);
        }
        Ok(())
    }

    fn whole(&self, key: &str) -> Result<Option<Vec<u8>>, CatalogError> {
        let file = key.rsplit('/').next().unwrap_or_default();
        let Some((offset, size)) = self.places.get(file).copied() else {
            return Ok(None);
        };
        if size > WHOLE_MAX {
            let problem = format!("{key} has {size} bytes");
            return Err(CatalogError::Import {
                path: self.path.clone(),
                problem,
            });
        }
        let read = || {
            let mut bytes = Vec::new();
            let mut file = fs::File::open(&self.path)?;
            file.seek(SeekFrom::Start(offset))?;
            file.take(size).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map(Some).map_err(|source| CatalogError::Local {
            operation: "read",
            path: self.path.clone(),
            source,
        })
    }

    fn present(&self) -> Vec<(String, u64)> {
        let folder = BackupKeys(&self.name).folder();
        self.places
            .iter()
            .map(|(file, (_, size))| (format!("{folder}{file}"), *size))
            .collect()
    }
}

/// `backups/<name>/<file>` into name and file.
fn split(key: &str) -> Option<(BackupName, String)> {
    let (name, file) = key.strip_prefix(BACKUPS)?.split_once('/')?;
    let is_plain = !file.is_empty()
        && !file.starts_with('.')
        && file
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b'\\');
    is_plain.then_some((BackupName::parse(name).ok()?, file.to_owned()))
}

/// A part of a local file as chunks.
fn local(path: PathBuf, (offset, size): (u64, u64)) -> Chunks {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let read = || -> io::Result<()> {
            let mut file = fs::File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut left = size;
            while left > 0 {
                let mut chunk = Vec::new();
                let read = (&mut file).take(left.min(CHUNK)).read_to_end(&mut chunk)? as u64;
                // A file that became shorter ends here, and the comparison of sizes says so.
                if read == 0 || sender.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                    break;
                }
                left -= read;
            }
            Ok(())
        };
        if let Err(source) = read() {
            // Nobody listens any more only when the import has ended already.
            let _ = sender.blocking_send(Err(CatalogError::Local {
                operation: "read",
                path,
                source,
            }));
        }
    });
    stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
    .boxed()
}

#[cfg(test)]
mod tests;
