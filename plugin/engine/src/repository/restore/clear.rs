//! What a folder holds and the snapshot does not goes, and so does what is of another kind.

use std::{collections::HashSet, ffi::OsString, fs, io, path::Path, path::PathBuf};

use rustic_core::{RusticResult, repofile::Node};

/// A folder on the way to where the walk is.
struct Level {
    path: PathBuf,
    /// What is there and was not met yet.
    left: HashSet<OsString>,
}

/// Clears a folder, in which nothing is changed that is as the snapshot has it. What cannot be removed is left: a file
/// system's own folder for what it has lost, for instance.
pub(super) fn clear(
    folder: &Path,
    nodes: impl Iterator<Item = RusticResult<(PathBuf, Node)>>,
) -> RusticResult<()> {
    let mut levels = vec![Level {
        path: PathBuf::new(),
        left: names(folder),
    }];
    for item in nodes {
        let (path, node) = item?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            continue;
        };
        while let Some(level) = levels.pop_if(|level| level.path != parent) {
            remove_all(folder, &level);
        }
        let Some(level) = levels.last_mut() else {
            break;
        };
        let at = folder.join(&path);
        let is_there = level.left.remove(name);
        let is_kept = is_there && is_of_its_kind(&at, &node);
        if is_there && !is_kept {
            remove(&at);
        }
        if node.is_dir() {
            let left = if is_kept { names(&at) } else { HashSet::new() };
            levels.push(Level { path, left });
        }
    }
    for level in &levels {
        remove_all(folder, level);
    }
    Ok(())
}

/// Whether what is there can become what the snapshot has: files are written over, folders entered, all else is made anew.
fn is_of_its_kind(at: &Path, node: &Node) -> bool {
    fs::symlink_metadata(at)
        .is_ok_and(|there| (node.is_dir() && there.is_dir()) || (node.is_file() && there.is_file()))
}

fn names(folder: &Path) -> HashSet<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

fn remove_all(folder: &Path, level: &Level) {
    for name in &level.left {
        remove(&folder.join(&level.path).join(name));
    }
}

fn remove(at: &Path) {
    let removed = fs::symlink_metadata(at).and_then(|there| {
        if there.is_dir() {
            fs::remove_dir_all(at)
        } else {
            fs::remove_file(at)
        }
    });
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %at.display(), %error, "not in the snapshot, and cannot be removed");
    }
}
