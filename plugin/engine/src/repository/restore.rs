//! A snapshot becomes a folder again, and is compared with it.
//!
//! In come a snapshot and a folder; out goes what was written. After writing, every file's bytes are read again and compared
//! with the snapshot ([`compare`]), and so are kind, mode, owner and target of each entry: rustic_core logs what it could not
//! set and goes on. What differs in the end is an error that names the first of it.
//!
//! rustic_core plans a restore in memory, some 300 bytes for each piece of a file. So that a million files need no more than a
//! thousand, it is given a window of them at a time. What spans windows is done here: names of one file, and the folders'
//! owners, modes and times, which come last since writing into a folder changes it.

mod clear;
mod compare;
mod panics;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustic_core::{
    IndexedFullStatus, LocalDestination, LsOptions, RestoreOptions, RestorePlan,
    repofile::{Node, NodeType},
};
use velero_model::mover::Written;

use self::compare::Different;
use super::{Repository, RepositoryError, Root, backend::Faults, error::words, files::Files, snapshot};

/// Entries and pieces of files in a window.
const WINDOW: usize = 20_000;

/// Where to.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The volume's folder, which is there.
    pub folder: &'a Path,
    /// Whether what is there and not in the snapshot goes.
    pub delete: bool,
    /// Whether owners can be set; else everything belongs to whoever writes, and that is no difference.
    pub with_owners: bool,
}

impl Repository {
    /// Writes a snapshot into a folder and compares the two.
    ///
    /// # Errors
    /// [`RepositoryError::NoSnapshot`], [`RepositoryError::Folder`] when something could not be written or differs in the end,
    /// what the place says.
    pub fn restore(self, id: &str, target: Target<'_>) -> Result<Written, RepositoryError> {
        let file = self.find(id)?;
        let root = snapshot::read(&file).root;
        let Self {
            rustic,
            files,
            faults,
            meter,
            ..
        } = self;
        let fail = |error: Box<rustic_core::RusticError>| match faults.first() {
            Some(_) => RepositoryError::of(&files, &faults, &error),
            None => folder_error(target.folder, &words(&error)),
        };
        let rustic = rustic.to_indexed().map_err(fail)?;
        let top = rustic.node_from_snapshot_and_path(&file, "").map_err(fail)?;
        let path = format!("{}/", target.folder.display());
        let destination = LocalDestination::new(&path, false, false).map_err(fail)?;
        let mut options = RestoreOptions::default()
            .numeric_id(target.with_owners)
            .no_ownership(!target.with_owners);
        // Zeros of a file become holes. The type has no public name, its field has.
        options.sparse = serde_json::from_value("ByContent".into()).ok();
        let list = LsOptions::default();
        let nodes = rustic.ls(&top, &list).map_err(fail)?;
        // Where whoever made it did not say, it is not known.
        meter.expect(
            file.summary
                .as_ref()
                .map_or(0, |summary| summary.total_bytes_processed),
        );
        if target.delete {
            clear::clear(target.folder, nodes.clone()).map_err(fail)?;
        }
        let work = Work {
            rustic: &rustic,
            options,
            destination: &destination,
            target,
            files: &files,
            faults: &faults,
        };
        let mut written = Written::default();
        let (mut window, mut weight, mut links) = (Vec::new(), 0, Links::default());
        for item in nodes.clone() {
            let (path, node) = item.map_err(fail)?;
            if links.is_another_name(&path, &node) {
                continue;
            }
            weight += 1 + node.content.as_ref().map_or(0, Vec::len);
            window.push((path, node));
            if weight >= WINDOW {
                work.write(&window, &mut written)?;
                window.clear();
                weight = 0;
            }
        }
        work.write(&window, &mut written)?;
        drop(window);
        links
            .make(target.folder)
            .map_err(|error| folder_error(target.folder, &error.to_string()))?;
        let folders = nodes
            .clone()
            .filter(|item| item.as_ref().map_or(true, |(_, node)| node.is_dir()));
        rustic
            .restore(RestorePlan::default(), &options, folders, &destination)
            .map_err(fail)?;
        if let Some(root) = root {
            set_root(target, root).map_err(|error| folder_error(target.folder, &error.to_string()))?;
        }
        compare::entries(nodes, target).map_err(|reason| folder_error(target.folder, &reason))?;
        Ok(written)
    }
}

