//! Platforms: an operating system and an architecture, by the names that Go, krew and images use.
//!
//! In comes a target triple of Rust, this machine, or the name of an archive; out comes a platform, which names its archive
//! and its executables. Equal platforms have equal names, and an archive's name gives its platform back.

use std::fmt;

use anyhow::{Result, bail};

use crate::image::archive::architecture;

/// `linux` on `amd64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub arch: String,
}

impl Platform {
    /// That of this machine.
    pub fn here() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        Self::new(os, architecture())
    }

    /// That of a target triple such as `aarch64-unknown-linux-gnu`.
    pub fn of_triple(triple: &str) -> Result<Self> {
        let words: Vec<&str> = triple.split('-').collect();
        let arch = match words.first().copied() {
            Some("x86_64") => "amd64",
            Some("aarch64") => "arm64",
            _ => bail!("{triple}: known are targets on x86_64 and aarch64"),
        };
        let os = ["linux", "darwin", "windows"]
            .into_iter()
            .find(|os| words.contains(os));
        match os {
            Some(os) => Ok(Self::new(os, arch)),
            None => bail!("{triple}: known are targets for linux, darwin and windows"),
        }
    }

    /// The target triple that it is built as. None where a platform came from an archive's name and is none of ours.
    pub fn triple(&self) -> Option<String> {
        let arch = match self.arch.as_str() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            _ => return None,
        };
        let rest = match self.os.as_str() {
            "linux" => "unknown-linux-gnu",
            "darwin" => "apple-darwin",
            "windows" => "pc-windows-msvc",
            _ => return None,
        };
        Some(format!("{arch}-{rest}"))
    }

    /// That of an archive of this version, by its name.
    pub(super) fn of_archive(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(&prefix())?.strip_suffix(".tar.gz")?;
        let (os, arch) = rest.split_once('_')?;
        let plain = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric());
        (plain(os) && plain(arch)).then(|| Self::new(os, arch))
    }

    /// The name of its archive.
    pub fn archive(&self) -> String {
        format!("{}{self}.tar.gz", prefix())
    }

    /// The file name of an executable.
    pub fn executable(&self, name: &str) -> String {
        let suffix = if self.os == "windows" { ".exe" } else { "" };
        format!("{name}{suffix}")
    }

    pub(super) fn new(os: &str, arch: &str) -> Self {
        Self {
            os: os.to_owned(),
            arch: arch.to_owned(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}_{}", self.os, self.arch)
    }
}

fn prefix() -> String {
    format!("kubectl-backup_v{}_", super::version())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_have_the_names_of_go() {
        for (triple, named) in [
            ("x86_64-unknown-linux-gnu", "linux_amd64"),
            ("aarch64-unknown-linux-gnu", "linux_arm64"),
            ("aarch64-apple-darwin", "darwin_arm64"),
            ("x86_64-pc-windows-msvc", "windows_amd64"),
        ] {
            let platform = Platform::of_triple(triple).unwrap();
            assert_eq!(platform.to_string(), named);
            assert_eq!(platform.triple().as_deref(), Some(triple));
        }
        assert!(Platform::of_triple("riscv64gc-unknown-linux-gnu").is_err());
        assert!(Platform::of_triple("x86_64-unknown-freebsd").is_err());
    }

    #[test]
    fn an_archive_says_its_platform() {
        let platform = Platform::of_triple("aarch64-apple-darwin").unwrap();
        assert_eq!(Platform::of_archive(&platform.archive()), Some(platform));
        for name in [
            "kubectl-backup_v0.0.0_linux_amd64.tar.gz",
            "kubectl-backup.tar.gz",
            "SHA256SUMS",
        ] {
            assert_eq!(Platform::of_archive(name), None, "{name}");
        }
    }
}
