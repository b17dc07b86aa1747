//! The one async runtime of the drivers.
//!
//! Drivers block, so that a case reads from top to bottom and works in a plain `#[test]`. Futures run on threads of
//! their own; a case that is itself async may therefore call any driver without a nested-runtime panic.

use std::future::Future;
use std::io::Write;
use std::sync::{LazyLock, mpsc};

use anyhow::{Context, Result, anyhow};
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    // The provider may have been installed by the caller already; then theirs is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("drivers")
        .enable_all()
        .build()
});

/// The runtime, for callers that need its context (for instance to build a client).
pub fn runtime() -> Result<&'static Runtime> {
    RUNTIME
        .as_ref()
        .map_err(|error| anyhow!("the test runtime does not start: {error}"))
}

/// Runs a future to its end and gives its result, whether or not the caller is inside another runtime.
pub fn run<T: Send + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        let _ = sender.send(future.await);
    });
    receiver.recv().context("the task of a driver panicked")?
}

/// One plain line of progress on stderr.
pub fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
