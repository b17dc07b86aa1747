//! Which platform an executable is for.
//!
//! In come the bytes of a file, out comes the platform that its header names, of those that releases are made for. Without
//! it a binary of the building machine that got under another platform's name would be found out by that platform's users.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Platform;

/// The bytes of an executable, which must be for the platform.
pub(super) fn read(file: &Path, platform: &Platform) -> Result<Vec<u8>> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    match platform_of(&bytes) {
        Some(found) if found == *platform => Ok(bytes),
        Some(found) => bail!(
            "{} is an executable for {found}, not for {platform}",
            file.display()
        ),
        None => bail!(
            "{} is no executable for {platform}, nor for any other known platform",
            file.display()
        ),
    }
}

/// Fails where one of the files is for another platform.
pub(super) fn check<'a>(files: impl IntoIterator<Item = &'a PathBuf>, platform: &Platform) -> Result<()> {
    files
        .into_iter()
        .try_for_each(|file| read(file, platform).map(|_| ()))
}

/// Only 64-bit, little-endian headers are looked at: there is no platform of another kind among ours.
fn platform_of(bytes: &[u8]) -> Option<Platform> {
    let (os, arch) = if bytes.starts_with(b"\x7fELF\x02\x01") {
        // Who says "System V" or "GNU" means Linux.
        let os = matches!(bytes.get(7)?, 0 | 3).then_some("linux")?;
        (os, of_number(number(bytes, 18, 2)?, 62, 183)?)
    } else if bytes.starts_with(&[0xcf, 0xfa, 0xed, 0xfe]) {
        (
            "darwin",
            of_number(number(bytes, 4, 4)?, 0x0100_0007, 0x0100_000c)?,
        )
    } else if bytes.starts_with(b"MZ") {
        let header = usize::try_from(number(bytes, 0x3c, 4)?).ok()?;
        let is_pe = bytes.get(header..)?.starts_with(b"PE\0\0");
        let machine = number(bytes, header.checked_add(4)?, 2)?;
        (is_pe.then_some("windows")?, of_number(machine, 0x8664, 0xaa64)?)
    } else {
        return None;
    };
    Some(Platform::new(os, arch))
}

fn of_number(found: u64, amd64: u64, arm64: u64) -> Option<&'static str> {
    match found {
        _ if found == amd64 => Some("amd64"),
        _ if found == arm64 => Some("arm64"),
        _ => None,
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> Option<String> {
        platform_of(bytes).map(|platform| platform.to_string())
    }

    #[test]
    fn headers_name_their_platform() {
        let elf = |machine: u8| {
            let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
            bytes.resize(64, 0);
            bytes[18] = machine;
            bytes
        };
        assert_eq!(named(&elf(62)).as_deref(), Some("linux_amd64"));
        assert_eq!(named(&elf(183)).as_deref(), Some("linux_arm64"));
        assert_eq!(named(&elf(243)), None, "RISC-V is none of ours");
        assert_eq!(named(&elf(183)[..19]), None, "cut off");
        let mach = [0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1];
        assert_eq!(named(&mach).as_deref(), Some("darwin_arm64"));
        let mut windows = b"MZ".to_vec();
        windows.resize(0x3c, 0);
        windows.extend([0x40, 0, 0, 0]);
        windows.extend(b"PE\0\0\x64\x86");
        assert_eq!(named(&windows).as_deref(), Some("windows_amd64"));
        windows[0x3f] = 0xff;
        assert_eq!(named(&windows), None, "a header beyond the end");
        assert_eq!(named(b"#!/bin/sh\n"), None);
        assert_eq!(named(b""), None);
    }

    #[test]
    fn this_program_is_for_this_machine() {
        let own = std::env::current_exe().unwrap();
        read(&own, &Platform::here()).unwrap();
        let other = Platform::of_triple("aarch64-apple-darwin").unwrap();
        let error = read(&own, &other).unwrap_err().to_string();
        assert!(
            error.contains(&format!("for {}, not for darwin_arm64", Platform::here())),
            "{error}"
        );
    }
}
