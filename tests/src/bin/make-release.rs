//! Builds both binaries for all platforms and writes the files of a release.
//!
//! `make-release [--download-url URL] [--target TRIPLE]... [--with ARCHIVE]... [FOLDER]`. Without `--target` it builds for
//! linux on amd64 and on arm64. It says in the end which platforms have an archive and which have none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use backup_tests::release::{KREW_NAME, NOWHERE, Platform, Release, building, version};
use jiff::Timestamp;

const USAGE: &str =
    "usage: make-release [--download-url URL] [--target TRIPLE]... [--with ARCHIVE]... [FOLDER]";

fn main() -> ExitCode {
    match write() {
        Ok(said) => {
            let _ = write!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<String> {
    let mut targets = Vec::new();
    let mut archives = Vec::new();
    let mut download_url = None;
    let mut folder = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--target" => targets.push(words.next().context(USAGE)?),
            "--with" => archives.push(PathBuf::from(words.next().context(USAGE)?)),
            "--download-url" => download_url = Some(words.next().context(USAGE)?),
            _ if word.starts_with('-') || folder.is_some() => bail!(USAGE),
            _ => folder = Some(PathBuf::from(word)),
        }
    }
    let folder = folder.unwrap_or_else(|| Path::new("target").join("release-artefacts"));
    if targets.is_empty() {
        targets.extend(building::TARGETS.map(str::to_owned));
    }
    // All of them first: a build takes minutes.
    for triple in &targets {
        building::check(triple)?;
    }
    let mut binaries = BTreeMap::new();
    for triple in &targets {
        let _ = writeln!(std::io::stderr(), "building for {triple}");
        let (platform, built) = building::build(triple)?;
        binaries.insert(platform, built);
    }
    let release = Release {
        binaries,
        archives,
        created: created()?,
        download_url,
    };
    let written = release.write(&folder)?;

    let mut said = format!("version {} in {}\n", version(), folder.display());
    for name in written.files.keys() {
        writeln!(said, "  {name}")?;
    }
    writeln!(said, "  SHA256SUMS")?;
    writeln!(
        said,
        "image {} when pushed from the OCI archive, for {}",
        written.image_digest,
        list(&written.image_platforms)
    )?;
    let platforms: Vec<String> = written.platforms.iter().map(ToString::to_string).collect();
    let missing: Vec<&str> = [
        "linux_amd64",
        "linux_arm64",
        "darwin_amd64",
        "darwin_arm64",
        "windows_amd64",
    ]
    .into_iter()
    .filter(|name| !platforms.iter().any(|platform| platform == name))
    .collect();
    writeln!(said, "archives for {}", list(&written.platforms))?;
    if !missing.is_empty() {
        writeln!(
            said,
            "no archive for {}: see --target and --with",
            missing.join(", ")
        )?;
    }
    if release.download_url.is_none() {
        writeln!(
            said,
            "{KREW_NAME}.yaml has addresses below {NOWHERE} and installs with --archive alone; --download-url gives it real ones"
        )?;
    }
    Ok(said)
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// The time that the SBOM bears: of `SOURCE_DATE_EPOCH`, or of the commit, so that a second run writes the same.
fn created() -> Result<Timestamp> {
    let said = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(said) => said,
        Err(_) => {
            let output = Command::new("git")
                .args(["log", "-1", "--format=%ct"])
                .current_dir(env!("CARGO_MANIFEST_DIR"))
                .output()
                .ok()
                .filter(|output| output.status.success())
                .context(
                    "git does not say when the commit was made; set SOURCE_DATE_EPOCH to seconds since 1970",
                )?;
            String::from_utf8(output.stdout)?
        }
    };
    let seconds = said
        .trim()
        .parse()
        .with_context(|| format!("SOURCE_DATE_EPOCH is {said:?}, not seconds since 1970"))?;
    Ok(Timestamp::from_second(seconds)?)
}
