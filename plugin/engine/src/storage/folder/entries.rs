//! Paths and keys: which keys a folder can hold, what lies in it, what is ours and unfinished.
//!
//! In come paths below the root, out come keys with their facts. Links to folders are not followed while listing,
//! so that a loop cannot trap a reader.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

use super::super::bucket::{Etag, ObjectInfo, OpenUpload};

/// End of a hidden name: a file that is being written.
pub(super) const PARTIAL: &str = ".partial";

/// Random characters in a hidden name.
pub(super) const RANDOM: usize = 10;

/// How much of the target's name a hidden name repeats; the whole may have at most 255 bytes.
const NAME_IN_PARTIAL: usize = 200;

/// Why a folder cannot hold this key, if it cannot.
pub(super) fn unusable(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("it is empty");
    }
    if key.contains('\0') {
        return Some("it holds a zero byte");
    }
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some("a part of it is empty, `.` or `..`");
    }
    is_partial_key(key).then_some("it looks like an unfinished upload")
}

/// Whether the last part of a key is a hidden name of ours, below the root.
pub(super) fn is_partial_key(key: &str) -> bool {
    let name = key.rsplit('/').next().unwrap_or(key);
    let below = !key.split('/').any(|part| matches!(part, "" | "." | ".."));
    below && name.starts_with('.') && name.ends_with(PARTIAL)
}

/// The beginning of the hidden name beside a target.
pub(super) fn partial_prefix(target: &Path) -> String {
    let name = target
        .file_name()
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let end = (0..=name.len().min(NAME_IN_PARTIAL))
        .rev()
        .find(|&end| name.is_char_boundary(end));
    format!(".{}.", &name[..end.unwrap_or(0)])
}

/// The unfinished upload that a hidden file is.
pub(super) fn open_upload(file: &Found) -> Option<OpenUpload> {
    let (folder, name) = file
        .key
        .rsplit_once('/')
        .map_or(("", file.key.as_str()), |(folder, name)| (folder, name));
    let name = name.strip_prefix('.')?.strip_suffix(PARTIAL)?;
    let (name, _random) = name.rsplit_once('.')?;
    let key = if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    };
    Some(OpenUpload {
        key,
        id: file.key.clone(),
        started: modified(&file.metadata),
    })
}

/// Equal for equal content as long as nobody writes into a published file, which we never do.
pub(super) fn etag(metadata: &fs::Metadata) -> Etag {
    let (inode, size) = (metadata.ino(), metadata.len());
    Etag::new(format!(
        "\"{inode:x}-{size:x}-{:x}.{:x}\"",
        metadata.mtime(),
        metadata.mtime_nsec()
    ))
}

/// The facts about one file.
pub(super) fn info(key: String, metadata: &fs::Metadata) -> ObjectInfo {
    ObjectInfo {
        key,
        size: metadata.len(),
        modified: modified(metadata),
        etag: etag(metadata),
    }
}

fn modified(metadata: &fs::Metadata) -> Option<Timestamp> {
    Timestamp::new(metadata.mtime(), i32::try_from(metadata.mtime_nsec()).ok()?).ok()
}

/// A file met on a walk.
pub(super) struct Found {
    pub(super) key: String,
    pub(super) metadata: fs::Metadata,
    pub(super) is_partial: bool,
}

/// Calls `each` for every file whose key starts with `prefix`, until it says `false`. What vanishes meanwhile is
/// passed over.
pub(super) fn walk(root: &Path, prefix: &str, each: &mut dyn FnMut(Found) -> bool) -> io::Result<bool> {
    // Only the folder that the prefix ends in has to be opened; below it names are compared.
    let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
    if !folder.is_empty() && unusable(folder).is_some() {
        return Ok(true);
    }
    walk_folder(root, folder, prefix, each)
}

fn walk_folder(
    root: &Path,
    folder: &str,
    prefix: &str,
    each: &mut dyn FnMut(Found) -> bool,
) -> io::Result<bool> {
    let entries = match fs::read_dir(root.join(folder)) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // A name that is not UTF-8 cannot be one of our keys.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let key = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        if !may_lead_to(&key, prefix) {
            continue;
        }
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        if kind.is_dir() {
            if !walk_folder(root, &key, prefix, each)? {
                return Ok(false);
            }
            continue;
        }
        let metadata = match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => continue,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        let is_partial = is_partial_key(&key);
        if key.starts_with(prefix)
            && !each(Found {
                key,
                metadata,
                is_partial,
            })
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a path is under the prefix, or a folder on the way to it.
fn may_lead_to(path: &str, prefix: &str) -> bool {
    path.starts_with(prefix)
        || prefix
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'))
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The folders directly below `prefix` that hold at least one key.
pub(super) fn folders(root: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let base = prefix.trim_end_matches('/');
    if !base.is_empty() && unusable(base).is_some() {
        return Ok(Vec::new());
    }
    let entries = match fs::read_dir(root.join(base)) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && holds_a_key(root, &format!("{prefix}{name}/"))?
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn holds_a_key(root: &Path, prefix: &str) -> io::Result<bool> {
    let mut found = false;
    walk(root, prefix, &mut |file| {
        found |= !file.is_partial;
        !found
    })?;
    Ok(found)
}

/// Removes the folders above `path` that have become empty, up to but not including the root.
pub(super) fn remove_empty_parents(root: &Path, path: &Path) {
    let mut folder = path.parent();
    while let Some(current) = folder.filter(|current| *current != root && current.starts_with(root)) {
        // Not empty, or gone already: both end the work.
        if fs::remove_dir(current).is_err() {
            return;
        }
        folder = current.parent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_leave_the_folder_are_refused() {
        for key in [
            "",
            "/etc/passwd",
            "a//b",
            "a/",
            "../x",
            "a/../../x",
            "./a",
            "a\0b",
            "backups/.b.x123.partial",
        ] {
            assert!(unusable(key).is_some(), "{key:?}");
        }
        for key in [
            "a",
            "backups/b/b.tar.gz",
            "a b/ü+%20&'\"\\",
            ".hidden",
            "...",
            "x.partial",
        ] {
            assert_eq!(unusable(key), None, "{key:?}");
        }
    }

    #[test]
    fn an_id_outside_the_folder_names_no_upload() {
        assert!(is_partial_key("a/.b.0123456789.partial"));
        assert!(!is_partial_key("../.b.0123456789.partial"));
        assert!(!is_partial_key("a/b.tar.gz"));
    }

    #[test]
    fn hidden_names_stay_within_255_bytes() {
        let name = "ü".repeat(127);
        let hidden = partial_prefix(Path::new(&name)).len() + RANDOM + PARTIAL.len();
        assert!(hidden <= 255, "{hidden}");
    }
}
