//! Whether what was written is what the snapshot has.
//!
//! In come entries of a snapshot and the folder; out comes nothing, or the first differences in words. Bytes are read and
//! hashed, by as many threads as there are processors.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf, thread};

use rustic_core::{
    IndexedFullStatus, LocalDestination, RestoreOptions,
    repofile::{Node, NodeType},
};

use super::Target;
use crate::repository::error::words;

/// Differences that are named.
const NAMED: usize = 5;

/// Why bytes are not known to be the same.
pub(super) enum Different {
    /// They could not be compared.
    Rustic(Box<rustic_core::RusticError>),
    /// They differ.
    Found(String),
}

/// Reads files again; gives how many there are.
pub(super) fn bytes(
    rustic: &rustic_core::Repository<IndexedFullStatus>,
    options: RestoreOptions,
    entries: &[(PathBuf, Node)],
    destination: &LocalDestination,
    target: Target<'_>,
) -> Result<u64, Different> {
    let options = options.verify_existing(true).delete(false);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let part = entries.len().div_ceil(threads).max(1);
    let plans: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = entries
            .chunks(part)
            .map(|part| {
                let nodes = part.iter().cloned().map(Ok);
                scope.spawn(move || rustic.prepare_restore(&options, nodes, destination, true))
            })
            .collect();
        readers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let (mut same, mut others) = (0, 0);
    for plan in plans {
        let plan = plan
            .map_err(|_| Different::Found("the comparison panicked".to_owned()))?
            .map_err(Different::Rustic)?;
        let files = plan.stats.files;
        same += files.verified + files.unchanged;
        others += files.restore + files.modify;
    }
    if others > 0 {
        return Err(Different::Found(format!(
            "{others} of {} files in {} are not as in the snapshot after they were written",
            others + same,
            target.folder.display()
        )));
    }
    Ok(same)
}

/// Compares what each entry is, not its bytes.
pub(super) fn entries(
    nodes: impl Iterator<Item = rustic_core::RusticResult<(PathBuf, Node)>>,
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

fn same_entry(path: &std::path::Path, node: &Node, target: Target<'_>) -> Result<(), String> {
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
