//! Writes the image of the suite, with both binaries in the profile that this program was built in.
//!
//! `make-image FILE`; FILE is an archive for `docker load`, `ctr images import`, `kind load image-archive` and skopeo.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use backup_tests::{image, plugin};

fn main() -> ExitCode {
    match write() {
        Ok(said) => {
            let _ = writeln!(std::io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<String> {
    let file = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .context("usage: make-image FILE")?;
    let binaries = BTreeMap::from([
        ("kubectl-backup", plugin::binary()?),
        ("backup-webhook", plugin::webhook_binary()?),
    ]);
    image::suite(&binaries)?.write_archive(&file)?;
    Ok(format!("{} as {}", image::suite_name()?, file.display()))
}
