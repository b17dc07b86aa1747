//! Folders to be backed up: a mixed one, and one with very many small files.
//!
//! In comes an empty folder; out go files whose bytes are the same in every run of the bench. No two files are equal, so that
//! deduplication makes nobody look fast.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;

/// Files that do not compress, as archives and pictures do not.
const DENSE: (u64, usize) = (4, 120 << 20);

/// Files that compress well, as logs and tables do.
const LOOSE: (u64, usize) = (4, 120 << 20);

/// Small ones of 1 to 16 KiB, every other of which compresses.
const SMALL: u64 = 20_000;

/// Files of a folder.
const IN_A_FOLDER: u64 = 1_000;

/// Numbers that look random: xorshift64.
struct Noise(u64);

impl Noise {
    fn of(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Fills a folder with about 1.1 GB; gives how many files that are.
pub(super) fn mixed(folder: &Path) -> Result<usize> {
    let mut seed = 0;
    for (name, (count, bytes)) in [("dense", DENSE), ("loose", LOOSE)] {
        for number in 0..count {
            seed += 1;
            write(
                &folder.join(format!("{name}-{number}")),
                seed,
                bytes,
                name == "loose",
            )?;
        }
    }
    for number in 0..SMALL {
        let below = folder.join(format!("small-{}", number / IN_A_FOLDER));
        if number % IN_A_FOLDER == 0 {
            fs::create_dir(&below)?;
        }
        seed += 1;
        let bytes = 1024 + usize::try_from(Noise::of(seed).next() % (15 << 10))?;
        write(&below.join(number.to_string()), seed, bytes, number % 2 == 0)?;
    }
    Ok(usize::try_from(DENSE.0 + LOOSE.0 + SMALL)?)
}

/// Fills a folder with files of a line each, a thousand to a folder.
pub(super) fn many(folder: &Path, count: usize) -> Result<()> {
    for number in 0..count as u64 {
        let below = folder.join(format!("{:06}", number / IN_A_FOLDER));
        if number % IN_A_FOLDER == 0 {
            fs::create_dir(&below)?;
        }
        fs::write(
            below.join(format!("message-{number:07}.txt")),
            format!("message {number}: {:x}\n", Noise::of(number).next()),
        )?;
    }
    Ok(())
}

fn write(path: &Path, seed: u64, bytes: usize, is_loose: bool) -> Result<()> {
    let (mut noise, mut left) = (Noise::of(seed), bytes);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut line = Vec::new();
    while left > 0 {
        line.clear();
        let number = noise.next();
        if is_loose {
            writeln!(
                line,
                "2026-11-25T10:{:02}:{:02}Z level={} service=shop-{} path=/api/v1/orders/{} status={} took={}ms",
                number % 60,
                number / 60 % 60,
                ["info", "info", "info", "warn"][usize::try_from(number % 4)?],
                number % 7,
                number % 1_000_000,
                [200, 200, 201, 404][usize::try_from(number / 4 % 4)?],
                number % 977,
            )?;
        } else {
            line.extend_from_slice(&number.to_le_bytes());
        }
        let taken = line.len().min(left);
        file.write_all(&line[..taken])?;
        left -= taken;
    }
    Ok(file.flush()?)
}
