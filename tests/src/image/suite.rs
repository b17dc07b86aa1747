//! The image of the suite: both binaries, the libraries that they are linked to, certificates of public authorities.
//!
//! In come the recipe (`manifests/image/image.yaml`) and the built binaries, out comes an [`Image`]. glibc is linked
//! dynamically, because a static one loads its name services at run time and finds none in an empty image; so the
//! libraries come from the machine that linked the binaries, and fit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::Image;
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
    let recipe = recipe()?;
    let mut image = Image::new(&[&suite_name()?])
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
        libraries.extend(linked(file)?);
        image = image.file(inside(path)?, 0o755, stripped(file)?);
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
