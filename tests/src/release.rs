//! What a release consists of, in one folder.
//!
//! In come built binaries and the repository, out come: an archive per platform, the image of the suite as a docker
//! archive and as an OCI archive, an SBOM, a manifest for krew and, last, `SHA256SUMS` over all of it. Later code may rely
//! on three things: equal input gives equal bytes, a folder with `SHA256SUMS` is whole, and the manifest lists no archive
//! that is not there. Nothing is built here: who has binaries gives them.

mod bill;
mod crates;
mod debian;
mod krew;
mod platform;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;

pub use self::krew::{NAME as KREW_NAME, NOWHERE};
pub use self::platform::Platform;
use crate::image::archive::{Entry, gzip, hexadecimal, tar};
use crate::image::{self, suite::stripped};

/// The sums of all other files.
const SUMS: &str = "SHA256SUMS";

/// The names of both binaries, without what a platform appends.
pub const BINARIES: [&str; 2] = ["kubectl-backup", "backup-webhook"];

/// What goes into a release.
#[derive(Debug)]
pub struct Release {
    /// Both binaries by name, for this machine's platform.
    pub binaries: BTreeMap<&'static str, PathBuf>,
    /// Both binaries by name, for others.
    pub others: Vec<(Platform, BTreeMap<&'static str, PathBuf>)>,
    /// Archives of this version that another machine wrote.
    pub archives: Vec<PathBuf>,
    /// Where all of it will be found, if that is known.
    pub download_url: Option<String>,
    /// The time in the SBOM.
    pub created: Timestamp,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The files, as `SHA256SUMS` names them.
    pub files: BTreeMap<String, String>,
    /// The platforms that have an archive.
    pub platforms: Vec<Platform>,
    /// The digest under which registries know the image of the OCI archive.
    pub image_digest: String,
}

/// The version of all packages.
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

impl Release {
    /// Writes it into a folder, which is new, empty, or holds a former release.
    pub fn write(&self, folder: &Path) -> Result<Written> {
        let here = Platform::here();
        let mut archives = BTreeMap::new();
        for file in &self.archives {
            let (platform, bytes) = foreign(file)?;
            ensure!(
                platform != here && archives.insert(platform.clone(), bytes).is_none(),
                "there are two archives for {platform}"
            );
        }
        for (platform, binaries) in [(&here, &self.binaries)].into_iter().chain(
            self.others
                .iter()
                .map(|(platform, binaries)| (platform, binaries)),
        ) {
            let bytes = archive(platform, binaries, *platform == here)?;
            ensure!(
                archives.insert(platform.clone(), bytes).is_none(),
                "there are two archives for {platform}"
            );
        }
        let image = image::suite(
            &self
                .binaries
                .iter()
                .map(|(name, file)| (*name, file.clone()))
                .collect(),
        )?;
        // Whatever can fail because of the machine does so before a file is written.
        let crates = crates::linked(&here)?;
        let debian = debian::packages(image.sources())?;

        prepare(folder)?;
        let mut names = BTreeSet::new();
        let mut sums = BTreeMap::new();
        for (platform, bytes) in &archives {
            let name = platform.archive();
            std::fs::write(folder.join(&name), bytes).with_context(|| format!("cannot write {name}"))?;
            sums.insert(platform.clone(), hexadecimal(bytes));
            names.insert(name);
        }
        let stem = format!("kubectl-backup-image_v{}_{here}", version());
        let (docker, oci) = (format!("{stem}.docker.tar"), format!("{stem}.oci.tar"));
        image.write_archive(&folder.join(&docker))?;
        let image_digest = image.write_oci_archive(&folder.join(&oci))?;
        let bill = bill::Bill {
            image_name: image::suite_name()?,
            image_digest: image_digest.clone(),
            archive: here.archive(),
            archive_sum: sums.get(&here).cloned().unwrap_or_default(),
            crates,
            debian,
            created: self.created,
        };
        let sbom = format!("kubectl-backup_v{}_{here}.spdx.json", version());
        let text = serde_json::to_string_pretty(&bill.document())? + "\n";
        std::fs::write(folder.join(&sbom), text)?;
        let manifest = format!("{}.yaml", krew::NAME);
        let text = krew::manifest(&sums, self.download_url.as_deref())?;
        std::fs::write(folder.join(&manifest), text)?;
        names.extend([docker, oci, sbom, manifest]);
        Ok(Written {
            files: write_sums(folder, names)?,
            platforms: archives.into_keys().collect(),
            image_digest,
        })
    }
}

/// An archive of another machine, whose name says what it is for.
fn foreign(file: &Path) -> Result<(Platform, Vec<u8>)> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let platform = Platform::of_archive(name).with_context(|| {
        format!(
            "{} is no archive of version {}: they are called {}",
            file.display(),
            version(),
            Platform::here().archive()
        )
    })?;
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((platform, bytes))
}

/// The archive of a platform: both binaries, the licence, the README. No folder around them, as krew likes it.
fn archive(platform: &Platform, binaries: &BTreeMap<&str, PathBuf>, strip: bool) -> Result<Vec<u8>> {
    let mut entries = BTreeMap::new();
    for name in BINARIES {
        let file = binaries
            .get(name)
            .with_context(|| format!("{name} for {platform} was not built"))?;
        // A release build has no symbols any more, and this machine's strip knows no other platform's files.
        let bytes = if strip {
            stripped(file)?
        } else {
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
        };
        entries.insert(platform.executable(name), Entry::File(0o755, bytes));
    }
    for name in ["LICENSE", "README.md"] {
        let file = root().join(name);
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        entries.insert(name.to_owned(), Entry::File(0o644, bytes));
    }
    gzip(&tar(&entries)?)
}

/// Makes the folder, or empties it of a former release; other files are not ours to remove, and would look released.
fn prepare(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let sums = folder.join(SUMS);
    if sums.is_file() {
        let text = std::fs::read_to_string(&sums)?;
        // First, so that what is half removed does not look whole.
        std::fs::remove_file(&sums)?;
        for name in text.lines().filter_map(|line| line.split_once("  ")) {
            let file = folder.join(Path::new(name.1).file_name().unwrap_or_default());
            if file.is_file() {
                std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
            }
        }
    }
    if let Some(entry) = std::fs::read_dir(folder)?.next() {
        bail!(
            "{} holds {}, which is of no complete release: remove it, or name another folder",
            folder.display(),
            entry?.file_name().display()
        );
    }
    Ok(())
}

/// Writes the sums as `sha256sum` does, and gives them by name.
fn write_sums(folder: &Path, names: BTreeSet<String>) -> Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    let mut text = String::new();
    for name in names {
        let sum = hexadecimal(&std::fs::read(folder.join(&name))?);
        text = text + &sum + "  " + &name + "\n";
        sums.insert(name, sum);
    }
    std::fs::write(folder.join(SUMS), text)?;
    Ok(sums)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
