//! `kubectl backup`: words in, tables out.
//!
//! `argv` becomes [`arguments::Arguments`] (as typed), that a [`request::Request`] (as meant), that one call of a command,
//! and its end an exit code.

mod arguments;
mod commands;
mod completion;
mod engine;
mod exit;
mod interrupt;
mod request;
mod secrets;
mod session;
mod view;

use std::process::ExitCode;

use clap::FromArgMatches;

/// Pages, members and index blocks come and go on many threads. glibc keeps what each thread has freed (measured: twice
/// the peak in a restore); `.cargo/config.toml` tells this one to give it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let words: Vec<_> = std::env::args_os().collect();
    if completion::answer(&words) {
        return ExitCode::SUCCESS;
    }
    let mut command = arguments::help::command(words.first().map_or("".as_ref(), |word| word));
    let parsed = command
        .try_get_matches_from_mut(words)
        .and_then(|matches| arguments::Arguments::from_arg_matches(&matches));
    match parsed {
        Ok(arguments) => commands::run(arguments).into(),
        Err(error) => error.exit(),
    }
}
