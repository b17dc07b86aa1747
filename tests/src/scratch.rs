//! Folders that vanish with the process.
//!
//! Static clusters are never dropped and a killed process drops nothing, so every folder lies under one root per
//! process, and a small shell waits on a pipe for the process to end, however it ends, and removes the root. With
//! `KUBECTL_BACKUP_TEST_KEEP=1` the root stays and its path is printed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::runtime::progress;

/// A folder, removed when dropped or when the process ends.
#[derive(Debug)]
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    /// A new empty folder whose name starts with `name`.
    pub fn new(name: &str) -> Result<Self> {
        let root = root()?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(name).disable_cleanup(keep());
        let folder = builder
            .tempdir_in(root)
            .with_context(|| format!("no folder under {}", root.display()))?;
        Ok(Self { folder })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path inside the folder.
    pub fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

struct Root {
    path: PathBuf,
    // Holds the pipe whose end tells the sweeper that this process is gone.
    _sweeper: Option<Child>,
}

fn keep() -> bool {
    std::env::var_os("KUBECTL_BACKUP_TEST_KEEP").is_some_and(|value| !value.is_empty())
}

fn root() -> Result<&'static Path> {
    static ROOT: OnceLock<Result<Root, String>> = OnceLock::new();
    let root = ROOT.get_or_init(|| create_root().map_err(|error| format!("{error:#}")));
    root.as_ref()
        .map(|root| root.path.as_path())
        .map_err(|error| anyhow::anyhow!("{error}"))
}

fn create_root() -> Result<Root> {
    let prefix = format!("kubectl-backup-tests-{}-", std::process::id());
    let path = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir()
        .context("no temporary folder")?
        .keep();
    if keep() {
        progress(&format!("keeping the files of this run in {}", path.display()));
        return Ok(Root { path, _sweeper: None });
    }
    // Servers are killed by the kernel at the same moment and may still finish a write: hence the repetition.
    let script = "trap '' INT TERM HUP; read -r _; \
                  for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- \"$1\" 2>/dev/null && sleep 0.3 && [ ! -e \"$1\" ] && exit; sleep 0.3; done";
    let sweeper = Command::new("/bin/sh")
        .args(["-c", script, "sweeper"])
        .arg(&path)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("/bin/sh does not start")?;
    Ok(Root {
        path,
        _sweeper: Some(sweeper),
    })
}
