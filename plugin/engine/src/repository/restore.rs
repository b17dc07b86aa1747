//! A snapshot becomes a folder again, and is compared with it.
//!
//! In come a snapshot and a folder; out goes what was written. After writing, every file's bytes are read again and compared
//! with the snapshot, and so are kind, mode, owner and target of each entry: rustic_core logs what it could not set and goes
//! on. What differs in the end is an error that names the first of it.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
};

use rustic_core::{
    IndexedFull, LocalDestination, LsOptions, RestoreOptions,
    repofile::{Node, NodeType},
};
use velero_model::mover::Written;

use super::{Repository, RepositoryError, Root, error::words, snapshot};

/// Differences that are named.
const NAMED: usize = 5;

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
        let list = LsOptions::default();
        let mut options = RestoreOptions::default()
            .numeric_id(target.with_owners)
            .no_ownership(!target.with_owners)
            .delete(target.delete);
        // Zeros of a file become holes. The type has no public name, its field has.
        options.sparse = serde_json::from_value("ByContent".into()).ok();
        let nodes = rustic.ls(&top, &list).map_err(fail)?;
        let plan = rustic
            .prepare_restore(&options, nodes.clone(), &destination, false)
            .map_err(fail)?;
        let (files_written, bytes, unchanged) = (
            plan.stats.files.restore + plan.stats.files.modify,
            plan.restore_size,
            plan.stats.files.unchanged + plan.stats.files.verified,
        );
        rustic
            .restore(plan, &options, nodes.clone(), &destination)
            .map_err(fail)?;
        if let Some(root) = root {
            set_root(target, root).map_err(|error| folder_error(target.folder, &error.to_string()))?;
        }
        let verified = same_bytes(
            &rustic,
            options.verify_existing(true),
            nodes.clone(),
            &destination,
            target,
        )
        .map_err(|error| match error {
            Different::Rustic(error) => fail(error),
            Different::Found(reason) => folder_error(target.folder, &reason),
        })?;
        same_entries(nodes, target).map_err(|reason| folder_error(target.folder, &reason))?;
        Ok(Written {
            files: files_written,
            bytes,
            unchanged,
            verified,
        })
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

enum Different {
    Rustic(Box<rustic_core::RusticError>),
    Found(String),
}

/// Reads every file again; gives how many there are.
fn same_bytes<S: IndexedFull>(
    rustic: &rustic_core::Repository<S>,
    options: RestoreOptions,
    nodes: impl Iterator<Item = rustic_core::RusticResult<(std::path::PathBuf, Node)>>,
    destination: &LocalDestination,
    target: Target<'_>,
) -> Result<u64, Different> {
    let plan = rustic
        .prepare_restore(&options.delete(false), nodes, destination, true)
        .map_err(Different::Rustic)?;
    let files = plan.stats.files;
    if files.restore > 0 || files.modify > 0 {
        return Err(Different::Found(format!(
            "{} of {} files in {} are not as in the snapshot after they were written",
            files.restore + files.modify,
            files.restore + files.modify + files.verified + files.unchanged,
            target.folder.display()
        )));
    }
    Ok(files.verified + files.unchanged)
}

/// Compares what each entry is, not its bytes.
fn same_entries(
    nodes: impl Iterator<Item = rustic_core::RusticResult<(std::path::PathBuf, Node)>>,
    target: Target<'_>,
) -> Result<(), String> {
    let (mut count, mut named) = (0_u64, Vec::new());
    for item in nodes {
        let (path, node) = item.map_err(|error| words(&error))?;
        if let Err(why) = same_entry(&target.folder.join(&path), &node, target) {
            count += 1;
            if named.len() < NAMED {
                named.push(format!("{}: {why}", path.display()));
            }
        }
    }
    if count == 0 {
        return Ok(());
    }
    Err(format!(
        "{count} entries are not as in the snapshot: {}{}",
        named.join("; "),
        if count > named.len() as u64 { "; ..." } else { "" }
    ))
}

fn same_entry(path: &Path, node: &Node, target: Target<'_>) -> Result<(), String> {
    let there = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    let kind = there.file_type();
    let is_same_kind = match &node.node_type {
        NodeType::File => kind.is_file(),
        NodeType::Dir => kind.is_dir(),
        NodeType::Symlink { .. } => kind.is_symlink(),
        _ => !kind.is_file() && !kind.is_dir() && !kind.is_symlink(),
    };
    if !is_same_kind {
        return Err("it is of another kind".to_owned());
    }
    if let NodeType::Symlink { .. } = &node.node_type {
        let to = fs::read_link(path).map_err(|error| error.to_string())?;
        if to != node.node_type.to_link() {
            return Err("it points elsewhere".to_owned());
        }
    } else if let Some(mode) = node.meta.mode
        && (mode ^ there.mode()) & 0o777 != 0
    {
        return Err(format!(
            "mode {:o} instead of {:o}",
            there.mode() & 0o777,
            mode & 0o777
        ));
    }
    if target.with_owners
        && let (Some(uid), Some(gid)) = (node.meta.uid, node.meta.gid)
        && (uid, gid) != (there.uid(), there.gid())
    {
        return Err(format!(
            "owner {}:{} instead of {uid}:{gid}",
            there.uid(),
            there.gid()
        ));
    }
    Ok(())
}