/// What all windows are written with.
struct Work<'a> {
    rustic: &'a rustic_core::Repository<IndexedFullStatus>,
    options: RestoreOptions,
    destination: &'a LocalDestination,
    target: Target<'a>,
    files: &'a Arc<dyn Files>,
    faults: &'a Arc<Faults>,
}

impl Work<'_> {
    /// Writes a window and compares its files.
    fn write(&self, window: &[(PathBuf, Node)], written: &mut Written) -> Result<(), RepositoryError> {
        let folder = self.target.folder;
        let fail = |error: Box<rustic_core::RusticError>| match self.faults.first() {
            Some(_) => RepositoryError::of(self.files, self.faults, &error),
            None => folder_error(folder, &words(&error)),
        };
        let nodes = window.iter().cloned().map(Ok);
        let plan = self
            .rustic
            .prepare_restore(&self.options, nodes, self.destination, false)
            .map_err(fail)?;
        let stats = plan.stats.files;
        written.files += stats.restore + stats.modify;
        written.bytes += plan.restore_size;
        written.unchanged += stats.unchanged + stats.verified;
        // Of folders nothing is set yet: others may still have to be written into them.
        let nodes = window.iter().filter(|(_, node)| !node.is_dir()).cloned().map(Ok);
        panics::caught(self.faults, || {
            self.rustic.restore(plan, &self.options, nodes, self.destination)
        })
        .map_err(|panic| match self.faults.first() {
            Some(reason) => RepositoryError::Files {
                place: self.files.describe(),
                reason,
            },
            None => folder_error(folder, &panic),
        })?
        .map_err(fail)?;
        let same = compare::bytes(self.rustic, self.options, window, self.destination, self.target);
        written.verified += same.map_err(|error| match error {
            Different::Rustic(error) => fail(error),
            Different::Found(reason) => folder_error(folder, &reason),
        })?;
        Ok(())
    }
}

/// Files with several names: the first is written, the others are made of it.
#[derive(Default)]
struct Links {
    first: HashMap<(u64, u64), PathBuf>,
    others: Vec<(PathBuf, PathBuf)>,
}

impl Links {
    /// Whether an entry is another name of a file that was met before.
    fn is_another_name(&mut self, path: &Path, node: &Node) -> bool {
        let meta = &node.meta;
        let is_linked = matches!(node.node_type, NodeType::File) && meta.links > 1;
        if !is_linked || meta.device_id == 0 || meta.inode == 0 {
            return false;
        }
        match self.first.get(&(meta.device_id, meta.inode)) {
            Some(first) => {
                self.others.push((first.clone(), path.to_owned()));
                true
            }
            None => {
                self.first.insert((meta.device_id, meta.inode), path.to_owned());
                false
            }
        }
    }

    fn make(self, folder: &Path) -> io::Result<()> {
        for (first, other) in self.others {
            let (first, other) = (folder.join(first), folder.join(other));
            let file = fs::symlink_metadata(&first)?;
            match fs::symlink_metadata(&other) {
                Ok(there) if (there.dev(), there.ino()) == (file.dev(), file.ino()) => continue,
                Ok(_) => fs::remove_file(&other)?,
                Err(_) => {}
            }
            fs::hard_link(&first, &other)?;
        }
        Ok(())
    }
}

fn folder_error(folder: &Path, reason: &str) -> RepositoryError {
    RepositoryError::Folder {
        what: format!("write {}", folder.display()),
        reason: reason.to_owned(),
    }
}

fn set_root(target: Target<'_>, root: Root) -> io::Result<()> {
    let set = fs::Permissions::from_mode(root.mode);
    if target.with_owners {
        chown(target.folder, Some(root.uid), Some(root.gid))?;
        return fs::set_permissions(target.folder, set);
    }
    // The folder is somebody else's, who has let us in; its mode is theirs.
    let _ = fs::set_permissions(target.folder, set);
    Ok(())
}
