//! `cargo bench-suite`: the figures that the project holds itself to, measured beside their limits and peers.
//!
//! Exit code 0 when everything could be measured, whatever the figures say; 1 when something could not, 2 for words that
//! mean nothing.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use backup_tests::bench::{self, options::Options, volumes, webhook};

fn main() -> ExitCode {
    // The alias ends with `--` already; who writes another one means the same.
    let mut words = std::env::args()
        .skip(1)
        .skip_while(|word| word == "--")
        .peekable();
    if words.next_if(|word| word == "webhook").is_some() {
        let parsed = webhook::options::Options::parse(words);
        return run(parsed, webhook::options::Options::USAGE, webhook::run);
    }
    if words.next_if(|word| word == "volumes").is_some() {
        let parsed = volumes::options::Options::parse(words);
        return run(parsed, volumes::options::Options::USAGE, volumes::run);
    }
    run(Options::parse(words), Options::USAGE, bench::run)
}

fn run<O>(parsed: Result<Option<O>>, usage: &str, bench: impl FnOnce(&O) -> Result<()>) -> ExitCode {
    let options = match parsed {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = writeln!(std::io::stdout(), "{usage}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}\n{usage}");
            return ExitCode::from(2);
        }
    };
    match bench(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
