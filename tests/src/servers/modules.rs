//! Files of a Go module, read where Go keeps them.
//!
//! Definitions that others publish with their code (CRDs) are read from the module cache at test time, at the version
//! that a `go.mod` under `tests/servers` pins and its `go.sum` proves. Nothing is copied into this repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::build::go;

/// The folder of the module `dependency`, at the version that `tests/servers/<server>/go.mod` requires; fetched if it is
/// not there yet.
pub(crate) fn folder(server: &str, dependency: &str) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join(server);
    let output = Command::new(go(&source)?)
        .args(["mod", "download", "-json", dependency])
        .current_dir(&source)
        .env("GOWORK", "off")
        .output()?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match answer.get("Dir").and_then(Value::as_str) {
        Some(folder) if output.status.success() => Ok(PathBuf::from(folder)),
        _ => bail!(
            "`go mod download {dependency}` in {} ended with {}: {}{}",
            source.display(),
            output.status,
            answer.get("Error").and_then(Value::as_str).unwrap_or_default(),
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// The YAML document in a file of that module.
pub(crate) fn document(server: &str, dependency: &str, file: &str) -> Result<Value> {
    let path = folder(server, dependency)?.join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))
}
