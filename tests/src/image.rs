//! Container images written without a daemon, a builder or a base image.
//!
//! In come files, out comes one archive that is two at once: a docker archive (`manifest.json`) and an OCI layout
//! (`oci-layout`, `index.json`, `blobs/`), as `docker save` writes them since its version 25. `docker load`, `podman
//! load`, `ctr images import`, `kind load image-archive` and skopeo read it. An OCI layout alone, with a compressed layer, is the
//! other form: from it an image keeps its digest in every registry, and it holds the image of every architecture. Equal
//! input gives equal bytes: entries are sorted, belong to root and carry no time. An image has one layer, since nothing
//! is shared with other images.

pub(crate) mod archive;
pub(crate) mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use self::archive::Entry;
pub use self::suite::{recipe_file, suite, suite_for, suite_name};

/// An image to be written.
#[derive(Debug, Clone)]
pub struct Image {
    names: Vec<String>,
    /// As Go names it.
    architecture: String,
    entries: BTreeMap<String, Entry>,
    /// The part of the configuration that says how a container is run, with its keys as the OCI spells them.
    config: Map<String, Value>,
    /// Files of this machine that are in it.
    sources: BTreeSet<PathBuf>,
}

impl Image {
    /// An empty image with these names (`localhost/NAME:TAG`), for this machine's architecture.
    pub fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            architecture: archive::architecture().to_owned(),
            entries: BTreeMap::new(),
            config: Map::new(),
            sources: BTreeSet::new(),
        }
    }

    /// For another architecture, as Go names it.
    pub fn architecture(mut self, name: &str) -> Self {
        name.clone_into(&mut self.architecture);
        self
    }

    /// With a file; its folders come by themselves. Paths are relative to the root.
    pub fn file(self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.entry(path, Entry::File(mode, bytes.into()))
    }

    /// With a file made of files of this machine, one after the other.
    pub fn copied(mut self, path: &str, mode: u32, sources: &[PathBuf]) -> Result<Self> {
        let mut bytes = Vec::new();
        for source in sources {
            // Text may lack its last line end.
            if bytes.last().is_some_and(|last| *last != b'\n') {
                bytes.push(b'\n');
            }
            bytes.extend(std::fs::read(source).with_context(|| format!("cannot read {}", source.display()))?);
        }
        self.sources.extend(sources.iter().cloned());
        Ok(self.file(path, mode, bytes))
    }

    /// The files of this machine that are in it, for whoever says where they come from.
    pub fn sources(&self) -> &BTreeSet<PathBuf> {
        &self.sources
    }

    /// With a symbolic link.
    pub fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, Entry::Link(target.to_owned()))
    }

    /// With a folder.
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(path, Entry::Directory(mode))
    }

    /// What a container runs, where its pod says nothing else.
    pub fn command(self, words: &[&str]) -> Self {
        self.setting("Cmd", json!(words))
    }

    /// With one more environment variable.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        let known = self.config.entry("Env").or_insert_with(|| json!([]));
        if let Value::Array(known) = known {
            known.push(json!(format!("{name}={value}")));
        }
        self
    }

    /// With any setting of the configuration: `User`, `Entrypoint`, `Labels`.
    pub fn setting(mut self, name: &str, value: Value) -> Self {
        self.config.insert(name.to_owned(), value);
        self
    }

    /// Writes it.
    pub fn write_archive(&self, file: &Path) -> Result<()> {
        archive::write(self, file)
    }

    fn entry(mut self, path: &str, entry: Entry) -> Self {
        for (end, _) in path.match_indices('/') {
            let folder = path.get(..end).unwrap_or_default().to_owned();
            self.entries.entry(folder).or_insert(Entry::Directory(0o755));
        }
        self.entries.insert(path.to_owned(), entry);
        self
    }
}

/// Writes images, one for each architecture, as one OCI layout under the names of the first, and gives what it is known
/// by in registries.
pub fn write_oci_archive(images: &[Image], file: &Path) -> Result<Digests> {
    archive::write_oci(images, file)
}

/// The digests that images keep in registries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// That of all of them together, which a container runtime chooses from.
    pub index: String,
    /// That of each, in the order in which they were given.
    pub images: Vec<String>,
}
