//! `cargo demo [-- --keep] [-- --objects N]`: a disaster and the way back, on real servers, checked object by object.
//!
//! Exit code 0 when nothing differs, 1 when something does or could not be done, 2 for words that mean nothing.

use std::io::Write;
use std::process::ExitCode;

use backup_tests::demo::{self, options::Options};

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
    match demo::run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
