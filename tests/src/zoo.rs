//! A folder with every kind of file that a volume may hold, and a look at a folder that forgets nothing.
//!
//! In comes an empty folder; out goes the zoo in it. [`look`] gives what a folder holds as text, a line an entry, so that two
//! of them can be compared; only what nobody can restore (inode numbers, times of change) is not in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

/// Fills a folder. Needs root: owners are set and a device is made.
pub fn fill(folder: &Path) -> Result<()> {
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("deep/er/still"))?;
    fs::write(at("deep/er/still/file"), "far down")?;
    fs::write(at("empty"), "")?;
    fs::create_dir(at("empty folder"))?;
    fs::write(at("with space and ümlaut"), "x")?;
    fs::write(folder.join(OsStr::from_bytes(b"not \xff utf-8")), "bytes")?;
    fs::write(at("back\\slash \"quoted\"\nand lines"), "odd")?;
    // A megabyte that compresses badly, four times over, of which deduplication makes one.
    let noise: Vec<u8> = (0..(4_u32 << 18))
        .flat_map(|number| Sha256::digest((number % (1 << 13)).to_le_bytes())[..4].to_vec())
        .collect();
    fs::write(at("large"), &noise)?;
    let mut sparse = File::create(at("sparse"))?;
    sparse.write_all(b"begin")?;
    sparse.seek(SeekFrom::Start(64 << 20))?;
    sparse.write_all(b"end")?;
    fs::write(at("linked"), "one file, three names")?;
    fs::hard_link(at("linked"), at("linked too"))?;
    fs::hard_link(at("linked"), at("deep/linked"))?;
    symlink("linked", at("symbolic"))?;
    symlink("/nowhere/at all", at("dangling"))?;
    for (name, mode, owner) in [
        ("private", 0o600, 999),
        ("program", 0o755, 1000),
        ("set-uid", 0o4755, 0),
        ("nothing", 0o000, 0),
    ] {
        fs::write(at(name), name)?;
        chown(at(name), Some(owner), Some(owner + 1))?;
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
    }
    chown(at("empty folder"), Some(70), Some(70))?;
    fs::set_permissions(at("empty folder"), fs::Permissions::from_mode(0o1770))?;
    run("mkfifo", &[&at("fifo")])?;
    run(
        "mknod",
        &[&at("null"), Path::new("c"), Path::new("1"), Path::new("3")],
    )?;
    for (name, time) in [
        ("linked", "2001-02-03T04:05:06.123456789Z"),
        ("deep", "1999-12-31T23:59:59Z"),
    ] {
        run("touch", &[Path::new("-d"), Path::new(time), &at(name)])?;
    }
    chown(folder, Some(999), Some(999))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    Ok(())
}

fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} does not start"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// What a folder holds, by path.
pub fn look(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    let mut links = BTreeMap::new();
    enter(folder, folder, &mut found, &mut links)?;
    Ok(found)
}

fn enter(
    root: &Path,
    path: &Path,
    found: &mut BTreeMap<PathBuf, String>,
    links: &mut BTreeMap<u64, PathBuf>,
) -> Result<()> {
    let about = fs::symlink_metadata(path)?;
    let kind = about.file_type();
    let name = path.strip_prefix(root)?.to_path_buf();
    let content = if kind.is_symlink() {
        format!("link to {}", fs::read_link(path)?.display())
    } else if kind.is_dir() {
        "folder".to_owned()
    } else if kind.is_file() {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let first = links.entry(about.ino()).or_insert_with(|| name.clone());
        let other = if *first == name {
            String::new()
        } else {
            format!(" the same as {}", first.display())
        };
        format!(
            "file of {} bytes, {:x}{other}",
            bytes.len(),
            Digest128::of(&bytes)
        )
    } else if kind.is_char_device() || kind.is_block_device() {
        format!("device {}", about.rdev())
    } else {
        "pipe or socket".to_owned()
    };
    let line = format!(
        "{:o} {}:{} {}.{} {content}",
        about.mode() & 0o7777,
        about.uid(),
        about.gid(),
        // Nothing sets the times of a symbolic link everywhere.
        if kind.is_symlink() { 0 } else { about.mtime() },
        if kind.is_symlink() { 0 } else { about.mtime_nsec() },
    );
    found.insert(name, line);
    if kind.is_dir() {
        for entry in fs::read_dir(path)? {
            enter(root, &entry?.path(), found, links)?;
        }
    }
    Ok(())
}

/// Enough of a hash to see a difference.
struct Digest128(u128);

impl Digest128 {
    fn of(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        Self(
            digest
                .iter()
                .take(16)
                .fold(0, |all, byte| all << 8 | u128::from(*byte)),
        )
    }
}

impl std::fmt::LowerHex for Digest128 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
