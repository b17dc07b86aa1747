//! The image of the suite: both binaries, the libraries that they are linked to, certificates of public authorities.
//!
//! In come the recipe (`manifests/image/image.yaml`) and the built binaries, out comes an [`Image`]. glibc is linked
//! dynamically, because a static one loads its name services at run time and finds none in an empty image; so the
//! libraries come from the machine that linked the binaries, and fit. For another architecture they come from that
//! architecture's Debian packages, installed beside the machine's own: not from the cross compiler's, whose glibc gets no
//! security updates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::Image;
use super::archive::architecture;
use crate::scratch::Scratch;

/// What `manifests/image/image.yaml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Recipe {
    name: String,
    user: String,
    entrypoint: Vec<String>,
    environment: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    /// Path in the image to name of a binary.
    binaries: BTreeMap<String, String>,
    /// Path in the image to a folder of this machine whose files are put together.
    bundles: BTreeMap<String, PathBuf>,
    /// Path in the image to text.
    texts: BTreeMap<String, String>,
    /// Path in the image to mode in octal digits.
    folders: BTreeMap<String, String>,
}

/// Where the recipe lies.
pub fn recipe_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/image/image.yaml")
}

/// The name of the suite's image, with the version as tag.
pub fn suite_name() -> Result<String> {
    Ok(format!("{}:{}", recipe()?.name, env!("CARGO_PKG_VERSION")))
}

/// The image of the suite with these binaries, by the names that the recipe uses.
pub fn suite(binaries: &BTreeMap<&str, PathBuf>) -> Result<Image> {
    suite_for(architecture(), binaries)
}

/// The image of the suite for an architecture, as Go names it.
pub fn suite_for(wanted: &str, binaries: &BTreeMap<&str, PathBuf>) -> Result<Image> {
    let is_here = wanted == architecture();
    let recipe = recipe()?;
    let mut image = Image::new(&[&suite_name()?])
        .architecture(wanted)
        .setting("User", json!(recipe.user))
        .setting("Entrypoint", json!(recipe.entrypoint))
        .setting("WorkingDir", json!("/"))
        .setting("Labels", json!(recipe.labels));
    for (name, value) in &recipe.environment {
        image = image.environment(name, value);
    }
    for (path, mode) in &recipe.folders {
        let mode = u32::from_str_radix(mode, 8).with_context(|| format!("mode {mode:?} of {path}"))?;
        image = image.directory(inside(path)?, mode);
    }
    for (path, text) in &recipe.texts {
        image = image.file(inside(path)?, 0o644, text.as_bytes());
    }
    for (path, folder) in &recipe.bundles {
        image = image.copied(inside(path)?, 0o644, &certificates(folder)?)?;
    }
    let mut libraries = BTreeSet::new();
    for (path, name) in &recipe.binaries {
        let file = binaries
            .get(name.as_str())
            .with_context(|| format!("the recipe wants {name}, which was not built"))?;
        let bytes = if is_here {
            libraries.extend(linked(file)?);
            stripped(file)?
        } else {
            libraries.extend(linked_elsewhere(file, wanted)?);
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?
        };
        image = image.file(inside(path)?, 0o755, bytes);
    }
    for library in libraries {
        let path = library.to_str().context("a library's path is not UTF-8")?;
        image = image.copied(inside(path)?, 0o755, std::slice::from_ref(&library))?;
    }
    Ok(image)
}

fn recipe() -> Result<Recipe> {
    let file = recipe_file();
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no recipe", file.display()))
}

/// The certificates in a folder, in the order of their names.
fn certificates(folder: &Path) -> Result<Vec<PathBuf>> {
    let missing = || {
        format!(
            "no certificates in {}: apt-get install ca-certificates",
            folder.display()
        )
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(missing)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        bail!("{}", missing());
    }
    Ok(found)
}

fn inside(path: &str) -> Result<&str> {
    path.strip_prefix('/')
        .with_context(|| format!("{path} is not absolute"))
}

