//! The binaries of the product, built once per test process in the profile that the tests themselves were built in.
//!
//! Cargo builds a package's binaries for the tests of that package only; these tests are a package of their own. Who has
//! a binary already names it in `KUBECTL_BACKUP_BINARY` or `BACKUP_WEBHOOK_BINARY`, and nothing is built.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::process;

/// The path of `kubectl-backup`.
pub fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BINARY, "KUBECTL_BACKUP_BINARY", "kubectl-backup")
}

/// The path of `backup-webhook`, the server of the admission suite.
pub fn webhook_binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    once(&BINARY, "BACKUP_WEBHOOK_BINARY", "backup-webhook")
}

/// The path of a binary as it is released, built for a target with cargo in this environment. Not remembered: who asks
/// asks once.
pub fn binary_for(triple: &str, package: &str, environment: &[(String, OsString)]) -> Result<PathBuf> {
    let target_dir = target_folder()?;
    let layout = Layout {
        folder: target_dir.join(triple).join("release"),
        target_dir,
        profile: "release".to_owned(),
        triple: Some(triple.to_owned()),
    };
    build(&layout, package, environment)
}

/// The folder that cargo builds into.
pub fn target_folder() -> Result<PathBuf> {
    Ok(Layout::of(&std::env::current_exe().context("cannot find this program's own binary")?)?.target_dir)
}

fn once(known: &OnceLock<Result<PathBuf, String>>, variable: &str, package: &str) -> Result<PathBuf> {
    let built = known.get_or_init(|| find_or_build(variable, package).map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!("{error}"))
}

/// Package and binary have the same name.
fn find_or_build(variable: &str, package: &str) -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(variable).filter(|value| !value.is_empty()) {
        return std::path::absolute(&named).with_context(|| format!("cannot find {}", named.display()));
    }
    build(
        &Layout::of(&std::env::current_exe().context("cannot find this test's own binary")?)?,
        package,
        &[],
    )
}

fn build(layout: &Layout, package: &str, environment: &[(String, OsString)]) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO")
        .map(PathBuf::from)
        .or_else(|| process::on_path("cargo"));
    let mut command = process::tied(&cargo.context("cargo is not on the PATH")?)?;
    command
        .args([
            "build",
            "--quiet",
            "--package",
            package,
            "--bin",
            package,
            "--profile",
            &layout.profile,
        ])
        .arg("--target-dir")
        .arg(&layout.target_dir)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    if let Some(triple) = &layout.triple {
        command.args(["--target", triple]);
    }
    let output = process::spawn(command)?.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{package} does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(layout.folder.join(package))
}

/// Where cargo put the running test, which is where the plugin belongs too.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    folder: PathBuf,
    target_dir: PathBuf,
    profile: String,
    triple: Option<String>,
}

impl Layout {
    /// `target[/triple]/profile[/deps]/executable`
    fn of(executable: &Path) -> Result<Self> {
        let unusual = || {
            format!(
                "{} does not lie where cargo puts binaries; set KUBECTL_BACKUP_BINARY",
                executable.display()
            )
        };
        let folder = executable.parent().with_context(unusual)?;
        let folder = if folder.ends_with("deps") {
            folder.parent().with_context(unusual)?
        } else {
            folder
        };
        let profile = folder
            .file_name()
            .and_then(|name| name.to_str())
            .with_context(unusual)?;
        let above = folder.parent().with_context(unusual)?;
        let name = above
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let is_triple = name.split('-').count() >= 3 && above.join("../CACHEDIR.TAG").is_file();
        let target_dir = if is_triple {
            above.parent().with_context(unusual)?
        } else {
            above
        };
        Ok(Self {
            folder: folder.to_owned(),
            target_dir: target_dir.to_owned(),
            profile: if profile == "debug" { "dev" } else { profile }.to_owned(),
            triple: is_triple.then(|| name.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_is_built_beside_the_running_test() {
        for (executable, folder, profile) in [
            ("/w/target/debug/deps/backup-0a1b", "/w/target/debug", "dev"),
            ("/w/target/debug/demo", "/w/target/debug", "dev"),
            ("/w/target/release/bench-suite", "/w/target/release", "release"),
        ] {
            let layout = Layout::of(Path::new(executable)).unwrap();
            assert_eq!(layout.folder, Path::new(folder));
            assert_eq!(layout.target_dir, Path::new("/w/target"));
            assert_eq!((layout.profile.as_str(), layout.triple), (profile, None));
        }
    }

    #[test]
    fn a_target_triple_is_kept() {
        let target = tempfile::tempdir().unwrap();
        let folder = target.path().join("x86_64-unknown-linux-gnu/debug");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(target.path().join("CACHEDIR.TAG"), "").unwrap();
        let layout = Layout::of(&folder.join("deps/backup-0a1b")).unwrap();
        assert_eq!(layout.target_dir, target.path());
        assert_eq!(layout.triple.as_deref(), Some("x86_64-unknown-linux-gnu"));
    }
}
