//! Which crates the two binaries are linked from.
//!
//! In come the workspace and its lock file, out come crates with the crates that each depends on. Asked of `cargo tree`,
//! one binary at a time as they are built, since `cargo metadata` also counts what only tests and switched-off features
//! want. Macros and build scripts are left out: they run while it is built and are in no binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{BINARIES, Platform, root};
use crate::process;

/// Name and version.
pub(super) type Id = (String, String);

/// A crate that is linked.
#[derive(Debug, Clone, Default)]
pub(super) struct Linked {
    pub(super) licence: String,
    pub(super) repository: String,
    /// The SHA-256 of its package in the registry; crates of this workspace have none.
    pub(super) checksum: Option<String>,
    pub(super) depends_on: BTreeSet<Id>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Crates {
    pub(super) by_id: BTreeMap<Id, Linked>,
    /// The version of Rust, whose standard library is linked too.
    pub(super) rust: String,
}

/// The crates of both binaries on a platform, which differ from one to another.
pub(super) fn linked(platform: &Platform) -> Result<Crates> {
    let triple = platform
        .triple()
        .with_context(|| format!("nothing is built for {platform}"))?;
    let mut crates = Crates {
        rust: rust()?,
        ..Crates::default()
    };
    for binary in BINARIES {
        let printed = cargo(&[
            "tree",
            "--locked",
            "--package",
            binary,
            "--target",
            &triple,
            "--edges",
            "normal,no-proc-macro",
            "--prefix",
            "depth",
            "--format",
            "|{p}|{l}|{r}",
        ])?;
        read(&printed, &mut crates.by_id)?;
    }
    let file = root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    for (id, checksum) in checksums(&lock) {
        if let Some(found) = crates.by_id.get_mut(&id) {
            found.checksum = Some(checksum);
        }
    }
    Ok(crates)
}

/// Lines of `DEPTH|NAME vVERSION[ (PATH)]|LICENCE|REPOSITORY`; below a line stand its dependencies, one deeper. What was
/// printed before ends with `(*)` and has nothing below it.
fn read(printed: &str, by_id: &mut BTreeMap<Id, Linked>) -> Result<()> {
    let mut above: Vec<Id> = Vec::new();
    for line in printed.lines().filter(|line| !line.is_empty()) {
        let unknown = || format!("cargo tree prints {line:?}");
        let fields: Vec<&str> = line.trim_end_matches(" (*)").splitn(4, '|').collect();
        let [depth, package, licence, repository] = fields.as_slice() else {
            anyhow::bail!(unknown());
        };
        let depth: usize = depth.parse().with_context(unknown)?;
        let mut words = package.split(' ');
        let name = words.next().with_context(unknown)?;
        let version = words
            .next()
            .and_then(|word| word.strip_prefix('v'))
            .with_context(unknown)?;
        let id: Id = (name.to_owned(), version.to_owned());
        ensure!(depth <= above.len(), unknown());
        above.truncate(depth);
        if let Some(parent) = above.last().and_then(|parent| by_id.get_mut(parent)) {
            parent.depends_on.insert(id.clone());
        }
        let crate_of = by_id.entry(id.clone()).or_default();
        (*licence).clone_into(&mut crate_of.licence);
        (*repository).clone_into(&mut crate_of.repository);
        above.push(id);
    }
    Ok(())
}

/// The checksums of a lock file, whose form cargo keeps: tables `[[package]]` with one key a line.
fn checksums(lock: &str) -> BTreeMap<Id, String> {
    let value = |block: &str, key: &str| {
        block.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix(" = ")?;
            Some(value.trim_matches('"').to_owned())
        })
    };
    lock.split("[[package]]")
        .filter_map(|block| {
            let id = (value(block, "name")?, value(block, "version")?);
            Some((id, value(block, "checksum")?))
        })
        .collect()
}

fn rust() -> Result<String> {
    let output = Command::new("rustc")
        .args(["--version", "--verbose"])
        .current_dir(root())
        .output()
        .context("rustc does not start")?;
    String::from_utf8(output.stdout)?
        .lines()
        .find_map(|line| line.strip_prefix("release: "))
        .map(str::to_owned)
        .context("rustc does not say its release")
}

fn cargo(arguments: &[&str]) -> Result<String> {
    let cargo = std::env::var_os("CARGO")
        .map(PathBuf::from)
        .or_else(|| process::on_path("cargo"))
        .context("cargo is not on the PATH")?;
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .output()
        .context("cargo does not start")?;
    ensure!(
        output.status.success(),
        "cargo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_read_with_its_edges() {
        let printed = "0|app v0.1.0 (/somewhere)|Apache-2.0|\n1|a v1.0.0|MIT|https://a\n2|b v2.0.0|MIT/ISC|\n\
                       1|b v2.0.0|MIT/ISC|\n1|a v1.0.0|MIT|https://a (*)\n";
        let mut by_id = BTreeMap::new();
        read(printed, &mut by_id).unwrap();
        let id = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        assert_eq!(by_id.len(), 3);
        assert_eq!(
            by_id[&id("app", "0.1.0")].depends_on,
            BTreeSet::from([id("a", "1.0.0"), id("b", "2.0.0")])
        );
        assert_eq!(
            by_id[&id("a", "1.0.0")].depends_on,
            BTreeSet::from([id("b", "2.0.0")])
        );
        assert_eq!(by_id[&id("a", "1.0.0")].repository, "https://a");
        assert!(read("2|deep v1.0.0||", &mut BTreeMap::new()).is_err());
        assert!(read("error", &mut BTreeMap::new()).is_err());
    }
}
