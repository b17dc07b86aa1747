//! Writes the files of a release, with both binaries in the profile that this program was built in.
//!
//! `make-release [--download-url URL] [--target TRIPLE]... [--with ARCHIVE]... [FOLDER]`. It says in the end which
//! platforms have an archive and which have none.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use backup_tests::plugin;
use backup_tests::release::{BINARIES, KREW_NAME, NOWHERE, Platform, Release, version};
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
    let others = targets
        .iter()
        .map(|triple| {
            let platform = Platform::of_triple(triple)?;
            let built = BINARIES.map(|name| {
                let file = plugin::binary_for(triple, name)?;
                anyhow::Ok((name, file.with_file_name(platform.executable(name))))
            });
            let built: BTreeMap<_, _> = built.into_iter().collect::<Result<_>>().with_context(|| {
                format!(
                    "{triple} cannot be built here; it needs `rustup target add {triple}`, a linker for it \
                     (CARGO_TARGET_..._LINKER) and a C compiler (CC_...). Or build on such a machine, and take its archive \
                     with --with"
                )
            })?;
            Ok((platform, built))
        })
        .collect::<Result<Vec<_>>>()?;
    let release = Release {
        binaries: BTreeMap::from([
            ("kubectl-backup", plugin::binary()?),
            ("backup-webhook", plugin::webhook_binary()?),
        ]),
        others,
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
        "image {} when pushed from the OCI archive",
        written.image_digest
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
    writeln!(said, "archives for {}", platforms.join(", "))?;
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
