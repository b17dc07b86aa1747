//! The words behind `cargo bench-suite webhook`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// What the bench was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Repetitions of each measurement.
    pub runs: usize,
    /// Time of each.
    pub time: Duration,
    /// Pods that are made through the API server, each time.
    pub pods: usize,
    /// Where the figures go as JSON.
    pub json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            runs: 3,
            time: Duration::from_secs(5),
            pods: 3_000,
            json: None,
        }
    }
}

impl Options {
    /// For `--help` and after a mistake.
    pub const USAGE: &str = "\
usage: cargo bench-suite webhook [--runs N] [--seconds N] [--pods N] [--json FILE]
  --runs N        repetitions, of which the median counts (3)
  --seconds N     time of each rate (5)
  --pods N        pods made through the API server, each time (3000)
  --json FILE     write all figures there";

    /// `None` when help was asked for.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            let number = |word: &str| -> Result<usize> {
                let number = word.parse().with_context(|| format!("{word} is no number"))?;
                ensure!(number > 0, "{word} must be at least 1");
                Ok(number)
            };
            match word.as_str() {
                "--runs" => options.runs = number(&value()?)?,
                "--seconds" => options.time = Duration::from_secs(number(&value()?)? as u64),
                "--pods" => options.pods = number(&value()?)?,
                "--json" => options.json = Some(value()?.into()),
                "-h" | "--help" => return Ok(None),
                other => bail!("unknown word {other}"),
            }
        }
        Ok(Some(options))
    }
}
