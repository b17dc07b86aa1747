//! The fuzz targets' bodies on the stable toolchain: over the committed corpus, and over mutations of it that are the same
//! in every run.
//!
//! A finding of the fuzzer is committed to `tests/fuzz/corpus/<target>/` and is a regression test from then on.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use backup_tests::fuzz_bodies::{TARGETS, Target};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

/// Mutations of each file.
const MUTATIONS: usize = 300;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target)
}

fn files(target: &str) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = corpus(target);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("no corpus in {}", folder.display()))? {
        let path = entry?.path();
        let bytes = std::fs::read(&path)?;
        files.push((path, bytes));
    }
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    Ok(files)
}

/// splitmix64: a few lines, and the same numbers everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

fn mutate(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutated = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(mutated.len());
        match random.below(6) {
            0 => mutated.truncate(at),
            1 => mutated.insert(at.min(mutated.len()), random.byte()),
            2 => mutated.extend_from_slice(bytes),
            3 => {
                let end = (at + random.below(40)).min(mutated.len());
                let copied = mutated.get(at..end).unwrap_or_default().to_vec();
                let to = random.below(mutated.len() + 1);
                mutated.splice(to..to, copied);
            }
            4 if at < mutated.len() => drop(mutated.remove(at)),
            _ => {
                let bit = 1 << random.below(8);
                if let Some(byte) = mutated.get_mut(at) {
                    *byte ^= bit;
                }
            }
        }
    }
    mutated
}

/// The content of a gzip file, in which mutations reach further than in its compressed bytes.
fn inflated(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(1 << 20)
        .read_to_end(&mut content)
        .ok()?;
    Some(content)
}

fn deflated(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}

/// Runs a body and, when it panics, says on what.
fn try_body(body: fn(&[u8]), bytes: &[u8], what: &dyn Fn() -> String) -> Result<()> {
    if std::panic::catch_unwind(|| body(bytes)).is_err() {
        let shown = bytes.get(..4_000).unwrap_or(bytes);
        bail!("{} breaks a promise: b\"{}\"", what(), shown.escape_ascii());
    }
    Ok(())
}

fn run((name, body): Target) -> Result<()> {
    for (path, bytes) in files(name)? {
        try_body(body, &bytes, &|| path.display().to_string())?;
        let mut random = Random(bytes.len() as u64);
        let content = inflated(&bytes);
        for number in 0..MUTATIONS {
            let mutated = match &content {
                Some(content) if number % 2 == 1 => deflated(&mutate(content, &mut random))?,
                _ => mutate(&bytes, &mut random),
            };
            try_body(body, &mutated, &|| {
                format!("mutation {number} of {}", path.display())
            })?;
        }
    }
    Ok(())
}

fn run_named(name: &str) -> Result<()> {
    let target = TARGETS
        .iter()
        .find(|(known, _)| *known == name)
        .context("no such target")?;
    run(*target)
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                run_named(stringify!($name))
            }
        )*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets!(
    archive_walk,
    item_path,
    index_block,
    index_directory,
    index_footer,
    backup_json,
    digests,
    selector,
    glob,
    duration,
    location_url,
    review,
    modifiers,
);

#[test]
fn every_target_has_a_test_a_corpus_and_a_fuzz_binary() -> Result<()> {
    let names: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TESTED.iter().copied().collect());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))?;
    for name in names {
        assert!(corpus(name).is_dir(), "no corpus for {name}");
        assert!(
            manifest.contains(&format!("name = \"{name}\"")),
            "no binary for {name} in fuzz/Cargo.toml"
        );
        let target = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs")))?;
        assert!(
            target.contains(&format!("fuzz_bodies::{name}(")),
            "fuzz_targets/{name}.rs calls another body"
        );
    }
    Ok(())
}

/// A corpus of nothing but refused input would test only the first line of each parser.
#[test]
fn the_corpus_holds_input_that_is_accepted() -> Result<()> {
    let walk = files("archive_walk")?.into_iter().any(|(_, bytes)| {
        use velero_model::archive::{ArchiveError, Limits, walk};
        walk(bytes.as_slice(), Limits::default(), true, |_, _| {
            Ok::<_, ArchiveError>(true)
        })
        .is_ok_and(|count| count > 1)
    });
    assert!(walk, "archive_walk");
    let block = |bytes: &[u8]| velero_model::index::parse_block(bytes).is_ok_and(|entries| entries.len() > 1);
    assert!(
        files("index_block")?.iter().any(|(_, bytes)| block(bytes)),
        "index_block"
    );
    let directory = |bytes: &[u8]| velero_model::index::Directory::parse(bytes).is_ok();
    assert!(
        files("index_directory")?
            .iter()
            .any(|(_, bytes)| directory(bytes)),
        "index_directory"
    );
    let footer = |bytes: &[u8]| velero_model::index::parse_footer(bytes).is_ok();
    assert!(
        files("index_footer")?.iter().any(|(_, bytes)| footer(bytes)),
        "index_footer"
    );
    let name = velero_model::name::BackupName::parse("nightly")?;
    let backup = |bytes: &[u8]| velero_model::backup::Backup::parse(bytes, &name, "key").is_ok();
    assert!(
        files("backup_json")?.iter().any(|(_, bytes)| backup(bytes)),
        "backup_json"
    );
    let digests = |bytes: &[u8]| velero_model::digests::Digests::parse(bytes).is_ok();
    assert!(
        files("digests")?.iter().any(|(_, bytes)| digests(bytes)),
        "digests"
    );
    let review = |bytes: &[u8]| backup_webhook::review::Request::parse(bytes).is_ok();
    assert!(files("review")?.iter().any(|(_, bytes)| review(bytes)), "review");
    let modifiers = |bytes: &[u8]| {
        str::from_utf8(bytes).is_ok_and(|text| backup_plan::restore::modifier::Modifiers::parse(text).is_ok())
    };
    assert!(
        files("modifiers")?
            .iter()
            .filter(|(_, bytes)| modifiers(bytes))
            .count()
            > 3,
        "modifiers"
    );
    Ok(())
}
