//! The words behind `cargo bench-suite`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// What the bench was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Sizes of the cluster, in objects.
    pub objects: Vec<usize>,
    /// Repetitions of each measurement.
    pub runs: usize,
    /// Whether restores are measured, and the create loops that they are held against.
    pub restore: bool,
    /// Objects of about 1 MiB; 0 leaves that part out.
    pub large: usize,
    /// Whether Velero is measured beside us.
    pub velero: bool,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            objects: vec![3_000, 28_000],
            runs: 3,
            restore: true,
            large: 2_000,
            velero: false,
            json: None,
        }
    }
}

impl Options {
    /// For `--help` and after a mistake.
    pub const USAGE: &str = "\
usage: cargo bench-suite webhook [...]      the admission suite; see cargo bench-suite webhook --help
       cargo bench-suite volumes [...]      volume data, beside restic; see cargo bench-suite volumes --help
       cargo bench-suite [--objects N,N] [--runs N] [--no-restore] [--large N] [--velero] [--json FILE]
  --objects N,N   sizes of the cluster (3000,28000; 280000 takes an hour more)
  --runs N        repetitions, of which the median counts (3)
  --no-restore    leave the restores and their create loops out: a minute instead of ten
  --large N       objects of 1 MiB for the memory bar and the single read; 0 for none (2000)
  --velero        measure Velero 1.18.3 on the same servers too; builds it if need be
  --json FILE     write all figures there";

    /// `None` when help was asked for.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                // The alias ends with `--` already; who writes another one means the same.
                "--" => {}
                "--objects" => options.objects = value()?.split(',').map(number).collect::<Result<_>>()?,
                "--runs" => options.runs = number(&value()?)?,
                "--large" => options.large = number(&value()?)?,
                "--no-restore" => options.restore = false,
                "--velero" => options.velero = true,
                "--json" => options.json = Some(value()?.into()),
                "-h" | "--help" => return Ok(None),
                other => bail!("unknown word {other}"),
            }
        }
        ensure!(options.runs > 0, "--runs must be at least 1");
        ensure!(
            options.restore || !options.velero,
            "--velero measures a restore too; leave --no-restore out"
        );
        ensure!(!options.objects.contains(&0), "--objects must be at least 1");
        Ok(Some(options))
    }
}

fn number(word: &str) -> Result<usize> {
    word.replace('_', "")
        .parse()
        .with_context(|| format!("{word} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Option<Options>> {
        Options::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_are_understood() {
        assert_eq!(parse("--").unwrap(), Some(Options::default()));
        let all = parse("-- --objects 3000,280_000 --runs 5 --large 0 --velero --json out.json").unwrap();
        let expected = Options {
            objects: vec![3_000, 280_000],
            runs: 5,
            restore: true,
            large: 0,
            velero: true,
            json: Some("out.json".into()),
        };
        assert_eq!(all, Some(expected));
        assert!(!parse("--no-restore").unwrap().unwrap().restore);
        assert_eq!(parse("--help").unwrap(), None);
    }

    #[test]
    fn other_words_are_refused() {
        for words in [
            "--objects",
            "--objects 1,x",
            "--objects 0",
            "--runs 0",
            "--velero --no-restore",
            "--json",
            "fast",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
