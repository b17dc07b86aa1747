//! The words behind `cargo demo`.

use anyhow::{Context, Result, bail};

/// What the demo was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Leave the servers up until Ctrl-C.
    pub keep: bool,
    /// Objects of ballast beside the applications.
    pub objects: usize,
}

impl Options {
    /// For `--help` and after a mistake.
    pub const USAGE: &str = "\
usage: cargo demo [--objects N] [--keep]
  --objects N   ballast beside the applications (2000)
  --keep        leave the servers up until Ctrl-C and print how to reach them";

    /// `None` when help was asked for.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            keep: false,
            objects: 2_000,
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                // The alias ends with `--` already; who writes another one means the same.
                "--" => {}
                "--keep" => options.keep = true,
                "--objects" => {
                    let number = words.next().context("--objects needs a number")?;
                    options.objects = number
                        .replace(['_', ','], "")
                        .parse()
                        .with_context(|| format!("--objects {number} is no number"))?;
                }
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

    fn parse(words: &str) -> Result<Option<Options>> {
        Options::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_are_understood_with_and_without_dashes_before_them() {
        let plain = Options {
            keep: false,
            objects: 2_000,
        };
        assert_eq!(parse("").unwrap(), Some(plain.clone()));
        assert_eq!(parse("-- --keep").unwrap(), Some(Options { keep: true, ..plain }));
        assert_eq!(
            parse("--keep -- --objects 5,000").unwrap(),
            Some(Options {
                keep: true,
                objects: 5_000
            })
        );
        assert_eq!(parse("--objects 1 --help").unwrap(), None);
    }

    #[test]
    fn other_words_are_refused() {
        for words in ["--objects", "--objects many", "keep", "--objects -1"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