/// The libraries that the dynamic linker would load, itself included.
fn linked(binary: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd")
        .arg(binary)
        .env("LC_ALL", "C")
        .output()
        .context("ldd does not start: apt-get install libc-bin")?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || printed.contains("not found") {
        bail!(
            "ldd {}: {printed}{}",
            binary.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    // `NAME => /PATH (0x...)`, or `/PATH (0x...)` for the linker itself; the kernel's own library has no path.
    Ok(printed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}

/// What [`linked`] finds, for an architecture whose programs do not run here.
fn linked_elsewhere(binary: &Path, architecture: &str) -> Result<BTreeSet<PathBuf>> {
    let folder =
        library_folder(architecture).with_context(|| format!("there is no image for {architecture}"))?;
    let mut found = BTreeSet::new();
    let mut linker = None;
    let mut unread = vec![binary.to_owned()];
    while let Some(file) = unread.pop() {
        let needs = needs(&file)?;
        linker = linker.or(needs.linker);
        let libraries = needs.libraries.iter().map(|name| folder.join(name));
        for path in libraries.chain(linker.clone()) {
            // glibc names the dynamic linker as a library too; it is there already then, by its other path.
            let is_linker = linker
                .as_ref()
                .is_some_and(|linker| linker.file_name() == path.file_name());
            if (is_linker && linker.as_ref() != Some(&path)) || found.contains(&path) {
                continue;
            }
            if !path.is_file() {
                bail!(
                    "{} is not there, and {} needs it; {}",
                    path.display(),
                    file.display(),
                    libraries_from(architecture)
                );
            }
            found.insert(path.clone());
            unread.push(path);
        }
    }
    Ok(found)
}

/// Where Debian has the libraries of an architecture, as Go names it.
pub(crate) fn library_folder(architecture: &str) -> Option<&'static Path> {
    match architecture {
        "amd64" => Some(Path::new("/lib/x86_64-linux-gnu")),
        "arm64" => Some(Path::new("/lib/aarch64-linux-gnu")),
        _ => None,
    }
}

/// How another architecture's libraries come onto this machine.
pub(crate) fn libraries_from(architecture: &str) -> String {
    format!(
        "as root: dpkg --add-architecture {architecture} && apt-get update && \
         apt-get install libc6:{architecture} libgcc-s1:{architecture}"
    )
}

/// What a file wants to be loaded with.
#[derive(Debug, Default, PartialEq, Eq)]
struct Needs {
    /// The path of the dynamic linker.
    linker: Option<PathBuf>,
    /// The names of libraries.
    libraries: Vec<String>,
}

fn needs(file: &Path) -> Result<Needs> {
    let output = Command::new("readelf")
        .args(["--wide", "--program-headers", "--dynamic"])
        .arg(file)
        .env("LC_ALL", "C")
        .output()
        .context("readelf does not start: apt-get install binutils")?;
    if !output.status.success() {
        bail!(
            "readelf {}: {}",
            file.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(read_needs(&String::from_utf8_lossy(&output.stdout)))
}

fn read_needs(printed: &str) -> Needs {
    let mut needs = Needs::default();
    for line in printed.lines() {
        let named = |before: &str| Some(line.split_once(before)?.1.split_once(']')?.0.to_owned());
        if let Some(path) = named("[Requesting program interpreter: ") {
            needs.linker = Some(path.into());
        } else if line.contains("(NEEDED)") {
            needs.libraries.extend(named("Shared library: ["));
        }
    }
    needs
}

/// The bytes of a binary without its symbols.
pub(crate) fn stripped(binary: &Path) -> Result<Vec<u8>> {
    let folder = Scratch::new("strip-")?;
    let file = folder.join("stripped");
    let output = Command::new("strip")
        .arg("--strip-all")
        .arg("-o")
        .arg(&file)
        .arg(binary)
        .output()
        .context("strip does not start: apt-get install binutils")?;
    if !output.status.success() {
        bail!(
            "strip {}: {}",
            binary.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(std::fs::read(&file)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_find_the_same_libraries() {
        let program = Path::new("/bin/sh");
        assert_eq!(
            linked_elsewhere(program, architecture()).unwrap(),
            linked(program).unwrap()
        );
    }

    #[test]
    fn what_readelf_prints_is_read() {
        let printed = "      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]\n \
                       0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]\n \
                       0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n \
                       0x000000000000000e (SONAME)             Library soname: [none.so]\n";
        assert_eq!(
            read_needs(printed),
            Needs {
                linker: Some("/lib/ld-linux-aarch64.so.1".into()),
                libraries: vec!["libgcc_s.so.1".to_owned(), "libc.so.6".to_owned()],
            }
        );
        assert_eq!(
            read_needs("There is no dynamic section in this file.\n"),
            Needs::default()
        );
    }
}
