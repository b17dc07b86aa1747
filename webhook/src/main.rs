//! `backup-webhook`: serves the admission suite.

use std::process::ExitCode;

use backup_webhook::arguments::{Arguments, Command};
use backup_webhook::{logging, serve};
use clap::Parser;
use tokio::runtime::Builder;

/// Bodies of up to 8 MiB come and go; `.cargo/config.toml` tells this one to give them back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let Command::Serve(arguments) = Arguments::parse().command;
    logging::start(arguments.log_level);
    // One thread needs no queue between threads.
    let runtime = match arguments.threads {
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build(),
    };
    let served = match runtime {
        Ok(runtime) => runtime
            .block_on(serve::run(arguments.mean()))
            .map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "cannot serve");
            ExitCode::FAILURE
        }
    }
}
