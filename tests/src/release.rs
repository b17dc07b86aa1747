//! What a release consists of, in one folder.
//!
//! In come built binaries and the repository, out come: an archive per platform, for each Linux the image of the suite as a
//! docker archive and an SBOM, the images of all of them as one OCI archive, a manifest for krew and, last, `SHA256SUMS` over
//! all of it. Later code may rely on three things: equal input gives equal bytes, a folder with `SHA256SUMS` is whole, and
//! the manifest lists no archive that is not there. What is written here was built before, by [`building`] or by who gives it.

mod bill;
pub mod building;
mod crates;
mod debian;
mod executable;
mod krew;
mod platform;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;

pub use self::krew::{NAME as KREW_NAME, NOWHERE};
pub use self::platform::Platform;
use crate::image::archive::{Entry, gzip, hexadecimal, tar};
use crate::image::{self, Image, suite::stripped};

/// The sums of all other files.
const SUMS: &str = "SHA256SUMS";

/// The names of both binaries, without what a platform appends.
pub const BINARIES: [&str; 2] = ["kubectl-backup", "backup-webhook"];

/// Both binaries of a platform, by name.
pub type Binaries = BTreeMap<&'static str, PathBuf>;

/// What goes into a release.
#[derive(Debug)]
pub struct Release {
    /// What was built, at least for one Linux, of which the image is.
    pub binaries: BTreeMap<Platform, Binaries>,
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
    /// The platforms that the image is for.
    pub image_platforms: Vec<Platform>,
    /// The digest under which registries know the image of the OCI archive.
    pub image_digest: String,
}

/// The version of all packages.
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The image of a platform and what its SBOM says.
struct Imaged {
    platform: Platform,
    image: Image,
    crates: crates::Crates,
    debian: Vec<debian::Package>,
}

impl Imaged {
    fn new(platform: &Platform, binaries: &Binaries) -> Result<Self> {
        let image = image::suite_for(&platform.arch, binaries)?;
        Ok(Self {
            platform: platform.clone(),
            crates: crates::linked(platform)?,
            debian: debian::packages(image.sources())?,
            image,
        })
    }
}

impl Release {
    /// Writes it into a folder, which is new, empty, or holds a former release.
    pub fn write(&self, folder: &Path) -> Result<Written> {
        for (platform, binaries) in &self.binaries {
            executable::check(binaries.values(), platform)?;
        }
        let archives = self.archives()?;
        // Whatever can fail because of the machine does so before a file is written.
        let imaged = self
            .binaries
            .iter()
            .filter(|(platform, _)| platform.os == "linux")
            .map(|(platform, binaries)| Imaged::new(platform, binaries))
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            !imaged.is_empty(),
            "a release has an image, and nothing was built for linux"
        );

        prepare(folder)?;
        let mut names = BTreeSet::new();
        let mut sums = BTreeMap::new();
        for (platform, bytes) in &archives {
            let name = platform.archive();
            std::fs::write(folder.join(&name), bytes).with_context(|| format!("cannot write {name}"))?;
            sums.insert(platform.clone(), hexadecimal(bytes));
            names.insert(name);
        }
        let stem = format!("kubectl-backup-image_v{}", version());
        let oci = format!("{stem}.oci.tar");
        let images: Vec<Image> = imaged.iter().map(|one| one.image.clone()).collect();
        let digests = image::write_oci_archive(&images, &folder.join(&oci))?;
        names.insert(oci);
        let mut image_platforms = Vec::new();
        for (one, image_digest) in imaged.into_iter().zip(digests.images) {
            let platform = one.platform;
            let docker = format!("{stem}_{platform}.docker.tar");
            one.image.write_archive(&folder.join(&docker))?;
            let bill = bill::Bill {
                image_name: image::suite_name()?,
                image_digest,
                architecture: platform.arch.clone(),
                archive: platform.archive(),
                archive_sum: sums.get(&platform).cloned().unwrap_or_default(),
                crates: one.crates,
                debian: one.debian,
                created: self.created,
            };
            let sbom = format!("kubectl-backup_v{}_{platform}.spdx.json", version());
            let text = serde_json::to_string_pretty(&bill.document())? + "\n";
            std::fs::write(folder.join(&sbom), text)?;
            names.extend([docker, sbom]);
            image_platforms.push(platform);
        }
        let manifest = format!("{}.yaml", krew::NAME);
        let text = krew::manifest(&sums, self.download_url.as_deref())?;
        std::fs::write(folder.join(&manifest), text)?;
        names.insert(manifest);
        Ok(Written {
            files: write_sums(folder, names)?,
            platforms: archives.into_keys().collect(),
            image_platforms,
            image_digest: digests.index,
        })
    }

    /// The archives of all platforms: of what was built, and of other machines.
    fn archives(&self) -> Result<BTreeMap<Platform, Vec<u8>>> {
        let mut archives = BTreeMap::new();
        for (platform, binaries) in &self.binaries {
            archives.insert(platform.clone(), archive(platform, binaries)?);
        }
        for file in &self.archives {
            let (platform, bytes) = foreign(file)?;
            ensure!(
                archives.insert(platform.clone(), bytes).is_none(),
                "there are two archives for {platform}"
            );
        }
        Ok(archives)
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
fn archive(platform: &Platform, binaries: &Binaries) -> Result<Vec<u8>> {
    let mut entries = BTreeMap::new();
    for name in BINARIES {
        let file = binaries
            .get(name)
            .with_context(|| format!("{name} for {platform} was not built"))?;
        // A release build has no symbols any more, and this machine's strip knows no other platform's files.
        let bytes = if *platform == Platform::here() {
            stripped(file)?
        } else {
            executable::read(file, platform)?
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
