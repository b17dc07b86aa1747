//! The words behind `cargo bench-suite volumes`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

/// What the bench was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Repetitions of each measurement.
    pub runs: usize,
    /// Whether movers are measured beside restic.
    pub compare: bool,
    /// Small files for the memory bar; 0 leaves that part out.
    pub million: usize,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runs: 3,
            compare: true,
            million: 0,
            json: None,
        }
    }
}

impl Options {
    /// For `--help` and after a mistake.
    pub const USAGE: &str = "\
usage: cargo bench-suite volumes [--runs N] [--million] [--files N] [--no-compare] [--json FILE]
  --runs N        repetitions, of which the median counts (3)
  --million       also the memory that a million small files take: half an hour, 6 GB of disk
  --files N       the same with another number of files
  --no-compare    leave the comparison with restic out
  --json FILE     write all figures there";

    /// `None` when help was asked for.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            let number = |word: &str| -> Result<usize> {
                let number = word
                    .replace('_', "")
                    .parse()
                    .with_context(|| format!("{word} is no number"))?;
                ensure!(number > 0, "{word} must be at least 1");
                Ok(number)
            };
            match word.as_str() {
                "--runs" => options.runs = number(&value()?)?,
                "--million" => options.million = 1_000_000,
                "--files" => options.million = number(&value()?)?,
                "--no-compare" => options.compare = false,
                "--json" => options.json = Some(value()?.into()),
                "-h" | "--help" => return Ok(None),
                other => bail!("unknown word {other}"),
            }
        }
        Ok(Some(options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_understood() {
        let parse = |words: &str| Options::parse(words.split_whitespace().map(str::to_owned));
        assert_eq!(parse("").unwrap(), Some(Options::default()));
        let all = Options {
            runs: 5,
            compare: false,
            million: 20_000,
            json: Some("out.json".into()),
        };
        let words = "--million --files 20_000 --runs 5 --no-compare --json out.json";
        assert_eq!(parse(words).unwrap(), Some(all));
        for words in ["--runs 0", "--files", "--files many", "fast"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
