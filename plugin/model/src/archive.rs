//! Reading any `tar.gz` of Velero's, ours included, from its first byte to its last.
//!
//! In comes a byte stream that may be hostile; out come objects with paths that are safe to use. Paths with `..`, links,
//! doubled names, entries and archives beyond the limits are refused with an error that names them. Nothing is ever
//! unpacked to a folder. All gzip members are read, never only the first.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, BufRead, Read},
};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

/// Limits for one archive. Velero's own reader stops at 16 GiB.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most inflated bytes in all.
    pub total: u64,
    /// Most bytes of one object.
    pub object: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            total: 64 << 30,
            object: 64 << 20,
        }
    }
}

/// What an archive path names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemPath {
    /// `deployments.apps`, `pods`.
    pub resource_group: String,
    /// `v1` or `v1-preferredversion`: Velero's second copies. `None` for the copy that everybody reads.
    pub version_folder: Option<String>,
    /// Namespace, `None` for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Object name.
    pub name: String,
}

/// Why an archive is refused.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// Gzip or tar cannot be read.
    #[error("the archive is damaged or cut after {objects} objects")]
    Damaged {
        /// Objects that were read before.
        objects: u64,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// A path that no honest writer makes.
    #[error("the archive holds the path `{0}`, which is not one of a backup; nothing of it is used")]
    Path(String),
    /// A link or device where an object should be.
    #[error("`{0}` in the archive is a link or device and not a file; nothing of it is used")]
    Kind(String),
    /// The same path twice.
    #[error("`{0}` is in the archive twice; nothing of it is used")]
    Doubled(String),
    /// One object is too large.
    #[error("`{path}` in the archive has {size} bytes, more than the {limit} that an object may have")]
    ObjectTooLarge {
        /// Path of the object.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Everything together is too large.
    #[error("the archive inflates to more than {0} bytes; it is refused as a bomb")]
    TooLarge(u64),
}

impl ItemPath {
    /// Path of an object in the archive, without a version folder.
    pub fn format(resource_group: &str, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(namespace) => format!("resources/{resource_group}/namespaces/{namespace}/{name}.json"),
            None => format!("resources/{resource_group}/cluster/{name}.json"),
        }
    }

    /// Takes a path below `resources/` apart. `Ok(None)` for paths outside `resources/`, which readers ignore.
    ///
    /// # Errors
    /// [`ArchiveError::Path`] for everything that no writer of backups makes.
    pub fn parse(path: &str) -> Result<Option<Self>, ArchiveError> {
        let refuse = || ArchiveError::Path(path.chars().take(300).collect());
        if path.bytes().any(|b| b == 0 || b == b'\\' || b.is_ascii_control()) {
            return Err(refuse());
        }
        let parts: Vec<&str> = path.split('/').collect();
        if parts
            .iter()
            .any(|part| part.is_empty() || *part == "." || *part == "..")
        {
            return Err(refuse());
        }
        let ["resources", resource_group, rest @ ..] = parts.as_slice() else {
            return Ok(None);
        };
        let (version_folder, rest) = match rest {
            ["cluster", _] | ["namespaces", _, _] => (None, rest),
            [version, scoped @ ..] => (Some((*version).to_owned()), scoped),
            [] => return Err(refuse()),
        };
        let (namespace, file) = match rest {
            ["cluster", file] => (None, file),
            ["namespaces", namespace, file] => (Some((*namespace).to_owned()), file),
            _ => return Err(refuse()),
        };
        let name = file
            .strip_suffix(".json")
            .filter(|name| !name.is_empty())
            .ok_or_else(refuse)?;
        if name == ".." || name == "." {
            return Err(refuse());
        }
        Ok(Some(Self {
            resource_group: (*resource_group).to_owned(),
            version_folder,
            namespace,
            name: name.to_owned(),
        }))
    }
}

/// Goes through an archive and hands every object to `visit`, in archive order. Second copies in version folders are
/// passed over unless `visit` is wanted for them (`with_versions`). `visit` ends the walk early by returning `false`.
///
/// # Errors
/// [`ArchiveError`] for damage and hostile content, or whatever `visit` returns.
pub fn walk<R, E>(
    compressed: R,
    limits: Limits,
    with_versions: bool,
    mut visit: impl FnMut(ItemPath, &[u8]) -> Result<bool, E>,
) -> Result<u64, E>
where
    R: BufRead,
    E: From<ArchiveError>,
{
    let counted = Capped {
        inner: MultiGzDecoder::new(compressed),
        left: limits.total,
    };
    let mut archive = tar::Archive::new(counted);
    let mut seen = HashSet::new();
    let mut objects = 0;
    let mut data = Vec::new();
    let damaged = |objects: u64| {
        move |source: io::Error| {
            if source.kind() == io::ErrorKind::FileTooLarge {
                ArchiveError::TooLarge(limits.total)
            } else {
                ArchiveError::Damaged { objects, source }
            }
        }
    };
    for entry in archive.entries().map_err(damaged(0))? {
        let mut entry = entry.map_err(damaged(objects))?;
        let Some(path) = regular_path(&entry)? else {
            continue;
        };
        let Some(item) = ItemPath::parse(&path)? else {
            continue;
        };
        if !seen.insert(fingerprint(&path)) {
            return Err(ArchiveError::Doubled(path).into());
        }
        let size = entry.size();
        if size > limits.object {
            return Err(ArchiveError::ObjectTooLarge {
                path,
                size,
                limit: limits.object,
            }
            .into());
        }
        if item.version_folder.is_some() && !with_versions {
            continue;
        }
        data.clear();
        entry.read_to_end(&mut data).map_err(damaged(objects))?;
        if data.len() as u64 != size {
            let source = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "an entry is shorter than its header says",
            );
            return Err(ArchiveError::Damaged { objects, source }.into());
        }
        objects += 1;
        if !visit(item, &data)? {
            return Ok(objects);
        }
    }
    // The tar ends at two zero blocks; what is left of the gzip stream must still be sound.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(damaged(objects))?;
    Ok(objects)
}

