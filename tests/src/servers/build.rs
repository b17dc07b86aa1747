//! Building a server from its Go module, once per machine.
//!
//! Processes that want the same build meet at a file lock: one builds, the others wait and find the result. The result
//! is a folder that appears by a rename, so a build that was killed is never taken for a finished one.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{Module, cache};
use crate::process;
use crate::runtime::progress;

/// The folder that holds the module's executables; built if it is not there.
pub(super) fn folder(module: &Module) -> Result<PathBuf> {
    let folder = cached_folder(module)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let cache = cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Appended: what stands behind the dot of a version is no extension.
    let mut beside = folder.clone().into_os_string();
    beside.push(".lock");
    let _lock = lock(Path::new(&beside), module)?;
    if !folder.is_dir() {
        build(module, &cache, &folder)?;
    }
    Ok(folder)
}

/// Where the module's executables lie once they are built.
pub(super) fn cached_folder(module: &Module) -> Result<PathBuf> {
    Ok(cache()?.join(format!("{}-{}", module.name, digest(module)?)))
}

fn source(module: &Module) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("servers")
        .join(module.name)
}

fn arguments(module: &Module) -> [&str; 5] {
    // Version control stamps would make the build depend on who owns the checkout.
    [
        "build",
        "-buildvcs=false",
        "-trimpath",
        "-ldflags",
        module.linker_flags,
    ]
}

/// Sixteen hexadecimal digits over everything that decides what is built.
fn digest(module: &Module) -> Result<String> {
    let source = source(module);
    let mut hash = Sha256::new();
    for name in ["go.mod", "go.sum", "main.go", "volumes.go"] {
        let file = source.join(name);
        match std::fs::read(&file) {
            Ok(bytes) => {
                hash.update(format!("{name} {}\n", bytes.len()));
                hash.update(bytes);
            }
            // A module with a `tool` line has no main of its own, and one module alone has two files.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && name != "go.mod" => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }
    hash.update(format!(
        "{:?} {} {:?}",
        arguments(module),
        module.package,
        module.links
    ));
    hash.update(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    let digest: [u8; 32] = hash.finalize().into();
    let first = digest
        .iter()
        .take(8)
        .fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Ok(format!("{first:016x}"))
}

fn lock(path: &Path, module: &Module) -> Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            progress(&format!(
                "waiting for another process that builds {}",
                module.title
            ));
            file.lock()
                .with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    Ok(file)
}

fn build(module: &Module, cache: &Path, folder: &Path) -> Result<()> {
    let source = source(module);
    let go = go(&source)?;
    let unfinished = tempfile::Builder::new()
        .prefix(".unfinished-")
        .tempdir_in(cache)?;
    let output = unfinished.path().join(module.name);
    let log = unfinished.path().join("log");
    let minutes = module.minutes;
    let unit = if minutes == 1 { "minute" } else { "minutes" };
    progress(&format!(
        "building {} from Go modules, about {minutes} {unit}, once",
        module.title
    ));
    let begun = Instant::now();
    let mut command = process::tied(&go)?;
    command
        .args(arguments(module))
        .arg("-o")
        .arg(&output)
        .arg(module.package)
        .current_dir(&source)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?);
    let status = wait_with_progress(command, module, begun)?;
    if !status.success() {
        bail!(
            "building {} in {} ended with {status}:\n{}",
            module.title,
            source.display(),
            process::tail(&log, 20)
        );
    }
    for link in module.links {
        std::os::unix::fs::symlink(module.name, unfinished.path().join(link))?;
    }
    std::fs::rename(unfinished.path(), folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    progress(&format!(
        "built {} in {} s",
        module.title,
        begun.elapsed().as_secs()
    ));
    Ok(())
}

fn wait_with_progress(command: Command, module: &Module, begun: Instant) -> Result<ExitStatus> {
    let mut child = process::spawn(command)?;
    let mut reported = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(200));
        let minutes = begun.elapsed().as_secs() / 60;
        if minutes > reported {
            reported = minutes;
            progress(&format!("still building {}, {minutes} min", module.title));
        }
    }
}

/// The go command, refused with the way to get a newer one where it is missing or too old to read the module.
pub(super) fn go(source: &Path) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(source.join("go.mod"))?
        .lines()
        .find_map(|line| line.strip_prefix("go ").map(str::to_owned))
        .context("go.mod names no Go version")?;
    let Some(go) = process::on_path("go").or_else(|| {
        let usual = PathBuf::from("/usr/local/go/bin/go");
        usual.is_file().then_some(usual)
    }) else {
        bail!(
            "go is not installed; {} is built with Go {wanted} or newer: get it from https://go.dev/dl and put it on the PATH \
             (the golang-go package of Debian 12 is 1.19, too old), or point KUBEBUILDER_ASSETS at ready binaries",
            source.display()
        );
    };
    let printed = Command::new(&go)
        .arg("version")
        .output()
        .with_context(|| format!("{} does not start", go.display()))?;
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    let version = printed
        .split_whitespace()
        .find_map(|word| word.strip_prefix("go1."));
    let minor: Option<u32> = version.and_then(|version| version.split('.').next()?.parse().ok());
    // Go 1.21 is the first that fetches the newer Go which a module asks for.
    if minor.is_some_and(|minor| minor < 21) {
        bail!(
            "{} is Go 1.{}, too old; {} needs Go {wanted} or newer: get it from https://go.dev/dl and put it first on the PATH",
            go.display(),
            minor.unwrap_or_default(),
            source.display()
        );
    }
    Ok(go)
}
