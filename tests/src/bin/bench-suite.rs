//! `cargo bench-suite`: the figures that the project holds itself to, measured beside their limits and peers.
//!
//! Exit code 0 when everything could be measured, whatever the figures say; 1 when something could not, 2 for words that
//! mean nothing.

use std::io::Write;
use std::process::ExitCode;

use backup_tests::bench::{self, options::Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = writeln!(std::io::stdout(), "{}", Options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}\n{}", Options::USAGE);
            return ExitCode::from(2);
        }
    };
    match bench::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