/// Path of a regular file; `None` for folders; an error for links and devices below `resources/`.
fn regular_path<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Option<String>, ArchiveError> {
    let bytes = entry.path_bytes();
    let path = String::from_utf8(bytes.to_vec())
        .map_err(|_| ArchiveError::Path(String::from_utf8_lossy(&bytes).chars().take(300).collect()))?;
    match entry.header().entry_type() {
        tar::EntryType::Regular | tar::EntryType::Continuous => Ok(Some(path)),
        tar::EntryType::Directory => {
            if path.starts_with('/') || path.split('/').any(|part| part == "..") {
                return Err(ArchiveError::Path(path));
            }
            Ok(None)
        }
        _ => Err(ArchiveError::Kind(path)),
    }
}

/// 128 bits of a path; a set of them is a tenth of the paths themselves.
fn fingerprint(path: &str) -> (u64, u64) {
    let mut first = DefaultHasher::new();
    path.hash(&mut first);
    let mut second = DefaultHasher::new();
    (path, "second").hash(&mut second);
    (first.finish(), second.finish())
}

/// A reader that fails, with a kind of its own, when more than the budget comes out.
struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::member::{MemberBuilder, deflate, trailer};

    fn read(archive: &[u8], limits: Limits) -> Result<Vec<(ItemPath, Vec<u8>)>, ArchiveError> {
        let mut found = Vec::new();
        walk(archive, limits, false, |path, data| {
            found.push((path, data.to_vec()));
            Ok::<_, ArchiveError>(true)
        })?;
        Ok(found)
    }

    fn archive(paths: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for path in paths {
            let mut builder = MemberBuilder::new(0);
            builder.append(path, b"{}").unwrap();
            bytes.extend(deflate(&builder.take(), 1).unwrap());
        }
        bytes.extend(trailer().unwrap());
        bytes
    }

    #[test]
    fn every_member_is_read() {
        let bytes = archive(&[
            "metadata/version",
            "resources/pods/namespaces/a/b.json",
            "resources/pods/v1-preferredversion/namespaces/a/b.json",
            "resources/nodes/cluster/n.json",
        ]);
        let found = read(&bytes, Limits::default()).unwrap();
        let names: Vec<_> = found.iter().map(|(path, _)| path.name.as_str()).collect();
        assert_eq!(names, ["b", "n"]);
    }

    #[test]
    fn hostile_paths_are_refused() {
        for path in [
            "resources/../etc/passwd.json",
            "/resources/pods/cluster/a.json",
            "resources/pods/namespaces/../a.json",
            "resources/pods/cluster/..json/x",
            "resources/pods/cluster/a.txt",
            "resources/pods/cluster/.json",
            "resources/pods",
            "resources/pods/v1/v2/cluster/a.json",
            "resources\\pods\\cluster\\a.json",
            "resources//cluster/a.json",
        ] {
            assert!(ItemPath::parse(path).is_err(), "{path}");
        }
    }

    #[test]
    fn doubled_names_are_refused() {
        let bytes = archive(&["resources/pods/cluster/a.json", "resources/pods/cluster/a.json"]);
        assert!(matches!(
            read(&bytes, Limits::default()),
            Err(ArchiveError::Doubled(_))
        ));
    }

    #[test]
    fn links_are_refused() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder
            .append_link(&mut header, "resources/pods/cluster/a.json", "/etc/passwd")
            .unwrap();
        let bytes = deflate(&builder.into_inner().unwrap(), 1).unwrap();
        assert!(matches!(
            read(&bytes, Limits::default()),
            Err(ArchiveError::Kind(_))
        ));
    }

    #[test]
    fn bombs_are_refused() {
        let bytes = deflate(&vec![0; 3 << 20], 9).unwrap();
        let limits = Limits {
            total: 1 << 20,
            object: 1 << 20,
        };
        let bomb = [archive(&["resources/pods/cluster/a.json"]), bytes].concat();
        assert!(matches!(read(&bomb, limits), Err(ArchiveError::TooLarge(_))));
    }

    #[test]
    fn cut_archives_are_refused() {
        let bytes = archive(&["resources/pods/cluster/a.json", "resources/pods/cluster/b.json"]);
        let last_member = trailer().unwrap().len();
        for cut in 1..bytes.len() {
            let is_member_boundary = cut == bytes.len() - last_member;
            assert!(
                read(&bytes[..cut], Limits::default()).is_err()
                    || is_member_boundary
                    || cut * 2 <= bytes.len()
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes, Limits::default());
        }

        #[test]
        fn parsed_paths_print_the_same(rg in "[a-z.]{1,9}x", ns in proptest::option::of("[a-z-]{1,9}"), name in "[a-z:.]{1,9}x") {
            let path = ItemPath::format(&rg, ns.as_deref(), &name);
            let parsed = ItemPath::parse(&path).unwrap().unwrap();
            prop_assert_eq!(ItemPath::format(&parsed.resource_group, parsed.namespace.as_deref(), &parsed.name), path);
        }
    }
}
